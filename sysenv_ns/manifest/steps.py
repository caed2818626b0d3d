"""The steps of a sync inside an environment: as data, and how a process in there carries them out.

That process must import nothing: it would come from the environment's own files.
"""

from __future__ import annotations

import contextlib
import os
from collections.abc import Iterable, Iterator, Mapping, Sequence
from dataclasses import dataclass, replace
from pathlib import Path

from sysenv_ns.basics import opened
from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.files.replacement import write_new
from sysenv_ns.kernel import children
from sysenv_ns.kernel.mountinfo import is_below
from sysenv_ns.manifest.document import AddedFile, Manifest, split
from sysenv_ns.manifest.plans import Action

_APT = "apt-get -q -y -o Dpkg::Use-Pty=0 -o Dpkg::Options::=--force-confdef -o Dpkg::Options::=--force-confold"
_ALLOWED = "--allow-downgrades --allow-change-held-packages"

_UPDATE = f"{_APT} update"
# Everything is there before anything is changed. Where some lists cannot be had, the others may do.
_FETCH = f"""
fetch() {{ {_APT} {_ALLOWED} --download-only install "$@"; }}
updated=$1
shift
if [ "$updated" = no ]; then
    fetch "$@" && exit
    echo "The package lists may be too old." >&2
    {_UPDATE} || true
fi
fetch "$@"
"""
_AVAILABLE = f"""
missing() {{
    for entry; do
        [ -n "$(apt-cache show "$entry" 2>/dev/null)" ] || echo "$entry"
    done
}}
[ -n "$(missing "$@")" ] || exit 0
{_UPDATE} >/dev/null 2>&1 || true
set -- $(missing "$@")
[ $# -gt 0 ] || exit 0
for entry; do
    there=$(apt-cache madison "${{entry%%=*}}" | cut -d '|' -f 2 | sort -u | tr -s '\\n ' ' ')
    echo "$entry is in no repository; available:${{there:- nothing}}"
done
exit 1
"""
# Only what the system outside has not (standard input): what is unneeded there is not for us to remove.
_SWEEP = f"""
options="-o APT::AutoRemove::SuggestsImportant=false"
hosts=$(cat)
unneeded=$(LC_ALL=C apt-get -qq -s $options autoremove </dev/null | sed -n 's/^Remv \\([^ ]*\\).*/\\1/p')
set --
for name in $unneeded; do
    case "
$hosts
" in *"
$name
"*) ;; *) set -- "$@" "$name" ;; esac
done
[ $# = 0 ] || {_APT} purge "$@"
"""


@dataclass(frozen=True)
class Run:
    """A command with its input; `quiet`: its output is the message if it fails."""

    title: str
    arguments: tuple[str, ...]
    given: bytes = b""
    hint: str = "see its output above"
    quiet: bool = False
    directory: str = "/"


@dataclass(frozen=True)
class Put:
    """A file or link that replaces what is there."""

    path: str
    file: AddedFile
    name: str = ""  # what it is, for messages

    @property
    def title(self) -> str:
        """For messages."""
        return f"write {self.name or self.path}"


@dataclass(frozen=True)
class Delete:
    """A file or link to delete."""

    path: str

    @property
    def title(self) -> str:
        """For messages."""
        return f"delete {self.path}"


Step = Run | Put | Delete


def compiled(
    actions: Sequence[Action], manifest: Manifest, hosts: Iterable[str], installed: Mapping[str, str], directory: str
) -> Iterator[Step]:
    """The steps of these actions, in the necessary order.

    `hosts` are the host's packages; `installed` the installed owners of answered questions, by question.
    """
    by_kind: dict[str, list[Action]] = {}
    for action in actions:
        by_kind.setdefault(action.kind, []).append(action)

    def of(kind: str) -> list[Action]:
        return by_kind.get(kind, [])

    # What is given up comes before packages that may have a file there, what is added after them.
    early = [a for a in of("file") if a.subject not in manifest.placed or is_below(a.subject, "/etc/apt")]
    late = [action for action in of("file") if action not in early]
    changed = any(is_below(a.subject, "/etc/apt") for a in early)
    for action in (*of("key"), *of("repository")):
        yield _put(action.subject, None if action.value is None else AddedFile(_bytes(action.value)))
    for action in early:
        yield from _placed(action)
    yield from (_dpkg("--add-architecture", action.subject) for action in of("architecture"))
    if answers := b"".join(_bytes(action.value) + b"\n" for action in of("answer")):
        yield Run("answer debconf's questions", ("debconf-set-selections",), answers)
    names = sorted({installed[action.subject] for action in of("answer") if action.subject in installed})
    yield from _packages(actions, bool(changed or of("key") or of("repository") or of("architecture")))
    if names:
        yield Run(f"configure {' '.join(names)}", ("dpkg-reconfigure", "--frontend=noninteractive", *names))
    yield from _marks(by_kind)
    if of("drop") or of("remove"):
        yield _shell(
            "remove packages that are no longer needed", _SWEEP, (), "".join(f"{name}\n" for name in hosts).encode()
        )
    yield from (_dpkg("--remove-architecture", action.subject) for action in of("no-architecture"))
    for action in late:
        yield from _placed(action)
    for script in manifest.scripts if of("script") else ():
        yield Run(f"script: {script.title}", ("sh", "-e", "-c", script.run), directory=directory)


