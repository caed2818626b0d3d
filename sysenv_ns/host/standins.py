"""Files that an environment has instead of, or in addition to, the host's: contents only, nothing is written here."""

from __future__ import annotations

from collections.abc import Iterable
from pathlib import Path

from sysenv_ns.host import services
from sysenv_ns.host.records import Addition
from sysenv_ns.kernel.idmap import find_program

ROOT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_SUDOERS = f"""\
# Made by sysenv-ns: the host's own file cannot be read. Root of this environment is no one on the host.
Defaults	env_reset
Defaults	mail_badpass
Defaults	secure_path="{ROOT_PATH}"
root	ALL=(ALL:ALL) ALL
@includedir /etc/sudoers.d
"""

_SUDO_VARIABLES = f"""\
# Made by sysenv-ns: what runs by sudo shall know that it is in an environment.
Defaults	env_keep += "SYSENV_NS {" ".join(services.VARIABLES)}"
Defaults	secure_path="{services.PROGRAMS}:{ROOT_PATH}"
"""

_SUDO_EVERYBODY = """\
# Everybody may be root here: root of this environment is no one on the host.
ALL	ALL=(ALL:ALL) NOPASSWD: ALL
"""

_APT_SANDBOX = """\
// Made by sysenv-ns: there is no user _apt to switch to, and apt checks that the switch happened.
APT::Sandbox::User "root";
"""

SUID_SETPRIV = "usr/lib/sysenv-ns/setpriv"

_SUDO = f"""\
#!/bin/sh
# Made by sysenv-ns because the host has no sudo; installing the package sudo replaces it.
# Understands the options that people and scripts use; root of this environment needs no password.
usage() {{ echo "usage: sudo [-u user] [-E] [-H] [-i] [-s] [-n] [VAR=value] command" >&2; exit 1; }}
user=root keep=no login=no shell=no
while [ $# -gt 0 ]; do
    case $1 in
        -u|--user) [ $# -gt 1 ] || usage; user=$2; shift ;;
        -u?*) user=${{1#-u}} ;;
        --user=*) user=${{1#--user=}} ;;
        -g|-p|-C|-h|-r|-t) [ $# -gt 1 ] || usage; shift ;;
        -E|--preserve-env|--preserve-env=*) keep=yes ;;
        -H|-n|-S|-b|-A|-P|--set-home|--non-interactive|--stdin) ;;
        -i|--login) login=yes ;;
        -s|--shell) shell=yes ;;
        -[EHnSbAPiskKvl]?*)  # several in one: -iu postgres
            rest=${{1#-?}} first=${{1%"${{1#-?}}"}}
            shift
            set -- "$first" "-$rest" "$@"
            continue ;;
        -k|-K|-v|--validate) [ $# -gt 1 ] || exit 0 ;;
        -l|--list) echo "(ALL : ALL) NOPASSWD: ALL"; exit 0 ;;
        -V|--version) echo "sudo of sysenv-ns"; exit 0 ;;
        --) shift; break ;;
        -*) echo "sudo: unknown option $1" >&2; usage ;;
        [A-Za-z_]*=*) export "$1" ;;
        *) break ;;
    esac
    shift
done
while [ $# -gt 0 ]; do
    case $1 in [A-Za-z_]*=*) export "$1"; shift ;; *) break ;; esac
done
entry=$(getent passwd "$user") || {{ echo "sudo: unknown user $user" >&2; exit 1; }}
home=$(echo "$entry" | cut -d: -f6)
login_shell=$(echo "$entry" | cut -d: -f7)
# The shell gets one text: "$@" in it, with the arguments behind it, keeps them whole.
if [ "$login" = yes ]; then
    [ $# -gt 0 ] && set -- "$login_shell" -lc '"$0" "$@"' "$@" || set -- "$login_shell" -l
    set -- /bin/sh -c 'cd "$HOME" && exec "$@"' sh "$@"  # as the user that it becomes: only that one may enter
elif [ "$shell" = yes ]; then
    [ $# -gt 0 ] && set -- "${{SHELL:-/bin/sh}}" -c '"$0" "$@"' "$@" || set -- "${{SHELL:-/bin/sh}}"
fi
[ $# -gt 0 ] || usage
SUDO_UID=$(id -u) SUDO_GID=$(id -g) SUDO_USER=$(id -un) SUDO_COMMAND="$*"
export SUDO_UID SUDO_GID SUDO_USER SUDO_COMMAND
PATH={services.PROGRAMS}:{ROOT_PATH}
[ "$keep" = yes ] || {{ HOME=$home; LOGNAME=$user; USER=$user; export HOME LOGNAME USER; }}
export PATH
if [ "$(id -u)" = 0 ] && [ "$user" = root ]; then exec "$@"; fi
if [ "$user" = root ]; then exec /{SUID_SETPRIV} --reuid 0 --regid 0 --clear-groups -- "$@"; fi
exec /{SUID_SETPRIV} --reuid "$user" --regid "$(id -g "$user")" --init-groups -- "$@"
"""


