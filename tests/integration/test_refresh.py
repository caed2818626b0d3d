"""The base follows the host: after each change it is what a base built anew is, whole or in part, mounted or not."""

from __future__ import annotations

import fcntl
import hashlib
import itertools
import os
import re
import shutil
import signal
import stat
import time
from collections import defaultdict
from collections.abc import Iterator
from pathlib import Path

import pytest
from unit.changes import Changes

from sysenv_ns import policy

from .debs import Deb
from .machines import Machine
from .support import BASE_LIMIT, Tool, end, finish, keeps_files_of_the_host, sleeper, succeeded

pytestmark = pytest.mark.modes("full", more=("single",))

# Directories of the machine that are this host's, and live: their times say nothing.
_LIVE = {"dev", "home", "media", "mnt", "proc", "run", "sys", "tmp", "var/tmp"}
_numbers = itertools.count(1)

Look = dict[str, tuple[object, ...]]


def _layers(tool: Tool) -> dict[str, Path]:
    """The current layers of the only base of a store, by name without number."""
    (base,) = (tool.store / "base").glob("*/")
    found = [path.name.rpartition("-") for path in base.iterdir() if path.is_dir()]
    numbers = {
        name: max(int(number) for other, _, number in found if other == name) for name in ("top", "etc", "stubs")
    }
    return {name: base / f"{name}-{number}" for name, number in numbers.items()}


def _look(tree: Path) -> Look:
    """Everything about each file below a tree: kind, mode, owner, size, time, content, attributes, other names."""
    names: dict[int, list[str]] = defaultdict(list)
    found: Look = {}
    for path in (tree, *(Path(entry) for entry in _below(tree))):
        status = path.lstat()
        name = str(path.relative_to(tree))
        attributes = {key: os.getxattr(path, key, follow_symlinks=False) for key in _attributes(path)}
        content: object = None
        if stat.S_ISREG(status.st_mode) and "user.overlay.metacopy" not in attributes:
            content = hashlib.sha256(path.read_bytes()).hexdigest()
        elif stat.S_ISLNK(status.st_mode):
            content = path.readlink()
        is_directory = stat.S_ISDIR(status.st_mode)
        if not is_directory:
            names[status.st_ino].append(name)
        size = 0 if is_directory else status.st_size
        time = 0 if name in _LIVE else status.st_mtime_ns
        found[name] = (status.st_mode, status.st_uid, status.st_gid, size, time, content, attributes, status.st_ino)
    return {name: (*what[:-1], _group(names.get(int(str(what[-1])), []))) for name, what in found.items()}


def _group(names: list[str]) -> tuple[str, ...]:
    return tuple(sorted(names)) if len(names) > 1 else ()


def _below(tree: Path) -> Iterator[str]:
    for directory, directories, files in os.walk(tree):
        for name in (*directories, *files):
            yield os.path.join(directory, name)


def _attributes(path: Path) -> list[str]:
    return [name for name in os.listxattr(path, follow_symlinks=False) if name.startswith("user.")]


def _assert_as_new(tool: Tool) -> None:
    """The base is what a base is that is built anew now."""
    fresh = tool.at(Path(f"{tool.store}-fresh-{next(_numbers)}"))
    try:
        succeeded(fresh.run("create", "test", *tool.options, limit=BASE_LIMIT))
        expected = _layers(fresh)
        for name, layer in _layers(tool).items():
            assert sorted(path.name for path in layer.iterdir()) == sorted(p.name for p in expected[name].iterdir())
            got, wanted = _look(layer / "tree"), _look(expected[name] / "tree")
            if name != "top":  # which covers it
                del got["."], wanted["."]
            different = {path: (got.get(path), wanted.get(path)) for path in got.keys() | wanted.keys()}
            assert {path: pair for path, pair in different.items() if pair[0] != pair[1]} == {}, layer
    finally:
        shutil.rmtree(fresh.store)


def _files(tool: Tool) -> dict[str, tuple[int, int]]:
    """The files of the layer with the stubs; one that has not been made again keeps its inode and its times."""
    tree = _layers(tool)["stubs"] / "tree"
    paths = (Path(path) for path in _below(tree))
    found = {path: path.lstat() for path in paths if path.is_symlink() or path.is_file()}
    return {str(path.relative_to(tree)): (status.st_ino, status.st_ctime_ns) for path, status in found.items()}


def _touch_database(machine: Machine) -> None:
    machine.sh("cd /var/lib/dpkg; cp -p status status-new; mv status-new status")


