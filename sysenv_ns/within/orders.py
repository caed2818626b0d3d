"""Starts, stops, restarts and reloads units with their dependencies, in order (systemd.unit(5)); prints nothing."""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import signal
import subprocess
import time
from collections.abc import Iterable, Iterator
from dataclasses import replace

from sysenv_ns.within import (
    advice,
    execution,
    identities,
    logs,
    passing,
    postgresql,
    processes,
    requirements,
    service_unit,
    socket_unit,
    states,
    timer_unit,
    units,
    variables,
)
from sysenv_ns.within.states import UnitState
from sysenv_ns.within.units import OrderError, Unit

# Programs that make units or their links from a package's own configuration, as systemd.generator(7) has them.
_GENERATORS = ("postgresql-generator", "openvpn-generator")
_GENERATOR_PLACES = ("/usr/lib/systemd/system-generators", "/lib/systemd/system-generators")
# What a unit of the environment may need of these runs on the host.
_OF_THE_HOST = re.compile(r"(dbus|dbus-broker|syslog|rsyslog|systemd-.+)\.(service|socket|timer)")
_END_PATIENCE = 15.0  # seconds beyond a unit's own time-outs


def prepare() -> None:
    """Once after each start of the environment: what systemd does at boot for services. /run is new then."""
    os.makedirs(units.GENERATED, mode=0o755, exist_ok=True)
    os.makedirs(states.DIRECTORY, mode=0o755, exist_ok=True)
    if not os.path.exists(states.PREPARED):
        with contextlib.suppress(FileNotFoundError):  # no systemd in this environment
            # Without --boot: that would make /run/nologin, which is removed only at the end of a boot.
            subprocess.run(
                ["systemd-tmpfiles", "--create", "--prefix=/run"],
                stdin=subprocess.DEVNULL, stdout=subprocess.DEVNULL, stderr=subprocess.DEVNULL, check=False,
            )  # fmt: skip
        with open(states.PREPARED, "w", encoding="ascii"):
            pass
    for name in _GENERATORS:
        for place in _GENERATOR_PLACES:
            if os.access(f"{place}/{name}", os.X_OK):
                subprocess.run([f"{place}/{name}", *[units.GENERATED] * 3], check=False, stderr=subprocess.DEVNULL)
                break


def found(name: str) -> Unit:
    """The unit of a name as people type it. Raises OrderError where there is none."""
    full = units.full_name(name)
    unit = units.load(full)
    if unit is None or "@." in full:
        raise OrderError(f"Unit {full} not found.", "its package may not be installed in this environment", 5)
    return unit


def start(names: Iterable[str]) -> list[OrderError]:
    """Start units and what they need, each after what it is to come after.

    Returns what has failed; with status 0 what was wanted only.
    """
    asked = [found(name) for name in names]
    wanted: dict[str, tuple[Unit, bool]] = {}
    for unit in asked:
        _gather(unit, True, wanted)
    failures: list[OrderError] = []
    failed: set[str] = set()
    for unit, is_required in _ordered(wanted):
        missing = [need for need in unit.words("Unit", "Requires", "BindsTo") if units.full_name(need) in failed]
        try:
            if missing:
                raise OrderError(f"Dependency failed for {unit.name}: {', '.join(missing)}.")
            _start_one(unit)
        except OrderError as error:
            failed.add(unit.name)
            failures.append(error if is_required else OrderError(error.message, error.hint, 0))
    return failures


def _gather(unit: Unit, is_required: bool, found_units: dict[str, tuple[Unit, bool]]) -> None:
    """This unit and all that it pulls in; targets of the boot are reached, as the host has booted."""
    known = found_units.get(unit.name)
    if known is not None and (known[1] or not is_required):
        return
    found_units[unit.name] = unit, is_required
    # systemd counts the latter as wanted only, and says that all is well when the only one fails.
    strong = unit.words("Unit", "Requires", "BindsTo") + units.generated_for(unit.name)
    weak = unit.words("Unit", "Wants") + (units.wanted_by(unit.name) if unit.type == "service" else [])
    for name, must_be in [*((name, True) for name in strong), *((name, False) for name in weak)]:
        full = units.full_name(name)
        if not full.endswith((".service", ".socket", ".timer")) or _OF_THE_HOST.fullmatch(full):
            continue
        try:
            needed = units.load(full)
            if needed is None and must_be:
                raise OrderError(f"Unit {full} not found, which {unit.name} requires.", status=5)
        except OrderError:
            if must_be and is_required:
                raise
            continue
        if needed is not None:
            _gather(needed, must_be and is_required, found_units)


