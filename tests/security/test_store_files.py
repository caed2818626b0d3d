"""Whatever is in the files of a store and beside it, every verb ends with a status and a sentence."""

from __future__ import annotations

import json
import os
import shutil
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import pytest
from click.testing import CliRunner, Result

from sysenv_ns.apply import journal
from sysenv_ns.apply.journal import Journal
from sysenv_ns.cli import main
from sysenv_ns.environment import config, directory, links
from sysenv_ns.environment.description import Environment, Snapshot
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError
from sysenv_ns.kernel.idmap import single
from sysenv_ns.lower import books
from sysenv_ns.manifest import parser, plans
from sysenv_ns.manifest.document import Manifest
from sysenv_ns.packages import origin
from sysenv_ns.packages.origin import Origin

from . import mutations

_LAYER = "0123456789abcdef"
_MANIFEST = b"""\
name = "proj"
release = "debian/bookworm"
architectures = ["i386"]
packages = ["hello", "tree=1.0-1"]
debconf = ["locales locales/default_environment_locale select C.UTF-8"]
[repositories]
"x.list" = "deb http://x/ y main"
"y.sources" = false
[keys]
"/etc/apt/keyrings/k.asc" = "-----BEGIN PGP"
"/etc/apt/keyrings/k.gpg" = "AAAA"
[files]
"/etc/a" = "b"
"/etc/b" = { link = "a", owner = "x:y" }
"/etc/c" = { source = "c", mode = "0600" }
[[scripts]]
name = "s"
run = "true"
"""
_CONFIG = b"""\
bind = ["/opt", "/usr/local/share"]
overlay = ["/srv"]
shell = "/bin/sh"
"""


@pytest.fixture
def count(whole: bool) -> int:
    """How many mutations there are of a file."""
    return 5000 if whole else 200


