"""The files that keep an environment from controlling the host's services and devices; writes nothing.

What package scripts ask of systemd, udev or PackageKit concerns the machine that they are installed on, and the
daemons that would answer are the host's. So they get the answers that scripts get in a chroot: there is nothing to do.
"""

from __future__ import annotations

import os

import sysenv_ns
from sysenv_ns import TYPE_CHECKING, policy
from sysenv_ns.basics import suppress
from sysenv_ns.files import reader
from sysenv_ns.host.base_files import Addition
from sysenv_ns.kernel.idmap import find_program
from sysenv_ns.paths import Path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

# systemd's docs/ENVIRONMENT.md: systemctl then works on unit files and says of the rest "Running in chroot, ignoring
# command". Without it, it fails for want of a service manager (/run/systemd/system), and scripts with it.
# tmux(1): in the host's /tmp one server would serve both sides, and end with the environment. It is asked only outside
# of tmux: in a window of the host's, TMUX leads to the host's server.
OFFLINE = "SYSTEMD_OFFLINE"
VARIABLES = {OFFLINE: "1", "TMUX_TMPDIR": policy.OWN_SOCKETS}

_WITHIN = f"{os.path.dirname(sysenv_ns.__file__)}/within"

# The programs below, ahead of the system's on everybody's PATH and on that of packages' scripts.
PROGRAMS = "/usr/lib/sysenv-ns/bin"
PATH_OF_ALL = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin:/usr/games:/usr/local/games"
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

# For a person these three give orders for the environment's own services (within/), in place of the host's manager.
_MANAGED = ("systemctl", "service", "journalctl")
PYTHON_DIRECTORY = "/usr/lib/sysenv-ns/python"
_PROGRAM = f"""\
#!/bin/sh
# Made by sysenv-ns: orders for services are for those of the environment; scripts of packages start and stop nothing.
name=${{0##*/}}
of_package=
[ -z "${{DPKG_MAINTSCRIPT_NAME-}}${{DPKG_HOOK_ACTION-}}" ] || of_package=yes
# Of other package managers, and where variables get lost (su -), the ancestors tell.
process=$$
while [ -z "$of_package" ] && [ "$process" -gt 1 ] && read -r line 2> /dev/null < "/proc/$process/stat"; do
    command=${{line#*(}}
    case ${{command%)*}} in dpkg|apt|apt-get|aptitude|rpm|dnf|dnf5|yum|zypper|pacman|apk) of_package=yes ;; esac
    rest=${{line##*) }}
    rest=${{rest#* }}
    process=${{rest%% *}}
done
real() {{
    for directory in /usr/bin /bin /usr/sbin /sbin; do
        [ ! -x "$directory/$name" ] || exec "$directory/$name" "$@"
    done
    echo "$name: command not found" >&2
    exit 127
}}
# With systemd as process 1 that is the manager, also for what has its variables from /etc/environment or sudo.
# Orders for a user's manager would be for that of the host, and are refused below.
case "$* " in
    *"--user "*|*"--global "*) ;;
    *) [ ! -e {policy.RUN_OWN}/init ] || {{ unset {OFFLINE}; real "$@"; }} ;;
esac
if [ "$name" != journalctl ]; then
    if [ -n "$of_package" ] && [ "$name" = service ]; then
        exit 0
    elif [ -n "$of_package" ] && [ "${{SYSTEMD_OFFLINE-1}}" = 1 ]; then
        # As in a chroot: unit files are changed. Newer systemctls ignore --now then; 252 makes its links and fails.
        for argument; do
            shift
            [ "$argument" = --now ] || set -- "$@" "$argument"
        done
        export SYSTEMD_OFFLINE=1
        real "$@"
    fi
fi
[ "${{SYSTEMD_OFFLINE-1}}" = 1 ] || real "$@"  # with 0, as a wish to speak to the host's
python=/usr/bin/python3
if [ ! -x "$python" ]; then
    [ "$name" != journalctl ] || real "$@"
    echo "$name: services are started by python3, which this environment does not have" >&2
    echo "hint: apt-get install python3" >&2
    exit 1
fi
exec "$python" -I -S -B {PYTHON_DIRECTORY}/sysenv_ns/within "$name" "$@"
"""
# Shells that log in set PATH anew (profile(5) of Debian); this comes after.
_PROFILE = f"""\
# Made by sysenv-ns: orders for services are for those of the environment.
case ":$PATH:" in *:{PROGRAMS}:*) ;; *) PATH={PROGRAMS}:$PATH ;; esac
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

_APT_SETTINGS = "/etc/apt/apt.conf.d"
# Commands in settings of apt that look after the machine at each installation: they record /etc in a repository that
# only the host's root can read, snapshot disks, restart daemons, ask about packages, or remount /tmp. A hook that fails
# stops apt. What apt hands its packages to has to read them.
_QUOTED = r'"(?:[^"\\\n]|\\.)*"'
_OF_THE_HOST = ("apt-listbugs", "etckeeper", "needrestart", "snapper", "timeshift", "zsys", "remount")
_READING = "apt-listbugs"
_NO_EXEC = "/tmp"
_APT_TEMPLATES = """\
// Made by sysenv-ns: questions of packages are asked by programs, which the host's /tmp does not let run.
APT::ExtractTemplates::TempDir "/var/cache/apt";
"""

_TMPFILES = ("/usr/lib/tmpfiles.d", "/etc/tmpfiles.d")  # the later one wins, tmpfiles.d(5)
_TMPFILES_HEADER = "# Made by sysenv-ns: without the lines for what is the host's, which takes care of it.\n"
# These have no other lines, and a package may bring them to an environment of a host without it.
_TMPFILES_OF_THE_HOST = frozenset({"tmp.conf", "static-nodes-permissions.conf"})


def additions(bound: Iterable[str]) -> tuple[Addition, ...]:
    """The files that fit this host, where `bound` are the paths that show its own content inside."""
    text = _with_newline(_read(Path("/etc/environment")))
    variables = "".join(f"{name}={value}\n" for name, value in VARIABLES.items())
    files = [
        Addition("usr/sbin/policy-rc.d", 0o755, _POLICY_RC_D),
        Addition(f"{PROGRAMS[1:]}/udevadm", 0o755, _UDEVADM),
        # What pam_env(8) gives to sessions that start with an empty environment: su -, cron, sshd.
        Addition("etc/environment", 0o644, f"{variables}{text}{_path_after(text)}"),
    ]
    if find_program("systemctl"):  # scripts find out by its name whether there is one
        files += [Addition(f"{PROGRAMS[1:]}/{name}", 0o755, _PROGRAM) for name in _MANAGED]
        files += _manager()
        files.append(Addition("etc/profile.d/zz-sysenv-ns.sh", 0o644, _PROFILE))
    if os.path.isdir("/etc/apt"):
        files.append(Addition("etc/apt/apt.conf.d/00sysenv-ns-path", 0o644, _APT_PATH))
        files += _apt_settings()
        if os.statvfs(_NO_EXEC).f_flag & os.ST_NOEXEC:
            files.append(Addition("etc/apt/apt.conf.d/00sysenv-ns-templates", 0o644, _APT_TEMPLATES))
    if os.path.lexists(f"/{_PACKAGEKIT}"):
        files.append(Addition(_PACKAGEKIT, 0o644, _PACKAGEKIT_TEXT))
    return (*files, *_tmpfiles(tuple(bound)))


def _manager() -> Iterator[Addition]:
    """The programs of within/, by path, size and time, so that a start need not read them."""
    for entry in sorted(os.scandir(_WITHIN), key=lambda entry: entry.name):
        if entry.name.endswith(".py"):
            found = entry.stat()
            place = f"{PYTHON_DIRECTORY[1:]}/sysenv_ns/within/{entry.name}"
            yield Addition(place, 0o644, copy_of=entry.path, version=(found.st_size, found.st_mtime_ns))


def _apt_settings() -> Iterator[Addition]:
    """The host's apt settings that have a hook which makes no sense inside, without that hook."""
    with suppress(OSError):
        for name in sorted(os.listdir(_APT_SETTINGS)):
            text = _read(Path(_APT_SETTINGS, name))
            if (kept := without_hooks(text)) != text:
                yield Addition(f"{_APT_SETTINGS[1:]}/{name}", 0o644, kept)