def _ordered(wanted: dict[str, tuple[Unit, bool]]) -> Iterator[tuple[Unit, bool]]:
    """By After= and Before=; a circle is cut where it is met."""
    after: dict[str, set[str]] = {name: set() for name in wanted}
    for name, (unit, _) in wanted.items():
        after[name] |= {full for word in unit.words("Unit", "After") if (full := units.full_name(word)) in wanted}
        for word in unit.words("Unit", "Before"):
            if (full := units.full_name(word)) in wanted:
                after[full].add(name)
        if unit.type == "socket" and (full := passing.target(unit)) in wanted:
            after[full].add(name)
    done: set[str] = set()

    def visit(name: str) -> Iterator[str]:
        if name not in done:
            done.add(name)
            for earlier in sorted(after[name]):
                yield from visit(earlier)
            yield name

    return (wanted[name] for first in wanted for name in visit(first))


def _start_one(unit: Unit) -> None:
    """Raises OrderError."""
    requirements.require_supported(unit)
    if unit.type == "target":
        states.write(UnitState(unit.name, "active", "exited", states.now()))
        return
    with _settled(unit.name) as state:
        if state.active not in ("inactive", "failed"):
            return
        for conflict in unit.words("Unit", "Conflicts"):
            if conflict.endswith(".service") and states.read(conflict).is_active:
                _stop_one(found(conflict))
        requirements.require_conditions(unit)
        if unit.type == "socket":
            socket_unit.require_free(unit)
        postgresql.make_cluster(unit)
        launch = {"timer": timer_unit.launch, "socket": socket_unit.launch}.get(unit.type, service_unit.launch)
        try:
            launch(unit)
        except OrderError as error:
            raise OrderError(error.message, error.hint or advice.on_failure(unit.name)) from None


def start_accepted(name: str, connection: int) -> None:
    """Start the instance of a service for a connection that its socket unit has accepted. Raises OrderError."""
    unit = found(name)
    requirements.require_supported(unit)
    service_unit.launch(unit, connection)


def stop(names: Iterable[str]) -> list[OrderError]:
    """Stop units, and before them those that are part of them or bound to them; what could not be stopped."""
    failures = []
    for name in names:
        full = units.full_name(name)
        if not states.read(full).runs and units.load(full) is None:
            raise OrderError(f"Unit {full} not loaded.", status=5)
        unit = _loaded(full) or Unit(full, "", {})  # the file of one that runs may be gone, or be masked
        for one in [*dependents(unit.name), unit]:
            try:
                _stop_one(one)
            except OrderError as error:
                failures.append(error)
    return failures


def activating(name: str) -> list[str]:
    """The running sockets and timers that start a unit."""
    loaded = (unit for state in states.known() if state.is_active and (unit := _loaded(state.name)))
    targets = {"socket": passing.target, "timer": timer_unit.target}
    return [unit.name for unit in loaded if unit.type in targets and targets[unit.type](unit) == name]


def stop_all() -> list[OrderError]:
    """Stop all that runs: first what would start something, then the last started first."""
    failures = []
    for kinds in ((".timer", ".socket"), ""):
        running = [state for state in states.known() if state.runs and state.name.endswith(kinds)]
        failures += stop([state.name for state in sorted(running, key=lambda state: -state.since)])
    return failures


def dependents(name: str) -> list[Unit]:
    """The running units that stop and restart with this one."""
    active = [unit for state in states.known() if state.is_active and (unit := _loaded(state.name))]
    keys = ("PartOf", "BindsTo", "Requires", "Requisite")
    return [unit for unit in active if unit.name != name and name in map(units.full_name, unit.words("Unit", *keys))]


def _loaded(name: str) -> Unit | None:
    with contextlib.suppress(OrderError):
        return units.load(name)
    return None


def _stop_one(unit: Unit) -> None:
    """Raises OrderError."""
    state = states.read(unit.name)
    if unit.type == "target":
        states.forget(unit.name)
        return
    if state.is_supervised:
        patience = unit.seconds("Service", "TimeoutStopSec", 90.0) or float("inf")
        count = 2 + len(unit.raw("Service", "ExecStop"))
        end(state, patience * count + _END_PATIENCE)
    elif state.is_active:
        service_unit.end(unit)
    if states.read(unit.name).is_active:
        raise OrderError(f"{unit.name} does not end", f"systemctl status {unit.name}")


