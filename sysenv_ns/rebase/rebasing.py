"""Carries out a rebase: on a copy of the environment beside it, tried there, and swapped in at once when it is sound.

Until the swap the environment is what it was; what is left of an interrupted rebase lies in the store's trash.
"""

from __future__ import annotations

import contextlib
import os
import shutil
from collections.abc import Callable, Iterator
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

from sysenv_ns import running, session, sudo
from sysenv_ns.errors import SysenvError, located
from sysenv_ns.home import links
from sysenv_ns.host import config, layout
from sysenv_ns.kernel import children, namespace, operations, remedies, removal, syscalls
from sysenv_ns.kernel.operations import Operation, Overlay
from sysenv_ns.lower import drivers
from sysenv_ns.packages import databases, dpkg, drift, origin
from sysenv_ns.packages.merge import Decision
from sysenv_ns.packages.origin import Origin
from sysenv_ns.rebase import applying, planning
from sysenv_ns.session import Reporter
from sysenv_ns.snapshots import layers
from sysenv_ns.store import Environment, Store, sync_directory, sync_file_system, write_description
from sysenv_ns.upper import ephemeral, fuse, uppers, view
from sysenv_ns.upper.fuse import FuseOverlay
from sysenv_ns.upper.view import Upper, View

# dpkg --audit, but for the packages in $ALLOWED: with them something was wrong before.
_CHECK = """
said=$(dpkg --audit 2>&1) || [ -n "$said" ]
names=$(echo "$said" | sed -n 's/^ \\([^ ]*\\) .*/\\1/p')
for name in $names; do
    case " $ALLOWED " in *" $name "*) ;; *) echo "$said"; exit 1 ;; esac
done
if [ -n "$said" ] && [ -z "$names" ]; then echo "$said"; exit 1; fi
command -v apt-get >/dev/null || exit 0
apt-get -q check -o Dir::Cache::pkgcache= -o Dir::Cache::srcpkgcache=
"""
_REPAIR = """
apt-get -q -y -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confold --fix-broken install
"""


@dataclass(frozen=True)
class Options:
    """What the user has asked for."""

    dry_run: bool = False
    files_only: bool = False  # package databases that cannot be merged stay as they are
    assume_current: bool = False  # an environment of unknown origin is taken for one of today's host


@dataclass(frozen=True)
class Result:
    """What was done, or would be."""

    packages: tuple[dict[str, str], ...]  # key, side, why, old, new, own
    notes: tuple[str, ...]
    operations: tuple[str, ...]  # one line each
    done: bool
    repaired: bool = False


@dataclass(frozen=True)
class _Trial:
    """An environment and its copy."""

    store: Store
    environment: Environment
    copy: Environment
    below: Path  # where the host's side alone is mounted
    old: databases.Old
    reporter: Reporter


def run(store: Store, name: str, options: Options, agree: Callable[[str], bool], reporter: Reporter) -> Result:
    """Move an environment onto today's host. `agree` is asked before apt repairs dependencies. Raises SysenvError."""
    environment = store.load(name)
    ephemeral.refuse(environment, "a rebase")
    sudo.require(environment)
    with store.lock(name):
        environment = store.load(name)
        if running.find(environment) is not None:
            raise SysenvError(f"{name} is running", f"leave it, or end its processes: sysenv-ns stop {name}")
        try:
            return _run(store, environment, options, agree, reporter)
        except OSError as error:
            hint = remedies.storage(error, store.path)
            raise SysenvError(f"rebasing {name} failed, nothing is changed: {located(error)}", hint) from error


