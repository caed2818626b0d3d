"""Makes the plan of an apply from the changes of an environment and the state of this system; changes neither."""

from __future__ import annotations

import os
import stat
import tempfile
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from itertools import chain
from types import NoneType

from sysenv_ns.apply import apt, entries, inventory, plan, preview
from sysenv_ns.apply.entries import Entry
from sysenv_ns.apply.inventory import Deb, Inventory, Seen
from sysenv_ns.apply.plan import Omission, PackageStep, Plan, Step
from sysenv_ns.diff import difference
from sysenv_ns.diff.changes import Change
from sysenv_ns.diff.difference import Difference
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError, located
from sysenv_ns.files import reader
from sysenv_ns.host import accounts
from sysenv_ns.kernel import mountinfo, namespace
from sysenv_ns.kernel.mountinfo import ancestors, is_below
from sysenv_ns.packages import dpkg, drift, origin
from sysenv_ns.text import quoted

_PROCESS = "sysenv-ns-apply"
_REGULAR = 1000  # the first number of people, login.defs(5)
_Below = list[tuple[str, Entry | None]]


@dataclass(frozen=True)
class ApplyOptions:
    """Which parts are wanted."""

    packages: bool = True
    files: bool = True
    paths: tuple[str, ...] = ()  # these files alone, whatever they are


@dataclass(frozen=True)
class Made:
    """A plan, the paths of its contents, and the texts that are shown."""

    plan: Plan
    debs: tuple[str, ...]
    texts: Mapping[str, str] = field(default_factory=dict)  # by path


def make(store: Store, name: str, options: ApplyOptions) -> Made:
    """The plan for an environment. Raises SysenvError."""
    compared = _compared(store, name, options.paths)
    with store.reading().lock(name):
        environment = store.load(name)
        _refuse_drift(store, environment, compared, options)
        if options.packages:
            _check_names(compared)
        versions = {package.name: package.new for package in compared.packages}
        wanted = {(p.name, p.new) for p in compared.packages if p.new and options.packages}
        lacking = sorted(key for key, _ in wanted - apt.available(key for key, _ in wanted)) if wanted else []
        sides = difference.sides_of(store, environment)
        wished = [c for c in compared.changes if not c.fold and (options.files or plan.is_of_sources(c.path))]
        alone = {c.path: plan.left_alone(c, bool(options.paths) or c.package in versions) for c in wished}
        looked_at = [change for change in wished if not alone[change.path]]
        try:
            found = namespace.look_inside(
                environment.id_map, lambda: inventory.look(sides, looked_at, versions, lacking), Inventory, _PROCESS
            )
        except OSError as error:
            raise SysenvError(f"the changes of {name} cannot be read: {located(error)}") from error
    if found.others and options.packages:
        what = f"the packages of {name} in {', '.join(found.others)} cannot be installed by apt"
        raise SysenvError(what, "leave out packages: --files; their files are then applied as files of no package")
    maker = _Maker(environment, compared, found, options)
    files = [change for change in looked_at if change.path in found.seen]
    steps = plan.ordered(maker.linked(step for change in files for step in maker.steps(change)))
    packages = tuple(maker.packages())
    left = [*maker.left, *(Omission(path, why) for path, why in alone.items() if why), *_folded(compared)]
    made = Plan(name, packages, steps, (*sorted(left, key=lambda part: os.fsencode(part.what)), *maker.accounts()))
    debs = tuple(found.debs[package.name].place for package in packages if package.file)
    _check_available(made, lacking, found.debs)
    if packages and not made.changes_sources:
        _check_apt(packages, debs)
    return Made(made, debs, preview.texts(store, made))


def _compared(store: Store, name: str, paths: Sequence[str]) -> Difference:
    """The changes; for chosen paths also directories above them that this system does not have."""
    compared = difference.find(store, name, paths)
    chosen = {change.path for change in compared.changes}
    missing = {above for path in chosen for above in ancestors(path) if not os.path.lexists(above)} - chosen
    if not paths or not missing:
        return compared
    more = difference.find(store, name, sorted(missing))
    return replace(more, changes=tuple(change for change in more.changes if change.path in chosen | missing))


