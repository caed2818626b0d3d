"""Files that an environment has instead of, or in addition to, the host's: only contents, nothing is written here."""

from __future__ import annotations

import os

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.files import reader
from sysenv_ns.host import services
from sysenv_ns.host.base_files import Addition
from sysenv_ns.kernel.idmap import find_program

if TYPE_CHECKING:
    import re
    from collections.abc import Iterable, Iterator

ROOT_PATH = "/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"

_SUDOERS = f"""\
# Made by sysenv-ns: the host's own file cannot be read. Root of this environment is no one on the host.
Defaults	env_reset
Defaults	mail_badpass
Defaults	secure_path="{ROOT_PATH}"
root	ALL=(ALL:ALL) ALL
@includedir /etc/sudoers.d
"""

_SUDO_DEFAULTS = f"""\
# Made by sysenv-ns: what runs by sudo shall know that it is in an environment.
Defaults	env_keep += "SYSENV_NS {" ".join(services.VARIABLES)}"
Defaults	secure_path="{services.PROGRAMS}:{ROOT_PATH}"
"""

_SUDO_EVERYBODY = """\
# Access to devices and sockets hangs on the host's groups, which have no number here by which sudo could set them.
Defaults>root	preserve_groups
# Everybody may be root here: root of this environment is no one on the host.
ALL	ALL=(ALL:ALL) NOPASSWD: ALL
"""

_PKEXEC = """\
#!/bin/sh
# Made by sysenv-ns: polkit's daemon is the host's, and knows nothing of the users of an environment. sudo decides here.
user=root
while [ $# -gt 0 ]; do
    case $1 in
        --user) [ $# -gt 1 ] || exit 127; user=$2; shift ;;
        --user=*) user=${1#--user=} ;;
        --disable-internal-agent|--keep-cwd) ;;
        --) shift; break ;;
        -*) echo "pkexec: unknown option $1" >&2; exit 127 ;;
        *) break ;;
    esac
    shift
done
[ $# -gt 0 ] || { echo "usage: pkexec [--user USER] PROGRAM [ARGUMENT...]" >&2; exit 127; }
exec sudo -n -u "$user" -- "$@"
"""

_CHSH = """\
#!/bin/sh
# Made by sysenv-ns: chsh(1) asks for a password, and here nobody has one. sudo asks for none.
[ "$(id -u)" != 0 ] || exec /usr/bin/chsh "$@"
user=$(id -un) next=
for argument; do
    case $next$argument in
        value*) next= ;;
        -s|--shell|-R|--root) next=value ;;
        -*) ;;
        *) user= ;;
    esac
done
exec sudo -n /usr/bin/chsh "$@" ${user:+"$user"}
"""

_USERADD = """\
#!/bin/sh
# Made by sysenv-ns: /home is the host's, where nobody in here can make a directory. New homes are in /srv.
make= place=
for argument; do
    case $argument in
        -m*|-[lNorU]m*|-[lNorU][lNorU]m*|--create-home) make=yes ;;
    esac
    case $argument in
        -*d|-b*|-d*|-D|-P*|-R*|--base-dir*|--defaults|--home*|--prefix*|--root*) place=given ;;
    esac
done
[ -z "$make" ] || [ -n "$place" ] || set -- -b /srv "$@"
exec /usr/sbin/useradd "$@"
"""

_ADDUSER = """\
#!/bin/sh
# Made by sysenv-ns: /home is the host's, where nobody in here can make a directory. New homes are in /srv.
name= more= place= next=
for argument; do
    case $next$argument in
        value*) next= ;;
        --home*|--system|--group|--no-create-home|--conf*|--help|--version|-h|-v) place=given ;;
        --shell|--uid|--gid|--ingroup|--gecos|--comment|--first[ug]id|--last[ug]id|--add-extra-groups) next=value ;;
        -*) ;;
        *) more=$name name=$argument ;;
    esac
done
[ -z "$name" ] || [ -n "$more$place" ] || set -- --home "/srv/$name" "$@"
exec /usr/sbin/adduser "$@"
"""

# Ahead of the system's on PATH, for people and scripts: by these paths. The system's own files stay what they are, as
# an upgrade would ask about changed settings and replace a program.
_IN_FRONT = {"chsh": _CHSH, "useradd": _USERADD, "adduser": _ADDUSER}

_APT_SANDBOX = """\
// Made by sysenv-ns: there is no user _apt to switch to, and apt checks that the switch happened.
APT::Sandbox::User "root";
"""

# Of the field Conffiles; lines of obsolete ones have a word more.
_CONFFILE = rb"(?m)^ (/.*) [0-9a-f]{32}$"

SUID_SETPRIV = "usr/lib/sysenv-ns/setpriv"

_SUDO = f"""\
#!/bin/sh
# Made by sysenv-ns because the host has no sudo; installing the package sudo replaces it.
# Understands the options that people and scripts use; root of this environment needs no password.
usage() {{ echo "usage: sudo [-u user] [-g group] [-E] [-H] [-i] [-s] [-n] [VAR=value] command" >&2; exit 1; }}
user= group= keep=no login=no shell=no
while [ $# -gt 0 ]; do
    case $1 in
        -u|--user) [ $# -gt 1 ] || usage; user=$2; shift ;;
        -u?*) user=${{1#-u}} ;;
        --user=*) user=${{1#--user=}} ;;
        -g|--group) [ $# -gt 1 ] || usage; group=$2; shift ;;
        -g?*) group=${{1#-g}} ;;
        --group=*) group=${{1#--group=}} ;;
        -p|-C|-h|-r|-t) [ $# -gt 1 ] || usage; shift ;;
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
# sudo(8): who names a group alone stays who he is.
[ -n "$user" ] || {{ [ -n "$group" ] && user=$(id -un) || user=root; }}
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
if [ "$(id -u)" = 0 ] && [ "$user" = root ] && [ -z "$group" ]; then exec "$@"; fi
if [ "$user" = root ]; then exec /{SUID_SETPRIV} --reuid 0 --regid "${{group:-0}}" --keep-groups -- "$@"; fi
groups=--init-groups
[ "$user" != "$SUDO_USER" ] || groups=--keep-groups
exec /{SUID_SETPRIV} --reuid "$user" --regid "${{group:-$(id -g "$user")}}" "$groups" -- "$@"
"""