# Everything of a round happens between two starts.
_ROUNDS = {
    "none": "true",
    "first": r"""
        mkdir /usr/share/new; echo a > /usr/share/new/small; head -c 9999 /dev/urandom > /usr/share/new/large
        cd /usr/bin; cp -p sort sort.new; echo >> sort.new; mv sort.new sort
        rm -r /usr/share/doc/apt; rm /usr/bin/tac
        mv /usr/share/doc/dpkg /usr/share/doc/renamed; mv /usr/bin/wc /usr/bin/wc.distrib
        mv /usr/share/doc/sudo /usr/share/sudo-doc; ln -s ../sudo-doc /usr/share/doc/sudo
        rm /usr/bin/tsort; mkdir /usr/bin/tsort; echo x > /usr/bin/tsort/inside
        cd /usr/share/doc; mv bash x; mv dash bash; mv x dash
        cd /usr; head -c 9999 /dev/zero > bin/one; ln bin/one lib/two; ln bin/sort lib/sort; ln bin/cut bin/cut2
        mkdir -p /usr/local/lib/a/b; head -c 9999 /dev/zero > /usr/local/lib/a/b/c; echo > /usr/local/bin/x
        mkdir -p /opt/a/b/c /opt/bin; head -c 9999 /dev/urandom > /opt/a/b/c/data; ln -s a /opt/link
        head -c 9999 /dev/urandom > /opt/bin/sum; cp /opt/a/b/c/data /opt/bin/later
        echo x >> /etc/hosts; rm -r /etc/cron.d; mkdir /etc/new; echo n > /etc/new/file; ln /etc/new/file /etc/new/b
        useradd --no-create-home someone
        mkdir /var/lib/new; head -c 2000000 /dev/urandom > /var/lib/new/large; echo log >> /var/log/dpkg.log
        mkdir /newtop; ln -s usr/bin /newlink; chmod 711 /opt
    """,
    "second": r"""
        rm /usr/share/doc/sudo; mv /usr/share/sudo-doc /usr/share/doc/sudo
        rm -r /usr/bin/tsort; echo x > /usr/bin/tsort
        rm /usr/bin/one; ln /usr/lib/two /usr/share/three; ln /usr/bin/cut /usr/lib/cut3
        cp -p /opt/a/b/c/data /usr/bin/later
        chmod 2755 /usr/share/doc; chown 33:33 /usr/share/new; chmod 750 /srv; chmod 700 /usr/share/doc/libc6
        mkfifo /usr/share/new/fifo; ln -s nowhere /usr/share/new/dangling; mkdir /usr/share/new/empty
        cd /usr/share/new; mkdir 'a b'; touch 'a b/new
line' -- '-x' \'quote "$(printf '\\377')"
        echo more >> /var/lib/new/large; rmdir /newtop
    """,
    "third": """
        mv /usr/lib/two /usr/lib/four; mv /usr/bin/sort /usr/share/sort
        rm /usr/bin/later; chmod 755 /usr/share/doc/libc6; rm -r /etc/new; userdel someone; rmdir /srv
    """,
    "fourth": "rm -r /opt/* /usr/local/lib/a; mkdir -p /srv/a; head -c 9999 /dev/zero > /srv/a/b",
}
# Neither the times of directories nor a package database tells of these.
# None of coreutils: with some releases these are links to one program.
_IN_PLACE = r"""
    chmod 4755 /usr/bin/diff3; chmod 600 /usr/share/doc/dpkg/copyright; chown 33:33 /usr/bin/sdiff
    echo >> /usr/bin/xargs; echo >> /usr/share/doc/apt/copyright; truncate -s 5000 /usr/bin/iconv
"""

_EDITED = (
    *("usr/bin/diff3", "usr/bin/iconv", "usr/bin/sdiff", "usr/bin/xargs"),
    *("usr/share/doc/apt/copyright", "usr/share/doc/dpkg/copyright"),
)


def _change(machine: Machine, script: str) -> None:
    machine.sh(script)
    _touch_database(machine)


def test_each_change(machine: Machine) -> None:
    environment = machine.create()
    for name, script in _ROUNDS.items():
        _change(machine, script)
        assert environment.sh("echo in") == "in\n", name
        _assert_as_new(machine.tool)


@pytest.mark.modes("full")
def test_each_change_while_a_session_runs(machine: Machine) -> None:
    """What is mounted does not change; others get a new generation."""
    environment = machine.create()
    session = sleeper(environment)
    try:
        mounted = _look_at_all(machine.tool)
        for name, script in _ROUNDS.items():
            _change(machine, script)
            result = machine.tool.run("exec", *machine.tool.options, "other", "--", "echo", "in", limit=BASE_LIMIT)
            assert succeeded(result).stdout == "in\n", name
            _assert_as_new(machine.tool)
        now = _look_at_all(machine.tool)
        assert {path: now[path] for path in mounted} == mounted
    finally:
        end(session)


