"""Throwaway users, and a copy of the project that they can run; only for pytest run by root."""

from __future__ import annotations

import contextlib
import os
import pwd
import re
import shutil
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Iterator
from pathlib import Path

from . import disks
from .support import ROOT_STORES, USER_PREFIX, Account, processes_of
from .workers import locked

CHECKOUT = Path(__file__).resolve().parents[2]
_SUBORDINATE_IDS = 65536
DATABASES = Path("/etc")  # locked while accounts come and go: useradd and usermod do not wait for each other
_FOR_EVERYBODY = ("/tmp", "/var/tmp", "/dev/shm")
_BOUND = ("unshare", "--mount", "sh", "-ec", 'mount --bind "$1" "$2"; shift 2; exec "$@"', "sh")


def group_name() -> str:
    """A group that all users of this session are in."""
    return f"{USER_PREFIX}{os.getpid()}-group"


@contextlib.contextmanager
def throwaway_users() -> Iterator[dict[str, Account]]:
    """A user with subordinate ids ("full") and one without ("single"), who vanish with all their files."""
    _remove_left_over()
    try:
        with locked(DATABASES):
            _run("groupadd", group_name())
            made = {kind: _add(kind) for kind in ("full", "single")}
        yield made
    finally:
        _remove(f"{USER_PREFIX}{os.getpid()}-")


def _add(kind: str) -> Account:
    name = f"{USER_PREFIX}{os.getpid()}-{kind}"
    _run("useradd", "--create-home", "--shell", "/bin/bash", "--groups", group_name(), name)
    for path, add, delete in (
        (Path("/etc/subuid"), "--add-subuids", "--del-subuids"),
        (Path("/etc/subgid"), "--add-subgids", "--del-subgids"),
    ):
        ranges = _ranges(path)
        if kind == "full" and name not in [owner for owner, _, _ in ranges]:
            first = max((start + count for _, start, count in ranges), default=0x20000)
            _run("usermod", add, f"{first}-{first + _SUBORDINATE_IDS - 1}", name)
        if kind == "single":
            for _, start, count in (entry for entry in ranges if entry[0] == name):
                _run("usermod", delete, f"{start}-{start + count - 1}", name)
    entry = pwd.getpwnam(name)
    groups = tuple(os.getgrouplist(name, entry.pw_gid))
    return Account(name, entry.pw_uid, entry.pw_gid, groups, Path(entry.pw_dir))


def _ranges(path: Path) -> list[tuple[str, int, int]]:
    """The lines of /etc/subuid or /etc/subgid."""
    lines = path.read_text().splitlines() if path.exists() else []
    fields = (line.split(":") for line in lines if line.count(":") == 2)
    return [(owner, int(start), int(count)) for owner, start, count in fields]


def _remove_left_over() -> None:
    """What a killed session left behind, also one that had this process's number: on a small system they are few."""
    pattern = re.compile(rf"{USER_PREFIX}(\d+)-")
    names = [*(entry.pw_name for entry in pwd.getpwall()), *_group_names()]
    for match in filter(None, map(pattern.match, names)):
        if match[1] == str(os.getpid()) or not Path("/proc", match[1]).exists():
            _remove(match[0])
    memory, temporary = Path("/dev/shm").glob("sysenv-*-*"), Path(tempfile.gettempdir()).glob("sysenv-suite-*")
    for path in (*memory, *temporary, *Path("/var/tmp").glob("sysenv-disk-*")):
        number = path.name.split("-")[2]
        if number.isdecimal() and not Path("/proc", number).exists():
            disks.remove_left_over(number)
            # Not shutil.rmtree: a tree may be deeper than it gets.
            subprocess.run(["rm", "-rf", path], check=False, timeout=600)


def _group_names() -> list[str]:
    return [line.partition(":")[0] for line in Path("/etc/group").read_text().splitlines()]


def _remove(prefix: str) -> None:
    with locked(DATABASES):
        homes = _remove_accounts(prefix)
    for home in homes:  # others need not wait for what can take minutes
        subprocess.run(["rm", "-rf", home], check=False, capture_output=True, timeout=600)


