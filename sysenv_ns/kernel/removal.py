"""Deletes trees whose files belong to ids of an environment; decides nothing about whether they may be deleted."""

from __future__ import annotations

import contextlib
import os
from pathlib import Path

from sysenv_ns.errors import SysenvError
from sysenv_ns.kernel import namespace
from sysenv_ns.kernel.idmap import IdMap


def remove_tree(path: Path, id_map: IdMap | None) -> None:
    """Delete `path` and all below it as root of a namespace with the map that made it. Raises OSError, SysenvError.

    Only there files of subordinate ids, and the directory of mode 000 that overlayfs leaves, can be deleted.
    """
    if path.is_symlink():
        raise OSError(f"{path} is a symbolic link")
    import shutil  # slow to import and needed by nothing on the way of a start

    namespace.run_inside(id_map, lambda: shutil.rmtree(path), "sysenv-ns-rm")


def trash_path(trash: Path, name: str) -> Path:
    """A new path in the trash that tells which process it belongs to."""
    return trash / f"{name}.{os.getpid()}.{os.urandom(4).hex()}"


def move_to_trash(path: Path, trash: Path) -> Path:
    """Rename what is to be deleted out of everybody's sight, at once. Raises OSError."""
    target = trash_path(trash, path.name)
    os.rename(path, target)
    return target


def empty_trash(trash: Path, id_map: IdMap | None) -> None:
    """Delete what interrupted commands have left in the trash, as far as this map can.

    What remains is of another map, whose next removal deletes it, or was reported when it could not be deleted.
    """
    for path in trash.iterdir():
        owner = path.suffixes[-2:-1] or [""]
        if owner[0][1:].isdecimal() and not Path("/proc", owner[0][1:]).exists():
            with contextlib.suppress(OSError, SysenvError):
                remove_tree(path, id_map)
