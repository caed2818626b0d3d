"""Programs of the host that cannot work inside as they are: what cannot be read, on RHEL's family, and for people."""

from __future__ import annotations

from pathlib import Path

import pytest

from .machines import Machine
from .support import Environment, describe, succeeded
from .upgrades import install, simple, upgrade

_STUBBED, _SMALL, _SECRET = "/usr/bin/chfn", "/usr/local/bin/small", "/usr/local/secret"


@pytest.mark.modes("full", "single", more=("fuse",))
def test_no_program_is_empty(new_machine: Machine) -> None:
    new_machine.sh(
        f"echo true > {_SMALL}; echo secret > {_SECRET}; chmod 4111 /usr/bin/sudo {_STUBBED}; chmod 0711 {_SMALL};"
        f"chmod 0600 {_SECRET}"
    )
    environment = new_machine.create()
    assert environment.sh("sudo id -u; sudo -n sh -c 'exit 3' || echo $?") == "0\n3\n"
    identities = ("--root", "--me") if new_machine.tool.mode == "full" else ("--root",)
    for identity in identities:
        assert environment.sh(f"sudo -n id -u; test ! -s {_SECRET}", identity=identity) == "0\n"
        for program in (_STUBBED, _SMALL):
            result = environment.exec(program, "argument", identity=identity)
            assert result.returncode == 126, describe(result)
            assert "may not read" in result.stderr
    assert succeeded(environment.tool.run("diff", environment.name)).stdout == ""
    environment.sh(f"cp /usr/bin/true {_SMALL}; {_SMALL}")


@pytest.mark.modes("full", more=("single",))
def test_an_upgrade_asks_nothing_about_a_file_that_cannot_be_read(machine: Machine, packages: Path) -> None:
    """To dpkg what is there instead is what was shipped; what was then edited inside it asks about, as ever."""
    upgrade(machine, packages, simple("hidden", "1"), simple("edited", "1"))
    machine.sh("chmod 440 /etc/rb-hidden.conf /etc/rb-edited.conf")
    environment = machine.create()
    assert environment.sh("cat /etc/rb-hidden.conf; dpkg --verify rb-hidden rb-edited") == ""
    install(environment, packages, simple("hidden", "2"))
    assert environment.sh("cat /etc/rb-hidden.conf") == "setting 2\n"
    environment.sh("echo mine > /etc/rb-edited.conf")
    asked = environment.exec("dpkg", "-i", str(simple("edited", "2").build(packages)))
    assert asked.returncode == 1, describe(asked)
    assert "What would you like to do" in asked.stdout + asked.stderr
    assert environment.sh("cat /etc/rb-edited.conf") == "mine\n"


@pytest.mark.modes("full", "single")
def test_pkexec_is_sudo(new_machine: Machine) -> None:
    new_machine.sh("printf '#!/bin/sh\\nexit 127\\n' > /usr/bin/pkexec; chmod 755 /usr/bin/pkexec")
    environment = new_machine.create()
    identity = "--me" if new_machine.tool.mode == "full" else "--root"
    script = "pkexec id -u; pkexec --user root --keep-cwd sh -c 'echo \"$0\"' 'two words'"
    assert environment.sh(script, identity=identity) == "0\ntwo words\n"
    result = environment.exec("pkexec", "--unknown", identity=identity)
    assert (result.returncode, "unknown option" in result.stderr) == (127, True)


@pytest.mark.modes("full", "single")
def test_programs_for_people(environment: Environment) -> None:
    """A pkexec that is installed inside, chsh without a password, and homes of users, which cannot be in /home."""
    full = environment.tool.mode == "full"
    identity = "--me" if full else "--root"
    environment.sh("printf '#!/bin/sh\\nexit 127\\n' > /usr/bin/pkexec; chmod 755 /usr/bin/pkexec")
    assert environment.sh("pkexec id -u", identity=identity) == "0\n"
    run = environment.tool.run
    begun = "echo $0 $SHELL"
    assert succeeded(run("shell", environment.name, stdin=begun)).stdout == "/bin/bash /bin/bash\n"
    environment.sh("chsh -s /bin/dash", identity=identity)
    assert succeeded(run("shell", environment.name, stdin=begun)).stdout == "/bin/dash /bin/dash\n"
    assert environment.sh("getent passwd games | cut -d: -f7") == "/usr/sbin/nologin\n"
    environment.sh("sudo useradd -m mate; sudo useradd -rmd /opt/there there; sudo useradd nowhere", identity=identity)
    owner = "mate" if full else "root"
    assert environment.sh("stat -c %U /srv/mate /opt/there; cd ~mate; pwd; echo ~nowhere").split() == [
        *(owner, "there" if full else "root", "/srv/mate", "/home/nowhere"),
    ]


@pytest.mark.modes("full", "single")
def test_adduser(environment: Environment) -> None:
    if not Path("/usr/sbin/adduser").exists():
        pytest.skip("the host has no adduser")
    environment.sh("adduser --disabled-password --gecos '' --shell /bin/sh joe; adduser --system --home /opt/x x")
    environment.sh("adduser joe games; test -d /srv/joe; test ~x = /opt/x")
