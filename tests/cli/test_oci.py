"""export --format oci on the command line: what is printed where, and which files are written."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any, BinaryIO

import pytest

from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError
from sysenv_ns.oci import image
from sysenv_ns.oci.image import Image
from sysenv_ns.packages import origin

from .conftest import Run

MADE = Image(
    "localhost/whole:latest", "sha256:0", "2026-11-24T00:00:00Z", 5, ("/etc/shadow",), ("/.wh.\udcff",), ("/k",)
)


@pytest.fixture(autouse=True)
def written(environments: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """Makes images of five bytes; the second half of an environment that is not whole cannot be read."""

    def write(store: Store, name: str, file: BinaryIO, *_: Any) -> Image:
        file.write(b"image")
        if name != "whole":
            raise SysenvError("it fails", "in the middle")
        return MADE

    monkeypatch.setattr(image, "write", write)
    monkeypatch.setattr(origin, "may_be_drifted", lambda environment: False)


def test_what_is_told(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "image.tar"
    result = run("export", "whole", str(file), "--format", "oci")
    assert (result.exit_code, result.stdout, file.read_bytes()) == (0, "", b"image")
    lines = result.stderr.splitlines()
    assert [line for line in lines if not line.startswith("sysenv-ns: ")] == []
    assert "1 files and directories are empty, as they are not world-readable" in lines[0]
    assert "/.wh.\\xff" in lines[1]
    assert "whole has changed it, but not world-readable here: /k" in lines[2]
    assert f"podman load -i {file}; run it with: podman run --rm -it localhost/whole:latest" in lines[-1]
    verbose = run("-v", "export", "whole", str(file), "--format", "oci", "--force")
    assert "not world-readable here: /etc/shadow" in verbose.stderr


def test_json_alone_is_on_stdout(run: Run, tmp_path: Path) -> None:
    result = run("export", "whole", str(tmp_path / "image.tar"), "--format", "oci", "--json")
    assert (result.exit_code, result.stderr) == (0, "")
    data = json.loads(result.stdout)
    assert (data["image"], data["left_out"], data["size"]) == ("localhost/whole:latest", ["/.wh.\udcff"], 5)


def test_a_file_is_replaced_only_when_asked_for(run: Run, tmp_path: Path) -> None:
    file = tmp_path / "image.tar"
    file.write_text("old")
    result = run("export", "whole", str(file), "--format", "oci")
    assert (result.exit_code, file.read_text()) == (1, "old")
    assert "--force" in result.stderr
    assert run("export", "whole", str(file), "--format", "oci", "--force").exit_code == 0
    assert file.read_bytes() == b"image"


def test_a_failure_leaves_nothing(run: Run, tmp_path: Path, environments: Store) -> None:
    (environments.envs / "whole").rename(environments.envs / "other")
    before = sorted(tmp_path.iterdir())
    result = run("export", "other", str(tmp_path / "image.tar"), "--format", "oci")
    assert (result.exit_code, result.stderr) == (1, "sysenv-ns: it fails\nhint: in the middle\n")
    assert sorted(tmp_path.iterdir()) == before


@pytest.mark.parametrize(
    ("arguments", "status", "words"),
    [
        (("unknown", "x", "--format", "oci"), 1, "existing ones: damaged, whole"),
        (("damaged", "x", "--format", "oci"), 1, "is damaged"),
        (("whole", "/", "--format", "oci"), 1, "hint: "),
        (("whole", "/nowhere/x", "--format", "oci"), 1, "ENOENT"),
        (("whole", "x", "--format", "zip"), 2, "oci"),
        (("whole", "-", "--format", "oci"), 2, "standard output"),
        (("whole", "--format", "oci"), 2, "FILE"),
        (("whole", "x", "--squash"), 2, "add --format oci"),
    ],
)
def test_errors(run: Run, arguments: tuple[str, ...], status: int, words: str) -> None:
    result = run("export", *arguments)
    assert (result.exit_code, words in result.stderr) == (status, True), result.stderr


def test_a_pushed_environment_has_its_own_layers(run: Run) -> None:
    result = run("push", "whole", "localhost/whole", "--squash")
    assert (result.exit_code, "add --image" in result.stderr) == (2, True)


def test_not_from_inside(run: Run, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SYSENV_NS", "proj")
    assert "from inside the environment proj" in run("export", "whole", "x", "--format", "oci").stderr


def test_help(run: Run) -> None:
    assert "podman" in run("export", "--help").stdout