def _check_names(compared: Difference) -> None:
    """Check the environment's package names and versions: they become words of commands, and are printed."""
    for change in compared.packages:
        try:
            plan.checked(PackageStep(change.name, change.kind, change.old, change.new))
        except ValueError as error:
            what = f"the database of packages of {compared.name} is damaged: {error}"
            raise SysenvError(what, "leave out packages: --files") from error


def _check_apt(packages: Sequence[PackageStep], debs: Sequence[str]) -> None:
    with tempfile.TemporaryDirectory(prefix="sysenv-ns-") as directory:
        places = [f"{directory}/{number}.deb" for number, _ in enumerate(debs)]
        for place, deb in zip(places, debs, strict=True):
            os.symlink(deb, place)
        files = (package.name for package in packages if package.file)
        apt.check(packages, dict(zip(files, places, strict=True)))


def send(store: Store, made: Made, pipe: int) -> None:
    """Write the contents for a plan to a pipe. Raises SysenvError, OSError."""
    paths = [step.path for step in made.plan.steps if step.has_content]
    with store.reading().lock(made.plan.name):
        environment = store.load(made.plan.name)
        sides = difference.sides_of(store, environment)
        namespace.look_inside(
            environment.id_map, lambda: inventory.send(sides, paths, made.debs, pipe), NoneType, _PROCESS
        )


def _refuse_drift(store: Store, environment: Environment, compared: Difference, options: ApplyOptions) -> None:
    """Refuse packages that both sides have changed: only a rebase can merge these."""
    name = environment.name
    found = drift.measure(store, environment)
    different = {p.name for p in compared.packages} | {c.path for c in compared.changes} - {*origin.ACCOUNTS}
    files = [path for path in found.files if options.files and os.access(path, os.R_OK)]
    both = [what for what in (*(found.held if options.packages else ()), *files) if what in different]
    if options.paths or (not both and found.known):
        return
    what = f"{', '.join(both[:5])} changed on both sides" if both else "what changed on this system is unknown"
    raise SysenvError(f"{what} since {name} got its own packages", f"merge the changes first: sysenv-ns rebase {name}")


def _folded(compared: Difference) -> Iterator[Omission]:
    number = sum(1 for change in compared.changes if change.fold and change.type != "directory")
    if number:
        yield Omission(f"{number} files of caches, logs and package databases", "this system has its own")


def _check_available(made: Plan, lacking: Iterable[str], debs: Mapping[str, Deb]) -> None:
    missing = [name for name in lacking if name not in debs]
    if not missing or made.changes_sources:
        return
    versions = {package.name: package.new for package in made.packages}
    names = ", ".join(f"{name} {versions[name]}" for name in missing)
    hint = f"put the package files into /var/cache/apt/archives of {made.name}, or leave out packages: --files"
    raise SysenvError(f"this system's apt has no {names}", hint)


