"""Builds beside what is there, and lets it appear by one rename(2); what is to be deleted disappears by one.

What is being built and what is being deleted lies in the trash of the store, under a name that tells the process whose
it is. What an interrupted command leaves there means nothing, and whoever comes next deletes it.
"""

from __future__ import annotations

import errno
import fcntl
import os

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import contextmanager, opened, suppress
from sysenv_ns.errors import SysenvError
from sysenv_ns.files.replacement import sync_directory, sync_file_system
from sysenv_ns.kernel import idmap, processes, syscalls
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.paths import Path

if TYPE_CHECKING:
    from collections.abc import Iterator, Sequence

NEW = "new-"  # the title of what is to be an environment begins with it
TRIAL = "sync-"  # what an environment may become, in which programs run meanwhile


def trash_path(trash: Path, title: str) -> Path:
    """A new path in the trash that tells which process it belongs to."""
    pid = os.getpid()
    return trash / f"{title}.{pid}-{processes.started_at(pid)}.{os.urandom(4).hex()}"


@contextmanager
def staging(trash: Path, title: str, id_map: IdMap | None) -> Iterator[Path]:
    """A path to build at, where nothing is yet. Afterwards what is there, if it has not been published, is deleted."""
    path = trash_path(trash, title)
    try:
        yield path
    finally:
        discard([path], id_map)


def discard(paths: Sequence[Path], id_map: IdMap | None) -> None:
    """Delete what lies in the trash, if it can be: that it cannot says nothing about whether a command has worked."""
    if found := [path for path in paths if os.path.lexists(path)]:
        from sysenv_ns.files import removal  # not on the path of exec

        with suppress(OSError, SysenvError):
            removal.remove_trees(found, id_map)


def publish(built: Path, target: Path, durable: bool = True) -> None:
    """Let a directory appear under a name that nothing has, for good if `durable`.

    Raises OSError: EEXIST when something has it.
    """
    if durable:
        sync_directory(built)
    # Not os.replace: a directory that somebody else made meanwhile must not be replaced, not even an empty one.
    if os.path.lexists(target):
        raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target))
    try:
        os.rename(built, target)
    except OSError as error:
        if error.errno in (errno.ENOTEMPTY, errno.ENOTDIR):
            raise FileExistsError(errno.EEXIST, os.strerror(errno.EEXIST), str(target)) from None
        raise
    if durable:
        sync_directory(target.parent)


def exchange(built: Path, target: Path, whole: bool = False) -> None:
    """Put a directory in the place of another one, which comes to lie where it was built (RENAME_EXCHANGE, rename(2)).

    Before, the target is what it was; afterwards all is done, for good. `whole`: what the files in it hold may not be
    written yet. Raises OSError.
    """
    (sync_file_system if whole else sync_directory)(built)
    syscalls.exchange(str(built), str(target))
    for parent in (target.parent, built.parent):
        sync_directory(parent)


def move_to_trash(path: Path, trash: Path) -> Path:
    """Rename what is to be deleted out of everybody's sight, at once. Raises OSError."""
    target = trash_path(trash, path.name)
    os.rename(path, target)
    return target


def left(trash: Path, title: str) -> list[Path]:
    """What interrupted commands have left under this title."""
    return [path for path in abandoned(trash) if path.name.rsplit(".", 2)[0] == title]


def abandoned(trash: Path) -> list[Path]:
    """What lies in the trash and belongs to no process that lives. Raises OSError where it cannot be read."""
    try:
        return [trash / name for name in sorted(os.listdir(trash)) if not _is_owned(name)]
    except FileNotFoundError:
        return []


def is_building(trash: Path) -> bool:
    """Whether some process is making what an environment is going to be."""
    with suppress(FileNotFoundError):
        return any(name.startswith(NEW) and _is_owned(name) for name in os.listdir(trash))
    return False


def empty_trash(trash: Path) -> None:
    """Delete what interrupted commands have left, as far as this user can; `doctor` tells of what stays.

    Not trials: processes may live in them, which manifest/trial.py ends before.
    """
    from sysenv_ns.files import removal

    with suppress(OSError, SysenvError):
        if found := [path for path in abandoned(trash) if not path.name.startswith(TRIAL)]:
            for path in found:
                if path.is_symlink() or not path.is_dir():
                    path.unlink(missing_ok=True)
            removal.remove_trees([path for path in found if path.is_dir()], idmap.widest())


@contextmanager
def turn(trash: Path, wait: bool) -> Iterator[bool]:
    """Whether it is this process's turn to tidy up the store, which is nobody else's until the end of the context.

    `wait` for it: then it is, unless there is no trash that can be used.
    """
    try:
        descriptor = os.open(trash, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
    except OSError:
        yield False
        return
    with opened(descriptor):
        try:
            fcntl.flock(descriptor, fcntl.LOCK_EX | (0 if wait else fcntl.LOCK_NB))
            is_ours = True
        except BlockingIOError:
            is_ours = False
        yield is_ours


def _owner(name: str) -> tuple[str, str]:
    """The number and the start time of the process that something in the trash is named after."""
    pid, _, start = name.rsplit(".", 2)[-2].partition("-") if name.count(".") > 1 else ("", "", "")
    return pid, start


def _is_owned(name: str) -> bool:
    """Whether something in the trash may still be in somebody's hands: a number alone may be another's by now."""
    pid, start = _owner(name)
    started = processes.started_at(int(pid)) if pid.isdecimal() else None
    return started is not None and start in ("", str(started))  # earlier versions have noted the number only