def _remove_accounts(prefix: str) -> list[str]:
    """What is left of their files; of accounts that are still there: another run may have seen the same ones."""
    homes = []
    for entry in pwd.getpwall():
        if entry.pw_name.startswith(prefix):
            owned = [range(entry.pw_uid, entry.pw_uid + 1)]
            owned += [range(s, s + n) for owner, s, n in _ranges(Path("/etc/subuid")) if owner == entry.pw_name]
            _end_processes(owned)
            # Not --remove: that fails where there is no mail spool.
            _run("userdel", entry.pw_name)
            _remove_mount_points(Path("/run/sysenv-ns", str(entry.pw_uid)))
            homes += [entry.pw_dir, str(ROOT_STORES / str(entry.pw_uid)), *_scratch_of(owned)]
    for name in _group_names():
        if name.startswith(prefix):
            _run("groupdel", name)
    return homes


def _scratch_of(owned: list[range]) -> list[str]:
    """What programs have left for these users in the directories where everybody may write."""
    found = []
    for directory in _FOR_EVERYBODY:
        for path in Path(directory).iterdir():
            with contextlib.suppress(FileNotFoundError):
                if any(path.lstat().st_uid in uids for uids in owned):
                    found.append(str(path))
    return found


def _remove_mount_points(directory: Path) -> None:
    """What a killed session left of the driver idmap; the mounts have ended with it."""
    with contextlib.suppress(FileNotFoundError):
        for path in (*directory.iterdir(), directory):
            path.rmdir()


def _end_processes(owned: list[range]) -> None:
    deadline = time.monotonic() + 10
    while (left := [pid for uids in owned for pid in processes_of(uids)]) and time.monotonic() < deadline:
        for pid in left:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        time.sleep(0.05)


def with_fuse(account: Account, directory: Path) -> tuple[str, ...]:
    """The beginning of a command as this user with a /dev/fuse that may be opened, as on most machines."""
    node = make_fuse(directory / "fuse")
    return (*_BOUND, str(node), "/dev/fuse", *account.setpriv())


def make_fuse(node: Path) -> Path:
    """A /dev/fuse that everybody may open, at that path."""
    with contextlib.suppress(FileExistsError):
        os.mknod(node, stat.S_IFCHR | 0o666, os.makedev(10, 229))
    node.chmod(0o666)
    return node


def with_sudo(account: Account, directory: Path) -> tuple[str, ...]:
    """The beginning of a command as this user, who may use sudo, if there is one; nobody else sees this rule."""
    sudoers, system = directory / "sudoers", Path("/etc/sudoers")
    if not system.exists():
        return tuple(account.setpriv())
    sudoers.write_text(f"{system.read_text()}\n{account.name} ALL=(ALL:ALL) NOPASSWD: ALL\n")
    sudoers.chmod(0o440)
    return (*_BOUND, str(sudoers), str(system), *account.setpriv())


def prepare_mounts(launcher: Path, account: Account, *prefix: str) -> None:
    """Let root make a user's idmapped mounts, which the driver idmap needs; `prefix` leads to another system's root."""
    _run(*prefix, str(launcher), "host", "prepare", "--user", account.name)


def release_mounts(launcher: Path, account: Account) -> None:
    """Take them away, and what was made for them."""
    _run(str(launcher), "host", "release", "--user", account.name)


def launcher(directory: Path) -> Path:
    """helpers/sysenv-ns of a checkout."""
    return directory / "helpers" / "sysenv-ns"


def copy_checkout(directory: Path) -> None:
    """Make a copy that everybody may use, wherever the checkout itself lies, and set it up."""
    directory.mkdir()
    for name in ("sysenv_ns", "helpers", "pyproject.toml"):
        source = CHECKOUT / name
        if source.is_dir():
            shutil.copytree(source, directory / name, ignore=shutil.ignore_patterns("__pycache__"))
        else:
            shutil.copy(source, directory / name)
    _run("chmod", "-R", "u=rwX,go=rX", str(directory))
    _run(str(launcher(directory)), "--version")
    modules, compiled = (list((directory / "sysenv_ns").rglob(f"*.{suffix}")) for suffix in ("py", "pyc"))
    assert len(compiled) == len(modules), "users who cannot write there compile it at each command"


def _run(*command: str) -> None:
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=300, stdin=subprocess.DEVNULL)
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
