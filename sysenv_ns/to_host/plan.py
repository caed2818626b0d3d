"""PURE: what an apply does, as data that is shown, agreed to, and sent to the process that does it as root."""

from __future__ import annotations

import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any, Literal

from sysenv_ns.diff import changes
from sysenv_ns.diff.changes import Change
from sysenv_ns.packages import dpkg
from sysenv_ns.to_host import accounts, entries
from sysenv_ns.to_host.entries import Entry

Action = Literal["put", "metadata", "delete"]  # metadata: the content stays

_SOURCES = re.compile(
    r"/etc/apt(/(sources\.list|preferences|auth\.conf|apt\.conf|trusted\.gpg|keyrings)(\.d)?(/.*)?)?"
    r"|/usr/share/keyrings/.*",
    re.DOTALL,
)
_OWN = "it is this machine's own"
_NEVER: tuple[tuple[str, str], ...] = (
    (r"/etc/(passwd|group|shadow|gshadow|subuid|subgid)-?", "accounts are never overwritten"),
    (r"/etc/(machine-id|fstab|crypttab|hostname|resolv\.conf|mtab|adjtime|\.pwd\.lock)", _OWN),
    (r"/etc/ssh/ssh_host_.*|/var/lib/dbus/machine-id|/var/lib/systemd/random-seed", _OWN),
    (r"/root/(\..*history|\.cache(/.*)?|\.lesshst|\.viminfo)", "it is a trace of root's sessions"),
)
# What packages' scripts and daemons make, on this system too.
_CONSEQUENCES: tuple[tuple[str, str], ...] = (
    (r"/etc/alternatives(/.*)?", "packages' scripts and update-alternatives make it"),
    (
        r"/etc/(ssl/certs/.*|mailcap|shells)|/usr/share/(info/dir(\.old)?|mime/.*)|/boot/.*"
        r"|/usr/lib/(locale/locale-archive|.*/gconv-modules\.cache)",
        "packages' scripts make it",
    ),
    (r"/var/(lib|spool|mail|backups|cache|log)/.*", "it is what programs remember"),
)


@dataclass(frozen=True)
class Package:
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
    """What is done at one path. Owners are names: numbers may mean others here."""

    path: str
    action: Action
    old: Entry | None  # what must be there now
    new: Entry | None  # what is there then; its owner is what `user` and `group` say
    user: str = ""  # "" keeps the one that is there
    group: str = ""
    link: str = ""  # the path of an earlier step whose file this is another name of
    of_sources: bool = False  # of apt: comes before the packages

    @property
    def has_content(self) -> bool:
        """Whether bytes have to be sent for it."""
        return self.action == "put" and self.new is not None and self.new.type == "file" and not self.link


@dataclass(frozen=True)
class Left:
    """What the environment has changed and this system does not get."""

    what: str
    why: str


@dataclass(frozen=True)
class Plan:
    """All of it, in the order in which it is done: sources of apt, packages, files."""

    name: str
    packages: tuple[Package, ...]
    steps: tuple[Step, ...]
    left: tuple[Left, ...] = ()

    @property
    def is_empty(self) -> bool:
        """Whether there is nothing to be done."""
        return not (self.packages or self.steps)

    @property
    def changes_sources(self) -> bool:
        """Whether apt has to look anew for what there is."""
        return any(step.of_sources and not _is_directory(step) for step in self.steps)


def _is_directory(step: Step) -> bool:
    return all(entry is None or entry.type == "directory" for entry in (step.old, step.new))


def as_data(plan: Plan) -> dict[str, Any]:
    """For JSON."""
    return {**asdict(plan), "version": 1}


def from_data(data: dict[str, Any]) -> Plan:
    """What as_data made, as JSON gives it back. Raises KeyError, TypeError, ValueError."""
    packages = tuple(checked(Package(**package)) for package in data["packages"])
    steps = tuple(_step(step) for step in data["steps"])
    left = tuple(Left(**part) for part in data["left"])
    return Plan(str(data["name"]), packages, steps, left)


def checked(package: Package) -> Package:
    """It becomes a word of a command. Raises ValueError."""
    if not dpkg.NAME.fullmatch(package.name) or not (package.new == "" or dpkg.VERSION.fullmatch(package.new)):
        raise ValueError(f"wrong package {package.name!r} {package.new!r}")
    return package


def _step(data: dict[str, Any]) -> Step:
    step = Step(**{**data, "old": entries.from_data(data["old"]), "new": entries.from_data(data["new"])})
    for path in (step.path, step.link or "/x"):
        if not re.match("/[^/]", path) or os.path.normpath(path) != path or "\0" in path:
            raise ValueError(f"wrong path {path!r}")
    for name in (step.user, step.group):
        if name and not accounts.NAME.fullmatch(name):
            raise ValueError(f"wrong name of an owner {name!r}")
    if any(entry and entry.has_acl for entry in (step.old, step.new)):
        raise ValueError(f"an access control list at {step.path!r}")
    return step


def is_of_sources(path: str) -> bool:
    """Whether a path says where apt gets packages from."""
    return _SOURCES.fullmatch(path) is not None


def left_alone(change: Change, named: bool) -> str:
    """Why a path is not carried over, by its name and kind; "" if it can be. `named`: it is known whose it is."""
    goes = change.new is None or (change.old is not None and change.old.type != change.new.type)
    if why := of_machine(change.path, named, goes):
        return why
    if change.type in ("socket", "device") or (change.old and change.old.type in ("socket", "device")):
        return "it is a socket or a device"
    return ""


def of_machine(path: str, named: bool, goes: bool) -> str:
    """The same by the name alone. `goes`: with all that could be in it, were it a directory."""
    tables = _NEVER if named else (*_NEVER, *_CONSEQUENCES)
    paths = (path, f"{path}/") if goes else (path,)
    return next((why for pattern, why in tables for p in paths if re.fullmatch(pattern, p, re.DOTALL)), "")


def of_scripts(path: str, target: str, whose: str, changed: Mapping[str, object]) -> bool:
    """Whether a symbolic link is one that packages' scripts make: to an alternative, or in /etc to a package's file.

    `whose`: the package of the file that it leads to.
    """
    if target.startswith("/etc/alternatives/"):
        return True
    return path.startswith("/etc/") and whose in changed


def ordered(steps: Iterable[Step]) -> tuple[Step, ...]:
    """Sources first; of each what goes before what comes, and of a directory that goes its content before itself."""
    known = sorted(steps, key=lambda step: os.fsencode(step.path))
    parts = []
    for of_sources in (True, False):
        own = [step for step in known if step.of_sources == of_sources]
        parts += [step for step in reversed(own) if step.action == "delete"]
        parts += [step for step in own if step.action != "delete"]
    return tuple(parts)
