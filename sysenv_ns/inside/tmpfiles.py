"""Creates in /run what tmpfiles.d(5) of the environment's packages and of the host says, as systemd does at boot; and
the directories of services installed in the environment (RuntimeDirectory=), which it makes when it starts one.

Only what is not there yet, in the /run that is the environment's own: directories, short files, links and named pipes.
Nothing is removed or cleaned up, and no marker of a boot that goes on (nologin) is made: there is none.
"""

from __future__ import annotations

import os

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import opened, suppress
from sysenv_ns.files import reader
from sysenv_ns.inside import accounts
from sysenv_ns.paths import Path
from sysenv_ns.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_DIRECTORIES = ("/usr/lib/tmpfiles.d", "/usr/local/lib/tmpfiles.d", "/run/tmpfiles.d", "/etc/tmpfiles.d")  # last wins
_UNITS = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")  # the first one wins
_RUN = "/run"
_OLD_RUN = "/var/run/"
# What programs take for a sign that systemd, or its logind, is the manager (sd_booted(3), pam_systemd(8)).
_NOT_MADE = frozenset({"systemd"})
_KINDS = {
    **dict.fromkeys(("d", "D", "v", "q", "Q"), "directory"),
    "f": "file",
    **dict.fromkeys(("L", "L+"), "symlink"),
    **dict.fromkeys(("p", "p+"), "fifo"),
}
_DIRECTORY = os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC
_NEW = os.O_WRONLY | os.O_CREAT | os.O_EXCL | os.O_NOFOLLOW | os.O_CLOEXEC
_MODES = {"directory": 0o755, "file": 0o644, "fifo": 0o644, "symlink": 0o777}
_MODE_OF_SERVICES = "755"  # systemd.exec(5), RuntimeDirectoryMode=


@dataclass(frozen=True)
class Line:
    """A line: what is to be there, below /run, with the names or numbers of its owner."""

    kind: str
    path: str
    mode: int
    user: str = "root"
    group: str = "root"
    argument: str = ""


def services(uppers: Iterable[Path]) -> set[str]:
    """The services of which there is something in these directories of changes; before the pivot, after which none is
    in reach. Those of the host alone run there, if at all.
    """
    found: set[str] = set()
    for upper in uppers:
        with suppress(OSError), reader.Root(upper) as root:
            for directory in _UNITS:
                with suppress(OSError):  # most have none
                    found |= {name for name in root.names(directory) if name.endswith(".service") and "@" not in name}
    return found


def apply(owners: bool, own: Iterable[str]) -> None:
    """Make it, also for the services `own`, as far as this process may; `owners`: other users than root exist. Parents
    are root's.

    What cannot be made is passed over, as systemd does it: whatever needs it will tell.
    """
    entries = [*(entry for text in _texts() for entry in parse(text)), *_of_services(own)]
    missing = [entry for entry in entries if not os.path.lexists(f"{_RUN}/{entry.path}")]
    if not missing:
        return
    users, groups = (accounts.users(), accounts.groups()) if owners else ({}, {})
    for entry in sorted(missing, key=lambda entry: entry.path):
        try:
            _make(entry, _number(entry.user, users) if owners else 0, _number(entry.group, groups) if owners else 0)
        except (OSError, LookupError):
            continue


def parse(text: str) -> Iterator[Line]:
    """The lines that concern /run and that are carried out here."""
    for line in text.splitlines():
        fields = line.split(None, 6)
        if len(fields) < 2 or fields[0].startswith("#"):
            continue
        kind = _KINDS.get(fields[0].rstrip("!-=~^$"))
        path = fields[1].strip("\"'").replace("%t", _RUN, 1)
        path = path.replace(_OLD_RUN, f"{_RUN}/", 1) if path.startswith(_OLD_RUN) else path
        parts = path.split("/")
        if kind is None or "%" in path or parts[:2] != ["", "run"] or len(parts) < 3 or ".." in parts:
            continue
        if parts[2] in _NOT_MADE:
            continue
        mode, user, group, _, argument = (*fields[2:], *("-",) * 5)[:5]
        try:
            bits = _MODES[kind] if mode == "-" else int(mode.lstrip("~:"), 8)
        except ValueError:
            continue
        owner, owning = ("root" if name == "-" else name.lstrip(":") for name in (user, group))
        yield Line(kind, path[len(_RUN) + 1 :].rstrip("/"), bits, owner, owning, "" if argument == "-" else argument)


