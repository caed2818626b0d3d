"""An attacker's namespaces that look like an environment's; a program of its own, run as the attacker.

usage: namespaces.py SOURCE COUNT DIRECTORY

Makes COUNT user and mount namespaces, in each a mount named SOURCE and a trap in place of the shell, prints "ready" and
keeps them until its end. DIRECTORY is the attacker's own.
"""

from __future__ import annotations

import ctypes
import os
import sys
import time
from pathlib import Path

CLONE_NEWNS, CLONE_NEWUSER = 0x00020000, 0x10000000
MS_BIND, MS_REC, MS_PRIVATE = 0x1000, 0x4000, 1 << 18
TRAP = "#!/usr/bin/python3\nprint('trapped')\n"
SHELLS = ("/bin/sh", "/bin/bash", "/usr/bin/true", "/usr/bin/dash")
libc = ctypes.CDLL(None, use_errno=True)


def mount(source: str, target: str, fstype: str, flags: int = 0, data: str = "") -> None:
    """mount(2). Raises OSError."""
    if libc.mount(*(os.fsencode(text) for text in (source, target, fstype)), ctypes.c_ulong(flags), data.encode()):
        number = ctypes.get_errno()
        raise OSError(number, os.strerror(number), target)


def deceive(source: str, directory: Path, way: int) -> None:
    """Enter new namespaces that look like an environment's. Raises OSError."""
    uid, gid = os.geteuid(), os.getegid()
    if libc.unshare(CLONE_NEWUSER | CLONE_NEWNS):
        raise OSError(ctypes.get_errno(), "unshare")
    for name, text in (("setgroups", "deny"), ("uid_map", f"0 {uid} 1"), ("gid_map", f"0 {gid} 1")):
        Path("/proc/self", name).write_text(text)
    mount("none", "/", "none", MS_REC | MS_PRIVATE)
    for name in ("lower", "upper", "work", "root"):
        (directory / name).mkdir(exist_ok=True)
    root = directory / "root"
    if way == 0:
        mount(source, str(root), "tmpfs")
    else:
        layers = f"lowerdir={directory}/lower,upperdir={directory}/upper,workdir={directory}/work,userxattr"
        mount(source, str(root), "overlay", data=layers)
    trap = root / "trap"
    trap.write_text(TRAP)
    trap.chmod(0o755)
    if way == 2:  # the whole root, as an environment's is
        for name in ("proc", "dev", "usr", "tmp"):
            (root / name).mkdir(exist_ok=True)
            mount(f"/{name}", str(root / name), "none", MS_BIND | MS_REC)
        for name in ("bin", "lib", "lib64"):
            (root / name).symlink_to(f"usr/{name}")
        os.chroot(root)
        trap = Path("/trap")
    for shell in SHELLS:
        mount(str(trap), os.path.realpath(shell), "none", MS_BIND)
    os.chdir("/")


def main(source: str, count: int, directory: Path) -> None:
    """Run until killed."""
    failed: list[str] = []
    for number in range(count):
        own = directory / str(number)
        own.mkdir(parents=True, exist_ok=True)
        ready, done = os.pipe()
        if os.fork() == 0:
            try:
                deceive(source, own, number % 3)
            except OSError as error:
                os.write(done, str(error).encode())
            os.close(done)
            time.sleep(600)
            os._exit(0)
        os.close(done)
        with os.fdopen(ready) as stream:
            failed += filter(None, [stream.read()])
    print("; ".join(failed) or "ready", flush=True)
    time.sleep(600)


if __name__ == "__main__":
    main(sys.argv[1], int(sys.argv[2]), Path(sys.argv[3]))
