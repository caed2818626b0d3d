"""The host's users and groups in an environment that has accounts of its own, when it is started."""

from __future__ import annotations

import pytest

from .machines import Machine
from .support import Environment, succeeded

pytestmark = pytest.mark.modes("full", "single", more=("root",))

_CHECK = "pwck -qr; grpck -r"


@pytest.fixture
def environment(machine: Machine) -> Environment:
    """One that has a user and a group of its own."""
    environment = machine.create()
    environment.sh("groupadd own-group; useradd -M -u 1700 own; usermod -aG own-group games")
    return environment


def _users(environment: Environment, *names: str) -> list[str]:
    """What passwd says of them, without who is not there."""
    return environment.sh('getent passwd "$@" || :', *names).splitlines()


def test_who_is_new_on_the_host_is_there_at_the_next_start(machine: Machine, environment: Environment) -> None:
    machine.sh("groupadd -g 1801 crew; useradd -M -u 1800 -g crew -G games newcomer; chsh -s /bin/dash games")
    assert _users(environment, "newcomer", "own") == [
        "newcomer:x:1800:1801::/home/newcomer:/bin/sh",
        "own:x:1700:1700::/home/own:/bin/sh",
    ]
    assert environment.sh("getent passwd games | cut -d: -f7; id -nG newcomer; id -nG games").splitlines() == [
        "/bin/dash",
        "crew games",
        "games own-group",
    ]
    environment.sh(
        f"{_CHECK}; grep ^newcomer: /etc/shadow; stat -c %a:%u /etc/passwd | grep -x 644:0; ! ls /etc/*sysenv-ns-new"
    )


def test_who_is_another_one_inside_is_told_once(machine: Machine, environment: Environment) -> None:
    """The environment's files have these owners: inside wins."""
    environment.sh("useradd -M -u 1701 both")
    machine.sh("useradd -M -u 1700 theirs; useradd -M -u 1900 both")
    said = succeeded(environment.exec("true")).stderr
    assert "the host's user theirs gets the number 999 here, as 1700 is taken by another one" in said
    assert "the host has a user both too now, with the number 1900; here it stays 1701" in said
    assert succeeded(environment.exec("true")).stderr == ""
    numbers = [":".join(line.split(":")[:3]) for line in _users(environment, "own", "theirs", "both")]
    assert numbers == ["own:x:1700", "theirs:x:999", "both:x:1701"]
    environment.sh(_CHECK)


def test_what_the_environment_has_made_of_them_stays(machine: Machine, environment: Environment) -> None:
    machine.sh("useradd -M -u 1800 newcomer; useradd -M -u 1801 other")
    environment.sh("userdel newcomer; usermod -s /bin/dash other; usermod -c Mine games")
    machine.sh("useradd -M -u 1802 third; usermod -c Theirs games; userdel other")
    assert [line.split(":")[0] for line in _users(environment, "newcomer", "other", "third", "own")] == [
        *("other", "third", "own"),
    ]
    assert ":Mine:" in _users(environment, "games")[0]
    machine.sh("userdel third")
    assert [line.split(":")[0] for line in _users(environment, "newcomer", "third", "own")] == ["own"]
    # Nothing is read where nothing has changed, not even where the host has other packages by now.
    seen = machine.tool.store / "envs" / environment.name / "accounts-seen"
    before = seen.stat()
    machine.sh("cd /var/lib/dpkg; cp -p status status-new; mv status-new status")
    environment.sh("true")
    assert seen.stat().st_mtime_ns == before.st_mtime_ns
