"""Calls functions as root inside a running environment, in a child that joins it; starts none."""

from __future__ import annotations

import signal
from collections.abc import Callable
from typing import TypeVar

from sysenv_ns import session
from sysenv_ns.environment import running
from sysenv_ns.environment.description import Environment
from sysenv_ns.errors import OutOfReach
from sysenv_ns.kernel import children, namespace
from sysenv_ns.kernel.emulation import Emulation

_T = TypeVar("_T")


def call(
    environment: Environment,
    function: Callable[[], _T],
    kind: type[_T],
    patience: int,
    emulated: Emulation | None = None,
) -> _T | None:
    """The result of a function, of the type `kind`; None if the environment does not run.

    Also None if only a sandbox is left, which orders cannot reach. Raises SysenvError, also if it takes more
    than so many seconds.
    """
    try:
        mounts = running.find(environment)
    except OutOfReach:
        return None
    if mounts is None:
        return None

    def inside() -> _T:
        session.join(environment, mounts)
        signal.alarm(patience)  # whoever is root there may let us wait
        be_root(environment, emulated)
        return function()

    try:
        return children.call(inside, kind, "sysenv-ns-units")
    finally:
        mounts.close()


def be_root(environment: Environment, emulated: Emulation | None) -> None:
    """Become root of the environment that this process has entered. Raises SysenvError."""
    if not environment.by_root:
        namespace.become_root()
    if emulated is not None:
        emulated.load()
