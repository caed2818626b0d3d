"""What is an environment's own and what the host's, by its directories of changes."""

from __future__ import annotations

import os
from collections.abc import Iterator
from pathlib import Path

import pytest

from sysenv_ns.home.lookup import Inside


@pytest.fixture
def inside(tmp_path: Path) -> Iterator[Inside]:
    """The host's programs, and two layers over / and one over a disk that is mounted on `disk`."""
    in_usr = (f"usr/{name}" for name in ("host", "upper", "added", "added-changed", "frozen", "disk"))
    for name in (*in_usr, "disk/host", "disk/own"):
        (tmp_path / name).parent.mkdir(exist_ok=True)
        (tmp_path / name).touch(mode=0o755)
    layers = {name: tmp_path.parent / f"{tmp_path.name}-{name}" for name in ("upper", "frozen", "disk")}
    below = str(tmp_path)[1:]
    in_upper = (("upper", f"{below}/usr/{name}") for name in ("upper", "added", "added-changed"))
    for layer, path in (*in_upper, ("frozen", f"{below}/usr/frozen"), ("disk", "own")):
        (layers[layer] / path).parent.mkdir(parents=True, exist_ok=True)
        (layers[layer] / path).touch()
    (layers["upper"] / below / "disk").mkdir()
    (layers["upper"] / below / "disk/host").touch()  # hidden by what is mounted there
    opened = {name: os.open(path, os.O_PATH | os.O_DIRECTORY) for name, path in layers.items()}
    added = {str(tmp_path / "usr/added"): b"", str(tmp_path / "usr/added-changed"): b"before"}
    yield Inside({"": (opened["upper"], opened["frozen"]), str(tmp_path / "disk"): (opened["disk"],)}, (), added)
    for descriptor in opened.values():
        os.close(descriptor)


@pytest.mark.parametrize(
    ("program", "own"),
    [
        *(("usr/host", False), ("usr/upper", True), ("usr/frozen", True), ("disk/host", False), ("disk/own", True)),
        *(("usr/added", False), ("usr/added-changed", True)),
    ],
)
def test_whose_file_a_program_is(inside: Inside, tmp_path: Path, program: str, own: bool) -> None:
    found = inside.find(str(tmp_path / program), (), lambda path: False)
    assert found is not None
    assert (found.path, found.own) == (str(tmp_path / program), own)


def test_a_program_by_its_name(inside: Inside, tmp_path: Path) -> None:
    directories = (str(tmp_path / "disk"), "relative", str(tmp_path / "usr"))
    found = inside.find("host", directories, lambda path: path.startswith(directories[0]))
    assert found is not None
    assert found.path == str(tmp_path / "usr/host")
    assert inside.find("absent", directories, lambda path: False) is None
