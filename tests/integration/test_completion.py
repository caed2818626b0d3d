"""Completion in zsh and fish, as somebody types it there; bash's is in tests/cli."""

from __future__ import annotations

import pytest

from . import terminals
from .mirror import Mirror
from .support import Environment, succeeded

pytestmark = pytest.mark.modes("full")

_SHELLS = ("zsh", "fish")


@pytest.fixture(scope="module")
def shells(shared_environment: Environment, mirror: Mirror) -> Environment:
    """An environment with both."""
    mirror.install(shared_environment, "--no-install-recommends", *_SHELLS)
    shared_environment.sh("cp /usr/bin/true /usr/local/bin/zz-own")
    for shell in _SHELLS:
        script = succeeded(shared_environment.tool.run("completion", shell)).stdout
        shared_environment.sh(f"mkdir -p /opt/completion; cat > /opt/completion/_sysenv-ns.{shell}", stdin=script)
    shared_environment.sh("cd /opt/completion; mkdir zsh; cp _sysenv-ns.zsh zsh/_sysenv-ns")
    return shared_environment


_LINES = [
    ("status test", "{name}"),
    ("stat", "status"),
    ("exec --driver st", "stub"),
    ("exec {name} -- zz-o", "zz-own"),
    ("exec {name} -- cat /etc/hostn", "/etc/hostname"),
    ("diff {name} -- /etc/hostn", "/etc/hostname"),
]


def test_in_fish(shells: Environment) -> None:
    for line, expected in _LINES:
        typed = f"sysenv-ns {line.format(name=shells.name)}"
        script = "source /opt/completion/_sysenv-ns.fish; complete -C $argv[1]"
        found = succeeded(shells.exec("fish", "--no-config", "-c", script, typed, identity="--me")).stdout
        assert expected.format(name=shells.name) in [row.split("\t")[0] for row in found.splitlines()], (typed, found)


def test_in_zsh(shells: Environment) -> None:
    tool = shells.tool
    command = (str(tool.launcher), "exec", "--me", shells.name, "--", "env", "TERM=dumb", "zsh", "-f", "-i")
    terminal = terminals.spawn(shells, *command)
    terminal.sendline("PS1='PROM''PT> '; fpath=(/opt/completion/zsh $fpath); autoload -U compinit; compinit -u -D")
    terminal.expect_exact("PROMPT> ")
    for line, expected in _LINES:
        terminal.send(f"sysenv-ns {line.format(name=shells.name)}\t")
        words = expected.format(name=shells.name)
        terminal.expect_exact(f"{words} ")
        terminal.sendcontrol("u")
        terminal.sendline("")
        terminal.expect_exact("PROMPT> ")
    terminal.sendline("exit")
    terminals.close(terminal)
