"""sync: makes an environment match a manifest, or finds how it differs; prints nothing itself."""

from __future__ import annotations

import contextlib
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sysenv_ns import lifecycle
from sysenv_ns.environment import ephemeral, termination
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import EXIT_INTERRUPTED, SysenvError, located
from sysenv_ns.kernel import remedies
from sysenv_ns.manifest import inspection, parser, plans, steps, trial
from sysenv_ns.manifest.document import AddedFile, Manifest
from sysenv_ns.manifest.installed import InstalledState
from sysenv_ns.manifest.plans import Action, Record
from sysenv_ns.manifest.steps import Put, Step
from sysenv_ns.reporter import Reporter
from sysenv_ns.text import quoted


@dataclass(frozen=True)
class SyncResult:
    """The differences, or those before the sync."""

    name: str
    file: str
    actions: tuple[Action, ...]
    created: bool = False  # there was no such environment
    done: bool = False
    notes: tuple[str, ...] = ()
    origin: str = ""  # the file that it was made to match last


@dataclass(frozen=True)
class SyncOptions:
    """The options of a sync."""

    check: bool = False
    force: bool = False  # a manifest of another release or architecture


@dataclass(frozen=True)
class Asking:
    """The caller's part: `agree` is asked before anything is done.

    `create` creates a missing environment of a name: of what can be pulled from a registry, or with "" of this system.
    """

    agree: Callable[[SyncResult], bool]
    create: Callable[[str, str], Environment]
    reporter: Reporter


@dataclass(frozen=True)
class _Differences:
    """The present state of an environment, and its differences."""

    state: InstalledState
    record: Record | None
    actions: tuple[Action, ...]


def run(store: Store, name: str, file: Path, options: SyncOptions, asking: Asking) -> SyncResult:
    """Make an environment match the manifest in a file. Raises SysenvError; then it is unchanged."""
    with store.as_user():
        manifest = parser.load(file)
    _check_system(manifest, options.force)
    created = not store.exists(name)
    pulled = created and bool(manifest.base)
    found = _new(manifest) if created else _look(store, name, manifest)
    result = SyncResult(name, str(file), found.actions, created, origin=found.record.file if found.record else "")
    if options.check:
        return result
    noted = found.record is not None and found.record.is_of(str(file), manifest)
    if not found.actions and noted:
        return replace(result, done=True)
    _require_consent(result, asking)
    if created:
        asking.create(name, manifest.base)
    with contextlib.ExitStack() as ending:
        try:
            if pulled:  # only now can be seen what else differs
                above = _look(store, name, manifest, pulled).actions
                result = replace(result, actions=above, created=False)
                _require_consent(result, asking)
            notes = _apply(store, manifest, result, pulled, asking.reporter, ending)
        except BaseException as error:
            if created:
                with contextlib.suppress(SysenvError, OSError):
                    lifecycle.remove(store, name)
            raise _failed(store, name, error) from error
    actions = (*found.actions, *result.actions) if pulled else result.actions
    return replace(result, actions=actions, created=created, done=True, notes=notes)


def _require_consent(result: SyncResult, asking: Asking) -> None:
    if result.actions and not asking.agree(result):
        raise SysenvError(f"{result.name} was not changed", "answer yes, or give --yes")


def _check_system(manifest: Manifest, force: bool) -> None:
    host = inspection.of_host(single=False).host
    host.require_dpkg()
    plans.check_system(manifest, inspection.release(), host.architecture, force)


def _new(manifest: Manifest) -> _Differences:
    found = inspection.of_host(single=False)
    actions = (Action("pull", manifest.base),) if manifest.base else plans.make(manifest, found, None)
    return _Differences(found, None, actions)


def _look(store: Store, name: str, manifest: Manifest, pulled: bool = False) -> _Differences:
    """`pulled`: it has just been, and was not made to match anything yet."""
    environment = store.load(name)
    ephemeral.refuse(environment, "a sync")
    environment.require_root()
    with store.lock(name):
        return _found(store, store.load(name), manifest, pulled)


