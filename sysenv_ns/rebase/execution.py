"""Carries out the plan of a rebase on a copy of an environment, as root of its namespace; decides nothing."""

from __future__ import annotations

import contextlib
import errno
import os
from collections.abc import Iterator
from shlex import quote

from sysenv_ns import policy
from sysenv_ns.files import copies, marks
from sysenv_ns.files.upper import Upper
from sysenv_ns.files.view import View
from sysenv_ns.rebase.plan import Copy, RebasePlan


def copy(plan: RebasePlan, below: View, source: str, target: str, layers: list[tuple[str, str]], upper: Upper) -> None:
    """Copy an environment's upper directories, except what is dropped, and directories that become empty.

    `source` and `target` are the directories of the environment and of its copy, `upper` is what is
    in `layers`. Raises OSError.
    """
    without = {upper.entries[path].place for path in plan.dropped}
    for _, directory in layers:
        place = f"{target}{directory[len(source) :]}"
        os.makedirs(os.path.dirname(place), exist_ok=True)
        copies.copy_tree(directory, place, without)
    for path in plan.opened:
        _open(f"{target}{upper.entries[path].place[len(source) :]}")
    for path in sorted({parent for dropped in plan.dropped for parent in _parents(dropped)}, reverse=True):
        entry, status = upper.get(path), below.status(path)
        if entry is None or status is None or (entry.opaque and path not in plan.opened):
            continue
        same = (entry.status.st_mode, entry.status.st_uid, entry.status.st_gid)
        if same == (status.st_mode, status.st_uid, status.st_gid):
            with contextlib.suppress(OSError):  # it is not empty
                os.rmdir(f"{target}{entry.place[len(source) :]}")


def _parents(path: str) -> Iterator[str]:
    while (path := path.rpartition("/")[0]) != "":
        yield path


def _open(place: str) -> None:
    """Make an opaque directory an ordinary one."""
    for name in marks.OPAQUE:
        with contextlib.suppress(OSError):
            os.removexattr(place, name)
    with contextlib.suppress(FileNotFoundError):
        os.unlink(f"{place}/{policy.FUSE_OPAQUE}")


def change(plan: RebasePlan, below: View, root: View) -> None:
    """Change the mounted copy, so that the overlay itself makes its whiteouts. Raises OSError."""
    for path in sorted(plan.hidden, reverse=True):  # what is in a directory comes before it
        _hide(_place(root, path))
    for item in plan.copies:
        if (status := below.status(item.source)) is not None:
            _copy_in(below.place(item.source), status, root, item)
    for path, content in plan.written.items():
        _write(content, path, below, root)
    for path, (uid, gid) in plan.owned.items():
        status, host = root.status(path), below.status(path)
        if status is not None and host is not None and (status.st_uid, status.st_gid) == (host.st_uid, host.st_gid):
            os.lchown(_place(root, path), uid, gid)


def _place(root: View, path: str) -> str:
    """The place to change for a path. Raises OSError if the environment's own links lead out of its root."""
    place, top = root.place(path), os.path.realpath(root.place("/"))
    if os.path.commonpath((top, os.path.realpath(os.path.dirname(place)))) != top:
        raise OSError(errno.ELOOP, os.strerror(errno.ELOOP), path)
    return place


def _hide(place: str) -> None:
    try:
        os.unlink(place)
    except (FileNotFoundError, NotADirectoryError):
        return
    except IsADirectoryError:
        try:
            os.rmdir(place)
        except OSError as error:  # something of the environment's own is in it
            if error.errno not in (errno.ENOTEMPTY, errno.EEXIST):
                raise


def _copy_in(place: str, status: os.stat_result, root: View, item: Copy) -> None:
    target = _place(root, item.target)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    kept = root.status(item.target) if item.keep else None
    temporary = f"{target}.sysenv-ns-new"
    copies.copy(place, temporary, status)
    if kept is not None:
        copies.dress(temporary, target, kept)
    os.replace(temporary, target)


def _write(content: bytes, path: str, below: View, root: View) -> None:
    target = _place(root, path)
    os.makedirs(os.path.dirname(target), exist_ok=True)
    like = root.status(path) or below.status(path)
    temporary = f"{target}.sysenv-ns-new"
    with open(temporary, "xb") as stream:
        stream.write(content)
        if like is not None:
            os.fchown(stream.fileno(), like.st_uid, like.st_gid)
        os.fchmod(stream.fileno(), like.st_mode & 0o7777 if like else 0o644)
    os.replace(temporary, target)


def describe(plan: RebasePlan) -> Iterator[str]:
    """One line for each operation."""
    yield from (f"take the host's {path}" for path in sorted(plan.dropped))
    yield from (f"merge the directory {path} with the host's" for path in sorted(plan.opened))
    yield from (f"hide {path}" for path in sorted(plan.hidden))
    yield from (f"copy the host's {item.source} to {item.target}" for item in plan.copies)
    yield from (f"write {path}" for path in plan.written)
    yield from (f"give {path} to {uid}:{gid}" for path, (uid, gid) in plan.owned.items())


def script(plan: RebasePlan) -> Iterator[str]:
    """The lines of a shell script that the system itself has to run afterwards, in this order."""
    for name, path in plan.alternatives.items():
        automatic = f"update-alternatives --quiet --auto {quote(name)}"
        yield f"update-alternatives --quiet --set {quote(name)} {quote(path)} || {automatic}" if path else automatic
    if plan.libraries:
        yield "ldconfig"
    for trigger in sorted(plan.triggers):
        yield f"dpkg-trigger --by-package=dpkg --no-await {quote(trigger)}"
    if plan.triggers:
        yield "dpkg --triggers-only --pending"
