"""export and import on the command line: usage, and what is refused before anything is done."""

from __future__ import annotations

import os
from pathlib import Path

import pytest

from sysenv_ns.archive import export, import_
from sysenv_ns.archive.export import Exported
from sysenv_ns.environment.store import Store

from .conftest import Run


@pytest.mark.parametrize("verb", ["export", "import"])
def test_help(run: Run, verb: str) -> None:
    result = run(verb, "--help")
    assert result.exit_code == 0
    assert "FILE" in result.stdout
    assert "--force" in result.stdout


def test_export_of_what_is_not_there(run: Run, environments: Store, tmp_path: Path) -> None:
    for name, message in (("nobody", "there is no environment nobody"), ("damaged", "env.json of damaged is damaged")):
        result = run("export", name, str(tmp_path / "file"))
        assert (result.exit_code, result.stdout) == (1, "")
        assert message in result.stderr
        assert "hint: " in result.stderr
    assert not (tmp_path / "file").exists()


def test_import_of_what_is_no_archive(run: Run, environments: Store, tmp_path: Path) -> None:
    (tmp_path / "file").write_text("text")
    for path, message in ((tmp_path / "file", "was not made by sysenv-ns export"), (tmp_path / "none", "(ENOENT)")):
        result = run("import", str(path))
        assert (result.exit_code, result.stdout) == (1, "")
        assert message in result.stderr
        assert "hint: " in result.stderr
    assert environments.names() == ["damaged", "whole"]


def test_what_is_asked_for(run: Run, environments: Store, monkeypatch: pytest.MonkeyPatch) -> None:
    """The options reach those who do it, and notes reach the user; nothing but JSON is on stdout."""
    asked: list[object] = []

    def note(store: Store, name: str, file: str, force: bool, *others: object) -> Exported:
        asked.append((name, file, force))
        return Exported(name, file, "environment", 1000, ("a note",))

    monkeypatch.setattr(export, "export", note)
    result = run("export", "whole", "file")
    assert (result.exit_code, result.stdout) == (0, "")
    assert result.stderr == "sysenv-ns: a note\nsysenv-ns: exported whole to file (1.0 kB)\n"
    assert run("export", "--force", "whole", "-").stderr == "sysenv-ns: a note\n"
    assert asked == [("whole", "file", False), ("whole", "-", True)]


def test_the_policy_file_says_what_the_options_leave_open(
    run: Run, store: Store, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path))
    (tmp_path / "sysenv-ns").mkdir()
    (tmp_path / "sysenv-ns/config.toml").write_text('driver = "copy"\nid-map = "full"\n')
    asked: list[import_.Wish] = []

    def note(store: Store, wish: import_.Wish, *others: object) -> None:
        asked.append(wish)
        raise KeyboardInterrupt

    monkeypatch.setattr(import_, "import_", note)
    run("import", "file")
    run("import", "file", "new", "--driver", "stub", "--force")
    assert asked == [
        import_.Wish("file", None, "copy", "full"),
        import_.Wish("file", "new", "stub", "auto", force=True),
    ]


def test_whether_a_file_may_be_replaced(run: Run, environments: Store, tmp_path: Path) -> None:
    (environments.envs / "whole" / "lock").touch()
    file = tmp_path / "file"
    file.write_text("mine")
    result = run("export", "whole", str(file))
    assert result.exit_code == 1
    assert f"{file} already exists" in result.stderr
    assert file.read_text() == "mine"
    assert sorted(os.listdir(tmp_path)) == ["file", "store"]
