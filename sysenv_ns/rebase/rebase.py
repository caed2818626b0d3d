"""Carries out a rebase: on a copy of the environment, which is tried, and swapped in if it is sound.

Until the swap the environment is unchanged; remains of an interrupted rebase are in the store's trash.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Callable, Iterator, Sequence

from sysenv_ns import session
from sysenv_ns.command import own_variables
from sysenv_ns.drivers import driver
from sysenv_ns.environment import config, directory, layers, rest, running, transaction
from sysenv_ns.environment.description import Environment, write_description
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError, located
from sysenv_ns.files import copies, removal
from sysenv_ns.files.upper import Upper
from sysenv_ns.files.view import View
from sysenv_ns.kernel import children, namespace, operations, remedies, syscalls
from sysenv_ns.kernel.operations import Operation
from sysenv_ns.kernel.overlay import Overlay, UnionMount
from sysenv_ns.packages import dpkg, drift, origin
from sysenv_ns.packages.merge import Side
from sysenv_ns.packages.old import Old
from sysenv_ns.packages.origin import Origin
from sysenv_ns.paths import Path
from sysenv_ns.rebase import execution, planner
from sysenv_ns.records import dataclass, replace
from sysenv_ns.reporter import Progress, ProgressBar, Reporter

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
class RebaseOptions:
    """The options of a rebase."""

    dry_run: bool = False
    files_only: bool = False  # package databases that cannot be merged stay as they are
    assume_current: bool = False  # an environment of unknown origin is taken for one of today's host


@dataclass(frozen=True)
class PackageChoice:
    """The side that a package comes from, and its versions: of the host then and now, and of the environment."""

    key: str
    side: Side
    why: str
    old: str
    new: str
    own: str


@dataclass(frozen=True)
class RebaseResult:
    """The result, or the plan."""

    packages: tuple[PackageChoice, ...]
    notes: tuple[str, ...]
    operations: tuple[str, ...]  # one line each
    done: bool
    repaired: bool = False


@dataclass(frozen=True)
class _MergedCopy:
    """The plan, already applied to the copy; the script has still to run in it."""

    packages: tuple[PackageChoice, ...]
    notes: tuple[str, ...]
    operations: tuple[str, ...]
    script: str
    unsound: str  # the names of packages with which something is wrong already


@dataclass(frozen=True)
class _Attempt:
    """An environment and its copy."""

    store: Store
    environment: Environment
    copy: Environment
    below: Path  # where the host's side alone is mounted
    old: Old
    reporter: Reporter


def run(
    store: Store,
    name: str,
    options: RebaseOptions,
    agree: Callable[[str], bool],
    reporter: Reporter,
    bar: ProgressBar,
) -> RebaseResult:
    """Update an environment to today's host. `agree` is asked before apt repairs dependencies. Raises SysenvError."""
    with rest.held(store, name, "a rebase") as environment:
        try:
            return _run(store, environment, options, agree, reporter, bar)
        except OSError as error:
            hint = remedies.storage(error, store.path)
            raise SysenvError(f"rebasing {name} failed, nothing was changed: {located(error)}", hint) from error


def _run(
    store: Store,
    environment: Environment,
    options: RebaseOptions,
    agree: Callable[[str], bool],
    reporter: Reporter,
    bar: ProgressBar,
) -> RebaseResult:
    if (unmerged := drift.unmerged(store, environment)) and not options.files_only:
        raise SysenvError(
            f"{environment.name} and this system have both changed {', '.join(unmerged)}, which cannot be merged",
            "--files-only keeps the environment's own and rebases the rest",
        )
    driver.of(environment).agree(store, reporter.ask, by_name=True)
    key = origin.remember(store)
    with _staging(store, environment) as (staging, scratch):
        copy = replace(environment, path=staging, layers=())  # it stands alone; its snapshots keep theirs
        old = _old(store, environment, key, options)
        trial = _Attempt(store, environment, copy, scratch, old, reporter)
        # The state file is a hint about a session that has ended; without it no layer of the base is deleted.
        (environment.path / directory.STATE).unlink(missing_ok=True)
        with bar() as progress:
            merged = children.call(lambda: _merge(trial, options.dry_run, progress), _MergedCopy, "sysenv-ns-rebase")
        result = RebaseResult(merged.packages, merged.notes, merged.operations, done=not options.dry_run)
        if options.dry_run:
            return result
        if not result.operations:
            origin.write(environment.path, Origin(key, key))
            return result
        repaired = _settle(trial, merged.script, merged.unsound, agree)
        origin.write(staging, Origin(key, key))
        write_description(staging, copy)
        _swap(trial)
    layers.tidy(store)
    origin.collect(store)
    _tidy(store)
    return replace(result, repaired=repaired)


