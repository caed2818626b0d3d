"""What happens to the disk, the clock and the machine below an environment: none of it loses what was there."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import time
from collections.abc import Iterator
from dataclasses import dataclass, replace
from pathlib import Path

import pytest

from sysenv_ns.kernel import writeback
from sysenv_ns.kernel.processes import started_at

from . import disks, machines
from .debs import Deb, change, program, states
from .machines import Machine
from .support import (
    BASE_LIMIT,
    ROOT_RUN,
    Environment,
    Result,
    Tool,
    describe,
    end,
    ended,
    finish,
    line,
    refused,
    sleeper,
    stays_on_its_file_system,
    succeeded,
    wait_for,
)

_MEBIBYTE = 1 << 20
_INSTALL = 'dpkg --install "$@"'


@dataclass(frozen=True)
class _Small:
    """What makes a small host in the test's mode, whose base is built in a moment."""

    image: Path
    tool: Tool

    @contextlib.contextmanager
    def with_disks(self, *kinds: str) -> Iterator[tuple[Machine, list[disks.Disk]]]:
        """One that has such file systems, and on the first the store."""
        stays_on_its_file_system(self.tool)
        with contextlib.ExitStack() as stack:
            made = [stack.enter_context(disks.disk(kind, self.tool.account)) for kind in kinds]
            machine = stack.enter_context(machines.copied(self.image, self.tool))
            yield replace(machine, tool=machine.tool.at(made[0].directory / "store")), made

    @contextlib.contextmanager
    def with_disk(self, kind: str) -> Iterator[tuple[disks.Disk, Tool]]:
        """A file system, and the tool with its store there."""
        with self.with_disks(kind) as (machine, (disk,)):
            try:
                yield disk, machine.tool
            finally:
                for path in machine.tool.store.glob("envs/*"):  # what runs keeps the disk busy
                    machine.tool.run("stop", path.name, "--time", "0")


@pytest.fixture
def small(host_image: Path, tool: Tool) -> _Small:
    return _Small(host_image, tool)


def _create(tool: Tool, name: str = "first") -> Environment:
    succeeded(tool.run("create", *tool.options, name, limit=BASE_LIMIT))
    return tool.environment(name)


def _try_to_install(environment: Environment, package: Path) -> Result:
    return environment.exec("dpkg", "--install", str(package))


@pytest.fixture
def packages(shared: Path) -> Iterator[Path]:
    """A directory for packages that all users can read."""
    path = shared / "packages"
    path.mkdir()
    yield path
    shutil.rmtree(path)


@pytest.mark.modes("full", "single", more=("root",))
def test_power_cut(small: _Small, packages: Path) -> None:
    """What create and dpkg have finished is there afterwards, whole; what nobody synced is not."""
    files = {f"/usr/share/kept/{number}": f"{number}\n" * 5000 for number in range(20)}
    kind = "xfs" if small.tool.mode == "single" else "ext4"
    package = Deb("kept", "2", files={**files, "/etc/kept.conf": "as shipped\n"}).build(packages)
    with small.with_disk(kind) as (disk, store):
        environment = _create(store)
        _cut_power(disk)
        assert environment.sh("cat /etc/debian_chroot; id -u").split() == ["first", "0"]
        session = sleeper(environment)  # when the last one leaves, the kernel writes out everything
        # As dpkg does it by itself; images for containers tell it not to.
        change(environment, 'dpkg --no-force-unsafe-io --install "$1"', str(package))
        environment.sh("echo never synced > /usr/lost; mkdir /usr/lost.d")
        disk.cut_power()
        end(session)
        disk.restart()
        assert store.names() == ["first"]
        assert environment.audit() == ""
        assert states(environment, "kept") == {"kept": "ii 2"}
        for path, text in files.items():
            assert environment.sh('cat "$1"', path) == text
        environment.sh("test ! -s /usr/lost && test ! -d /usr/lost.d")
        change(environment, "dpkg --purge kept; touch /usr/more")
        store.end("first")


def _cut_power(disk: disks.Disk) -> None:
    disk.cut_power()
    disk.restart()