def _packages(actions: Sequence[Action], changed: bool) -> Iterator[Run]:
    install = [action.subject for action in actions if action.kind == "install"]
    remove = [f"{action.subject}-" for action in actions if action.kind == "remove"]
    if changed:
        yield _shell("apt-get update", _UPDATE, ())
    if not install and not remove:
        return
    if pinned := [entry for entry in install if split(entry)[1]]:
        hint = "leave out the version, or add a repository that has it"
        yield replace(_shell("look for the versions", _AVAILABLE, tuple(pinned)), hint=hint, quiet=True)
    if install:
        yield _shell("fetch packages", _FETCH, ("yes" if changed else "no", *install, *remove))
    script = f'{_APT} {_ALLOWED} install "$@"'
    yield _shell("install and remove packages", script, (*install, *remove))


def _marks(by_kind: Mapping[str, Sequence[Action]]) -> Iterator[Run]:
    subjects = {kind: [action.subject for action in actions] for kind, actions in by_kind.items()}
    automatic = [split(a.subject)[0] for a in by_kind.get("install", ()) if a.value == b"automatic"]
    for verb, names in (
        ("auto", [*automatic, *subjects.get("drop", ())]),
        ("unhold", subjects.get("unhold", ())),
        ("hold", subjects.get("hold", ())),
    ):
        if names:
            yield Run(f"apt-mark {verb} {' '.join(names)}", ("apt-mark", verb, *names))


def _shell(title: str, script: str, arguments: tuple[str, ...], given: bytes = b"") -> Run:
    return Run(title, ("sh", "-ec", script, "sh", *arguments), given)


def _dpkg(option: str, name: str) -> Run:
    return Run(f"dpkg {option} {name}", ("dpkg", option, name))


def _put(path: str, file: AddedFile | None) -> Put | Delete:
    return Delete(path) if file is None else Put(path, file)


def _placed(action: Action) -> Iterator[Step]:
    """A file, then its owner: packages may have created that user before."""
    file = action.value if isinstance(action.value, AddedFile) else None
    yield _put(action.subject, file)
    if file is not None and file.owner != AddedFile.owner:
        yield Run(f"chown {file.owner} {action.subject}", ("chown", "-h", "--", file.owner, action.subject))


def _bytes(value: bytes | AddedFile | None) -> bytes:
    if not isinstance(value, bytes):
        raise TypeError(value)
    return value


def carry_out(steps: Sequence[Step], bound: Sequence[str], variables: Mapping[str, str], log: int) -> None:
    """Carry out all steps, as root inside; output goes to the descriptor `log`. Raises SysenvError.

    `bound` are the directories with the host's own content: nothing is written there.
    """
    for step in steps:
        try:
            os.write(log, f"sysenv-ns: {step.title}\n".encode("utf-8", "surrogateescape"))
            if isinstance(step, Run):
                _run(step, variables, log)
            else:
                _check(step.path, bound)
                _place(step)
        except OSError as error:
            raise SysenvError(f"{step.title} failed: {reason(error)}") from error


def _run(step: Run, variables: Mapping[str, str], log: int) -> None:
    with contextlib.suppress(OSError):  # it is out of reach inside
        os.chdir(step.directory)
    program = _program(step.arguments[0], variables)
    arguments = list(step.arguments)
    if step.quiet:
        said = children.complaint(program, arguments, variables)
        if said is not None:
            raise SysenvError(said, step.hint)
        return
    with opened(os.memfd_create("given")) as given:
        os.write(given, step.given)
        os.lseek(given, 0, os.SEEK_SET)
        actions = [(os.POSIX_SPAWN_DUP2, given, 0), (os.POSIX_SPAWN_DUP2, log, 1), (os.POSIX_SPAWN_DUP2, log, 2)]
        pid = os.posix_spawn(program, arguments, variables, file_actions=actions)
    _, status = os.waitpid(pid, 0)
    if status != 0:
        code = os.waitstatus_to_exitcode(status)
        how = f"status {code}" if code >= 0 else f"signal {-code}"
        raise SysenvError(f"{step.title} failed with {how}", step.hint)


def _program(name: str, variables: Mapping[str, str]) -> str:
    found = (f"{directory}/{name}" for directory in variables["PATH"].split(":"))
    path = next((path for path in found if os.access(path, os.X_OK)), None)
    if path is None:
        raise SysenvError(f"there is no {name} in the environment", "this needs a system with apt and debconf")
    return path


def _check(path: str, bound: Sequence[str]) -> None:
    real = os.path.join(os.path.realpath(os.path.dirname(path)), os.path.basename(path))
    if any(real == place or is_below(real, place) for place in (*bound, "/run")):
        raise SysenvError(
            f"{path} is this system's own, not the environment's", "leave it out: no environment can change it"
        )


def _place(step: Put | Delete) -> None:
    if os.path.isdir(step.path) and not os.path.islink(step.path):
        raise SysenvError(f"{step.path} is a directory", "give the path of a file")
    if isinstance(step, Delete):
        with contextlib.suppress(FileNotFoundError):
            os.unlink(step.path)
        return
    os.makedirs(os.path.dirname(step.path), mode=0o755, exist_ok=True)
    temporary = Path(f"{step.path}.sysenv-ns-new")
    if step.file.link is not None:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(step.file.link)
    else:
        write_new(temporary, step.file.content, step.file.mode, durable=False, exact=True)
    temporary.replace(step.path)
