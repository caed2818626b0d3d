"""Nothing is mirrored while the host's package manager is at work."""

from __future__ import annotations

import subprocess

import pytest

from .machines import Machine
from .support import BASE_LIMIT, Environment, describe, finish, keeps_files_of_the_host, line, notice, succeeded

# As dpkg does it: locked, its journal has what the database is to become. Ends with its standard input.
_DPKG = """
import fcntl, os, sys
lock = open(sys.argv[1], "w")
fcntl.lockf(lock, fcntl.LOCK_EX)
os.chdir("/var/lib/dpkg")
package = f"Package: half{os.getpid()}\\nStatus: install ok unpacked\\nVersion: 1\\nArchitecture: all\\n"
open("updates/0000", "w").write(package)
print("ready", flush=True)
sys.stdin.read()
text = open("status").read().rstrip() + "\\n\\n"
open("status-new", "w").write(text + open("updates/0000").read().replace("unpacked", "installed"))
os.rename("status-new", "status")
os.unlink("updates/0000")
"""


def _host_at_work(machine: Machine, lock: str) -> subprocess.Popen[str]:
    command = [*machine.prefix, "python3", "-c", _DPKG, f"/var/lib/dpkg/{lock}"]
    process = subprocess.Popen(command, stdin=subprocess.PIPE, stdout=subprocess.PIPE, text=True)
    assert line(process) == "ready\n"
    return process


@pytest.mark.modes("full", more=("single",))
@pytest.mark.parametrize("lock", ["lock-frontend", "lock"])
def test_a_base_waits_for_the_hosts_dpkg(new_machine: Machine, lock: str) -> None:
    """One that is built, and one that is made anew as the host has changed."""
    keeps_files_of_the_host(new_machine.tool)
    environment = new_machine.environment
    for command in (("create", *new_machine.tool.options, environment.name), ("exec", environment.name, "--", "true")):
        if command[0] == "exec":
            new_machine.sh("echo >> /var/lib/dpkg/status")
        at_work = _host_at_work(new_machine, lock)
        starting = new_machine.tool.start(*command)
        try:
            said = notice(starting)
            assert f"process {at_work.pid}" in said, said
            assert starting.poll() is None
        finally:
            finish(at_work)
        result = finish(starting, limit=BASE_LIMIT)
        assert result.returncode == 0, describe(result)
        _is_whole(new_machine, environment)


@pytest.mark.modes("full", more=("single",))
def test_a_journal_that_is_being_emptied(machine: Machine) -> None:
    """Whoever holds the lock may be in another pid namespace, of which /proc/locks tells nothing."""
    keeps_files_of_the_host(machine.tool)
    environment = machine.create()
    machine.sh("touch /var/lib/dpkg/updates/0001; echo >> /var/lib/dpkg/status")
    starting = environment.tool.start("exec", environment.name, "--", "true")
    assert "/var/lib/dpkg/updates is not empty" in line(starting, of_errors=True)
    machine.sh("rm /var/lib/dpkg/updates/0001")
    succeeded(finish(starting))
    _is_whole(machine, environment)


def _is_whole(machine: Machine, environment: Environment) -> None:
    """The environment's database is the host's of now, and not interrupted."""
    script = "ls /var/lib/dpkg/updates; dpkg --audit; dpkg-query --show"
    assert environment.sh(script) == machine.sh(script)
    assert environment.sh("ls /var/lib/dpkg/updates") == ""