def _found(store: Store, environment: Environment, manifest: Manifest, pulled: bool) -> _Differences:
    record = None if pulled else inspection.record_of(environment)
    paths = [*manifest.placed, *(record.manifest.placed if record else ())]
    keys = [*manifest.keys, *(record.manifest.keys if record else ())]
    found = inspection.read(store, environment, paths, keys)
    if pulled:
        record = plans.pulled(manifest.base, found)
    plans.check_base(environment.name, manifest, record)
    return _Differences(found, record, plans.make(manifest, found, record))


def _apply(
    store: Store,
    manifest: Manifest,
    agreed: SyncResult,
    pulled: bool,
    reporter: Reporter,
    ending: contextlib.ExitStack,
) -> tuple[str, ...]:
    """Do everything beside the environment, and replace it by the result. Returns notices for the user."""
    with store.lock(agreed.name):
        now = _found(store, store.load(agreed.name), manifest, pulled)
        if not agreed.created and now.actions != agreed.actions:
            raise SysenvError(f"{agreed.name} has changed in the meantime", "run it again")
        with trial.begun(store, agreed.name) as begun:
            if now.actions:
                trial.carry_out(begun, _steps(begun.copy, manifest, now, Path(agreed.file)), reporter)
            ended = termination.end(begun.copy)
            after = inspection.read(store, begun.copy, manifest.placed, manifest.keys)
            base = now.record.base if now.record and manifest.base else None
            known = plans.remaining(manifest, after, base)
            _check_packages(known, manifest)
            content = plans.encode(agreed.file, manifest, (action.ident for action in known), base)
            trial.carry_out(
                begun,
                [Put(inspection.RECORD, AddedFile(content), "the record of what this environment matches")],
                reporter,
            )
            trial.keep(begun, ending)
    notes = [f"{action.kind} {quoted(action.subject)}: packages or scripts made it differ again" for action in known]
    return (*notes, *(f"ended a process that was left running: {quoted(process.command)}" for process in ended))


def _check_packages(left: Sequence[Action], manifest: Manifest) -> None:
    missing = [a.subject for a in left if a.kind == "install" and a.subject in manifest.packages]
    missing += [a.subject for a in left if a.kind == "remove"]
    if missing:
        raise SysenvError(
            f"apt did not do everything that was asked for: {', '.join(missing)}",
            "these packages conflict with others, or a script has changed them; see apt's output above",
        )


def _steps(copy: Environment, manifest: Manifest, found: _Differences, file: Path) -> list[Step]:
    actions = [_restored(action, manifest, copy) for action in found.actions]
    owners = {
        action.subject: owner
        for action in actions
        if action.kind == "answer" and (owner := action.subject.split()[0]) in found.state.own.packages
    }
    hosts = found.state.host.packages
    return list(steps.compiled(actions, manifest, hosts, owners, str(file.parent)))


def _restored(action: Action, manifest: Manifest, copy: Environment) -> Action:
    """Files that the manifest no longer adds become as on the host."""
    if action.kind != "file" or action.subject in manifest.placed:
        return action
    found = inspection.host_file(action.subject, copy.id_map)
    if found is None:
        return action
    file, (uid, gid) = found
    return replace(action, value=replace(file, owner=f"{uid}:{gid}") if (uid, gid) != (0, 0) else file)


def _failed(store: Store, name: str, error: BaseException) -> BaseException:
    if isinstance(error, KeyboardInterrupt):
        return SysenvError(f"the sync of {name} was interrupted, nothing was changed", "", EXIT_INTERRUPTED)
    if isinstance(error, SysenvError):
        return SysenvError(f"{name} cannot be synced, nothing was changed: {error.message}", error.hint)
    if isinstance(error, OSError):
        hint = remedies.storage(error, store.path)
        return SysenvError(f"{name} cannot be synced, nothing was changed: {located(error)}", hint)
    return error
