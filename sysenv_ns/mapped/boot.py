"""The systemd unit that makes a user's mounts at each boot: writes and removes it, as real root."""

from __future__ import annotations

import contextlib
import os
import sys
from collections.abc import Iterator
from pathlib import Path

from sysenv_ns.errors import SysenvError
from sysenv_ns.kernel import ownership

_UNITS = Path("/etc/systemd/system")
_WANTED = "multi-user.target.wants"
_UNIT = """\
# Made by sysenv-ns host prepare --at-boot; sysenv-ns host release removes it.
[Unit]
Description=Read-only idmapped mounts of programs for the environments of user {uid} (sysenv-ns)
After=local-fs.target
# The user's own manager starts services of environments: at login, or with linger when the machine boots.
Before=user@{uid}.service
# Not once the tool has been uninstalled.
ConditionPathExists={module}

[Service]
Type=oneshot
RemainAfterExit=yes
ExecStart="{python}" -I -B -m sysenv_ns.mapped.root prepare {uid}

[Install]
WantedBy=multi-user.target
"""


def require() -> None:
    """Raise SysenvError where there can be no such unit."""
    if not Path("/run/systemd/system").is_dir():
        raise SysenvError("this system is not started by systemd", "run `sysenv-ns host prepare` after each start")
    _require_closed()


def enable(uid: int) -> None:
    """Write and enable the unit for the next boot, where `require` passes. Raises OSError."""
    name = _name(uid)
    (_UNITS / _WANTED).mkdir(mode=0o755, exist_ok=True)
    # systemd.service(5), "Command lines", and systemd.unit(5), "Specifiers"
    python = sys.executable.replace("\\", r"\\").replace('"', r"\"").replace("%", "%%").replace("$", "$$")
    module = str(Path(__file__).with_name("root.py")).replace("%", "%%")
    (_UNITS / name).write_text(_UNIT.format(uid=uid, python=python, module=module))
    with contextlib.suppress(FileExistsError):
        (_UNITS / _WANTED / name).symlink_to(_UNITS / name)


def disable(uid: int) -> bool:
    """Remove the unit; returns whether there was one. Raises OSError."""
    name = _name(uid)
    there = (_UNITS / name).exists()
    for path in (_UNITS / _WANTED / name, _UNITS / name):
        path.unlink(missing_ok=True)
    return there


def is_enabled(uid: int) -> bool:
    """Whether a user has a unit."""
    return (_UNITS / _WANTED / _name(uid)).is_symlink()


def _name(uid: int) -> str:
    return f"sysenv-ns-{uid}.service"


def _require_closed() -> None:
    """Raise SysenvError if somebody else could change what root will run at each boot."""
    for path in _executed():
        if place := ownership.intruded(path):
            raise SysenvError(
                f"root would run at each boot what users other than root can change: {place}",
                "install sysenv-ns where only root can write, or run `sysenv-ns host prepare` after each boot",
            )


def _executed() -> Iterator[str]:
    """The files that an interpreter can execute when it runs the package, with its settings and compiled files."""
    package = Path(__file__).parents[1]
    yield from (sys.executable, *(f"{prefix}/pyvenv.cfg" for prefix in (sys.prefix, os.path.dirname(sys.executable))))
    for directory in filter(os.path.isdir, sys.path):
        yield directory
        yield from map(str, Path(directory).glob("*.pth"))
    yield from (str(package), *map(str, package.rglob("*")))
    for module in tuple(sys.modules.values()):
        if file := getattr(module, "__file__", None):
            yield file
            yield getattr(module, "__cached__", None) or file