def _run(
    store: Store, environment: Environment, options: Options, agree: Callable[[str], bool], reporter: Reporter
) -> Result:
    if (unmerged := drift.unmerged(store, environment)) and not options.files_only:
        raise SysenvError(
            f"{environment.name} and this system have both changed {', '.join(unmerged)}, which cannot be merged",
            "--files-only leaves the environment its own and carries over the rest",
        )
    key = origin.remember(store)
    with _staging(store, environment) as (staging, scratch):
        copy = replace(environment, path=staging, layers=())  # it stands alone; its snapshots keep theirs
        old = _old(store, environment, key, options)
        trial = _Trial(store, environment, copy, scratch, old, reporter)
        # The state file is a hint about a session that has ended; without it no layer of the base is deleted.
        (environment.path / "state.json").unlink(missing_ok=True)
        found = children.call(lambda: _merge(trial, options.dry_run), "sysenv-ns-rebase")
        assert isinstance(found, dict)
        result = _result(found, done=not options.dry_run)
        if options.dry_run:
            return result
        if not result.operations:
            origin.write(environment.path, Origin(key, key))
            return result
        repaired = _settle(trial, found["script"], found["unsound"], agree)
        origin.write(staging, Origin(key, key))
        write_description(staging, copy)
        _swap(trial)
    with contextlib.suppress(OSError, SysenvError):  # it says nothing about its success
        layers.collect(store)
    origin.collect(store)
    removal.empty_trash(store.trash, environment.id_map)
    return replace(result, repaired=repaired)


def _old(store: Store, environment: Environment, current: str, options: Options) -> databases.Old:
    """The origin's files. Raises SysenvError when nobody knows it."""
    known = origin.read(environment.path)
    paths = [origin.path_of(store, key) for key in (known.packages, known.accounts)] if known else []
    if paths and all(path.is_dir() for path in paths):
        return databases.Old(*paths)
    if not options.assume_current:
        raise SysenvError(
            f"nobody knows which state of this system {environment.name} was made from",
            "an older sysenv-ns made it; --assume-current takes what differs from today's system for its own changes",
        )
    path = origin.path_of(store, current)
    return databases.Old(path, path)


@contextlib.contextmanager
def _staging(store: Store, environment: Environment) -> Iterator[tuple[Path, Path]]:
    """The directory of the copy, shaped like an environment's, and one for the host's side; deleted afterwards."""
    staging, scratch = (removal.trash_path(store.trash, f"{kind}-{environment.name}") for kind in ("rebase", "below"))
    try:
        for path in (staging, staging / "work", staging / "root", scratch):
            path.mkdir(mode=0o755)
        for name in ("upper", "work", "root"):
            (scratch / name).mkdir(mode=0o755)
        for name in (config.NAME, links.NAME):
            with contextlib.suppress(FileNotFoundError):
                shutil.copy2(environment.path / name, staging / name)
        os.link(environment.path / "lock", staging / "lock")  # who waits for it finds it where it was
        yield staging, scratch
    finally:
        for path in (staging, scratch):
            # What cannot be deleted is in the trash already; it says nothing about whether the rebase has worked.
            with contextlib.suppress(OSError, SysenvError):
                removal.remove_tree(path, environment.id_map)


def _merge(trial: _Trial, dry_run: bool) -> dict[str, Any]:
    """In a child: look at both sides, plan, and make the copy. Raises OSError, SysenvError."""
    environment, copy, log = trial.environment, trial.copy, trial.reporter.operation
    host = config.host(trial.store, copy)
    driver = drivers.get(environment.driver)
    with driver.prepare(trial.store, copy, host, trial.reporter.progress) as prepared:
        namespace.enter(environment.id_map)
        below = _below(prepared.plan[0], trial.below, log)
        namespace.become_root()
        points = [("", "upper")]
        if environment.id_map is None:
            points += [(m.point, uppers.upper(m.point)) for m in layout.further_mounts(host)]
        source = _merged(trial)
        own = [(point, f"{source}/{place}") for point, place in points if (source / place).is_dir()]
        upper = Upper(own, view.signs(environment.driver))
        plan = planning.plan(trial.old, View(below), upper)
        if not (dry_run or plan.empty):
            for line in applying.describe(plan):
                log(line)
            applying.copy(plan, View(below), str(source), str(copy.path), own, upper)
            os.close(operations.execute(prepared.plan, str(copy.root), log))
            applying.change(plan, View(below), View(str(copy.root)))
    return {
        "packages": [_decision(decision) for decision in plan.packages],
        "notes": plan.notes,
        "operations": list(applying.describe(plan)),
        "script": "".join(f"{line}\n" for line in applying.script(plan)),
        "unsound": " ".join(plan.unsound),
    }