@pytest.fixture
def store(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Store:
    """The store of the command line, with the environments `other` and `test`."""
    monkeypatch.setenv("SYSENV_NS_HOME", str(tmp_path / "store"))
    monkeypatch.setenv("XDG_CONFIG_HOME", str(tmp_path / "config"))
    monkeypatch.delenv("SYSENV_NS", raising=False)
    found = Store(tmp_path / "store")
    found.prepare()
    (found.layers / _LAYER / "upper").mkdir(parents=True)
    snapshots = (Snapshot("first", 1e9, (_LAYER,), "test"), Snapshot("second", 1.5e9, (_LAYER,), "test", True))
    for name in ("other", "test"):
        staging = found.trash / name
        (staging / "upper").mkdir(parents=True)
        id_map = single(os.getuid(), os.getgid())
        where = found.envs / name
        new = Environment(name, "0-a", "stub", id_map, 1.7e9, where, found.path, layers=(_LAYER,), snapshots=snapshots)
        found.add(new, staging)
        origin.write(where, Origin("0a", "0b"))
    return found


def _run(*arguments: str) -> Result:
    """The command line; what it raises fails the test."""
    result = CliRunner().invoke(main, arguments, catch_exceptions=False)
    assert result.exit_code in (0, 1), (arguments, result.output)
    assert "Traceback" not in result.output
    assert len(result.stderr) < 2000
    if result.exit_code:
        assert result.stderr.strip()
    return result


def _set(path: Path, content: bytes) -> None:
    path.unlink(missing_ok=True)
    path.write_bytes(content)


def _ends_well(function: Callable[[], object]) -> None:
    """It returns, or raises what the command line tells the user."""
    said = "returned"
    try:
        function()
    except SysenvError as error:
        said = error.message
    assert 0 < len(said) < 2000


def _files(store: Store) -> Iterator[tuple[str, Any]]:
    path = store.envs / "test"
    link = {"command": "x", "target": "/usr/bin/x", "files": [{"path": "/nowhere/x", "digest": "0"}]}
    yield "env.json", json.loads((path / "env.json").read_bytes())
    state = {"pid": 1, "start_time": 1, "namespace": 1, "signs": {"/usr": [1, 2, 3], "/x": None}, "layers": ["/a"]}
    yield "state.json", state
    yield "origin.json", {"packages": "0a", "accounts": "0b"}
    yield "links.json", {"version": links.FORMAT_VERSION, "links": [link]}


def test_a_damaged_file_of_an_environment_is_that_ones_alone(store: Store, count: int) -> None:
    path = store.envs / "test"
    for name, data in _files(store):
        before = (path / name).read_bytes() if (path / name).exists() else None
        for number, content in enumerate(mutations.of_json(data, count // 10, name)):
            _set(path / name, content)
            listed = _run("list")
            assert listed.exit_code == 0
            assert "other" in listed.stdout
            if number % 4 == 0:
                for arguments in (("status", "test"), ("history", "test"), ("unlink", "test", "x"), ("diff", "test")):
                    _run(*arguments[: 2 if arguments[0] == "diff" else 3])
        if before is None:
            (path / name).unlink()
        else:
            _set(path / name, before)


def test_descriptions_are_read_or_refused(store: Store, count: int) -> None:
    """The same without the command line, which takes its time."""
    path = store.envs / "test"
    readers: dict[str, Callable[[], object]] = {
        "env.json": lambda: store.load("test"),
        "links.json": lambda: links.show(path),
        "origin.json": lambda: origin.read(path),
    }
    for name, data in _files(store):
        if name in readers:
            for content in mutations.of_json(data, count, name):
                _set(path / name, content)
                _ends_well(readers[name])


@pytest.mark.parametrize(
    "damage", [b"[" * 100_000, b"", b'{"version": 99}', b'{"version": 1, "driver": "of tomorrow"}']
)
def test_an_environment_of_another_version_can_be_removed(store: Store, damage: bytes) -> None:
    path = store.envs / "test"
    _set(path / "env.json", damage)
    assert _run("status", "test").exit_code == 0
    assert _run("remove", "--purge", "test").exit_code == 0
    assert not path.exists()


def test_a_driver_of_another_version_is_named_as_such(store: Store) -> None:
    path = store.envs / "test" / "env.json"
    data = json.loads(path.read_bytes())
    path.write_text(json.dumps({**data, "driver": "of tomorrow"}))
    result = _run("history", "test")
    assert result.exit_code == 1
    assert "does not know" in result.stderr
    assert "the version of sysenv-ns that made it" in result.stderr


def test_policy_files_are_read_or_refused(store: Store, count: int, tmp_path: Path) -> None:
    environment = store.load("test")
    user = tmp_path / "config" / "sysenv-ns" / directory.CONFIG
    user.parent.mkdir(parents=True)
    for path in (environment.path / directory.CONFIG, user):
        for content in mutations.of_toml(_CONFIG, count, path.parent.name):
            _set(path, content)
            _ends_well(lambda: config.of_environment(store, environment))
        path.unlink()


def test_manifests_are_read_or_refused(count: int, tmp_path: Path) -> None:
    file = tmp_path / "sysenv.toml"
    (tmp_path / "c").write_bytes(b"c")
    for content in mutations.of_toml(_MANIFEST, count, "sysenv.toml"):
        _set(file, content)
        _ends_well(lambda: parser.load(file))
    with file.open("wb") as stream:
        stream.truncate(10 << 30)
    with pytest.raises(SysenvError, match="more than"):
        parser.load(file)


def test_what_was_synced_is_read_or_is_nothing(count: int) -> None:
    data = json.loads(plans.encode("/x/sysenv.toml", Manifest("proj", packages=("hello",)), ["a b c"]))
    for content in mutations.of_json(data, count, "record"):
        plans.decode(content)


def test_books_of_a_base_are_believed_or_not(count: int, tmp_path: Path) -> None:
    data = {"version": 2, "plan": {"path": "/usr"}, "roots": ["/usr"], "surplus": [], "watched": {"/usr": [1, 2, 3]}}
    for content in mutations.of_json(data, count, "usr.json"):
        _set(tmp_path / "usr.json", content)
        assert isinstance(books.read(tmp_path, "usr.json"), dict)
        books.described(tmp_path)


def test_a_damaged_plan_of_an_apply_is_refused(count: int, tmp_path: Path) -> None:
    entry = {"type": "file", "mode": 420, "uid": 0, "gid": 0, "attributes": [["user.x", "00"]]}
    step = {"path": "/etc/x", "action": "put", "old": None, "new": entry, "user": "root", "group": "root"}
    data = {
        "name": "test",
        "packages": [{"name": "hello", "action": "added", "old": "", "new": "1.0"}],
        "steps": [step],
        "left": [{"what": "x", "why": "y"}],
    }
    for content in mutations.of_json(data, count, "plan.json"):
        _set(tmp_path / "plan.json", content)
        _ends_well(Journal(tmp_path).plan)
        _set(tmp_path / "journal", content + b"\n")
        _ends_well(Journal(tmp_path).records)
    assert not journal.is_undone(Journal(tmp_path))


@pytest.mark.parametrize("name", ["env.json", "state.json", "origin.json", "links.json", "config.toml", "drift-seen"])
@pytest.mark.parametrize("kind", ["fifo", "directory", "zero", "secret", "sparse"])
def test_what_is_no_file_in_a_store_is_not_waited_for(store: Store, name: str, kind: str, tmp_path: Path) -> None:
    path = store.envs / "test" / name
    path.unlink(missing_ok=True)
    (tmp_path / "secret").write_text("MUSTNOTBESHOWN = 1\n")
    match kind:
        case "fifo":
            os.mkfifo(path)
        case "directory":
            path.mkdir()
        case "sparse":
            path.touch()
            os.truncate(path, 10 << 30)
        case _:
            path.symlink_to("/dev/zero" if kind == "zero" else tmp_path / "secret")
    for arguments in (("list",), ("status", "test"), ("history", "test"), ("diff", "test")):
        assert "MUSTNOTBESHOWN" not in _run(*arguments).output
    if name == "env.json":
        _run("remove", "--purge", "test")
        assert not path.exists()
    shutil.rmtree(store.path)
