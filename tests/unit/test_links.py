"""Links in a home of their own: what is written, what is not overwritten, and what is left alone."""

from __future__ import annotations

import os
import resource
import signal
import stat
import subprocess
import sys
import venv
from pathlib import Path

import pytest

from sysenv_ns.environment import directory, links, wrappers
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.links import NewFile, NewLink
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError

from .forks import in_a_child

DIRECT = links.acting_for(None)


@pytest.fixture
def environment(tmp_path: Path) -> Environment:
    return _environment(tmp_path, "proj")


def _environment(tmp_path: Path, name: str) -> Environment:
    path = tmp_path / "store" / "envs" / name
    path.mkdir(parents=True)
    return Environment(name, "0", "root", None, 0.0, path, tmp_path / "store")


def _link(tmp_path: Path, environment: Environment, command: str, *others: NewFile) -> NewLink:
    content = wrappers.script(Store(tmp_path / "store"), environment, f"/usr/bin/{command}")
    return NewLink(command, f"/usr/bin/{command}", (NewFile(str(tmp_path / "bin" / command), content, 0o755), *others))


def test_a_link_comes_and_goes(tmp_path: Path, environment: Environment) -> None:
    new = [_link(tmp_path, environment, name) for name in ("a", "b c")]
    links.add(environment, new, DIRECT)
    wrapper = tmp_path / "bin" / "b c"
    assert stat.S_IMODE(wrapper.stat().st_mode) & 0o500 == 0o500
    assert wrappers.environment_of(str(wrapper)) == "proj"
    shown = links.show(environment.path)
    assert [(s.command, s.target, s.path, s.intact) for s in shown] == [
        (link.command, link.target, link.files[0].path, True) for link in new
    ]
    assert [link.command for link in links.remove(environment.path, ["a"], DIRECT)] == ["a"]
    assert os.listdir(tmp_path / "bin") == ["b c"]
    links.remove(environment.path, None, DIRECT)
    assert os.listdir(tmp_path / "bin") == []
    assert links.read(environment.path) == ()


def test_a_wrapper_quotes_what_is_odd(tmp_path: Path) -> None:
    store = Store(tmp_path / "it's a \n$HOME store")
    content = wrappers.script(
        store, Environment("proj", "0", "root", None, 0.0, tmp_path, tmp_path), "/opt/a 'b'/$(id)"
    )
    script = tmp_path / "script"
    script.write_bytes(content.replace(sys.executable.encode(), b"/bin/echo"))
    said = subprocess.run(["sh", script, "x  y"], capture_output=True, text=True, check=True, env={}).stdout
    start = f"-I -S -c {wrappers._START} {Path(links.__file__).parents[2]}"
    assert said == f"{start} exec --linked proj -- /opt/a 'b'/$(id) x  y\n"


@pytest.mark.parametrize("place", ["its own", "another"])
def test_a_wrapper_finds_the_package_wherever_it_is_installed(place: str, tmp_path: Path) -> None:
    """Where it was when the wrapper was made, or else where Python looks for it."""
    interpreter = tmp_path / "bin" / "python3"
    venv.create(tmp_path, symlinks=True)
    (packages,) = tmp_path.glob("lib/python*/site-packages")
    package = packages / "sysenv_ns"
    package.mkdir()
    (package / "__init__.py").touch()
    (package / "__main__.py").write_text("import sys\nmain = lambda: print(*sys.argv[1:])\n")
    store = Store(tmp_path / "store")
    content = wrappers.script(store, Environment("proj", "0", "root", None, 0.0, tmp_path, tmp_path), "/bin/a")
    known = packages if place == "its own" else tmp_path / "gone"
    content = content.replace(sys.executable.encode(), os.fsencode(interpreter))
    script = tmp_path / "script"
    script.write_bytes(content.replace(os.fsencode(Path(links.__file__).parents[2]), os.fsencode(known)))
    done = subprocess.run(["sh", script, "x"], capture_output=True, text=True, check=True, env={})
    assert done.stdout == "exec --linked proj -- /bin/a x\n"


def test_a_wrapper_without_the_tool_says_what_it_was(tmp_path: Path, environment: Environment) -> None:
    content = _link(tmp_path, environment, "rg").files[0].content
    script = tmp_path / "rg"
    script.write_bytes(content.replace(sys.executable.encode(), os.fsencode(tmp_path / "gone")))
    done = subprocess.run(["sh", script], capture_output=True, text=True, check=False, env={})
    assert (done.returncode, done.stdout) == (127, "")
    assert done.stderr == (
        "rg is of the environment proj, and sysenv-ns is no longer where it was\n"
        f"hint: install and link it again, or delete it: rm {script}\n"
    )