@pytest.mark.modes("full", "single", "root")
def test_no_room(small: _Small, packages: Path) -> None:
    """The disk is full, or on btrfs the quota used up: all that was there stays, and with room everything goes on."""
    large = Deb("large", files={"/usr/share/large": "text\n" * (2 * _MEBIBYTE)}).build(packages)
    little = program("little").build(packages)
    mode = small.tool.mode
    kind, number = {"full": ("btrfs", "EDQUOT"), "single": ("ext4", "ENOSPC"), "root": ("tmpfs", "ENOSPC")}[mode]
    with small.with_disk(kind) as (disk, store):
        if mode != "root":
            with disk.room(2 * _MEBIBYTE):
                refused(
                    store.run("create", *store.options, "first", limit=BASE_LIMIT), 1, "base", number, "free some space"
                )
                assert store.listed() == []
                assert [path for path in store.store.glob("*/*/*") if path.name.startswith("new-")] == []
                assert list((store.store / "trash").iterdir()) == []
        environment = _create(store)
        change(environment, f"{_INSTALL}; echo kept > /usr/kept", str(little))
        _create(store, "second").sh("cp -r /etc /srv/etc")
        with disk.room((8 if number == "EDQUOT" else 4) * _MEBIBYTE):  # a quota counts what is yet to be freed
            failed = _try_to_install(environment, large)
            assert failed.returncode == 1, describe(failed)
            assert "No space left" in failed.stderr or "quota exceeded" in failed.stderr, describe(failed)
            assert environment.sh("little; cat /usr/kept") == "little 1\nkept\n"
            said = succeeded(store.run("remove", "second")).stderr
            if mode == "single":  # a quota leaves the disk room, and so does the small store of root
                assert "to free the room of what was removed: sysenv-ns remove --purge" in said
            succeeded(store.run("remove", "--undo"))
            succeeded(store.run("remove", "--purge", "second"))
        assert states(environment, "little") == {"little": "ii 1"}
        change(environment, _INSTALL, str(large))
        assert environment.audit() == ""
        store.end("first")


@pytest.mark.modes("full", more=("root",))
def test_read_only_store(small: _Small) -> None:
    """Nothing can be changed, and each command says so; what only reads works."""
    with small.with_disk("ext4") as (disk, store):
        environment = _create(store)
        environment.sh("echo kept > /usr/kept")
        disk.allow_writing(False)
        refused(environment.exec("true"), 125, "EROFS", "SYSENV_NS_HOME")
        refused(store.run("create", *store.options, "second"), 1, "EROFS", "SYSENV_NS_HOME")
        refused(store.run("remove", "first"), 1, "EROFS")
        assert succeeded(store.run("stop", "first")).stderr == "sysenv-ns: first was not running\n"
        assert "first" in succeeded(store.run("list")).stdout
        assert store.status("first")["problem"] == ""
        doctor = store.run("doctor")
        assert "EROFS" in doctor.stdout, describe(doctor)
        assert "Traceback" not in doctor.stderr
        disk.allow_writing(True)
        assert environment.sh("cat /usr/kept") == "kept\n"
        store.end("first")


@pytest.mark.modes("single", more=("root",))
def test_store_moved_to_another_path(small: _Small) -> None:
    """The base comes along and is not built again."""
    with small.with_disk("tmpfs") as (_, store):
        first = _create(store)
        first.sh("echo kept > /usr/kept; mv /usr/share/doc /usr/share/moved")
        before = _layers(store)
        moved = store.at(store.store.with_name("moved"))
        store.store.rename(moved.store)
        assert moved.environment("first").sh("cat /usr/kept; test ! -e /usr/share/doc; ls /usr/share/moved")
        assert _layers(moved) == before
        assert store.listed() == []
        moved.end("first")