def end(state: UnitState, patience: float) -> None:
    """Tell a supervisor to stop its unit, and wait for its end."""
    with contextlib.suppress(ProcessLookupError):
        os.kill(state.supervisor, signal.SIGTERM)
    deadline = time.monotonic() + patience
    while processes.lives(state.supervisor, state.supervisor_started) and time.monotonic() < deadline:
        time.sleep(0.02)


def restart(names: Iterable[str], only_active: bool = False) -> list[OrderError]:
    """Stop and start units, with those that are part of them."""
    failures = []
    for name in names:
        unit = found(name)
        if only_active and not states.read(unit.name).is_active:
            continue
        requirements.require_supported(unit)
        if unit.type == "socket":
            socket_unit.require_free(unit)
        again = [part.name for part in dependents(unit.name)]
        failures += stop([name])
        failures += start([name, *again])
    return failures


def reload(names: Iterable[str], or_restart: bool = False, only_active: bool = False) -> list[OrderError]:
    """Let units read their configuration, by ExecReload=."""
    failures: list[OrderError] = []
    for name in names:
        unit = found(name)
        state = states.read(unit.name)
        if not state.is_active:
            if or_restart and not only_active:
                failures += start([name])
            elif not or_restart:
                failures.append(OrderError(f"{unit.name} is not active, cannot reload.", f"systemctl start {name}"))
            continue
        by_signal = unit.text("Service", "Type") == "notify-reload"
        if not unit.raw("Service", "ExecReload") and not by_signal:
            if or_restart:
                failures += restart([name])
            else:
                failures.append(OrderError(f"{unit.name} cannot be reloaded.", f"systemctl restart {name}"))
            continue
        parts = [unit, *_reloaded_with(unit.name)]
        failures += [error for part in parts if (error := _reload_one(part, states.read(part.name)))]
    return failures


def _reloaded_with(name: str) -> list[Unit]:
    active = [unit for state in states.known() if state.is_active and (unit := _loaded(state.name))]
    return [unit for unit in active if name in map(units.full_name, unit.words("Unit", "ReloadPropagatedFrom"))]


def _reload_one(unit: Unit, state: UnitState) -> OrderError | None:
    if unit.text("Service", "Type") == "notify-reload" and state.main_pid:
        os.kill(state.main_pid, signal.SIGHUP)
        return None
    try:
        who = identities.of(unit)
        log = logs.Log(unit.name, "reload")
        given = variables.of(unit, who, {"MAINPID": str(state.main_pid or "")})
        for line in execution.lines(unit, "ExecReload"):
            pid = execution.spawn(unit, line, who, given, log.writer)
            _, status = os.waitpid(pid, 0)
            log.collect()
            if status and not line.may_fail:
                raise OrderError(f"Job for {unit.name} failed: {line.words[0]}.", f"journalctl -u {unit.name}")
    except OSError as error:
        return OrderError(f"Job for {unit.name} failed: {error.strerror}.")
    except OrderError as error:
        return error
    return None


def kill(names: Iterable[str], number: signal.Signals, only_main: bool) -> None:
    """Send a signal to the processes of units. Raises OrderError."""
    for name in names:
        state = states.read(found(name).name)
        pids = [state.main_pid] if only_main else processes_of(state)
        if not any(pids):
            raise OrderError(f"{state.name} has no process to kill")
        for pid in pids:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, number)


def processes_of(state: UnitState) -> list[int]:
    """Those of a unit."""
    return states.descendants(state.supervisor) if state.is_supervised else []


def reset(names: Iterable[str]) -> None:
    """Forget that units have failed; all of them where none is named."""
    chosen = {units.full_name(name) for name in names}
    for state in states.known():
        if state.active == "failed" and (not chosen or state.name in chosen):
            states.forget(state.name)


@contextlib.contextmanager
def _settled(name: str) -> Iterator[UnitState]:
    """The state of a unit while nobody else gives orders for it; one that is being stopped has ended."""
    os.makedirs(states.DIRECTORY, mode=0o755, exist_ok=True)
    with open(f"{states.DIRECTORY}/{name}.lock", "w", encoding="ascii") as stream:
        fcntl.flock(stream, fcntl.LOCK_EX)
        state = states.read(name)
        while state.active == "deactivating":
            time.sleep(0.05)
            state = states.read(name)
        yield replace(state)
