"""What root does for a user by way of sudo, and malware of that user: root is led nowhere by what is planted for it."""

from __future__ import annotations

import json
import os
import shlex
import shutil
import stat
import subprocess
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest
from integration.support import ROOT_RUN, ROOT_STORES, Environment, Result, Tool, describe, ran, refused, succeeded

pytestmark = pytest.mark.modes("sudo")

_SECRET = "root's secret"
_FILES = (
    *("env.json.new", "env.json", "state.json.new", "state.json", "origin.json.new", "origin.json", "drift-seen"),
    *("drift-seen.new", "links.json.new", "links.json", "lock", "upper.lock", "config.toml"),
)
_DIRECTORIES = ("upper", "work", "root", "mounts", "memory")
_PLACES = ("envs", "layers", "trash", "base", "origins", "origins-root")
_VERBS: tuple[tuple[str, ...], ...] = (
    ("list",),
    ("status", "NAME"),
    ("exec", "NAME", "--", "true"),
    ("exec", "--me", "NAME", "--", "true"),
    ("diff", "NAME"),
    ("snapshot", "NAME", "one"),
    ("history", "NAME"),
    ("clone", "NAME", "copy"),
    ("rollback", "NAME", "one"),
    ("link", "NAME", "ls"),
    ("unlink", "NAME"),
    ("freeze", "NAME"),
    ("rebase", "NAME"),
    ("export", "NAME", "out.tar.zst", "--force"),
    ("refresh", "NAME"),
    ("stop", "NAME"),
    ("snapshot", "--delete", "NAME", "one"),
    ("remove", "NAME"),
    ("remove", "copy"),
)


class Trap:
    """Files of root's that nobody else may read, and a watch over them and over a directory that is only root's."""

    def __init__(self, place: Path) -> None:
        self.place = place
        place.chmod(0o755)
        self.directory = place / "of-root"
        self.directory.mkdir(mode=0o755)
        self.file = self.directory / "canary"
        self.file.write_text(f"shell = '{_SECRET}'\n")
        self.file.chmod(0o600)
        self._before = self._seen()

    def _seen(self) -> object:
        found = [(str(path), path.lstat()) for path in sorted(self.directory.rglob("*"))]
        listed = [(path, s.st_mode, s.st_uid, s.st_gid, s.st_ino, s.st_size, s.st_mtime_ns) for path, s in found]
        return listed, self.file.read_bytes(), self.directory.stat().st_mode

    def check(self, tool: Tool, results: list[Result]) -> None:
        """Nothing was changed there, and nothing of it can be read by the user or has been said."""
        assert self._seen() == self._before, [describe(result) for result in results]
        for result in results:
            assert "Traceback" not in result.stderr, describe(result)
            assert _SECRET not in result.stdout + result.stderr, describe(result)
        script = 'find "$@" -type f -readable -print0 2>/dev/null | xargs -0 grep -l "$SECRET" -- 2>/dev/null'
        places = [str(tool.store), str(tool.account.home), str(ROOT_STORES / str(tool.account.uid))]
        command = [*tool.account.setpriv(), "env", f"SECRET={_SECRET}", "sh", "-c", script, "sh", *places]
        assert subprocess.run(command, check=False, capture_output=True, text=True).stdout == ""


@pytest.fixture
def trap() -> Iterator[Trap]:
    if not ROOT_RUN:
        pytest.skip("only root can make files of root's")
    with tempfile.TemporaryDirectory(prefix="sysenv-trap-", dir="/var/tmp") as directory:
        yield Trap(Path(directory))


@pytest.fixture
def victim(tool: Tool) -> Iterator[tuple[Tool, str]]:
    """An environment of the driver root, in a store of its own that its user does what he likes with."""
    path = tool.account.home / "attacked"
    fresh = replace(tool, store=path)
    succeeded(fresh.run("create", "--driver", "root", "victim"))
    yield fresh, "victim"
    subprocess.run(["rm", "-rf", path, tool.account.home / "out.tar.zst"], check=True)
    shutil.rmtree(ROOT_STORES / str(tool.account.uid), ignore_errors=True)


# A shell would start two programs for each of a thousand files.
_PLANT = """
import contextlib, os, sys
kind, canary, *paths = sys.argv[1:]
make = {"link": os.symlink, "hard link": os.link, "fifo": lambda canary, path: os.mkfifo(path)}[kind]
for path in paths:
    with contextlib.suppress(OSError):
        os.makedirs(os.path.dirname(path), exist_ok=True)
        make(canary, f"{path}.planted")
        os.rename(f"{path}.planted", path)
"""