@pytest.mark.modes("full", more=("root",))
def test_store_copied_to_another_disk(small: _Small, packages: Path) -> None:
    """By root with all attributes, and back: other inodes, another kind of file system, the same files."""
    package = program("carried").build(packages)
    with small.with_disks("tmpfs", "xfs") as (machine, (_, xfs)):
        store, other = machine.tool, machine.tool.at(xfs.directory / "store")
        first = _create(store)
        change(first, f"{_INSTALL}; rm -r /usr/share/doc; chmod 700 /usr/bin/sort; chown 33 /usr/bin/tac", str(package))
        before, probe = _layers(store), "stat -c '%n %a %U %s' /usr/bin/* /etc/carried.conf; ls /usr/share"
        expected = first.sh(probe)
        subprocess.run(["cp", "-a", store.store, other.store], check=True, timeout=BASE_LIMIT)
        copied = other.environment("first")
        assert copied.sh(probe) == expected
        assert _layers(other) == before
        assert copied.sh("carried") == "carried 1\n"
        change(copied, "dpkg --purge carried; mkdir /usr/share/doc")
        assert copied.audit() == ""
        assert first.sh(probe) == expected
        for tool_ in (store, other):
            tool_.end("first")


def _layers(tool: Tool) -> dict[str, int]:
    """The large layers of the base, and when each was made; /etc may change while these tests run."""
    return {f"{path.parent.name}/{path.name}": path.stat().st_mtime_ns for path in tool.store.glob("base/*/stubs-*")}


@pytest.mark.modes("single", more=("root",))
def test_home_in_memory(small: _Small) -> None:
    """The store is where it is without SYSENV_NS_HOME, below a home that is a mount of its own."""
    with small.with_disks("tmpfs") as (machine, (disk,)):
        tool = machine.tool
        at_home = ["env", "--unset", "SYSENV_NS_HOME", f"HOME={disk.directory}", *tool.account.setpriv()]
        at_home = [*machine.prefix, *at_home]
        store = tool.at(disk.directory / ".local/share/sysenv-ns")
        command = (
            "exec",
            *tool.options,
            "first",
            "--",
            "sh",
            "-c",
            "echo > /usr/x; echo $SYSENV_NS; cat $0",
            f"{disk.directory}/x",
        )
        (disk.directory / "x").write_text("of home\n")
        result = succeeded(store.run(*command, prefix=at_home, limit=BASE_LIMIT))
        assert result.stdout == "first\nof home\n"
        store.environment("first").sh('test -e /usr/x; cat "$1"', str(disk.directory / "x"))
        store.end("first")


def test_clock_that_went_backwards(environment: Environment) -> None:
    """All that is there comes from the future."""
    tool = environment.tool
    environment.sh("echo kept > /usr/kept")
    description = environment.tool.store / "envs" / environment.name / "env.json"
    data = json.loads(description.read_text())
    future = time.time() + 10 * 365 * 86400
    description.write_text(json.dumps(data | {"created": future}))
    touched = [
        path for part in ("base/*/", "base/*/*", "base/*/*/*.json", "envs/*", "trash") for path in tool.store.glob(part)
    ]
    for path in (*touched, *description.parent.iterdir()):
        os.utime(path, (future, future))
    before = _layers(tool)
    assert environment.sh("cat /usr/kept; echo more > /usr/more") == "kept\n"
    assert _layers(tool) == before
    assert tool.status(environment.name)["created"] == time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(future))
    assert environment.name in succeeded(tool.run("list")).stdout
    session = sleeper(environment)
    assert "ended" in succeeded(tool.run("stop", environment.name)).stderr
    assert end(session).returncode == -signal.SIGTERM


@pytest.mark.parametrize("first", ["outside", "shifted"])
def test_time_namespace(environment: Environment, first: str) -> None:
    """Processes there have other start times for those outside, and the state file has one of them."""
    if not ROOT_RUN:
        pytest.skip("only root can make a time namespace and stay in the user namespace")
    shifted = ["unshare", "--time", "--boottime", "864000", "--monotonic", "864000", "--fork"]
    prefixes = {"outside": (), "shifted": (*shifted, *environment.tool.account.setpriv())}
    script = "echo ready; exec sleep 300"
    session = environment.tool.start("exec", environment.name, "--", "sh", "-c", script, prefix=prefixes[first])
    assert line(session) == "ready\n"
    (process,) = environment.tool.status(environment.name)["processes"]
    probe = 'test "$(readlink /proc/self/ns/mnt)" = "$(readlink "/proc/$1/ns/mnt")"'
    for prefix in prefixes.values():
        environment.sh(probe, str(process["pid"]), prefix=prefix)
    succeeded(environment.tool.run("stop", environment.name, prefix=prefixes["shifted"]))
    finish(session)
    assert environment.tool.status(environment.name)["running"] is False