def additions(root_only: bool, host_sudo: bool, setpriv: str | None) -> tuple[Addition, ...]:
    """What makes everybody root who wants to be: sudo's rule, and a sudo when the host has none.

    `root_only`: nobody but root exists inside (the single id map).
    """
    files = [Addition("etc/sudoers.d/sysenv-ns", 0o440, _SUDO_VARIABLES + _SUDO_EVERYBODY)]
    if root_only:
        files.append(Addition("etc/apt/apt.conf.d/00sysenv-ns", 0o644, _APT_SANDBOX))
    if not host_sudo:
        files.append(Addition("usr/bin/sudo", 0o755, _SUDO))
        if setpriv is not None:
            files.append(Addition(SUID_SETPRIV, 0o4755, copy_of=setpriv))
    return tuple(files)


def host_additions(root_only: bool, bound: Iterable[str]) -> tuple[Addition, ...]:
    """Everything that an environment of this host has in addition; `bound` are the paths that stay the host's own."""
    becoming_root = additions(root_only, find_program("sudo") is not None, find_program("setpriv"))
    return (*services.additions(bound), *becoming_root)


def root_additions(bound: Iterable[str]) -> tuple[Addition, ...]:
    """The same for the driver root, whose root is the host's: who may become that, the host's own sudo says."""
    sudo = (Addition("etc/sudoers.d/sysenv-ns", 0o440, _SUDO_VARIABLES),) if find_program("sudo") else ()
    return (*services.additions(bound), *sudo)


def prompt(name: str) -> Addition:
    """The environment's name for the prompt: Debian's and Ubuntu's bashrc read it."""
    return Addition("etc/debian_chroot", 0o644, f"{name}\n")


def content(path: str) -> bytes | None:
    """The stand-in for a host file that programs need and the user may not read; None for all other paths."""
    if path in ("/etc/shadow", "/etc/shadow-"):
        # shadow(5): "!" locks the password; empty fields put no age limit on it
        return "".join(f"{name}:!:19000:0:99999:7:::\n" for name, _ in _database("/etc/passwd")).encode(
            "utf-8", "surrogateescape"
        )
    if path in ("/etc/gshadow", "/etc/gshadow-"):
        return "".join(f"{name}:!::{members}\n" for name, members in _database("/etc/group")).encode(
            "utf-8", "surrogateescape"
        )
    if path == "/etc/sudoers":
        return _SUDOERS.encode()
    return None


def _database(path: str) -> list[tuple[str, str]]:
    """The name and the last field of each local entry; not getpwall(3), which may list a whole directory server."""
    rows = (line.split(":") for line in Path(path).read_text(errors="surrogateescape").splitlines())
    return [(row[0], row[-1]) for row in rows if len(row) > 1 and row[0][:1] not in ("+", "-", "#")]