_UNREADABLE = """\
#!/bin/sh
# Made by sysenv-ns: the host's own file can be executed, but not read, and so not be shown here.
echo "$0: you may not read this program of the host, so it is not in this environment" >&2
echo "hint: install its package here (dpkg -S or rpm -qf names it, apt-get install --reinstall makes it whole)" >&2
exit 126
"""


def additions(root_only: bool, host_sudo: bool, setpriv: str | None) -> tuple[Addition, ...]:
    """The files by which everybody may become root: sudo's rule, and a sudo if the host has none.

    `root_only`: nobody but root exists inside (the single id map).
    """
    files = [Addition("etc/sudoers.d/sysenv-ns", 0o440, _SUDO_DEFAULTS + _SUDO_EVERYBODY)]
    if root_only:
        files.append(Addition("etc/apt/apt.conf.d/00sysenv-ns", 0o644, _APT_SANDBOX))
        # ssh and its like ask getpwuid(3), whatever HOME says.
        files.append(Addition("etc/passwd", 0o644, "".join(_with_home_of_root(os.getuid()))))
    if not host_sudo:
        files.append(Addition("usr/bin/sudo", 0o755, _SUDO))
        if setpriv is not None:
            files.append(Addition(SUID_SETPRIV, 0o4755, copy_of=setpriv))
    return tuple(files)


def host_additions(root_only: bool, bound: Iterable[str]) -> tuple[Addition, ...]:
    """All files that an environment of this host has in addition; `bound` are the paths that stay the host's own."""
    from sysenv_ns.host import prompts  # who joins needs none of these texts

    sudo = find_program("sudo")
    becoming_root = additions(root_only, sudo is not None and os.access(sudo, os.R_OK), find_program("setpriv"))
    texts = {name: text for name, text in _IN_FRONT.items() if find_program(name)}  # by which scripts find out
    in_front = (Addition(f"{services.PROGRAMS[1:]}/{name}", 0o755, text) for name, text in texts.items())
    return (*services.additions(bound), *becoming_root, *_pkexec(), *in_front, *prompts.additions())


def _pkexec() -> Iterator[Addition]:
    """Also in front of one that is installed inside."""
    yield Addition(f"{services.PROGRAMS[1:]}/pkexec", 0o755, _PKEXEC)
    if find_program("pkexec"):
        yield Addition("usr/bin/pkexec", 0o755, _PKEXEC)


def root_additions(bound: Iterable[str]) -> tuple[Addition, ...]:
    """The same for the driver root: its root is the host's, so the host's own sudo decides who may become root."""
    from sysenv_ns.host import prompts

    sudo = (Addition("etc/sudoers.d/sysenv-ns", 0o440, _SUDO_DEFAULTS),) if find_program("sudo") else ()
    return (*services.additions(bound), *sudo, *prompts.additions())


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


def _with_home_of_root(uid: int) -> Iterator[str]:
    """The lines of /etc/passwd with the user's home as that of root, who is the same user."""
    text = reader.read("/etc/passwd", follow=True).decode("utf-8", "surrogateescape")
    rows = [line.split(":") for line in text.splitlines()]
    homes = (row[5] for row in rows if len(row) > 6 and row[2] == str(uid))
    home = next(homes, os.path.expanduser("~"))  # of a directory server's users $HOME alone knows it cheaply
    for row in rows:
        if len(row) > 6 and row[0] == "root":
            row[5] = home
        yield f"{':'.join(row)}\n"


def of_unreadable(path: str, mode: int) -> tuple[bytes, int]:
    """The content and mode of the stand-in for a host file that the user may not read: empty, and not executable.

    An empty program would do nothing and succeed.
    """
    if mode & 0o111 and content(path) is None:
        return _UNREADABLE.encode(), 0o755
    return content(path) or b"", mode


def package_status(data: bytes) -> bytes:
    """dpkg's status file, with the stand-in's checksum for each configuration file that the user may not read.

    So dpkg takes it for what was shipped: an upgrade brings the new file, and does not ask about an edit of nobody.
    """
    import re  # a start does not need it

    return re.sub(_CONFFILE, _with_own_checksum, data)


def _with_own_checksum(line: re.Match[bytes]) -> bytes:
    import hashlib  # who joins does not need it

    path = os.fsdecode(line[1])
    if os.access(path, os.R_OK):
        return line[0]
    try:
        instead, _ = of_unreadable(path, os.stat(path).st_mode)
    except OSError:  # it is not there, or in a directory that may not be entered
        return line[0]
    return b" %s %s" % (line[1], hashlib.md5(instead).hexdigest().encode())


def _database(path: str) -> list[tuple[str, str]]:
    """The name and the last field of each local entry; not getpwall(3), which may list a whole directory server."""
    rows = (line.split(":") for line in reader.read(path, follow=True).decode("utf-8", "surrogateescape").splitlines())
    return [(row[0], row[-1]) for row in rows if len(row) > 1 and row[0][:1] not in ("+", "-", "#")]
