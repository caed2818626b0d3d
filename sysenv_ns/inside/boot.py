"""What process 1 of an environment finds in /run, and which units it is kept from starting; starts nothing itself.

It starts what the environment has enabled. What the host has enabled runs there already, and what looks after a machine
(devices, disks, consoles, the network, logins) is the host's: of the units of the host it gets those that others need
to run at all. Nothing is disabled: the rest is only not wanted by any target, and can be started by name.
"""

from __future__ import annotations

import os
import shutil

from sysenv_ns import TYPE_CHECKING, policy
from sysenv_ns.basics import suppress
from sysenv_ns.files import reader
from sysenv_ns.kernel import mountinfo, syscalls
from sysenv_ns.paths import Path

if TYPE_CHECKING:
    from collections.abc import Collection, Iterable

# The first directory wins, and that of system.control precedes /etc/systemd/system (systemd.unit(5)).
_MASKS = "/run/systemd/system.control"
_ENABLED = "/etc/systemd/system"
_DIRECTORIES = (_ENABLED, "/usr/local/lib/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")
_GENERATORS = tuple(f"{place}/systemd/system-generators" for place in ("/etc", "/usr/local/lib", "/usr/lib", "/lib"))
_MASKED_GENERATORS = "/run/systemd/system-generators"
_RUNLEVELS = tuple(f"/etc/rc{level}.d" for level in "2345")
_TARGETS = ("multi-user.target.wants", "graphical.target.wants")  # of systemd-sysv-generator(8)
_DEFAULT = "default.target"

# Of the host's units: what every service may need.
_NEEDED = frozenset(
    {
        *("dbus.service", "dbus.socket", "dbus-broker.service"),
        *("systemd-journald.service", "systemd-journald.socket", "systemd-journald-dev-log.socket"),
        *("systemd-journal-flush.service", "systemd-sysusers.service", "systemd-tmpfiles-setup.service"),
        "systemd-user-sessions.service",
    }
)
# Of its generators: those that make units of services.
_NEEDED_GENERATORS = frozenset({"systemd-sysv-generator", "postgresql-generator", "openvpn-generator"})
# What an upgrade of systemd or of another package inside makes its own, and is the host's all the same.
_OF_THE_MACHINE = (
    *("systemd-", "sys-", "dev-", "proc-", "kmod", "getty", "console-getty", "cryptsetup", "veritysetup"),
    *("integritysetup", "remote-", "plymouth", "udev", "initrd"),
)
# Neither by a wish nor by a call on the bus: logins would get directories in place of the host's /run/user/UID, and an
# emergency would wait for ever for somebody at the console.
_NEVER = ("systemd-logind.service", "emergency.service", "rescue.service", "systemd-udevd.service")

# In /run: what process 1 and its bus make for themselves, except what is the host's alone.
OWN = frozenset({"dbus", "initctl", "log", "systemd", "utmp"})
_KEPT = "/run/systemd/resolve"
_MANAGER = "/run/systemd/system.conf.d/sysenv-ns.conf"
_JOURNAL = "/run/systemd/journald.conf.d/sysenv-ns.conf"
# The mounts that it finds are not its own: when it ends it shall not take them down, one after the other, so nothing
# asks for umount.target. (systemd 252 sometimes waits for ever for one that is gone, or cannot be taken down.)
_ENDS = ("poweroff", "reboot", "halt", "exit")
_END = """\
# Made by sysenv-ns: as systemd's own, without umount.target.
[Unit]
DefaultDependencies=no
Requires=shutdown.target final.target
After=shutdown.target final.target
SuccessAction={action}-force
"""
JOURNAL_OF_HOST = "/var/log/journal"  # which journalctl would show too
SIGN = f"{policy.RUN_OWN}/init"  # stand-ins know by it that there is a manager


def wanted(uppers: Iterable[Path]) -> set[str]:
    """What these directories of changes have of wants, generators and init scripts; before the pivot."""
    found: set[str] = set()
    for upper in uppers:
        with suppress(OSError), reader.Root(upper) as root:
            for directory in _DIRECTORIES:
                for wants in _names(root, directory):
                    if wants == _DEFAULT and directory == _ENABLED:
                        found.add(f"{directory}/{wants}")
                    if wants.endswith((".wants", ".requires")):
                        found |= {f"{wants}/{name}" for name in _names(root, f"{directory}/{wants}")}
            for directory in (*_GENERATORS, *_RUNLEVELS):
                found |= {f"{directory}/{name}" for name in _names(root, directory)}
    return found


def _names(root: reader.Root, directory: str) -> list[str]:
    with suppress(OSError):
        return root.names(directory)
    return []


