"""What the host looks like: its system directories, to see whether the tests have changed them."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from pathlib import Path

from .support import ROOT_STORES, USER_PREFIX

SYSTEM_DIRECTORIES = ("/usr", "/etc", "/var", "/opt", "/boot", "/srv")
# What daemons of a living host write at any time, and scratch space.
_UNSTEADY = ("/var/log", "/var/tmp", "/var/lib/sudo", "/var/lib/systemd", "/var/spool")
# Another session of these tests may make users at any time: its lines do not count here, nor copies of these files.
_ACCOUNTS = ("/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/subuid", "/etc/subgid")
_CHECKOUT = str(Path(__file__).resolve().parents[2])  # it may lie there: pytest and Python keep what they like in it
_PASSED_OVER = {*_UNSTEADY, "/etc/.pwd.lock", str(ROOT_STORES.parent), _CHECKOUT}
_WITHOUT_TIMES = {os.path.dirname(path) for path in _PASSED_OVER}
_MADE_MEANWHILE = re.compile(rf"({'|'.join(_ACCOUNTS)})(-|\+|\.lock|\.[0-9]+)")

Signature = tuple[int, ...]


@dataclass
class Fingerprint:
    """What the host's system directories look like: everything that any write to them changes."""

    entries: dict[str, Signature] = field(default_factory=dict)

    @classmethod
    def take(cls) -> Fingerprint:
        """Read the directories now."""
        entries: dict[str, Signature] = {f"/{name}": () for name in os.listdir("/")}
        for directory in SYSTEM_DIRECTORIES:
            entries.update(_walk(directory))
        return cls(entries)

    def difference(self, later: Mapping[str, Signature]) -> list[str]:
        """The paths that came, went or changed."""
        paths = sorted(self.entries.keys() | later.keys())
        return [path for path in paths if self.entries.get(path) != later.get(path)]


def _walk(directory: str) -> Iterator[tuple[str, Signature]]:
    waiting = [directory]
    while waiting:
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError),
            os.scandir(waiting.pop()) as entries,
        ):
            for entry in entries:
                if entry.path in _PASSED_OVER or _MADE_MEANWHILE.fullmatch(entry.path):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                with contextlib.suppress(FileNotFoundError):  # it alone is gone
                    yield entry.path, _entry_signature(entry)


def _entry_signature(entry: os.DirEntry[str]) -> Signature:
    if entry.path in _ACCOUNTS:
        return _lines(entry.path)
    status = entry.stat(follow_symlinks=False)
    size = 0 if entry.is_dir(follow_symlinks=False) else status.st_size
    times = () if entry.path in _WITHOUT_TIMES else (status.st_mtime_ns, status.st_ctime_ns)
    return (status.st_mode, status.st_uid, status.st_gid, size, status.st_ino, *times)


def _lines(path: str) -> Signature:
    """What an account database says of all users but those of these tests."""
    lines = Path(path).read_text(errors="replace").splitlines()
    return tuple(hash(line) for line in lines if not line.startswith(USER_PREFIX))
