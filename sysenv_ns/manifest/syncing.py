"""sync: makes an environment that matches a manifest, or tells in what it differs; prints nothing itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sysenv_ns import lifecycle, sudo
from sysenv_ns.errors import SysenvError, located
from sysenv_ns.kernel import remedies
from sysenv_ns.manifest import parsing, plans, state, steps, trial
from sysenv_ns.manifest.document import File, Manifest
from sysenv_ns.manifest.plans import Action, Record
from sysenv_ns.manifest.state import State
from sysenv_ns.manifest.steps import Put, Step
from sysenv_ns.session import Reporter
from sysenv_ns.store import Environment, Store
from sysenv_ns.upper import ephemeral

_INTERRUPTED = 130  # what shells say of SIGINT
_OS_RELEASE = ("/etc/os-release", "/usr/lib/os-release")


@dataclass(frozen=True)
class Result:
    """What differs, or did before it was done."""

    name: str
    file: str
    actions: tuple[Action, ...]
    created: bool = False  # there was no such environment
    done: bool = False
    notes: tuple[str, ...] = ()
    origin: str = ""  # the file that it was made to match last


@dataclass(frozen=True)
class Options:
    """What the user has asked for."""

    check: bool = False
    force: bool = False  # a manifest of another release or architecture


@dataclass(frozen=True)
class Asking:
    """How the caller is involved: `agree` is asked before anything is done, `create` makes a missing environment."""

    agree: Callable[[Result], bool]
    create: Callable[[str], Environment]
    reporter: Reporter


@dataclass(frozen=True)
class _Found:
    """What an environment is like now."""

    state: State
    record: Record | None
    actions: tuple[Action, ...]


def run(store: Store, name: str, file: Path, options: Options, asking: Asking) -> Result:
    """Let an environment match the manifest in a file. Raises SysenvError; then it is as before."""
    manifest = parsing.load(file)
    _check_system(manifest, options.force)
    created = not store.exists(name)
    found = _new(manifest) if created else _look(store, name, manifest)
    result = Result(name, str(file), found.actions, created, origin=found.record.file if found.record else "")
    if options.check:
        return result
    noted = found.record is not None and found.record.is_of(str(file), manifest)
    if not found.actions and noted:
        return replace(result, done=True)
    if found.actions and not asking.agree(result):
        raise SysenvError(f"{name} is left as it is", "sysenv-ns sync asks again")
    if created:
        asking.create(name)
    with contextlib.ExitStack() as ending:
        try:
            notes = _apply(store, manifest, result, asking.reporter, ending)
        except BaseException as error:
            if created:
                with contextlib.suppress(SysenvError, OSError):
                    lifecycle.remove(store, name)
            raise _failed(store, name, error) from error
    return replace(result, done=True, notes=notes)


def release() -> str:
    """This system's, as a manifest names it."""
    for path in _OS_RELEASE:
        with contextlib.suppress(OSError):
            return plans.release_of(Path(path).read_text(errors="replace"))
    return ""


def _check_system(manifest: Manifest, force: bool) -> None:
    host = state.of_host(single=False).host
    require_dpkg(host)
    plans.check_system(manifest, release(), host.architecture, force)


def require_dpkg(host: state.Side) -> None:
    """Raise SysenvError where another package manager rules."""
    if not host.packages:
        raise SysenvError("freeze and sync know packages of dpkg and apt only", "this system has neither")


def _new(manifest: Manifest) -> _Found:
    found = state.of_host(single=False)
    return _Found(found, None, plans.make(manifest, found, None))


def _look(store: Store, name: str, manifest: Manifest) -> _Found:
    environment = store.load(name)
    ephemeral.refuse(environment, "a sync")
    sudo.require(environment)
    with store.lock(name):
        return _found(store.load(name), manifest)


def _found(environment: Environment, manifest: Manifest) -> _Found:
    record = plans.decode(state.record_of(environment))
    paths = [*manifest.files, *(record.manifest.files if record else ())]
    keys = [*manifest.keys, *(record.manifest.keys if record else ())]
    found = state.read(environment, paths, keys)
    return _Found(found, record, plans.make(manifest, found, record))


def _apply(
    store: Store, manifest: Manifest, agreed: Result, reporter: Reporter, ending: contextlib.ExitStack
) -> tuple[str, ...]:
    """Do it all beside the environment, and put it in its place. Returns what the user should know."""
    with store.lock(agreed.name):
        now = _found(store.load(agreed.name), manifest)
        if not agreed.created and now.actions != agreed.actions:
            raise SysenvError(f"{agreed.name} has changed meanwhile", "run it again")
        with trial.begun(store, agreed.name) as begun:
            if now.actions:
                trial.carry_out(begun, _steps(begun.copy, manifest, now, Path(agreed.file)), reporter)
            ended = trial.end(store, begun.copy)
            after = state.read(begun.copy, manifest.files, manifest.keys)
            known = plans.remaining(manifest, after)
            _check_packages(known, manifest)
            content = plans.encode(agreed.file, manifest, (action.ident for action in known))
            trial.carry_out(begun, [Put(state.RECORD, File(content), "down what it matches")], reporter)
            trial.keep(begun, ending)
    notes = [f"{action.kind} {action.subject}: packages or scripts made it differ again" for action in known]
    return (*notes, *(f"ended what was started: {command}" for command in ended))


def _check_packages(left: Sequence[Action], manifest: Manifest) -> None:
    missing = [a.subject for a in left if a.kind == "install" and a.subject in manifest.packages]
    missing += [a.subject for a in left if a.kind == "remove"]
    if missing:
        raise SysenvError(
            f"apt does not give what is asked for together: {', '.join(missing)}",
            "they exclude each other, or a script has changed them; see above what apt says",
        )


def _steps(copy: Environment, manifest: Manifest, found: _Found, file: Path) -> list[Step]:
    actions = [_restored(action, manifest, copy) for action in found.actions]
    owners = {
        action.subject: owner
        for action in actions
        if action.kind == "answer" and (owner := action.subject.split()[0]) in found.state.own.packages
    }
    hosts = found.state.host.packages
    return list(steps.compiled(actions, manifest, hosts, owners, str(file.parent)))


def _restored(action: Action, manifest: Manifest, copy: Environment) -> Action:
    """What no manifest adds any more is as it is on the host."""
    if action.kind != "file" or action.subject in manifest.files:
        return action
    found = state.host_file(action.subject, copy.id_map)
    if found is None:
        return action
    file, (uid, gid) = found
    return replace(action, value=replace(file, owner=f"{uid}:{gid}") if (uid, gid) != (0, 0) else file)


def _failed(store: Store, name: str, error: BaseException) -> BaseException:
    if isinstance(error, KeyboardInterrupt):
        return SysenvError(f"the sync of {name} was interrupted, nothing is changed", "", _INTERRUPTED)
    if isinstance(error, SysenvError):
        return SysenvError(f"{name} cannot be synced, nothing is changed: {error.message}", error.hint)
    if isinstance(error, OSError):
        hint = remedies.storage(error, store.path)
        return SysenvError(f"{name} cannot be synced, nothing is changed: {located(error)}", hint)
    return error