def _tidy(store: Store) -> None:
    from sysenv_ns import lifecycle  # not for a look at what would be done

    lifecycle.tidy(store)


def _old(store: Store, environment: Environment, current: str, options: RebaseOptions) -> Old:
    """The origin's files. Raises SysenvError if it is unknown."""
    known = origin.read(environment.path)
    paths = [origin.path_of(store, key) for key in (known.packages, known.accounts)] if known else []
    if paths and all(path.is_dir() for path in paths):
        return Old(*paths)
    if not options.assume_current:
        raise SysenvError(
            f"it is not known which state of this system {environment.name} was made from",
            "an older sysenv-ns made it; --assume-current treats what differs from today's system as its own changes",
        )
    path = origin.path_of(store, current)
    return Old(path, path)


@contextlib.contextmanager
def _staging(store: Store, environment: Environment) -> Iterator[tuple[Path, Path]]:
    """The directory of the copy, shaped like an environment's, and one for the host's side; deleted afterwards."""
    name = environment.name
    staging, scratch = (transaction.trash_path(store.trash, f"{what}-{name}") for what in ("rebase", "below"))
    try:
        for path in (staging, staging / directory.WORK, staging / directory.ROOT):
            path.mkdir(mode=0o755)
        directory.make(scratch)
        for kept in (directory.CONFIG, directory.LINKS):
            if (path := environment.path / kept).exists():
                copies.copy_file(str(path), str(staging / kept))
        os.link(environment.path / directory.LOCK, staging / directory.LOCK)  # who waits for it finds it where it was
        yield staging, scratch
    finally:
        # Without the other one there is nothing but what this process has made.
        is_own = os.geteuid() != 0 and not os.path.lexists(scratch)
        transaction.discard([staging, scratch], None if is_own else environment.id_map)


def _merge(trial: _Attempt, dry_run: bool, progress: Progress) -> _MergedCopy:
    """In a child: read both sides, plan, and make the copy; a quarter of the progress for each step.

    Raises OSError, SysenvError.
    """
    environment, copy, log = trial.environment, trial.copy, trial.reporter.operation
    host = config.host(trial.store, copy)
    own = driver.of(environment)
    with own.prepare(trial.store, copy, host, trial.reporter) as prepared:
        namespace.enter(environment.id_map)
        progress(0.25)
        below = _below(trial, own, prepared.plan)
        namespace.become_root()
        source = _merged(trial)
        places = [(point, directory.upper(point)) for point in own.points(host)]
        layers = [(point, f"{source}/{place}") for point, place in places if (source / place).is_dir()]
        upper = Upper(layers, own.marks)
        # In an overlay that was just mounted each look at a directory takes ten times as long as at the host's own.
        plan = planner.plan(trial.old, View(below, twin="/"), upper)
        progress(0.5)
        if not (dry_run or plan.empty):
            for line in execution.describe(plan):
                log(line)
            execution.copy(plan, View(below), str(source), str(copy.path), layers, upper)
            progress(0.75)
            os.close(operations.execute(own.filled(prepared.plan, copy), str(copy.root), log))
            execution.change(plan, View(below), View(str(copy.root)))
        if dry_run:
            _clear(trial, below)
    return _MergedCopy(
        tuple(PackageChoice(d.key, d.side, d.why, d.old, d.new, d.own) for d in plan.packages),
        tuple(plan.notes),
        tuple(execution.describe(plan)),
        script="".join(f"{line}\n" for line in execution.script(plan)),
        unsound=" ".join(plan.unsound),
    )


