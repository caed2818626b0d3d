"""PURE: the plan of an apply, as data that is shown, agreed to, and sent to the process that carries it out as root."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass, replace
from typing import Any, Literal

from sysenv_ns import decoding, documents
from sysenv_ns.apply import entries
from sysenv_ns.apply.entries import Entry
from sysenv_ns.diff import changes
from sysenv_ns.diff.changes import Change
from sysenv_ns.host import accounts
from sysenv_ns.packages import dpkg

Action = Literal["put", "metadata", "delete"]  # metadata: the content stays
Owner = tuple[str, str]  # a user and a group by name, by number where that has none

_SOURCES = re.compile(
    r"/etc/apt(/(sources\.list|preferences|auth\.conf|apt\.conf|trusted\.gpg|keyrings)(\.d)?(/.*)?)?"
    r"|/usr/share/keyrings/.*",
    re.DOTALL,
)
# These are not shown where they are no text, and passwords never.
_KEYS = re.compile(r"/etc/apt/(trusted\.gpg|keyrings)(\.d)?(/.*)?|/usr/share/keyrings/.*", re.DOTALL)
_PASSWORDS = re.compile(r"/etc/apt/auth\.conf(\.d(/.*)?)?", re.DOTALL)
_OWN = "it is specific to this machine"
_NEVER: tuple[tuple[str, str], ...] = (
    (r"/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?", "accounts are never overwritten"),
    (r"/etc/(machine-id|fstab|crypttab|hostname|resolv\.conf|mtab|adjtime|\.pwd\.lock)", _OWN),
    (r"/etc/ssh/ssh_host_.*|/var/lib/dbus/machine-id|/var/lib/systemd/random-seed", _OWN),
    (r"/root/(\..*history|\.cache(/.*)?|\.lesshst|\.viminfo)", "it is left over from root's sessions"),
)
# What packages' scripts and daemons make, on this system too.
_CONSEQUENCES: tuple[tuple[str, str], ...] = (
    (r"/etc/alternatives(/.*)?", "package scripts and update-alternatives create it"),
    (
        r"/etc/(ssl/certs/.*|mailcap|shells)|/usr/share/(info/dir(\.old)?|mime/.*)|/boot/.*"
        r"|/usr/lib/(locale/locale-archive|.*/gconv-modules\.cache)",
        "package scripts create it",
    ),
    (r"/var/(lib|spool|mail|backups|cache|log)/.*", "it is data that programs keep"),
)


@dataclass(frozen=True)
class PackageStep:
    """What is done to one package."""

    name: str  # with its architecture where that is not the machine's own
    action: changes.PackageKind
    old: str
    new: str
    automatic: bool = False  # comes and goes with what depends on it
    file: str = ""  # the name of the .deb that the environment still has, where apt has no such version
    size: int = 0
    digest: str = ""


@dataclass(frozen=True)
class Step:
    """What is done at one path. Owners are names: their numbers may differ here."""

    path: str
    action: Action
    old: Entry | None  # what must be there now
    new: Entry | None  # what is there then; its owner is what `user` and `group` say
    user: str = ""  # "" keeps the one that is there
    group: str = ""
    link: str = ""  # the path of an earlier step whose file this is another name of
    of_sources: bool = False  # of apt: comes before the packages
    old_user: str = ""  # whose that is which is there now, on this system; "" where the number has no name
    old_group: str = ""

    @property
    def was(self) -> Owner:
        """The present owner; for a new file the default owner."""
        return owner_of(self.old, self.old_user, self.old_group)

    @property
    def owner(self) -> Owner:
        """The new owner."""
        return self.user or self.was[0], self.group or self.was[1]

    @property
    def has_content(self) -> bool:
        """Whether its content has to be sent."""
        return self.action == "put" and self.new is not None and self.new.type == "file" and not self.link


@dataclass(frozen=True)
class Omission:
    """A change of the environment that is not applied."""

    what: str
    why: str


@dataclass(frozen=True)
class Plan:
    """The plan of an apply, in the order in which it is carried out: apt's sources, packages, files."""

    name: str
    packages: tuple[PackageStep, ...]
    steps: tuple[Step, ...]
    left: tuple[Omission, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to do."""
        return not (self.packages or self.steps)

    @property
    def changes_sources(self) -> bool:
        """Whether apt-get update is needed."""
        return any(step.of_sources and not _is_directory(step) for step in self.steps)


def owner_of(entry: Entry | None, user: str = "", group: str = "") -> Owner:
    """An entry's owner, by name if known; root for no entry."""
    uid, gid = (entry.uid, entry.gid) if entry else (0, 0)
    return user or _root_or(uid), group or _root_or(gid)


def _root_or(number: int) -> str:
    return str(number) if number else "root"


def changes_nothing(step: Step) -> bool:
    """Whether only numbers differ that have the same names."""
    if step.action != "metadata" or step.old is None or step.new is None or step.owner != step.was:
        return False
    return entries.same(step.old, replace(step.new, uid=step.old.uid, gid=step.old.gid))


def linked(step: Step, other: Step) -> Step:
    """The step as a hard link to an earlier step's file; unchanged if the owner of that has no name."""
    user, group = other.user or other.old_user, other.group or other.old_group
    if other.old is not None and not (user and group):
        return step
    return replace(step, link=other.path, new=other.new, user=user or "root", group=group or "root")


def _is_directory(step: Step) -> bool:
    return all(entry is None or entry.type == "directory" for entry in (step.old, step.new))


def as_data(plan: Plan) -> dict[str, Any]:
    """For JSON."""
    return {**asdict(plan), "version": 1}


def from_data(data: object) -> Plan:
    """The plan from the JSON of as_data. Raises ValueError."""
    given = documents.mapping(data, "a plan")
    return sound(decoding.from_data(Plan, {key: given[key] for key in given.keys() - {"version"}}))


def sound(plan: Plan) -> Plan:
    """The plan itself. Raises ValueError for invalid words and paths."""
    for package in plan.packages:
        checked(package)
    for step in plan.steps:
        _check(step)
    return plan


def checked(package: PackageStep) -> PackageStep:
    """Check a package, whose name becomes a word of a command. Raises ValueError."""
    if not dpkg.NAME.fullmatch(package.name) or not (package.new == "" or dpkg.VERSION.fullmatch(package.new)):
        raise ValueError(f"wrong package {package.name!r} {package.new!r}")
    return package


def _check(step: Step) -> None:
    for path in (step.path, step.link or "/x"):
        if not re.match("/[^/]", path) or os.path.normpath(path) != path or "\0" in path:
            raise ValueError(f"wrong path {path!r}")
    for name in (step.user, step.group, step.old_user, step.old_group):
        if name and not accounts.NAME.fullmatch(name):
            raise ValueError(f"wrong name of an owner {name!r}")
    if any(entry and entry.has_acl for entry in (step.old, step.new)):
        raise ValueError(f"an access control list at {step.path!r}")


def is_of_sources(path: str) -> bool:
    """Whether a path is one of apt's sources or its settings."""
    return _SOURCES.fullmatch(path) is not None


def is_key(path: str) -> bool:
    """Whether apt uses a path's content as a key, and as nothing else."""
    return _KEYS.fullmatch(path) is not None


def has_text(step: Step) -> bool:
    """Whether a step is shown with its text, as apt obeys it at once; never for passwords."""
    is_file = step.action == "put" and step.new is not None and step.new.type == "file"
    return step.of_sources and is_file and not _PASSWORDS.fullmatch(step.path)


def left_alone(change: Change, named: bool) -> str:
    """Why a change is not applied, by path and kind; "" if it is. `named`: the user or a package names it."""
    goes = change.new is None or (change.old is not None and change.old.type != change.new.type)
    if why := of_machine(change.path, named, goes):
        return why
    if change.type in ("socket", "device") or (change.old and change.old.type in ("socket", "device")):
        return "it is a socket or a device"
    return ""


def of_machine(path: str, named: bool, goes: bool) -> str:
    """The same, by the path alone. `goes`: it is deleted, with everything that a directory there may contain."""
    tables = _NEVER if named else (*_NEVER, *_CONSEQUENCES)
    paths = (path, f"{path}/") if goes else (path,)
    return next((why for pattern, why in tables for p in paths if re.fullmatch(pattern, p, re.DOTALL)), "")


def of_scripts(path: str, target: str, whose: str, changed: Mapping[str, object]) -> bool:
    """Whether package scripts create this symbolic link: to an alternative, or in /etc to a package's file.

    `whose`: the package of its target.
    """
    if target.startswith("/etc/alternatives/"):
        return True
    return path.startswith("/etc/") and whose in changed


def ordered(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Sources first; then deletions before creations, and the contents of a deleted directory before itself."""
    known = sorted(steps, key=lambda step: os.fsencode(step.path))
    parts = []
    for of_sources in (True, False):
        own = [step for step in known if step.of_sources == of_sources]
        parts += [step for step in reversed(own) if step.action == "delete"]
        parts += [step for step in own if step.action != "delete"]
    return tuple(parts)
