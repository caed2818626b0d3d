"""What the processes of one run of the tests have in common: a place for what is made once, and a lock on the machine.

With pytest-xdist tests run in workers, which a controller starts; without it, one process is both. Also: which tests
stay together on a worker. A plugin of tests/conftest.py.
"""

from __future__ import annotations

import contextlib
import fcntl
import functools
import os
import re
import subprocess
import tempfile
from collections import defaultdict
from collections.abc import Callable, Iterable, Iterator
from collections.abc import Set as AbstractSet
from pathlib import Path
from typing import Any

import pytest

from .support import APT_LIMIT, IN_MEMORY, wait_for

_PLACE = pytest.StashKey[Path]()


def is_worker(config: pytest.Config) -> bool:
    """Whether a controller started this process."""
    return hasattr(config, "workerinput")


def pytest_configure(config: pytest.Config) -> None:
    """The controller makes the place, the workers are told where it is."""
    if is_worker(config):
        config.stash[_PLACE] = Path(config.workerinput["place"])  # type: ignore[attr-defined]
        return
    config.stash[_PLACE] = Path(tempfile.mkdtemp(prefix=f"sysenv-suite-{os.getpid()}-"))
    config.stash[_PLACE].chmod(0o755)


@pytest.hookimpl(optionalhook=True)
def pytest_configure_node(node: pytest.Session) -> None:
    """A worker is about to be started."""
    node.workerinput["place"] = str(node.config.stash[_PLACE])  # type: ignore[attr-defined]


def pytest_unconfigure(config: pytest.Config) -> None:
    """Delete what was made."""
    if not is_worker(config) and _PLACE in config.stash:
        place = config.stash[_PLACE]
        subprocess.run(["rm", "-rf", place, IN_MEMORY / place.name], check=True, timeout=600)


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Any) -> Any:
    """Who distributes the tests to the workers: a test each, or what stays together."""
    from xdist.scheduler import LoadScopeScheduling

    used: defaultdict[Any, set[str]] = defaultdict(set)  # the modes of each worker

    class Scheduling(LoadScopeScheduling):  # type: ignore[misc]
        def _split_scope(self, nodeid: str) -> str:
            return together(config.rootpath, nodeid)

        def _assign_work_unit(self, node: Any) -> None:
            others = set().union(*(modes for other, modes in used.items() if other is not node))
            chosen = next_of(self.workqueue, used[node], others)
            self.workqueue.move_to_end(chosen, last=False)
            used[node].add(_mode(chosen))
            super()._assign_work_unit(node)

    return Scheduling(config, log)


def together(root: Path, test: str) -> str:
    """What it has in common with the tests that run on the same worker, one after the other."""
    file = test.partition("::")[0]
    words = _words(root / file)
    if "integration" not in file and "security" not in file:  # they are quick, and many
        return file
    if "mark.together" in words:
        return file
    mode = _mode(test)
    return f"{file}[{mode}]" if mode and words else test


def _mode(tests: str) -> str:
    """Of a test, or of those of a file: what comes first of its parameters; "" if it has none."""
    found = re.search(r"\[(\w+)", tests)
    return found[1] if found else ""


def next_of(waiting: Iterable[str], own: AbstractSet[str], others: AbstractSet[str]) -> str:
    """What a worker gets next, which has used its own modes while others have used theirs.

    The base of a mode takes long to build: the first that is of a mode of its own, or of nobody's; or any, so that no
    worker is idle.
    """
    first, *_ = waiting = [*waiting]
    return next((tests for tests in waiting if (mode := _mode(tests)) in own or mode not in others), first)


@functools.cache
def _words(path: Path) -> frozenset[str]:
    """What a file of tests says that matters here."""
    text = path.read_text()
    return frozenset(word for word in ("mark.together", "shared_environment", "shared_machine") if word in text)


def place(config: pytest.Config, in_memory: bool = False) -> Path:
    """A directory for what all workers use, which ends with the run."""
    found = config.stash[_PLACE]
    if in_memory:
        found = IN_MEMORY / found.name
        found.mkdir(mode=0o755, exist_ok=True)
    return found


def once(path: Path, make: Callable[[Path], object]) -> Path:
    """`path`, made by the worker that comes first; the others wait for it."""
    done = path.with_name(f"{path.name}.done")
    with locked(path.parent):
        if not done.exists():
            make(path)
            done.touch()
    return path


@contextlib.contextmanager
def locked(directory: Path) -> Iterator[None]:
    """Hold a lock on a directory, against the other workers and against other runs of the tests.

    Whoever has it may be removing other users, or building what `once` makes, which is waited for; not without end.
    """
    descriptor = os.open(directory, os.O_RDONLY | os.O_DIRECTORY)
    try:
        wait_for(lambda: _locks(descriptor), 2 * APT_LIMIT, f"for what another worker or run does with {directory}")
        yield
    finally:
        os.close(descriptor)


def _locks(descriptor: int) -> bool:
    try:
        fcntl.flock(descriptor, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True
