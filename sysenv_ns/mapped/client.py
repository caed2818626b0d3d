"""Lets root make or remove the mounts and the launcher: through sudo, or as root in this process; decides nothing."""

from __future__ import annotations

import os
from typing import TypeVar

from sysenv_ns import launcher, sudo
from sysenv_ns.errors import SysenvError
from sysenv_ns.files import reader
from sysenv_ns.kernel import idmap, outcome
from sysenv_ns.mapped import boot, root, trees
from sysenv_ns.mapped.root import Launcher, Released, Shown

_T = TypeVar("_T")


def prepare(uid: int, at_boot: bool = False) -> Shown:
    """Let root make a user's mounts; only root can name another user than the calling one. Raises SysenvError."""
    if os.geteuid() != 0:
        idmap.detect_full()  # or sudo asks for a password in vain
    return _ask("prepare-at-boot" if at_boot else "prepare", uid, Shown)


def allow(uid: int) -> str:
    """Let root make the launcher of a user; its path. Raises SysenvError."""
    return _ask("launcher", uid, Launcher).path


def release(uid: int) -> Released:
    """Let root remove the mounts. Raises SysenvError."""
    return _ask("release", uid, Released)


def has_made(uid: int) -> bool:
    """Whether there is something that root could take back."""
    return (
        # The name may lead nowhere, as a user can mount something on it.
        os.path.basename(trees.place_of(uid)) in reader.names(trees.PLACE)
        or boot.is_enabled(uid)
        or os.path.exists(launcher.path_of(uid))
    )


def _ask(verb: str, uid: int, kind: type[_T]) -> _T:
    """Root's answer to a verb of root.do, of the type `kind`."""
    if os.geteuid() == 0:
        told, _ = outcome.told(lambda: root.do(verb, uid))
        return outcome.result(told, kind)
    process = sudo.start(root.__name__, verb)
    try:
        answer, _ = process.communicate()
    finally:
        status = process.wait()  # interrupted at the question for a password, sudo ends too
    try:
        return outcome.result(answer, kind)
    except ValueError:
        hint = "sudo must let you become root for this; `sysenv-ns doctor` shows what works without it"
        raise SysenvError(f"nothing was done as root: sudo ended with status {status}", hint) from None