def test_reboot(environment: Environment) -> None:
    """The state file names a process and a namespace that are somebody else's now, and work lies about half done."""
    tool, directory = environment.tool, environment.tool.store / "envs" / environment.name
    environment.sh("echo kept > /usr/kept; echo gone > /run/gone")
    state = json.loads((directory / "state.json").read_text())
    stranger = subprocess.Popen(["unshare", "--mount", "sleep", "300"]) if ROOT_RUN else None
    pid = stranger.pid if stranger else os.getpid()
    try:
        wait_for(lambda: not stranger or Path(f"/proc/{pid}/comm").read_text() == "sleep\n")
        state |= {"pid": pid, "start_time": started_at(pid), "namespace": os.stat(f"/proc/{pid}/ns/mnt").st_ino}
        (directory / "state.json").write_text(json.dumps(state))
        (directory / "state.999999.new").write_text("{")
        left = tool.store / "trash" / f"new-{environment.name}.4194304.00000000"  # no process can have that id
        for path in (left, left / "upper", *(base / "new-4194304" for base in tool.store.glob("base/*/"))):
            path.mkdir()
            os.chown(path, tool.account.uid, tool.account.gid)
        assert tool.status(environment.name)["running"] is False
        assert environment.sh("cat /usr/kept; test ! -e /run/gone") == "kept\n"
        assert succeeded(tool.run("stop", environment.name)).stderr.endswith("was not running\n")
        assert stranger is None or stranger.poll() is None
        succeeded(tool.run("create", *tool.options, "removed"))
        succeeded(tool.run("remove", "--purge", "removed"))
        assert list((tool.store / "trash").iterdir()) == []
    finally:
        if stranger:
            stranger.kill()
            ended(stranger)


_REPLACE = """
cd "$1"
cp "$2" "$2.new"
printf '\nreplaced\n' >> "$2.new"
mv "$2.new" "$2"
"""


@pytest.mark.modes("full", more=("single",))
def test_a_power_cut_while_a_session_runs(new_machine: Machine) -> None:
    """A file of the host that was replaced by rename(2), and one that was cut, without fsync(2): on the bare disk both
    have their new content, in an environment they were empty.
    """
    image = new_machine.image("disk", "ext4")
    user = str(new_machine.tool.account.uid)
    new_machine.sh('mount -o loop "$1" /media; install -d -o "$2" /media/store', image, user)
    tool = new_machine.tool.at(Path("/media/store"))
    succeeded(tool.run("create", *tool.options, "test", limit=BASE_LIMIT))
    environment = tool.environment("test")
    session = sleeper(environment)
    try:
        environment.sh(_REPLACE, "/etc", "host.conf")
        environment.sh(_REPLACE, "/usr/bin", "tac")  # which has a stub
        environment.sh("echo written > /etc/debian_version")
        time.sleep(2 * writeback.INTERVAL)
        # The names reach the disk with what somebody else waits for; then the power goes.
        new_machine.sh('echo other > /media/other; sync /media/other; cp --sparse=always "$1" "$1.cut"', image)
    finally:
        end(session)
    new_machine.sh('mount -o loop "$1.cut" /srv', image)
    changed = [f"/srv/store/envs/test/upper/{path}" for path in ("etc/host.conf", "usr/bin/tac", "etc/debian_version")]
    found = [new_machine.sh('tail -n 1 "$1" | tr -d "\\0"', path) for path in changed]
    new_machine.sh("umount /srv")
    assert found == ["replaced\n", "replaced\n", "written\n"]
