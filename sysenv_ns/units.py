"""The services of an environment as seen and controlled from outside; within/ carries out the orders.

The states come from files that root of the environment can write: all of them are checked.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterator, Mapping, Sequence, Set
from typing import TypeVar

from sysenv_ns import documents, init, joined, managed, service, session
from sysenv_ns.command import own_variables
from sysenv_ns.environment import running
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError
from sysenv_ns.files import reader
from sysenv_ns.host import services
from sysenv_ns.kernel import children
from sysenv_ns.kernel.emulation import Emulation
from sysenv_ns.kernel.processes import numbers, parent_of
from sysenv_ns.records import dataclass, replace
from sysenv_ns.reporter import Reporter
from sysenv_ns.service import Service
from sysenv_ns.supervised import emulation_of
from sysenv_ns.text import quoted

_T = TypeVar("_T")

SYSTEMCTL = f"{services.PROGRAMS}/systemctl"
JOURNALCTL = f"{services.PROGRAMS}/journalctl"
_STATES, _LOGS = "/run/sysenv-ns/units", "/var/log/sysenv-ns"  # within/states.py and logs.py
_LIMIT = 64 << 10  # bytes of a state
_MOST = 1000  # units that are looked at
_TAIL, _LINES = 4096, 3  # bytes that are read of a log, and lines that are shown
_PATIENCE = 600  # seconds, more than the time-outs of units let all of them take
_LOOK = 10  # seconds for looking at what they say, which can lie on a file system of the environment's that hangs
_ENABLED = "etc/systemd/system"
_STARTED = (".service", ".socket", ".timer")


def of(environment: Environment) -> tuple[Service, ...]:
    """The services of a running environment; none if it does not run. Raises SysenvError, OSError."""
    if environment.init:
        return managed.of(environment)
    states = _states(environment)
    if not states:
        return ()
    own = {process.pid for process in running.processes(environment)}
    children_of = _children({told.supervisor for told in states})
    return tuple(
        replace(
            told.service,
            main=told.service.main if told.service.main in own else 0,
            memory=sum(map(service.memory, own & _below(told.supervisor, children_of))),
        )
        for told in states
    )


@dataclass(frozen=True)
class _Told:
    """The state of a unit as given by the environment; without its memory, which that cannot know."""

    service: Service
    supervisor: int


def _states(environment: Environment) -> list[_Told]:
    rows = joined.call(environment, _read, tuple[tuple[str, str], ...], _LOOK) or ()
    return [said for row in rows[:_MOST] if (said := _decoded(*row))]


def _read() -> tuple[tuple[str, str], ...]:
    """The states of units and the ends of their logs, read inside."""
    rows = []
    with contextlib.suppress(OSError), reader.Root(_STATES) as root:
        for file in sorted(root.names("."))[:_MOST]:
            name = file.removesuffix(".json")
            if name == file:
                continue
            with contextlib.suppress(OSError):  # what is no file says nothing, and hides none of the others
                state = root.read(file, _LIMIT)
                log = _tail(f"{_LOGS}/{name}.log")
                rows.append((state.decode("utf-8", "replace"), log.decode("utf-8", "replace")))
    return tuple(rows)


def _tail(path: str) -> bytes:
    with contextlib.suppress(OSError), reader.stream(path) as stream:
        stream.seek(max(0, stream.seek(0, os.SEEK_END) - _TAIL))
        return stream.read(_TAIL)
    return b""


def _decoded(state: str, log: str) -> _Told | None:
    """None for what is not a state of a unit."""
    try:
        data = documents.mapping(documents.parse_json(documents.text(state, "a state", _LIMIT)), "a state")
        name, active, sub = (documents.field(data, key, documents.text) for key in ("name", "active", "sub"))
        main, supervisor = (documents.field(data, key, documents.integer) for key in ("main", "supervisor"))
        lines = documents.text(log, "a log", 2 * _TAIL).splitlines()[-_LINES:]
        since = documents.field(data, "since", documents.number)
        return _Told(Service(name, active, sub, since, main, memory=0, log=tuple(lines)), supervisor)
    except ValueError:
        return None


def enabled(environment: Environment) -> tuple[str, ...]:
    """The services that have been enabled in the environment, by its packages or its user; not those of the host.

    Some may have been disabled again: whoever starts them looks.
    """
    found: set[str] = set()
    for upper in environment.uppers():
        with contextlib.suppress(OSError), reader.Root(upper) as root:
            for directory in root.names(_ENABLED):
                if directory.endswith(".wants"):
                    with contextlib.suppress(OSError):
                        found.update(root.names(f"{_ENABLED}/{directory}"))
    return tuple(sorted(name for name in found if name.endswith(_STARTED) and not name.startswith("-")))


def stop(environment: Environment) -> str | None:
    """Stop all services of a running environment, each as its unit says; the error, or None."""
    try:
        id_map = environment.id_map
        emulated = Emulation(id_map) if id_map else None
        return joined.call(environment, lambda: _order(environment.name, "stop-all"), str, _PATIENCE, emulated) or None
    except (SysenvError, OSError) as error:
        return str(error)


@contextlib.contextmanager
def paused(store: Store, name: str, reporter: Reporter) -> Iterator[None]:
    """Keep the services of an environment stopped meanwhile, if nothing else runs in it. Raises SysenvError."""
    environment = store.load(name)
    environment.require_root()
    if environment.init:
        with _powered_off(store, environment, reporter):
            yield
        return
    found = _states(environment)
    names = [told.service.name for told in found if told.service.runs]
    if not names or _has_others(environment, found):
        yield
        return
    reporter.notice(f"stopping {', '.join(map(quoted, names))}")
    if said := stop(environment):
        raise SysenvError(f"the services of {name} cannot be stopped: {said}", f"sysenv-ns stop {name}")
    try:
        yield
    finally:
        reporter.notice(f"starting {', '.join(map(quoted, names))}")
        if said := _start(store, name, names, reporter):
            reporter.notice(f"not all services of {name} have been started: {said}")


@contextlib.contextmanager
def _powered_off(store: Store, environment: Environment, reporter: Reporter) -> Iterator[None]:
    """The same with systemd as process 1: it is powered off, and booted again."""
    if not running.lives(environment) or init.others(environment):
        yield
        return
    reporter.notice(f"powering off {environment.name}")
    init.power_off(environment, grace=0)
    try:
        yield
    finally:
        reporter.notice(f"booting {environment.name}")
        try:
            init.ensure(store, store.load(environment.name), reporter)
        except SysenvError as error:
            reporter.notice(f"{environment.name} has not been booted again: {error.message}")


def _has_others(environment: Environment, found: Sequence[_Told]) -> bool:
    """Whether processes live in it that belong to no service."""
    children_of = _children({told.supervisor for told in found})
    pids = {process.pid for process in running.processes(environment)}
    return bool(pids.difference(*({told.supervisor} | _below(told.supervisor, children_of) for told in found)))


def _start(store: Store, name: str, names: Sequence[str], reporter: Reporter) -> str | None:
    """Start services, and the environment if needed; the error, or None."""
    environment = store.load(name)
    emulated = emulation_of(store, environment)

    def inside() -> str:
        session.enter(store, environment, reporter)
        joined.be_root(environment, emulated)
        return _order(name, "start", *names)

    with store.lock(name):
        return children.call(inside, str, "sysenv-ns-start") or None


def _order(name: str, *arguments: str) -> str:
    """Give an order from inside; its output if it failed, else nothing."""
    os.umask(0o022)
    return children.complaint(SYSTEMCTL, [SYSTEMCTL, *arguments], own_variables(name)) or ""


def _children(apart: Set[int]) -> dict[int, list[int]]:
    """The children of each process. Those in `apart` count for none: other services may have started them."""
    found: dict[int, list[int]] = {}
    for pid in numbers():
        if pid not in apart:
            with contextlib.suppress(ProcessLookupError):
                found.setdefault(parent_of(pid), []).append(pid)
    return found


def _below(pid: int, children_of: Mapping[int, Sequence[int]]) -> set[int]:
    found: set[int] = set()
    waiting = [pid]
    while waiting:
        new = set(children_of.get(waiting.pop(), ())) - found
        found |= new
        waiting += new
    return found
