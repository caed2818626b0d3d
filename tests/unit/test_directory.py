"""Where changes are: names of mount points as directories, and back."""

from __future__ import annotations

from pathlib import Path

import pytest

from sysenv_ns.environment import directory


@pytest.mark.parametrize("points", [("/var/log", "/var%2Flog"), ("/a/b", "/a%2Fb"), ("/usr/local", "/usr-local")])
def test_slugs_are_single_names_and_differ(points: tuple[str, str]) -> None:
    slugs = {directory.slug(point) for point in points}
    assert len(slugs) == 2
    assert all(Path(slug).name == slug for slug in slugs)


def test_what_any_of_several_environments_has_changes_of(tmp_path: Path) -> None:
    points = ("/var", "/var/log", "/var%2Flog", "/100%25")
    for number, point in enumerate(points):
        (tmp_path / str(number % 2) / directory.upper(point)).mkdir(parents=True)
    assert directory.upper("") == "upper"
    found = directory.listed([tmp_path / "0", tmp_path / "1", tmp_path / "absent"])
    assert found == {point: directory.upper(point) for point in ("", *points)}
    assert next(iter(found)) == ""
    assert directory.listed([]) == {"": "upper"}
