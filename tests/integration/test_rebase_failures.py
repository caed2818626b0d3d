"""A rebase that fails, is killed or must be repaired: the environment is as before, or carried over as a whole."""

from __future__ import annotations

import os
import signal
import time
from pathlib import Path

import pytest

from . import terminals
from .debs import Archive, Deb
from .machines import Machine, output
from .support import BASE_LIMIT, Environment, end, ended, finish, refused, running, sleeper, succeeded, wait_for
from .upgrades import ADDED, HOST_LATER, OWN_UPGRADED, assert_sound, first, install, later, rebase, upgrade, versions


def _state(environment: Environment) -> str:
    """Everything that makes an environment what it is, without what a session leaves."""
    path = environment.tool.store / "envs" / environment.name
    script = """
        cd "$1"; cat env.json origin.json
        find upper -printf '%p %y %m %U %G %T@ %l\n' | sort
        find upper -type f -print0 | sort -z | xargs -0 md5sum
        find upper -print0 | sort -z | xargs -0 getfattr --no-dereference --dump --match=overlay 2>/dev/null
    """
    return output("sh", "-c", script, "sh", path)


def _trash(environment: Environment) -> list[str]:
    return sorted(path.name for path in (environment.tool.store / "trash").iterdir())


@pytest.mark.modes("full", more=("single",))
def test_killed_at_any_moment(machine: Machine, packages: Path) -> None:
    environment = first(machine, packages)
    install(environment, packages, OWN_UPGRADED, *ADDED)
    later(machine, packages)
    succeeded(environment.exec("true"))  # the base follows
    started = time.monotonic()
    rebase(environment, "--dry-run")
    whole = 4 * (time.monotonic() - started)  # what comes after the plan takes some more
    before, moved = _state(environment), False
    for part in range(1, 13):
        process = environment.tool.start("rebase", environment.name)
        time.sleep(whole * part / 12)
        os.killpg(process.pid, signal.SIGKILL)
        finish(process)
        found = _state(environment)
        if found != before:
            moved = True
            break
    if not moved:
        rebase(environment)
    assert_sound(machine, environment)
    assert (versions(environment)["plain"], versions(environment)["upgraded"]) == ("ii 2", "ii 2")
    rebase(environment)
    environment.tool.end("test")
    assert _trash(environment) == []


_LONG = ("sleep", str(986 + os.getpid() / 10**8))  # this process's own


@pytest.mark.modes("full", more=("single",))
def test_killed_while_a_script_runs_it_holds_nothing_up(machine: Machine, packages: Path) -> None:
    environment = first(machine, packages)
    install(environment, packages, OWN_UPGRADED)
    later(machine, packages)
    script = """
        cp /usr/bin/dpkg /usr/local/bin/dpkg.real
        printf '%s\\n' '#!/bin/sh' "[ \"\\$1\" != --audit ] || $1" 'exec dpkg.real "$@"' > /usr/local/bin/dpkg
        chmod 755 /usr/local/bin/dpkg
    """
    environment.sh(script, " ".join(_LONG))
    before = _state(environment)
    process = environment.tool.start("rebase", environment.name)
    try:
        wait_for(lambda: running(*_LONG) != [])
        process.kill()  # it alone
        ended(process)
        succeeded(environment.exec("true"))
    finally:
        left = running(*_LONG)
        for pid in left:
            os.kill(pid, signal.SIGKILL)
        for stream in (process.stdin, process.stdout, process.stderr):
            assert stream is not None
            stream.close()
    assert left
    assert _state(environment) == before