def without_hooks(text: str) -> str:
    """The text of an apt.conf(5) in which the commands that maintain the host do nothing."""
    if not _is_of_the_host(text):
        return text
    import re  # few hosts have any

    return re.sub(_QUOTED, lambda found: _instead(found[0]), text)


def _instead(quoted: str) -> str:
    if not _is_of_the_host(quoted):
        return quoted
    return '"cat > /dev/null"' if _READING in quoted else '"true"'


def _is_of_the_host(text: str) -> bool:
    return any(word in text for word in _OF_THE_HOST)


def _tmpfiles(bound: tuple[str, ...]) -> Iterator[Addition]:
    texts = dict.fromkeys(_TMPFILES_OF_THE_HOST, "")
    for directory in _TMPFILES:
        with suppress(OSError):
            texts |= {name: _read(Path(directory, name)) for name in os.listdir(directory) if name.endswith(".conf")}
    for name, text in sorted(texts.items()):
        kept = without_bound(text, bound)
        if kept != text or name in _TMPFILES_OF_THE_HOST:
            yield Addition(f"etc/tmpfiles.d/{name}", 0o644, f"{_TMPFILES_HEADER}{kept}")


def without_bound(text: str, bound: tuple[str, ...]) -> str:
    """The text of a tmpfiles.d(5) file without its lines for paths at or below `bound`."""
    if not any(path in text for path in bound):  # most files
        return text
    below = tuple(f"{path}/" for path in bound)
    return "".join(line for line in text.splitlines(keepends=True) if not _concerns(line, below))


def _concerns(line: str, below: tuple[str, ...]) -> bool:
    """Whether a line is for one of these directories, which end in a slash, or for what is in them."""
    fields = line.split(None, 2)
    if len(fields) < 2 or fields[0].startswith("#"):
        return False
    path = fields[1].strip("\"'")
    return f"{path}/".startswith(below)


def _path_after(text: str) -> str:
    """The line for pam_env(8) that puts the stand-ins before the PATH of this text, which may have none."""
    lines = [line.partition("=") for line in text.split("\n") if "=" in line]
    found = [
        value
        for name, _, value in lines
        if name == "PATH" or (name.split() == ["export", "PATH"] and name.strip() == name)
    ]
    path = found[-1].strip().strip("\"'") if found else PATH_OF_ALL
    return f'PATH="{PROGRAMS}:{path}"\n'


def _read(path: Path) -> str:
    try:
        return reader.read(path, follow=True).decode("utf-8", "surrogateescape")
    except OSError:  # absent, or not ours to read
        return ""


def _with_newline(text: str) -> str:
    return text if not text or text.endswith("\n") else f"{text}\n"
