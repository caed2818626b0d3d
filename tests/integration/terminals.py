"""Programs in a terminal of their own, as a test's user."""

from __future__ import annotations

import os
import resource
from collections.abc import Mapping
from typing import Any

import pexpect

from .support import Environment

_PATIENCE = 60  # seconds for what a terminal shall show


def _as_user(environment: Environment) -> Any:
    """A function that makes a child the test's user, without core dumps."""
    account, prefix = environment.tool.account, environment.tool.prefix

    def become() -> None:
        resource.setrlimit(resource.RLIMIT_CORE, (0, 0))
        if not prefix and account.uid != os.geteuid():
            os.setgroups(account.groups)
            os.setresgid(account.gid, account.gid, account.gid)
            os.setresuid(account.uid, account.uid, account.uid)

    return become


def spawn(environment: Environment, *command: str, variables: Mapping[str, str] | None = None) -> Any:
    """A program in a new terminal, as the test's user."""
    first, *others = *environment.tool.prefix, *command
    return pexpect.spawn(
        first,
        others,
        env={**environment.tool.variables(), **(variables or {})},
        cwd=str(environment.tool.account.home),
        timeout=_PATIENCE,
        encoding="utf-8",
        preexec_fn=_as_user(environment),
        dimensions=(24, 200),
    )


def inside(environment: Environment, *command: str) -> Any:
    """A command of the environment in a new terminal."""
    return spawn(environment, str(environment.tool.launcher), "exec", environment.name, "--", *command)


def close(program: Any) -> None:
    """Wait until it has ended."""
    program.expect(pexpect.EOF)
    program.close()