class _Maker:
    """Decides path by path; what is not applied is collected in `left`."""

    def __init__(self, environment: Environment, compared: Difference, found: Inventory, options: ApplyOptions) -> None:
        self._environment, self._found, self._options = environment, found, options
        self._changed = {package.name: package for package in compared.packages}
        self._own = accounts.parse(found.passwd, found.group)
        self._host = accounts.parse(*(reader.read(path, follow=True) for path in accounts.PATHS))
        # In the single map all files are root's, whoever they shall belong to.
        self._has_owners = environment.id_map is None or environment.id_map.kind == "full"
        self._mounted = {mount.point for mount in mountinfo.read()}
        self.left: list[Omission] = []

    def packages(self) -> Iterator[PackageStep]:
        """The steps for packages."""
        if not self._options.packages:
            self.left += [Omission(f"package {name}", "packages are left out") for name in self._changed]
            return
        automatic = dpkg.automatic(self._found.automatic, self._found.packages)
        for change in self._changed.values():
            if change.kind == "removed" and change.name not in self._found.packages:
                why = f"its configuration and data stay; to delete them: sudo dpkg --purge {change.name}"
                self.left.append(Omission(f"purge of {change.name}", why))
            is_automatic = change.name in automatic and bool(change.new)
            package = PackageStep(change.name, change.kind, change.old, change.new, is_automatic)
            deb = self._found.debs.get(change.name)
            yield replace(package, file=deb.file, size=deb.size, digest=deb.digest) if deb else package

    def accounts(self) -> Iterator[Omission]:
        """Users and groups that only the environment has."""
        for kind, own, host in (
            ("user", self._own.users, self._host.users),
            ("group", self._own.groups, self._host.groups),
        ):
            for name, number in own.items():
                if name not in host:
                    system = "--system " if number < _REGULAR else ""
                    yield Omission(
                        f"{kind} {name}",
                        f"packages create their own; to create it yourself: sudo {kind}add {system}{name}",
                    )

    def steps(self, change: Change) -> Iterator[Step]:
        """The steps for a change."""
        seen = self._found.seen[change.path]
        if seen.of_tool:
            return
        if change.kind != "metadata" and any(p == change.path or is_below(p, change.path) for p in self._mounted):
            self.left.append(Omission(change.path, "something is mounted there on this system"))
            return
        try:
            old, below = _of_host(change)
        except PermissionError:
            self.left.append(Omission(change.path, "you have no permission to read what this system has there"))
            return
        if why := next(chain(self._stays(change, old, below), self._reasons(change, seen)), ""):
            self.left.append(Omission(change.path, why))
            return
        of_package = change.package in self._changed and self._options.packages
        if not of_package and not (change.kind == "metadata" and change.type == "directory"):
            self._refuse_newer([change.path, *(path for path, _ in below)], seen)
        if seen.entry and seen.entry.has_acl:
            self.left.append(Omission(change.path, "only its access control list differs, which is not applied"))
        of_sources = plan.is_of_sources(change.path)
        for path, entry in below:
            yield Step(path, "delete", entry, None, of_sources=of_sources)
        user, group = self._owner(change)
        action: plan.Action = "delete" if change.new is None else "metadata" if change.kind == "metadata" else "put"
        new = _dressed(seen.entry, old, action, self._environment) if change.new else None
        step = Step(
            change.path,
            action,
            old,
            new,
            user,
            group,
            of_sources=of_sources,
            old_user=self._host.user(old.uid) if old else "",
            old_group=self._host.group(old.gid) if old else "",
        )
        if not plan.changes_nothing(step):
            yield step

    def _stays(self, change: Change, old: Entry | None, below: _Below) -> Iterator[str]:
        """Reasons to keep what this system has at the path, or anything in a directory there."""
        named = bool(self._options.paths) or change.package in self._changed
        for path, entry in below:
            if why := plan.of_machine(path, named, goes=True):
                yield f"with {path}: {why}"
            if entry and entry.type in ("socket", "device"):
                yield "there is a socket or a device in it"
        if any(entry and entry.has_acl for entry in (old, *(entry for _, entry in below))):
            yield "this system has an access control list there, which would be lost"

    def _reasons(self, change: Change, seen: Seen) -> Iterator[str]:
        """Reasons not to apply a change."""
        new, target = change.new, seen.entry.target if seen.entry and not self._options.paths else ""
        if seen.stand_in:
            yield "it replaces a file of this system that you have no permission to read"
        if new and seen.entry is None:
            yield "it has been deleted in the meantime"
        if new and seen.entry and seen.entry.type != new.type:
            yield "its type has changed in the meantime"
        if target and plan.of_scripts(change.path, target, seen.whose, self._changed):
            yield "package scripts create it"
        if change.package in self._changed and not (self._options.packages or self._options.paths):
            yield f"it belongs to the package {change.package}, which is left out"
        if new is None and change.package and change.package not in self._found.packages and not self._options.paths:
            yield f"it belongs to the package {change.package}, whose configuration and data stay"
        if new and None in self._owner_or_none(change):
            yield f"its owner {new.uid}:{new.gid} has no name in {self._environment.name}"
        user, group = self._owner(change)
        is_known = (not user or user in self._host.users) and (not group or group in self._host.groups)
        if not is_known and not (self._changed and self._options.packages):  # whose scripts may make it
            yield f"there is no {user}:{group} on this system"

    def _owner(self, change: Change) -> tuple[str, str]:
        user, group = self._owner_or_none(change)
        return user or "", group or ""

    def _owner_or_none(self, change: Change) -> tuple[str | None, str | None]:
        """The names; "" for the present owner, or root; None for numbers without a name."""
        new, old = change.new, change.old
        if new is None or not self._has_owners:
            return "", ""
        kept = old is not None and old.type == new.type and "owner" not in change.metadata
        return ("", "") if kept else (self._own.user(new.uid) or None, self._own.group(new.gid) or None)

    def _refuse_newer(self, paths: Iterable[str], seen: Seen) -> None:
        name = self._environment.name
        for path in paths:
            if _changed(path) > seen.changed:
                raise SysenvError(
                    f"{quoted(path)} has changed on this system after {name} changed it",
                    f"merge the changes: sysenv-ns rebase {name}; or see sysenv-ns diff {name} -- {quoted(path)}, "
                    "and run touch on the file inside the environment if its version is to win",
                )

    def linked(self, steps: Iterable[Step]) -> Iterator[Step]:
        """Make further names of a file hard links to the first one; they are shown with its properties."""
        first: dict[tuple[bool, tuple[int, int]], Step] = {}
        for step in sorted(steps, key=lambda step: os.fsencode(step.path)):
            seen = self._found.seen.get(step.path)
            inode = seen.inode if seen and step.action == "put" else None
            other = first.setdefault((step.of_sources, inode), step) if inode else step
            yield step if other is step else plan.linked(step, other)


