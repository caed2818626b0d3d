"""link --service: services of an environment as units of the user's own manager, a real one."""

from __future__ import annotations

import os
import shutil
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from .managers import Manager, running_manager
from .support import Environment, ran, refused, succeeded, wait_for

pytestmark = pytest.mark.modes("full")

_UNITS = {
    "steady.service": "[Service]\nExecStart=/bin/sleep 1000\nExecStop=/bin/sh -c 'echo stopped > /srv/said'\n",
    "of 100%.service": "",
    "many@.service": "[Service]\nExecStart=/bin/sleep 1000\n",
}


@pytest.fixture
def linked(shared_environment: Environment) -> Iterator[Environment]:
    """An environment with some units, whose user has an empty home."""
    for name, text in _UNITS.items():
        shared_environment.sh('mkdir -p /etc/systemd/system /srv; cat > "/etc/systemd/system/$1"', name, stdin=text)
    tool = shared_environment.tool
    home = tool.account.home / "home of 100% $HOME"
    home.mkdir(mode=0o755)
    os.chown(home, tool.account.uid, tool.account.gid)
    yield replace(tool, account=replace(tool.account, home=home)).environment(shared_environment.name)
    shared_environment.tool.run("unlink", shared_environment.name)
    succeeded(tool.run("stop", tool.environment(shared_environment.name).name))
    shutil.rmtree(home)


def _units(environment: Environment) -> Path:
    return environment.tool.account.home / ".config" / "systemd" / "user"


def _files(environment: Environment) -> list[str]:
    return sorted(path.name for path in _units(environment).rglob("*") if not path.is_dir())


def test_a_unit_is_written_and_enabled(linked: Environment) -> None:
    tool, name = linked.tool, linked.name
    result = succeeded(tool.run("link", name, "--service", "steady", "--service", "many@one"))
    assert "no service manager of yours runs here" in result.stderr
    assert f"meanwhile: sysenv-ns start {name} steady.service many@one.service" in result.stderr
    expected = [f"sysenv-ns-{name}-{unit}.service" for unit in ("many@one", "steady")]
    assert _files(linked) == sorted([*expected, *expected])
    for unit in expected:
        assert (_units(linked) / "default.target.wants" / unit).resolve() == (_units(linked) / unit).resolve()
    checked = ran(
        ["systemd-analyze", "verify", "--user", *(str(_units(linked) / unit) for unit in expected)],
        env={"HOME": "/root", "XDG_RUNTIME_DIR": "/tmp", "PATH": "/usr/bin:/bin"},
    )
    assert (checked.returncode, checked.stderr) == (0, ""), checked.stderr
    assert {link["target"] for link in tool.status(name)["links"]} == {"steady.service", "many@one.service"}
    # Again, and away with one, and with all.
    succeeded(tool.run("link", name, "--service", "steady"))
    succeeded(tool.run("unlink", name, "--service", "steady"))
    assert _files(linked) == [expected[0]] * 2
    succeeded(tool.run("unlink", name))
    assert _files(linked) == []


def test_what_cannot_be_linked(linked: Environment) -> None:
    tool, name = linked.tool, linked.name
    result = tool.run("link", name, "--service", "steady", "--service", "absent")
    assert (result.returncode, "there is no unit absent.service" in result.stderr) == (127, True)
    assert _files(linked) == []
    refused(tool.run("link", name, "--service", "of 100%"), 2, "is not the name of a service")
    own = _units(linked) / f"sysenv-ns-{name}-steady.service"
    own.parent.mkdir(parents=True)
    own.write_text("mine")
    refused(tool.run("link", name, "--service", "steady"), 1, "already exists")
    assert own.read_text() == "mine"
    assert _files(linked) == [own.name]
    own.unlink()


@pytest.fixture
def manager(linked: Environment) -> Iterator[Manager]:
    """A manager of the user's that finds what is linked when it starts."""
    succeeded(linked.tool.run("link", linked.name, "--service", "steady"))
    with running_manager(linked.tool) as found:
        yield found


def test_the_users_manager_starts_it_at_login(linked: Environment, manager: Manager) -> None:
    unit = f"sysenv-ns-{linked.name}-steady"
    wait_for(lambda: manager.systemctl("is-active", unit).stdout == "active\n")
    assert manager.systemctl("is-enabled", unit).stdout == "enabled\n"
    assert linked.sh("systemctl is-active steady") == "active\n"
    pid = linked.sh("systemctl show -p MainPID --value steady").strip()
    # Its end is noticed; and it is stopped as its own unit says.
    os.kill(int(pid), 9)
    wait_for(lambda: manager.systemctl("is-active", unit).stdout == "inactive\n")
    succeeded(manager.systemctl("start", unit))
    assert linked.sh("systemctl is-active steady") == "active\n"
    succeeded(manager.systemctl("stop", unit))
    assert linked.sh("cat /srv/said; rm /srv/said") == "stopped\n"
    assert linked.exec("systemctl", "is-active", "steady").stdout == "inactive\n"
    # What is linked while it runs, it knows at once, and it forgets what is no longer.
    tool = str(linked.tool.launcher)
    said = succeeded(manager.run(tool, "link", linked.name, "--service", "many@two")).stderr
    other = f"sysenv-ns-{linked.name}-many@two.service"
    assert f"now: systemctl --user start {other}" in said
    assert manager.systemctl("is-enabled", other).stdout == "enabled\n"
    succeeded(manager.run(tool, "unlink", linked.name))
    assert manager.systemctl("is-enabled", other).returncode != 0


def test_the_manager_knows_of_a_removal_and_of_its_end(linked: Environment, manager: Manager) -> None:
    """What it has in mind it would start at the next login, or list as failed."""
    tool = linked.tool
    other = tool.environment(f"{linked.name}-removed")
    unit = f"sysenv-ns-{other.name}-steady.service"
    launcher = str(tool.launcher)

    def known() -> str:
        return manager.systemctl("show", "--property=LoadState", "--value", unit).stdout.strip()

    succeeded(tool.run("create", other.name, *tool.options))
    try:
        other.sh(
            "mkdir -p /etc/systemd/system; cat > /etc/systemd/system/steady.service", stdin=_UNITS["steady.service"]
        )
        succeeded(manager.run(launcher, "link", other.name, "--service", "steady"))
        succeeded(manager.systemctl("start", unit))
        refused(manager.run(launcher, "remove", other.name), 1, "is running", f"sysenv-ns stop {other.name}")
        succeeded(manager.systemctl("stop", unit))
        wait_for(lambda: not tool.status(other.name)["processes"])
        assert known() == "loaded"
        succeeded(manager.run(launcher, "remove", other.name))
        assert known() == "not-found"
        succeeded(manager.run(launcher, "remove", "--undo", other.name))
        assert known() == "loaded"
    finally:
        tool.run("stop", other.name)
        succeeded(tool.run("remove", "--purge", other.name))