def _as(tool: Tool, script: str, *arguments: str) -> str:
    """What the user's malware does, as far as it can."""
    command = [*tool.account.setpriv(), "sh", "-c", script, "sh", *arguments]
    return subprocess.run(command, check=False, capture_output=True, text=True, timeout=60).stdout


def _as_root(tool: Tool, *arguments: str) -> Result:
    """What root does when it is asked to, whatever the user's own process would have noticed before."""
    request = tool.account.home / "request"
    shutil.rmtree(request, ignore_errors=True)
    request.mkdir(mode=0o700)
    content = {"variables": tool.variables(), "umask": 0o022}
    (request / "request.json").write_text(json.dumps(content))
    for path in (request, request / "request.json"):
        os.chown(path, tool.account.uid, tool.account.gid)
    return _asked(tool, request, *arguments)


def _asked(tool: Tool, request: Path, *arguments: str) -> Result:
    python = tool.launcher.parent.parent / ".venv/bin/python"
    command = ["sudo", "-n", "--", str(python), "-I", "-B", "-m", "sysenv_ns", "--request", str(request), *arguments]
    return ran([*tool.prefix, *command], cwd=tool.account.home)


def _everything(tool: Tool, name: str, between: Callable[[], object] = lambda: None) -> list[Result]:
    """All verbs, some of which fail."""
    results = []
    for verb in _VERBS:
        between()
        results.append(_as_root(tool, *(name if word == "NAME" else word for word in verb)))
    return results


def _planted(tool: Tool, name: str, trap: Trap) -> None:
    """The environment's directory in the user's own store, as an earlier version had it, full of traps."""
    directory = tool.store / "envs" / name
    description = {"version": 1, "ident": "0" * 32, "driver": "root", "id_map": None, "created": 1.0}
    script = 'rm -rf "$1"; mkdir -p "$1/upper" "$1/work" "$1/root"; printf %s "$2" > "$1/env.json"'
    _as(tool, script, str(directory), json.dumps(description))
    read = ("config.toml", "state.json", "links.json", "origin.json")
    links = [f"{trap.file if file in read else trap.directory / file} {directory / file}" for file in _FILES[2:]]
    links = [pair for pair in links if not pair.endswith(("/env.json", "/lock"))]
    _as(tool, "for pair; do ln -sfn $pair; done", *links)


@pytest.mark.parametrize("kind", ["link", "hard link", "fifo"])
def test_files_that_the_old_version_wrote_or_read(victim: tuple[Tool, str], trap: Trap, kind: str) -> None:
    """In whatever place the user can write, of whatever name: root neither writes nor reads there."""
    tool, name = victim
    places = [str(found) for store in _stores(tool) for found in (store / "envs" / name, store / "layers", store)]
    paths = [f"{place}/{file}" for place in places for file in _FILES]

    def plant() -> None:
        _as(tool, 'exec /usr/bin/python3 -I -S -c "$@"', _PLANT, kind, str(trap.file), *paths)
        # The kernel allows no hard link to a file of somebody else's that one cannot write.
        assert kind == "hard link" or os.path.lexists(tool.store / "layers" / _FILES[0])

    results = _everything(tool, name, plant)
    trap.check(tool, results)
    for result in results[:4]:
        succeeded(result)


def test_directories_that_become_links(victim: tuple[Tool, str], trap: Trap) -> None:
    tool, name = victim
    places = [str(store / place) for store in _stores(tool) for place in _PLACES]
    script = 'for place; do mv -T "$place" "$place.old"; ln -sfnT "$trap" "$place"; done'

    def plant() -> None:
        _as(tool, f"{{ trap=$1; shift; {script}; }} 2>/dev/null", str(trap.directory), *places)

    trap.check(tool, _everything(tool, name, plant))


@pytest.mark.parametrize("directories", [(), _DIRECTORIES], ids=["files", "directories"])
def test_an_environment_of_an_earlier_version_full_of_traps(
    victim: tuple[Tool, str], trap: Trap, directories: tuple[str, ...]
) -> None:
    """The user can make such a directory himself; it is never root's."""
    tool, _ = victim
    places = [str(tool.store / "envs" / "forged" / directory) for directory in directories]

    def plant() -> None:
        _planted(tool, "forged", trap)
        _as(tool, 'trap=$1; shift; for d; do rm -rf "$d"; ln -sfnT "$trap" "$d"; done', str(trap.directory), *places)

    trap.check(tool, _everything(tool, "forged", plant))