def _merged(trial: _Trial) -> Path:
    """Where all changes of the environment are together: in its own directory, if there are no frozen ones."""
    environment = trial.environment
    if not environment.layers:
        return environment.path
    frozen = [trial.store.layers / ident for ident in environment.layers]
    layers.merge_uppers([environment.path, *frozen], trial.below / "all", environment.driver)
    return trial.below / "all"


def _below(overlay: Operation, scratch: Path, log: Callable[[str], None]) -> str:
    """Mount what an environment without changes has; returns where."""
    if not isinstance(overlay, Overlay | FuseOverlay):
        raise TypeError(overlay)
    if isinstance(overlay, Overlay) and not overlay.unprivileged:
        return "/"
    upper, work = str(scratch / "upper"), str(scratch / "work")
    os.close(operations.execute((replace(overlay, upper=upper, work=work),), str(scratch / "root"), log))
    return str(scratch / "root")


def _decision(decision: Decision) -> dict[str, str]:
    names = ("key", "side", "why", "old", "new", "own")
    return {name: getattr(decision, name) for name in names}


def _settle(trial: _Trial, script: str, unsound: str, agree: Callable[[str], bool]) -> bool:
    """Let the copy set itself up and check it; returns whether it was repaired. Raises SysenvError."""
    name = trial.environment.name
    packages = (trial.copy.upper / dpkg.ADMIN[1:]).exists()
    if script and (said := _inside(trial, script, quiet=True)):
        raise SysenvError(
            f"{name} cannot be rebased, nothing is changed: {said}", "see --dry-run for what was to be done"
        )
    check = f"ALLOWED={applying.quoted(unsound)}\n{_CHECK}"
    if not packages or (said := _inside(trial, check, quiet=True)) is None:
        return False
    if not agree(said):
        hint = f"let apt repair it: sysenv-ns rebase --yes {name}"
        raise SysenvError(f"{name} would be broken on this system, nothing is changed: {said}", hint)
    said = _inside(trial, _REPAIR, quiet=False) or _inside(trial, check, quiet=True)
    if said is not None:
        raise SysenvError(f"apt cannot repair {name}, nothing is changed: {said}", "see what apt said above")
    return True


def _inside(trial: _Trial, script: str, quiet: bool) -> str | None:
    """Run a script as root of the copy; what it said when it failed, else None. Raises SysenvError, OSError."""
    environment = session.own_variables(trial.environment.name)

    def inside() -> str | None:
        command = ["sh", "-ec", script]
        if quiet:
            return children.complaint("/bin/sh", command, environment)
        to_errors = [(os.POSIX_SPAWN_DUP2, 2, 1)]  # what goes to stdout is the result of the rebase alone
        pid = os.posix_spawn("/bin/sh", command, environment, file_actions=to_errors)
        _, status = os.waitpid(pid, 0)
        return None if status == 0 else f"status {os.waitstatus_to_exitcode(status)}"

    said = session.call_as_root(trial.store, trial.copy, trial.reporter, inside, "sysenv-ns-trial")
    return None if said is None else str(said)


def _swap(trial: _Trial) -> None:
    """Put the copy into the place of the environment. Raises OSError, SysenvError."""
    if running.find(trial.environment) is not None:  # waits for what is ending
        raise SysenvError(f"a process of {trial.environment.name} does not end", "nothing is changed; try it again")
    (trial.copy.path / "state.json").unlink(missing_ok=True)
    with fuse.settled(trial.copy.path):
        sync_file_system(trial.copy.path)
    syscalls.exchange(str(trial.copy.path), str(trial.environment.path))
    for path in (trial.store.envs, trial.store.trash):
        sync_directory(path)


def _result(found: dict[str, Any], done: bool) -> Result:
    return Result(tuple(found["packages"]), tuple(found["notes"]), tuple(found["operations"]), done)
