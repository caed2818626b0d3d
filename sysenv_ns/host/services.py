"""The files that keep an environment from ordering the host's services and devices about; writes nothing.

What a package's scripts ask of systemd, udev or PackageKit concerns the machine that they are installed on, and the
ones that answer are the host's. They are told what scripts in a chroot are told: there is nothing to be done.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator
from pathlib import Path

from sysenv_ns.host.records import Addition
from sysenv_ns.kernel.idmap import find_program
from sysenv_ns.kernel.mountinfo import is_below

# systemd's docs/ENVIRONMENT.md: systemctl then works on unit files and says of the rest "Running in chroot, ignoring
# command". Without it, it fails for want of a service manager (/run/systemd/system), and scripts with it.
VARIABLES = {"SYSTEMD_OFFLINE": "1"}

# The programs below, ahead of the system's on the PATH of root and of packages' scripts; nobody else sees them.
PROGRAMS = "/usr/lib/sysenv-ns/bin"
_APT_PATH = f"""\
// Made by sysenv-ns: a few programs that would order the host about have a stand-in for scripts.
DPkg::Path "{PROGRAMS}:/usr/sbin:/usr/bin:/sbin:/bin";
"""

# invoke-rc.d(8): status 101 forbids the action. A package's scripts must not start, stop or reload services.
_POLICY_RC_D = """\
#!/bin/sh
# Made by sysenv-ns: services inside an environment are started by hand.
exit 101
"""

# Only newer systemctls ignore --now in a chroot; 252 makes its links and then fails.
_SYSTEMCTL = """\
#!/bin/sh
# Made by sysenv-ns: in an environment, as in a chroot, unit files are changed but nothing is started or stopped.
if [ "${SYSTEMD_OFFLINE-1}" = 1 ]; then
    for argument; do
        shift
        [ "$argument" = --now ] || set -- "$@" "$argument"
    done
    export SYSTEMD_OFFLINE=1
fi
for systemctl in /usr/bin/systemctl /bin/systemctl; do
    [ ! -x "$systemctl" ] || exec "$systemctl" "$@"
done
echo "systemctl: command not found" >&2
exit 127
"""

# Unlike systemctl it has no variable for this, and recognises a chroot only where it may look at process 1.
_UDEVADM = """\
#!/bin/sh
# Made by sysenv-ns: devices are the host's, and so is udev. As in a chroot, it is not told to do anything.
for argument; do
    case $argument in
        control|settle|trigger) exit 0 ;;
        -*) ;;
        *) break ;;
    esac
done
for udevadm in /usr/bin/udevadm /bin/udevadm /sbin/udevadm; do
    [ ! -x "$udevadm" ] || exec "$udevadm" "$@"
done
echo "udevadm: command not found" >&2
exit 127
"""

_PACKAGEKIT = "etc/apt/apt.conf.d/20packagekit"
_PACKAGEKIT_TEXT = """\
// Made by sysenv-ns: the host's PackageKit is not told of packages that it does not have.
"""

_TMPFILES = ("/usr/lib/tmpfiles.d", "/etc/tmpfiles.d")  # the later one wins, tmpfiles.d(5)
_TMPFILES_HEADER = "# Made by sysenv-ns: without the lines for what is the host's, which takes care of it.\n"
# These have no other lines, and a package may bring them to an environment of a host without it.
_TMPFILES_OF_THE_HOST = frozenset({"tmp.conf", "static-nodes-permissions.conf"})


def additions(bound: Iterable[str]) -> tuple[Addition, ...]:
    """The files that fit this host, where `bound` are the paths that show its own content inside."""
    environment = Path("/etc/environment")
    variables = "".join(f"{name}={value}\n" for name, value in VARIABLES.items())
    files = [
        Addition("usr/sbin/policy-rc.d", 0o755, _POLICY_RC_D),
        Addition(f"{PROGRAMS[1:]}/udevadm", 0o755, _UDEVADM),
        # What pam_env(8) gives to sessions that start with an empty environment: su -, cron, sshd.
        Addition("etc/environment", 0o644, f"{_with_newline(_read(environment))}{variables}"),
    ]
    if find_program("systemctl"):  # scripts find out by its name whether there is one
        files.append(Addition(f"{PROGRAMS[1:]}/systemctl", 0o755, _SYSTEMCTL))
    if os.path.isdir("/etc/apt"):
        files.append(Addition("etc/apt/apt.conf.d/00sysenv-ns-path", 0o644, _APT_PATH))
    if os.path.lexists(f"/{_PACKAGEKIT}"):
        files.append(Addition(_PACKAGEKIT, 0o644, _PACKAGEKIT_TEXT))
    return (*files, *_tmpfiles(tuple(bound)))


def _tmpfiles(bound: tuple[str, ...]) -> Iterator[Addition]:
    texts = dict.fromkeys(_TMPFILES_OF_THE_HOST, "")
    for directory in _TMPFILES:
        with contextlib.suppress(OSError):
            texts |= {name: _read(Path(directory, name)) for name in os.listdir(directory) if name.endswith(".conf")}
    for name, text in sorted(texts.items()):
        kept = without_bound(text, bound)
        if kept != text or name in _TMPFILES_OF_THE_HOST:
            yield Addition(f"etc/tmpfiles.d/{name}", 0o644, f"{_TMPFILES_HEADER}{kept}")


def without_bound(text: str, bound: tuple[str, ...]) -> str:
    """The text of a tmpfiles.d(5) file without its lines for paths at or below `bound`."""
    return "".join(line for line in text.splitlines(keepends=True) if not _concerns(line, bound))


def _concerns(line: str, bound: tuple[str, ...]) -> bool:
    fields = line.split(None, 2)
    if len(fields) < 2 or fields[0].startswith("#"):
        return False
    path = fields[1].strip("\"'")
    return any(path == top or is_below(path, top) for top in bound)


def _read(path: Path) -> str:
    try:
        return path.read_text(encoding="utf-8", errors="surrogateescape")
    except OSError:  # absent, or not ours to read
        return ""


def _with_newline(text: str) -> str:
    return text if not text or text.endswith("\n") else f"{text}\n"