@pytest.mark.modes("full")
def test_a_full_disk(new_machine: Machine, packages: Path) -> None:
    machine = new_machine
    store, account = machine.tool.store, machine.tool.account
    machine.sh(
        'mkdir "$1"; mount -t tmpfs -o size=600M,mode=700,uid="$2",gid="$3" test "$1"',
        str(store),
        str(account.uid),
        str(account.gid),
    )
    environment = first(machine, packages)
    install(environment, packages, OWN_UPGRADED, *ADDED)
    environment.sh("head -c 3M /dev/urandom > /opt/large")
    later(machine, packages)
    succeeded(environment.exec("true"))
    rebase(environment, "--dry-run")
    script = """
        rm -f "$1/filler"; cat /dev/zero > "$1/filler" 2>/dev/null || :
        truncate --size="-$2" "$1/filler"
    """
    look = 'cd "$1/envs/test"; cat origin.json; find upper -type f -print0 | sort -z | xargs -0 md5sum; ls "$1/trash"'
    before = machine.sh(look, str(store))
    for room in ("0", "64K", "1M", "3M"):
        machine.sh(script, str(store), room)
        refused(environment.tool.run("rebase", "test", limit=BASE_LIMIT), 1, "ENOSPC")
        assert machine.sh(look, str(store)) == before
    machine.sh('rm "$1/filler"', str(store))
    rebase(environment)
    assert_sound(machine, environment)


def _broken(machine: Machine, packages: Path) -> Environment:
    """An environment whose package is too old for what the host has now; its archive has a newer one."""
    environment = first(machine, packages)
    install(environment, packages, OWN_UPGRADED)
    upgraded = next(deb for deb in HOST_LATER if deb.name == "rb-upgraded")
    needs = Deb("rb-needs", "1", {"Depends": "rb-upgraded (>= 3)"}, {"/usr/bin/rb-needs": "needs\n"})
    Archive(environment, packages).add(upgraded)
    upgrade(machine, packages, upgraded, needs)
    return environment


def _assert_repaired(machine: Machine, environment: Environment) -> None:
    assert (versions(environment)["needs"], versions(environment)["upgraded"]) == ("ii 1", "ii 3")
    assert_sound(machine, environment)


@pytest.mark.modes("single")
def test_dependencies_are_repaired_with_yes(machine: Machine, packages: Path) -> None:
    environment = _broken(machine, packages)
    before = _state(environment)
    refused(environment.tool.run("rebase", "test", limit=BASE_LIMIT), 1, "rb-needs", "--yes")
    assert _state(environment) == before
    assert rebase(environment, "--yes")["repaired"] is True
    _assert_repaired(machine, environment)


@pytest.mark.modes("full")
def test_on_a_terminal_somebody_is_asked_before_dependencies_are_repaired(machine: Machine, packages: Path) -> None:
    environment = _broken(machine, packages)
    before = _state(environment)
    for answer, status in (("n", 1), ("y", 0)):
        terminal = terminals.spawn(environment, str(environment.tool.launcher), "rebase", "test")
        terminal.expect(r"rb-needs.*Let apt repair them \(apt-get --fix-broken install\)\? \[y/N\]: ")
        assert _state(environment) == before
        terminal.sendline(answer)
        terminals.close(terminal)
        assert terminal.exitstatus == status, terminal.before
        assert (_state(environment) == before) is (answer == "n")
    _assert_repaired(machine, environment)


_RPM = """
mkdir -p /usr/lib/sysimage/rpm
/usr/bin/python3 -c '
import sqlite3, sys
with sqlite3.connect("/usr/lib/sysimage/rpm/rpmdb.sqlite") as database:
    database.execute("CREATE TABLE IF NOT EXISTS Packages (hnum INTEGER PRIMARY KEY AUTOINCREMENT, blob BLOB NOT NULL)")
    database.execute("INSERT INTO Packages (blob) VALUES (?)", [sys.argv[1].encode()])
' "$1"
"""
_PACMAN = 'mkdir -p "/var/lib/pacman/local/$1-1"; echo "%NAME%" "$1" > "/var/lib/pacman/local/$1-1/desc"'