def _texts() -> Iterator[str]:
    """The files, in the order of their names; of several with one name that in the last directory counts."""
    places: dict[str, str] = {}
    for directory in _DIRECTORIES:
        places |= {name: f"{directory}/{name}" for name in reader.names(directory) if name.endswith(".conf")}
    for _, place in sorted(places.items()):
        try:
            content = reader.read(place, follow=True)
        except OSError:  # a link to /dev/null: nothing of it
            continue
        if _RUN.encode() in content or b"%t" in content:
            yield content.decode("utf-8", "surrogateescape")


def _of_services(services: Iterable[str]) -> Iterator[Line]:
    for service in sorted(services):
        for directory in _UNITS:
            with suppress(OSError):
                text = reader.read(f"{directory}/{service}", follow=True).decode("utf-8", "surrogateescape")
                yield from _of_unit(text)
                break


def _of_unit(text: str) -> Iterator[Line]:
    pairs = (line.partition("=") for line in text.splitlines() if line[:1] not in ("#", ";"))
    settings = {key.strip(): value.strip() for key, _, value in pairs}
    user = settings.get("User", "") or "root"
    with suppress(ValueError):
        mode = int(settings.get("RuntimeDirectoryMode", _MODE_OF_SERVICES), 8)
        for name in settings.get("RuntimeDirectory", "").split():
            path = name.partition(":")[0].strip("/")
            if path and "%" not in path and ".." not in path.split("/"):
                yield Line("directory", path, mode, user, settings.get("Group", "") or user)


def _number(name: str, known: dict[str, int]) -> int:
    """Raises LookupError."""
    return int(name) if name.isascii() and name.isdecimal() else known[name]


def _make(entry: Line, uid: int, gid: int) -> None:
    """Raises OSError."""
    parent, name = _parent(entry.path)
    with opened(parent):
        if entry.kind == "directory":
            os.mkdir(name, 0o700, dir_fd=parent)
        elif entry.kind == "fifo":
            os.mkfifo(name, 0o600, dir_fd=parent)
        elif entry.kind == "symlink":
            os.symlink(entry.argument, name, dir_fd=parent)
        else:
            descriptor = os.open(name, _NEW, 0o600, dir_fd=parent)
            os.write(descriptor, entry.argument.encode("utf-8", "surrogateescape"))
            os.close(descriptor)
        os.chown(name, uid, gid, dir_fd=parent, follow_symlinks=False)
        if entry.kind != "symlink":
            os.chmod(name, entry.mode, dir_fd=parent)


def _parent(path: str) -> tuple[int, str]:
    """The directory that an entry shall be in, and its name there. Raises OSError, also where the host's own is."""
    *parts, name = path.split("/")
    current = os.open(_RUN, os.O_RDONLY | os.O_DIRECTORY | os.O_CLOEXEC)
    own = os.fstat(current).st_dev
    for part in parts:
        with opened(current):
            following = _open_or_make(current, part)
        current = following
        if os.fstat(current).st_dev != own:
            os.close(current)
            raise PermissionError(f"{_RUN}/{path} is the host's")
    return current, name


def _open_or_make(parent: int, name: str) -> int:
    try:
        return os.open(name, _DIRECTORY, dir_fd=parent)
    except FileNotFoundError:
        os.mkdir(name, 0o755, dir_fd=parent)
        os.chown(name, 0, 0, dir_fd=parent)
        return os.open(name, _DIRECTORY, dir_fd=parent)