def _stores(tool: Tool) -> list[Path]:
    return [tool.store, *sorted((ROOT_STORES / str(tool.account.uid)).glob("*"))]


def test_what_root_keeps_only_root_can_write_and_only_the_user_can_read(
    victim: tuple[Tool, str], tools: dict[str, Tool]
) -> None:
    tool, name = victim
    path = Path(tool.status(name)["path"])
    assert path.is_relative_to(ROOT_STORES / str(tool.account.uid))
    for place in (path, *path.parents):
        status = place.stat()
        assert status.st_uid == 0
        assert not status.st_mode & 0o002 or status.st_mode & stat.S_ISVTX
        assert _as(tool, 'touch "$1/planted" 2>/dev/null; test -w "$1" && echo yes', str(place)) == ""
        assert not (place / "planted").exists()
    look = 'cat "$1/env.json" 2>/dev/null | wc -c'
    assert int(_as(tool, look, str(path))) > 0
    assert int(_as(tools["single"], look, str(path))) == 0
    shared = subprocess.run(
        ["setpriv", "--reuid", "33", "--regid", str(tool.account.gid), "--clear-groups", "cat", path / "env.json"],
        check=False,
        capture_output=True,
    )
    assert shared.returncode != 0, "another user in the same group"


def test_settings_manifests_and_archives_are_read_as_the_user(victim: tuple[Tool, str], trap: Trap) -> None:
    tool, name = victim
    home = tool.account.home
    own = home / ".config/sysenv-ns/config.toml"
    _as(tool, 'mkdir -p "$(dirname "$1")"; ln -sfn "$2" "$1"', str(own), str(trap.file))
    try:
        results = [tool.run("exec", name, "--", "true")]
        refused(results[0], 125, "config.toml", "EACCES")
    finally:
        own.unlink()
    manifest = home / "sysenv.toml"
    _as(tool, 'ln -sfn "$2" "$1"', str(manifest), str(trap.file))
    results += [
        tool.run("sync", name, str(manifest), "--yes"),
        tool.run("sync", "fresh", "--driver", "root", str(manifest)),
    ]
    results.append(tool.run("import", "--driver", "root", str(trap.file), "imported"))
    manifest.unlink()
    for result in results[1:]:
        refused(result, 1, "EACCES")
    trap.check(tool, results)


def test_exports_are_written_as_the_user(victim: tuple[Tool, str], trap: Trap) -> None:
    tool, name = victim
    link = tool.account.home / "link"
    _as(tool, 'ln -sfnT "$1" "$2"', str(trap.directory), str(link))
    results = [
        tool.run("export", name, str(target), "--force", *form)
        for form in ((), ("--format", "oci"))
        for target in (trap.directory / "out", trap.file, link / "out", link / "canary")
    ]
    for result in results:
        refused(result, 1, "EACCES")
    trap.check(tool, results)
    link.unlink()


@dataclass(frozen=True)
class _Hostile(Tool):
    """The tool with the variables of a user whom somebody wishes ill."""

    programs: Path = Path()

    def variables(self) -> dict[str, str]:
        own = {"PATH": f"{self.programs}:/usr/bin:/bin", "PYTHONPATH": str(self.programs), "PAGER": "less"}
        return super().variables() | own


def test_root_runs_no_program_of_the_users_path_and_loads_nothing(victim: tuple[Tool, str], trap: Trap) -> None:
    """Neither by PATH nor by what loaders and interpreters look at."""
    tool, name = victim
    programs, mark = tool.account.home / "programs", trap.place / "mark"
    text = f"#!/bin/sh\n[ $(id -u) != 0 ] || touch {mark}\nexit 1\n"
    names = ("newuidmap", "newgidmap", "sudo", "fuse-overlayfs", "less", "sh", "apt-get", "dpkg", "zstd")
    _as(
        tool,
        'mkdir -p "$1"; d=$1; t=$2; shift 2; for n; do printf %s "$t" > $d/$n; chmod 755 $d/$n; done',
        str(programs),
        text,
        *names,
    )
    _as(tool, 'printf "import os\\nos.getuid() or open(%s, \\"w\\")\\n" > "$1/sitecustomize.py"', str(programs))
    hostile = _Hostile(**vars(tool), programs=programs)
    trap.check(tool, [_as_root(hostile, *(name if w == "NAME" else w for w in verb)) for verb in _VERBS])
    assert not mark.exists()
    shutil.rmtree(programs)