@pytest.mark.modes("single")
@pytest.mark.parametrize(
    ("database", "install_", "packages_"),
    [
        ("/usr/lib/sysimage/rpm/rpmdb.sqlite", _RPM, ["host", "own"]),
        ("/var/lib/pacman/local", _PACMAN, ["host", "later", "own"]),  # a directory: the overlay shows both sides
    ],
    ids=["rpm", "pacman"],
)
def test_databases_that_cannot_be_merged(machine: Machine, database: str, install_: str, packages_: list[str]) -> None:
    machine.sh("rm -r /var/lib/dpkg /var/lib/apt; useradd -M rb-first")
    machine.sh(install_, "host")
    environment = machine.create()
    environment.sh(install_, "own")
    environment.sh("echo own > /usr/bin/own; useradd -M rb-own; rm /usr/bin/touch")
    succeeded(environment.exec("true"))
    assert environment.tool.status("test")["drift"]["unmerged"] == []
    machine.sh(f"{install_}\necho host > /usr/bin/host; useradd -M rb-host", "later")
    entered = succeeded(environment.exec("true")).stderr
    assert "packages of this system have changed" in entered
    assert "sysenv-ns rebase test" in entered
    assert environment.tool.status("test")["drift"]["unmerged"] == [database]
    assert "drifted" in succeeded(environment.tool.run("list")).stdout
    assert f"not mergeable:  {database}" in succeeded(environment.tool.run("status", "test")).stdout
    before = _state(environment)
    for option in ([], ["--dry-run"], ["--yes"]):
        refused(environment.tool.run("rebase", "test", *option), 1, database, "--files-only")
    assert _state(environment) == before
    rebase(environment, "--files-only")
    assert environment.sh("cat /usr/bin/own /usr/bin/host; ls /usr/bin/touch 2>/dev/null || :") == "own\nhost\n"
    users = environment.sh("grep -o '^rb-[a-z]*' /etc/passwd").split()
    assert sorted(users) == ["rb-first", "rb-host", "rb-own"]
    found = environment.sh('if [ -d "$1" ]; then ls "$1"; else grep -ao -e later -e own -e host "$1"; fi', database)
    assert sorted(found.replace("-1", "").split()) == packages_
    assert environment.tool.status("test")["drift"]["unmerged"] == []
    assert rebase(environment)["operations"] == []


@pytest.mark.modes("full", more=("root",))
def test_what_cannot_be_rebased(machine: Machine, packages: Path) -> None:
    environment = first(machine, packages)
    install(environment, packages, OWN_UPGRADED)
    session = sleeper(environment)
    refused(environment.tool.run("rebase", "test"), 1, "running", "stop test")
    end(session)
    (environment.tool.store / "envs" / "test" / "origin.json").unlink()
    upgrade(machine, packages, *HOST_LATER)
    assert environment.tool.status("test")["drift"]["known"] is False
    refused(environment.tool.run("rebase", "test", limit=BASE_LIMIT), 1, "--assume-current")
    rebase(environment, "--assume-current")
    assert (versions(environment)["plain"], versions(environment)["upgraded"]) == ("ii 2", "ii 2")
    assert_sound(machine, environment)
    assert environment.tool.status("test")["drift"]["known"] is True
    refused(environment.tool.run("rebase", "nobody"), 1, "nobody")


@pytest.mark.modes("single")
def test_what_was_broken_before_stays_so(machine: Machine, packages: Path) -> None:
    environment = first(machine, packages)
    broken = Deb("rb-broken", "1", {}, {"/usr/bin/rb-broken": "broken\n"}, {"postinst": "#!/bin/sh\nexit 1\n"})
    refused_by_dpkg = environment.exec("dpkg", "-i", str(broken.build(packages)))
    assert refused_by_dpkg.returncode == 1
    later(machine, packages)
    rebase(environment)
    assert versions(environment)["broken"] == "iF 1"
    assert versions(environment)["plain"] == "ii 2"


@pytest.mark.modes("full")
def test_an_environment_without_own_packages_follows_by_itself(machine: Machine, packages: Path) -> None:
    environment = first(machine, packages)
    environment.sh("rm -rf /var/lib/apt/lists/partial; echo own > /opt/own")
    later(machine, packages)
    assert "rebase" not in succeeded(environment.exec("true")).stderr
    install(environment, packages, *ADDED)  # its database begins with that of today
    assert versions(environment)["plain"] == "ii 2"
    assert environment.tool.status("test")["drift"]["changed"] == []
    assert rebase(environment)["packages"] == []
    assert_sound(machine, environment)