@pytest.mark.modes("full")
def test_a_second_generation_gives_no_file_a_name_more(machine: Machine) -> None:
    """Neither in the session that has the first one mounted: programs leave files with several names alone."""
    machine.sh("echo log > /var/log/play.log; cd /opt; echo 1 > small; head -c 9000 /bin/sh > large; ln large other")
    _touch_database(machine)
    environment = machine.create()
    count = "find /usr /etc /var /opt -xdev ! -type d -printf '%n %p\\n' | sort"
    before = environment.sh(count)
    session = sleeper(environment)
    try:
        _touch_database(machine)
        machine.sh("echo 2 > /usr/share/new")
        assert environment.sh(count) == before
        other = machine.tool.environment(_new(machine, "other"))
        assert other.sh(count).replace("1 /usr/share/new\n", "") == before
        assert environment.sh(count) == before
        assert other.sh("cat /opt/small; cmp /opt/large /opt/other && head -c 9000 /bin/sh | cmp - /opt/large") == "1\n"
    finally:
        end(session)


def _look_at_all(tool: Tool) -> dict[Path, Look]:
    (base,) = (tool.store / "base").glob("*/")
    found = {path: _look(path / "tree") for path in base.iterdir() if path.is_dir()}
    live = {path.lstrip("/") for path in policy.LIVE_FILES}  # which follow the host in what is mounted
    return {path: {name: facts for name, facts in look.items() if name not in live} for path, look in found.items()}


def test_files_edited_in_place_are_found_by_refresh_alone(machine: Machine) -> None:
    keeps_files_of_the_host(machine.tool)
    environment = machine.create()
    refreshed = machine.tool.run("refresh")
    assert "the base is up to date" in succeeded(refreshed).stderr
    machine.sh(_IN_PLACE)
    before = _files(machine.tool)
    environment.sh("true")
    assert _files(machine.tool) == before
    refreshed = machine.tool.run("refresh", environment.name)
    assert re.search(r"refreshed \d+ files in 3 directories", succeeded(refreshed).stderr)
    now = _files(machine.tool)
    alone = {path for path in now if now[path] != before[path] and list(now.values()).count(now[path]) == 1}
    assert alone == set(_EDITED)  # what has further names is made again with its directory
    _assert_as_new(machine.tool)
    assert "the base is up to date" in succeeded(machine.tool.run("refresh")).stderr


@pytest.mark.modes("full")
@pytest.mark.parametrize("seed", [1, pytest.param(2, marks=pytest.mark.matrix)])
def test_any_changes(machine: Machine, seed: int, whole: bool) -> None:
    """First while nothing runs, then while the layers are mounted."""
    rounds = 4 if whole else 2
    roots = [machine.root / path / "play" for path in ("usr/share", "usr/local", "opt", "etc", "var/lib")]
    for root in roots:
        root.mkdir(parents=True)
    changes = [Changes(root, seed + number, in_place=False) for number, root in enumerate(roots)]
    for some in changes:
        some.make(40)
    environment = machine.create()
    sessions = []
    try:
        for number in range(rounds):
            for some in changes:
                some.make(15)
            _touch_database(machine)
            if number < rounds // 2:
                environment.sh("true")
            else:
                sessions.append(sleeper(machine.tool.environment(_new(machine, f"other{number}"))))
            _assert_as_new(machine.tool)
    finally:
        for session in sessions:
            end(session)


def _new(machine: Machine, name: str) -> str:
    succeeded(machine.tool.run("create", *machine.tool.options, name, limit=BASE_LIMIT))
    return name


