"""Servers that programs start for themselves and find by a socket: those of the host and of an environment, apart."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .support import Environment, Result, ran, succeeded, wait_for
from .terminals import close, spawn

_NAMES = ("-F", "#{session_name}")


@pytest.fixture
def _tmux_of_host(environment: Environment) -> Iterator[None]:
    """A server of tmux with the session "outer", as whoever works in it has it."""
    succeeded(_tmux(environment, "new-session", "-d", "-s", "outer", "-x", "180", "-y", "20", "sh"))
    yield
    _tmux(environment, "kill-server")


def _tmux(environment: Environment, *arguments: str) -> Result:
    """Tmux on the host."""
    tool = environment.tool
    return ran([*tool.prefix, "tmux", *arguments], env=tool.variables(), **tool.account.become())


@pytest.mark.usefixtures("_tmux_of_host")
@pytest.mark.modes("full", more=("single", "root"))
def test_each_side_has_its_own_tmux(environment: Environment) -> None:
    identities = ("--me", "--root") if environment.tool.mode == "full" else ("--root",)
    for identity in identities:
        environment.sh("tmux new-session -d -s inner 'sleep 300'", identity=identity)
        assert environment.sh(f"tmux list-sessions {_NAMES[0]} '{_NAMES[1]}'", identity=identity) == "inner\n"
    assert environment.sh("sudo -n tmux has-session -t inner && echo found", identity=identities[0]) == "found\n"
    assert succeeded(_tmux(environment, "list-sessions", *_NAMES)).stdout == "outer\n"
    told = succeeded(environment.tool.run("stop", environment.name)).stderr
    assert "tmux new-session -d -s inner" in told
    assert "outer" not in told
    assert succeeded(_tmux(environment, "list-sessions", *_NAMES)).stdout == "outer\n"


@pytest.mark.usefixtures("_tmux_of_host")
@pytest.mark.modes("full")
def test_a_window_of_the_hosts_tmux_goes_on_working(environment: Environment) -> None:
    """Where somebody enters an environment in it, its server is the one that is spoken to."""
    terminal = spawn(environment, "tmux", "attach-session", "-t", "outer")
    terminal.sendline(f"SHELL=/bin/sh {environment.tool.launcher} shell {environment.name}")
    terminal.expect_exact(f"({environment.name}) $ ")
    terminal.sendline("echo $SYSENV_NS''. $(tmux display-message -p '#S')''.")
    terminal.expect_exact(f"{environment.name}. outer.")
    terminal.sendline("tmux new-window -n another 'sleep 300'")
    wait_for(lambda: "another" in _tmux(environment, "list-windows", "-t", "outer", "-F", "#W").stdout)
    succeeded(_tmux(environment, "select-window", "-t", "outer:0"))
    succeeded(environment.tool.run("stop", environment.name))
    terminal.sendline("echo ali''ve ${SYSENV_NS-host}")
    terminal.expect_exact("alive host")
    assert "another" in succeeded(_tmux(environment, "list-windows", "-t", "outer", "-F", "#W")).stdout
    succeeded(_tmux(environment, "kill-server"))
    close(terminal)


@pytest.mark.modes("full")
def test_a_directory_of_the_users_choice_stays(environment: Environment) -> None:
    tool = environment.tool
    command = [*tool.prefix, str(tool.launcher), "exec", environment.name, "--", "printenv", "TMUX_TMPDIR"]
    variables = tool.variables() | {"TMUX_TMPDIR": "/var/tmp"}
    result = ran(command, env=variables, **tool.account.become())
    assert succeeded(result).stdout == "/var/tmp\n"