@pytest.mark.parametrize("kind", ["link", "fifo", "foreign", "directory", "huge", "nested", "names", "parent"])
def test_a_forged_request(victim: tuple[Tool, str], trap: Trap, kind: str) -> None:
    """What root is handed on the command line leads nowhere either, and is deleted with the user's permissions."""
    tool, _ = victim
    request = tool.store / "request"
    _as(tool, 'mkdir "$1"', str(request))
    content = {"nested": "[" * 100_000, "names": '{"variables": {"A=B": "", "": "\\u0000"}, "umask": 18}'}.get(
        kind, "{}"
    )
    if kind == "parent":
        _as(tool, 'rmdir "$1"; ln -s "$2" "$1"', str(request), str(trap.directory))
    elif kind == "foreign":
        request = trap.directory
    else:
        script = {
            "link": 'ln -s "$2" "$1/request.json"',
            "fifo": 'mkfifo "$1/request.json"',
            "directory": 'mkdir "$1/request.json"',
            "huge": 'truncate -s 10G "$1/request.json"',
        }.get(kind, 'printf %s "$3" > "$1/request.json"')
        _as(tool, script, str(request), str(trap.file), content)
    result = _asked(tool, request, "list")
    assert result.returncode == 1, result.stderr
    assert "is not a request" in result.stderr
    assert "Traceback" not in result.stderr
    assert _SECRET not in result.stderr
    trap.check(tool, [])


@pytest.mark.parametrize("what", ["owner", "mode", "parent", "link", "sticky"])
def test_roots_own_store_must_be_roots(tools: dict[str, Tool], trap: Trap, what: str) -> None:
    """Where others can exchange what root works in, it does not."""
    tool = tools["root"]
    place = trap.place / "open"
    place.mkdir(mode=0o755)
    store = place / "store"
    if what == "owner":
        store.mkdir()
        os.chown(store, 12345, 12345)
    elif what == "mode":
        store.mkdir()
        store.chmod(0o777)
    elif what == "parent":
        place.chmod(0o777)
    elif what == "sticky":
        place.chmod(0o1777)
        store.symlink_to(trap.directory)
        os.lchown(store, 12345, 12345)
    else:
        os.lchown(place, 12345, 12345)
    for verb in (("create", "x"), ("list",), ("remove", "x"), ("exec", "x", "--", "true")):
        result = tool.at(store).run(*verb)
        refused(result, 125 if verb[0] == "exec" else 1, "users other than root can change", "SYSENV_NS_HOME")
    trap.check(tool, [])


@pytest.mark.parametrize("swapped", [False, True], ids=["whole", "forged"])
def test_what_an_earlier_version_made_is_moved_to_root(victim: tuple[Tool, str], trap: Trap, swapped: bool) -> None:
    """With its snapshots; a directory that is not root's stays where it is."""
    tool, name = victim
    environment = Environment(tool, name)
    environment.sh("echo old > /usr/local/old")
    succeeded(tool.run("snapshot", name, "one"))
    environment.sh("echo new > /usr/local/old")
    kept = Path(tool.status(name)["path"]).parent.parent
    for kind in ("envs", "layers"):
        for path in list((kept / kind).iterdir()):
            if path.is_dir():
                subprocess.run(["mv", path, tool.store / kind / path.name], check=True)
    subprocess.run(["mv", kept / "origins-root", tool.store / "origins-root"], check=True)
    if swapped:
        _planted(tool, "forged", trap)
    assert "root" in succeeded(tool.run("list")).stdout
    for _ in range(4):  # a rename, unless the two lie on different mounts: then by hand, as the hint says, kind by kind
        result = environment.exec("true")
        if result.returncode == 0:
            break
        refused(result, 125, "is on another file system")
        subprocess.run(shlex.split(result.stderr.partition("try again: sudo ")[2]), check=True)
    assert environment.sh("cat /usr/local/old") == "new\n"
    succeeded(tool.run("rollback", name, "one"))
    assert environment.sh("cat /usr/local/old") == "old\n"
    assert Path(tool.status(name)["path"]).parent.parent == kept
    assert os.listdir(tool.store / "envs") == (["forged"] if swapped else [])
    trap.check(tool, [])


def test_a_name_in_both_parts_is_refused(victim: tuple[Tool, str]) -> None:
    tool, name = victim
    for driver in ("stub", "root", "auto"):
        refused(tool.run("create", "--driver", driver, name), 1, "already exists")
    refused(tool.run("clone", name, name), 1, "already exists")
    refused(tool.run("status", "other"), 1, "there is no environment other", name)
