"""Which names are taken for slips of the keyboard, and which are meant."""

from __future__ import annotations

import pytest

from sysenv_ns import similar


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("prj", "proj"),
        ("porj", "proj"),
        ("proj1", "porj1"),
        ("Proj", "proj"),
        ("PROJ", "Proj"),
        ("my_proj", "my-proj"),
        ("myproj", "my-proj"),
        ("web-porduction", "web-production"),
    ],
)
def test_slips(name: str, known: str) -> None:
    assert similar.meant(name, ["unrelated", known]) == known


@pytest.mark.parametrize(
    ("name", "known"),
    [
        ("web1", "web2"),
        ("web", "web2"),
        ("build-a", "build-b"),
        ("app-dev", "app-prod"),
        ("proj", "project"),
        ("a", "b"),
        ("p", "q"),
        ("backend", "frontend"),
        ("same", "same"),
    ],
)
def test_names_of_their_own(name: str, known: str) -> None:
    assert similar.meant(name, [known]) is None


def test_the_likeliest_is_meant() -> None:
    assert similar.meant("projct", ["projects", "project"]) == "project"


def test_what_a_word_begins_is_suggested() -> None:
    assert similar.like("stat", ["create", "status"]) == ["status"]
    assert similar.like("lsit", ["list", "stop"]) == ["list"]
    assert similar.like("xyzzy", ["list"]) == []