def test_what_the_user_has_is_not_overwritten(tmp_path: Path, environment: Environment) -> None:
    other = _environment(tmp_path, "other")
    links.add(other, [_link(tmp_path, other, "theirs")], DIRECT)
    (tmp_path / "bin" / "file").write_text("mine")
    (tmp_path / "bin" / "dangling").symlink_to("nowhere")
    (tmp_path / "bin" / "directory").mkdir()
    before = {path.name: path.lstat().st_mtime_ns for path in (tmp_path / "bin").iterdir()}
    for name in ("file", "dangling", "directory", "theirs"):
        with pytest.raises(SysenvError, match=r"already exists|link to the environment other") as caught:
            links.add(environment, [_link(tmp_path, environment, "a"), _link(tmp_path, environment, name)], DIRECT)
        assert caught.value.hint
    assert {path.name: path.lstat().st_mtime_ns for path in (tmp_path / "bin").iterdir()} == before
    assert links.read(environment.path) == ()


def test_what_the_user_has_replaced_is_left_alone(tmp_path: Path, environment: Environment) -> None:
    links.add(environment, [_link(tmp_path, environment, name) for name in ("edited", "gone")], DIRECT)
    edited = tmp_path / "bin" / "edited"
    edited.write_text(edited.read_text() + "# more\n")
    (tmp_path / "bin" / "gone").unlink()
    assert [shown.intact for shown in links.show(environment.path)] == [False, False]
    with pytest.raises(SysenvError, match="was changed after sysenv-ns wrote it"):
        links.add(environment, [_link(tmp_path, environment, "edited")], DIRECT)
    links.remove(environment.path, None, DIRECT)
    assert os.listdir(tmp_path / "bin") == ["edited"]


def test_linked_again_with_other_files(tmp_path: Path, environment: Environment) -> None:
    """What is needed no more goes; what two links have in common stays until both are gone."""
    shared, own = (NewFile(str(tmp_path / "data" / name), name.encode()) for name in ("shared", "own"))
    links.add(environment, [_link(tmp_path, environment, "a", shared, own)], DIRECT)
    links.add(environment, [_link(tmp_path, environment, "b", shared)], DIRECT)
    changed = NewFile(shared.path, b"changed")
    links.add(environment, [_link(tmp_path, environment, "a", changed)], DIRECT)
    assert {path.name: path.read_bytes() for path in (tmp_path / "data").iterdir()} == {"shared": b"changed"}
    links.remove(environment.path, ["a"], DIRECT)
    assert (tmp_path / "data" / "shared").exists()


def test_one_file_that_cannot_be_written(tmp_path: Path, environment: Environment) -> None:
    (tmp_path / "data").write_text("no directory")
    file = NewFile(str(tmp_path / "data" / "x"), b"")
    with pytest.raises(OSError, match="data"):
        links.add(environment, [_link(tmp_path, environment, "a", file)], DIRECT)
    assert os.listdir(tmp_path / "bin") == []
    assert links.read(environment.path) == ()


def test_what_a_killed_writer_has_left(tmp_path: Path, environment: Environment) -> None:
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin" / ".a.sysenv-ns").write_text("#!/bin/")
    links.add(environment, [_link(tmp_path, environment, "a")], DIRECT)
    assert os.listdir(tmp_path / "bin") == ["a"]


def test_killed_in_the_middle(tmp_path: Path, environment: Environment) -> None:
    """What is there is recorded, linking again completes it, and unlinking leaves nothing."""
    large = NewFile(str(tmp_path / "data" / "large"), bytes(10000))
    new = [_link(tmp_path, environment, "a"), _link(tmp_path, environment, "b", large)]

    def killed_by_its_size() -> None:
        signal.signal(signal.SIGXFSZ, signal.SIG_DFL)
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        resource.setrlimit(resource.RLIMIT_FSIZE, (5000, 5000))
        links.add(environment, new, DIRECT)

    assert in_a_child(killed_by_its_size) == -signal.SIGXFSZ
    assert os.listdir(tmp_path / "data") == [".large.sysenv-ns"]
    assert [(shown.command, shown.intact) for shown in links.show(environment.path)] == [("a", True), ("b", True)]
    links.add(environment, new[1:], DIRECT)
    assert os.listdir(tmp_path / "data") == ["large"]
    (tmp_path / "data" / ".large.sysenv-ns").touch()
    links.remove(environment.path, None, DIRECT)
    assert os.listdir(tmp_path / "data") == os.listdir(tmp_path / "bin") == []


@pytest.mark.parametrize(
    "text",
    [
        "",
        "[]",
        '{"version": 1}',
        '{"version": 1, "links": [{"command": "a", "target": "b", "files": []}]}',
        '{"version": 1, "links": [{"command": "a", "target": "b", "files": [{"path": "../x", "digest": ""}]}]}',
        "\xff",
    ],
)
def test_a_damaged_record(environment: Environment, text: str) -> None:
    (environment.path / directory.LINKS).write_text(text, encoding="latin-1")
    with pytest.raises(SysenvError, match="is damaged") as caught:
        links.read(environment.path)
    assert str(environment.path) in caught.value.hint


def test_a_record_of_a_later_version(environment: Environment) -> None:
    (environment.path / directory.LINKS).write_text('{"version": 2}')
    with pytest.raises(SysenvError, match="has format 2"):
        links.read(environment.path)