def prepare(name: str, own: Collection[str]) -> None:
    """Make /run ready for process 1 of an environment of that name; `own` as `wanted` gives it. Raises OSError."""
    _clear_run()
    for directory in (_MASKS, _MASKED_GENERATORS, *map(os.path.dirname, (_MANAGER, _JOURNAL))):
        os.makedirs(directory, mode=0o755, exist_ok=True)
    found = {directory: reader.names(directory) for directory in (*_DIRECTORIES, *_GENERATORS, *_RUNLEVELS)}
    links = {
        f"{wants}/{entry}"
        for directory in _DIRECTORIES
        for wants in found[directory]
        if wants.endswith((".wants", ".requires"))
        for entry in reader.names(f"{directory}/{wants}")
    }
    scripts = {f"{directory}/{entry}" for directory in _RUNLEVELS for entry in found[directory]}
    for path in sorted({*unwanted(links, own), *unwanted_scripts(scripts, own)}):
        os.makedirs(f"{_MASKS}/{os.path.dirname(path)}", mode=0o755, exist_ok=True)
        os.symlink("/dev/null", f"{_MASKS}/{path}")
    for unit in _NEVER:
        os.symlink("/dev/null", f"{_MASKS}/{unit}")
    generators = {f"{directory}/{entry}" for directory in _GENERATORS for entry in found[directory]}
    for generator in sorted(unwanted_generators(generators, own)):
        os.symlink("/dev/null", f"{_MASKED_GENERATORS}/{generator}")
    if f"{_ENABLED}/{_DEFAULT}" not in own:
        os.symlink("/usr/lib/systemd/system/multi-user.target", f"{_MASKS}/{_DEFAULT}")
    _write(_MANAGER, f"# Made by sysenv-ns.\n[Manager]\nDefaultEnvironment=SYSENV_NS={name}\n")
    for action in _ENDS:
        _write(f"{_MASKS}/systemd-{action}.service", _END.format(action=action))
    _write(_JOURNAL, "# Made by sysenv-ns.\n[Journal]\nStorage=volatile\n")
    _write(SIGN, "")


def unwanted(links: Iterable[str], own: Collection[str]) -> set[str]:
    """Of the links in directories of wants those that are not followed. Pure."""
    return {link for link in links if not _is_wanted(link, own)}


def _is_wanted(link: str, own: Collection[str]) -> bool:
    unit = link.rpartition("/")[2]
    return unit in _NEEDED or (link in own and not unit.startswith(_OF_THE_MACHINE))


def unwanted_scripts(scripts: Iterable[str], own: Collection[str]) -> set[str]:
    """The wants that init scripts would get, of those that only the host has enabled. Pure."""
    started = {path: os.path.basename(path)[3:] for path in scripts if os.path.basename(path)[:1] == "S"}
    kept = {script for path, script in started.items() if path in own}
    dropped = {f"{target}/{script}.service" for script in started.values() for target in _TARGETS if script not in kept}
    return dropped - set(own)


def unwanted_generators(generators: Iterable[str], own: Collection[str]) -> set[str]:
    """The names of generators that are not run. Pure."""
    names = {path: os.path.basename(path) for path in generators}
    kept = {name for path, name in names.items() if path in own and not name.startswith("systemd-")}
    return set(names.values()) - kept - _NEEDED_GENERATORS


def is_needed(unit: str) -> bool:
    """Whether every boot has it."""
    return unit in _NEEDED


def is_own(path: str) -> bool:
    """Whether something in the host's /run, by its path there, is what process 1 makes for itself."""
    return path.partition("/")[0] in OWN and not f"/run/{path}/".startswith(f"{_KEPT}/")


def _clear_run() -> None:
    """Delete what is in the way of a manager's own, and the numbers of the host's processes, which others have here."""
    for mount in reversed(mountinfo.read()):
        if mount.point.startswith("/run/") and is_own(mount.point[len("/run/") :]):
            syscalls.umount(mount.point, syscalls.MNT_DETACH)
    for name in OWN:
        path = f"/run/{name}"
        kept = [entry for entry in reader.names(path) if f"{path}/{entry}" == _KEPT] if not os.path.islink(path) else []
        for entry in [f"{path}/{entry}" for entry in reader.names(path) if entry not in kept] if kept else [path]:
            _delete(entry)
    for directory, names, files in os.walk("/run"):
        names[:] = [name for name in names if not os.path.ismount(f"{directory}/{name}")]
        for file in files:
            if file.endswith(".pid"):
                os.unlink(f"{directory}/{file}")


def _delete(path: str) -> None:
    if os.path.isdir(path) and not os.path.islink(path):
        shutil.rmtree(path)
    elif os.path.lexists(path):
        os.unlink(path)


def _write(path: str, text: str) -> None:
    with open(path, "w", encoding="utf-8") as stream:
        stream.write(text)