def _merged(trial: _Attempt) -> Path:
    """A directory with all changes of the environment: its own, if there are no frozen ones."""
    environment = trial.environment
    if not environment.layers:
        return environment.path
    frozen = [trial.store.layers / ident for ident in environment.layers]
    layers.merge_uppers([environment.path, *frozen], trial.below / "all", driver.of(environment).marks)
    return trial.below / "all"


def _below(trial: _Attempt, own: driver.Driver, plan: Sequence[Operation]) -> str:
    """Mount the root of an environment without changes; returns the mount point."""
    without = replace(trial.environment, path=trial.below, layers=())
    overlays = tuple(_moved(operation, trial.copy, without) for operation in plan if isinstance(operation, UnionMount))
    if isinstance(overlays[0], Overlay) and not overlays[0].unprivileged:
        return "/"
    os.close(operations.execute(own.filled(overlays, without), str(without.root), trial.reporter.operation))
    return str(without.root)


def _moved(overlay: UnionMount, old: Environment, new: Environment) -> UnionMount:
    """An overlay with its changes in another environment's directory."""
    upper, work = (f"{new.path}{path.removeprefix(str(old.path))}" for path in (overlay.upper, overlay.work))
    return replace(overlay, upper=upper, work=work)


def _clear(trial: _Attempt, below: str) -> None:
    """Delete what mounting the host's side has left: here is the namespace that it takes."""
    if below != "/":
        syscalls.umount(below, syscalls.MNT_DETACH)
        with contextlib.suppress(OSError):  # something of it is still in use: _staging tries again
            removal.delete(trial.below)


def _settle(trial: _Attempt, script: str, unsound: str, agree: Callable[[str], bool]) -> bool:
    """Run the script in the copy and check it; returns whether apt repaired it. Raises SysenvError."""
    name = trial.environment.name
    packages = (trial.copy.upper / dpkg.ADMIN[1:]).exists()
    if script and (said := _inside(trial, script, quiet=True)):
        raise SysenvError(
            f"{name} cannot be rebased, nothing was changed: {said}", "to see what was planned: --dry-run"
        )
    import shlex  # not for a look at what would be done

    check = f"ALLOWED={shlex.quote(unsound)}\n{_CHECK}"
    if not packages or (said := _inside(trial, check, quiet=True)) is None:
        return False
    if not agree(said):
        hint = f"to let apt repair it: sysenv-ns rebase --yes {name}"
        raise SysenvError(f"{name} would be broken on this system, nothing was changed: {said}", hint)
    said = _inside(trial, _REPAIR, quiet=False) or _inside(trial, check, quiet=True)
    if said is not None:
        raise SysenvError(f"apt cannot repair {name}, nothing was changed: {said}", "see apt's output above")
    return True


@dataclass(frozen=True)
class _Said:
    """The output of a script if it failed; None if it succeeded."""

    complaint: str | None


def _inside(trial: _Attempt, script: str, quiet: bool) -> str | None:
    """Run a script as root of the copy; its output if it failed, else None. Raises SysenvError, OSError."""
    environment = own_variables(trial.environment.name)

    def inside() -> _Said:
        command = ["sh", "-ec", script]
        if quiet:
            return _Said(children.complaint("/bin/sh", command, environment))
        to_errors = [(os.POSIX_SPAWN_DUP2, 2, 1)]  # what goes to stdout is the result of the rebase alone
        pid = os.posix_spawn("/bin/sh", command, environment, file_actions=to_errors)
        _, status = os.waitpid(pid, 0)
        return _Said(None if status == 0 else f"status {os.waitstatus_to_exitcode(status)}")

    said = session.call_as_root(trial.store, trial.copy, trial.reporter, inside, _Said, "sysenv-ns-trial")
    return said.complaint


def _swap(trial: _Attempt) -> None:
    """Replace the environment by the copy. Raises OSError, SysenvError."""
    if running.lives(trial.environment):  # waits for what is ending
        raise SysenvError(f"a process of {trial.environment.name} does not end", "nothing was changed; try again")
    (trial.copy.path / directory.STATE).unlink(missing_ok=True)
    with rest.settled(trial.copy.path):
        transaction.exchange(trial.copy.path, trial.environment.path, whole=True)