def _is_reached(path: str) -> bool:
    """Whether all parents of a path are directories, and not symbolic links to other places. Raises OSError."""
    try:
        return all(stat.S_ISDIR(os.lstat(above).st_mode) for above in reversed([*ancestors(path)]))
    except FileNotFoundError:
        return False


def _of_host(change: Change) -> tuple[Entry | None, _Below]:
    """The entry of this system, and for a directory that is deleted everything in it. Raises OSError."""
    old = entries.read_path(change.path) if _is_reached(change.path) else None
    goes = old is not None and old.type == "directory" and (change.new is None or change.new.type != "directory")
    below: _Below = []
    if goes:
        for directory, names, files in os.walk(change.path, onerror=_raise):
            below += [(path, entries.read_path(path)) for name in (*names, *files) for path in [f"{directory}/{name}"]]
    return old, below


def _raise(error: OSError) -> None:
    raise error


def _changed(path: str) -> int:
    try:
        return os.lstat(path).st_ctime_ns if _is_reached(path) else 0
    except FileNotFoundError:
        return 0


def _dressed(new: Entry | None, old: Entry | None, action: plan.Action, environment: Environment) -> Entry | None:
    """The new entry. An environment with a base lacks some of the host's attributes, and removes none."""
    new = new and replace(new, has_acl=False)
    if new is None or old is None or new.type != old.type:
        return new
    attributes = new.attributes
    if not attributes and environment.id_map is not None:
        kept = action == "metadata"  # a capability is for the content that it was given to
        attributes = tuple(pair for pair in old.attributes if kept or pair[0].startswith("user."))
    if action == "metadata":
        return replace(old, mode=new.mode, uid=new.uid, gid=new.gid, attributes=attributes)
    return replace(new, attributes=attributes)
