"""Throwaway environments: their names, what they cannot be used for, and which have ended.

No process waits for its end. The next command deletes what it has left on disk; for changes in memory see memory.py.
"""

from __future__ import annotations

import os

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import suppress
from sysenv_ns.environment import directory
from sysenv_ns.environment.description import Environment, Ephemeral, read_description
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import NameTaken, SysenvError

if TYPE_CHECKING:
    from collections.abc import Iterator

_PREFIX = "ephemeral-"  # before the number of a process, and perhaps another one
_FEW = 15  # that have ended


def new_name(store: Store) -> str:
    """A free name with the number of the process that creates it: before that has started it, nothing else does."""
    name = f"{_PREFIX}{os.getpid()}"
    number = 1
    while store.exists(name):
        number += 1
        name = f"{_PREFIX}{os.getpid()}-{number}"
    return name


def is_name(name: str) -> bool:
    """Whether a name is that of a throwaway environment."""
    return _process(name) is not None


def _process(name: str) -> str | None:
    """The number of the process in such a name; None for another one."""
    numbers = name.removeprefix(_PREFIX).split("-") if name.startswith(_PREFIX) else []
    return numbers[0] if 1 <= len(numbers) <= 2 and all(n.isascii() and n.isdigit() for n in numbers) else None


def check_free(store: Store, name: str, throwaway: Ephemeral | None) -> None:
    """Raise SysenvError if a new environment cannot have this name."""
    if throwaway is None and is_name(name):
        raise SysenvError(f"{name} is the name of a throwaway environment", "choose another one", exit_status=2)
    if store.exists(name):
        raise NameTaken(f"the environment {name} already exists", f"enter it with: sysenv-ns shell {name}")


def ended(store: Store) -> Iterator[Environment]:
    """The environments whose first process has ended; other processes may still live in some of them.

    What is below them need not be there any more, nor in reach.
    """
    for name in store.names():
        process = _process(name)
        if process is not None and not os.path.exists(f"/proc/{process}"):
            with suppress(SysenvError):  # damaged, or removed meanwhile: remove tells
                environment = read_description(store.directory(name), name, store.path)
                if environment.ephemeral is not None:
                    yield environment


def are_in_the_way(store: Store) -> bool:
    """Whether those that have ended have left so much that who comes next deletes it before all else.

    With changes in memory each leaves some small files only, and to delete those of many takes as long as of one.
    """
    return any(number == _FEW or not _has_left_little(environment) for number, environment in enumerate(ended(store)))


def _has_left_little(environment: Environment) -> bool:
    """Whether its upper directory is empty: where memory could not hold its changes, they are in it."""
    try:
        return environment.ephemeral == "memory" and not os.listdir(environment.upper)
    except OSError:
        return False


def was_never_started(environment: Environment) -> bool:
    """Whether it surely has never been, for who holds its lock: each start makes that directory before all mounts."""
    return environment.ephemeral == "memory" and not os.path.lexists(environment.path / directory.MEMORY)


def refuse(environment: Environment, what: str) -> None:
    """Raise SysenvError for a throwaway one: its changes in memory cannot be reached, and none are meant to stay."""
    if environment.ephemeral is not None:
        raise SysenvError(
            f"{what} of {environment.name} is not possible: it is a throwaway environment",
            "make one that stays: sysenv-ns create NAME",
        )


def refuse_in_memory(environment: Environment, what: str) -> None:
    """Raise SysenvError for one with changes that cannot be seen from outside."""
    if environment.ephemeral == "memory":
        raise SysenvError(
            f"{what} of {environment.name} cannot be shown: they are in memory, visible only inside",
            "--on-disk keeps the changes of a throwaway environment on disk",
        )