def test_upgrade_of_packages(machine: Machine, shared: Path) -> None:
    """Files and database agree: of the old version in what runs, of the new one in what is started afterwards."""
    keeps_files_of_the_host(machine.tool)
    debs = [Deb(f"play{number}", version, files=_files_of(number, version)) for number in "12" for version in "12"]
    paths = [str(deb.build(shared)) for deb in debs]
    machine.sh('dpkg -i "$@"', paths[0], paths[2])
    environment = machine.create()
    script = """
        dpkg-query -W -f '${Version} ' play1 play2
        cat /usr/share/play1/small /etc/play2.conf
        dpkg -V play1 play2
    """
    assert environment.sh(script).split() == ["1"] * 4
    session = sleeper(environment)
    try:
        machine.sh('dpkg -i "$@"', paths[1], paths[3])
        assert succeeded(environment.exec("sh", "-c", script)).stdout.split()[:4] == ["1"] * 4
        assert machine.tool.environment(_new(machine, "other")).sh(script).split() == ["2"] * 4
    finally:
        end(session)
    assert environment.sh(script).split() == ["2"] * 4
    machine.sh("dpkg --purge play1 play2")
    assert environment.sh("ls -d /usr/share/play* /etc/play2.conf 2>&1 || true").count("No such file") == 2
    _assert_as_new(machine.tool)


def _files_of(number: str, version: str) -> dict[str, str]:
    return {
        f"/usr/share/play{number}/small": f"{version}\n",
        f"/usr/share/play{number}/large": f"{version}\n" * 5000 * int(version),
        f"/usr/share/play{number}/only{version}/file": "x",
        f"/etc/play{number}.conf": f"{version}\n",
    }


@pytest.mark.parametrize("place", ["/opt/a/b", "/usr/local/lib/a/b", "/usr/bin", "/etc/a/b", "/srv"])
@pytest.mark.modes("full")
def test_no_package_manager_is_needed(machine: Machine, place: str) -> None:
    machine.sh('mkdir -p "$1"; echo one > "$1/file"', place)
    environment = machine.create()
    assert environment.sh('cat "$1/file"', place) == "one\n"
    machine.sh('cd "$1"; echo two > new; mv new file', place)
    assert environment.sh('cat "$1/file"', place) == "two\n"
    machine.sh('rm "$1/file"', place)
    environment.sh('test ! -e "$1/file"', place)


def test_a_file_of_etc_follows_the_host_until_it_is_changed_inside(machine: Machine) -> None:
    environment = machine.create()
    environment.sh("echo inside >> /etc/hosts")
    for number in range(3):
        machine.sh("echo $1 >> /etc/hosts; echo $1 >> /etc/services", str(number))
        assert environment.sh("tail -1 /etc/hosts; tail -1 /etc/services") == f"inside\n{number}\n"


def test_two_starts_at_once_after_a_change(machine: Machine) -> None:
    """One refreshes the base, the others wait for it."""
    names = [_new(machine, f"test{number}") for number in range(4)]
    for _ in range(3):
        _change(machine, "rm -rf /usr/share/new; cp -a /usr/share/doc /usr/share/new; cp -a /usr/share/doc /opt")
        sessions = [machine.tool.start("exec", name, "--", "ls", "/usr/share/new/apt") for name in names]
        for session in sessions:
            assert "copyright" in succeeded(finish(session, limit=BASE_LIMIT)).stdout
        machine.sh("rm -r /opt/doc")
    assert list((machine.tool.store / "trash").iterdir()) == []
    machine.tool.environment(names[0]).sh("true")
    _assert_as_new(machine.tool)


def test_a_start_waits_for_no_other_that_only_mounts(machine: Machine) -> None:
    environment = machine.create()
    (base,) = (machine.tool.store / "base").glob("*/")
    with (base / "lock").open() as lock:
        fcntl.flock(lock, fcntl.LOCK_SH)
        assert environment.sh("echo in") == "in\n"


_MUCH = """
    rm -rf /usr/share/new /opt/new
    cp -a /usr/share/doc /usr/share/new
    cp -a /etc /opt/new
"""


def test_a_killed_refresh(machine: Machine, whole: bool) -> None:
    """In place and while it makes a new generation: the next start has the whole base."""
    environment = machine.create()
    for mounted in (False, True):
        session = sleeper(environment) if mounted else None
        try:
            for delay in (0.1, 0.2, 0.3, 0.4, 0.6, 0.8) if whole else (0.1, 0.25, 0.5):
                _change(machine, _MUCH)
                process = machine.tool.start("refresh")
                time.sleep(delay)
                os.killpg(process.pid, signal.SIGKILL)
                finish(process)
            name = _new(machine, f"other{mounted}")
            machine.tool.environment(name).sh("test -e /usr/share/new/apt/copyright; test -e /opt/new/passwd")
        finally:
            if session is not None:
                end(session)
        _assert_as_new(machine.tool)
        (base,) = (machine.tool.store / "base").glob("*/")
        assert not [path for path in base.iterdir() if path.name.startswith("new-")]
    succeeded(machine.tool.run("remove", "--purge", environment.name))
    assert list((machine.tool.store / "trash").iterdir()) == []
