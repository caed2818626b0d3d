"""Runs the commands of a unit with its user, directory, variables and limits (systemd.exec(5)); waits for none.

What confines a service (ProtectSystem=, PrivateTmp=, CapabilityBoundingSet= ...) is not applied: docs/services.md.
"""

from __future__ import annotations

import contextlib
import fcntl
import os
import re
import resource
import signal
from collections.abc import Iterator, Mapping
from dataclasses import dataclass

from sysenv_ns.within import directories, passing, syntax
from sysenv_ns.within.identities import Identity
from sysenv_ns.within.passing import Passed
from sysenv_ns.within.units import OrderError, Unit

STAND_INS = "/usr/lib/sysenv-ns/bin"
PATH = f"{STAND_INS}:/usr/local/sbin:/usr/local/bin:/usr/sbin:/usr/bin:/sbin:/bin"
_LIMITS = {key: getattr(resource, f"RLIMIT_{key[5:]}") for key in (
    "LimitCPU", "LimitFSIZE", "LimitDATA", "LimitSTACK", "LimitCORE", "LimitRSS", "LimitNOFILE", "LimitAS",
    "LimitNPROC", "LimitMEMLOCK", "LimitSIGPENDING", "LimitMSGQUEUE", "LimitNICE", "LimitRTPRIO",
) if hasattr(resource, f"RLIMIT_{key[5:]}")}  # fmt: skip
_SEMICOLON = "\ue000"  # stands for \\; which is an argument, where ; ends a command
_FIRST_PASSED = 3  # SD_LISTEN_FDS_START of sd_listen_fds(3)
_SIZES = {"K": 1 << 10, "M": 1 << 20, "G": 1 << 30, "T": 1 << 40}


@dataclass(frozen=True)
class ExecLine:
    """A command of a unit (ExecStart= and its like): the prefixes of systemd.service(5), and the words."""

    words: tuple[str, ...]
    may_fail: bool = False  # -
    has_name: bool = False  # @: the second word is what it is called
    is_verbatim: bool = False  # : no variables
    is_privileged: bool = False  # + and !: as root

    def arguments(self, variables: Mapping[str, str]) -> list[str]:
        """The words with variables replaced: $NAME as a word of its own becomes several, or none."""
        if self.is_verbatim:
            return list(self.words)
        found: list[str] = []
        for word in self.words:
            alone = re.fullmatch(r"\$([A-Za-z_]\w*)", word)
            found += variables.get(alone[1], "").split() if alone else [_replaced(word, variables)]
        return found


def lines(unit: Unit, key: str) -> list[ExecLine]:
    """The commands of a setting. Raises OrderError."""
    return [line for value in unit.raw("Service", key) for line in _parsed(unit, value)]


def _parsed(unit: Unit, value: str) -> Iterator[ExecLine]:
    prefixes = re.match(r"[-@:+!|]*", value)
    found = prefixes[0] if prefixes else ""
    words = syntax.words(value[len(found) :].replace("\\;", _SEMICOLON))
    command: list[str] = []
    for word in [*words, ";"]:
        if word != ";":
            plain = ";" if word == _SEMICOLON else word.replace(_SEMICOLON, "\\;")
            command.append(unit.expanded(plain))
            continue
        if command:
            yield ExecLine(tuple(command), "-" in found, "@" in found, ":" in found, "+" in found or "!" in found)
        command = []
        found = ""


def _replaced(word: str, variables: Mapping[str, str]) -> str:
    def value(found: re.Match[str]) -> str:
        return "$" if found[0] == "$$" else variables.get(found[1] or found[2], "")

    return re.sub(r"\$\$|\$\{([A-Za-z_]\w*)\}|\$([A-Za-z_]\w*)", value, word)


def spawn(
    unit: Unit, line: ExecLine, who: Identity, given: Mapping[str, str], output: int, passed: Passed = passing.NOTHING
) -> int:
    """Start a command in a child of its own session, and return its number. Raises OSError, OrderError.

    `output` is the descriptor for what it says.
    """
    arguments = line.arguments(given)
    if not arguments:
        raise OrderError(f"{unit.name}: an empty command")
    program = _program(arguments[0], unit)
    if line.has_name:
        arguments = arguments[1:]
    limits = [(_LIMITS[key], unit.text("Service", key)) for key in _LIMITS if unit.text("Service", key)]
    directory = unit.text("Service", "WorkingDirectory")
    mask = int(unit.text("Service", "UMask", "0022"), 8)
    nice = unit.text("Service", "Nice")
    source, target, errors = _streams(unit, bool(passed.descriptors))
    reading, writing = os.pipe()  # closed by execve(2): what comes through it is why there was none
    pid = os.fork()
    if pid:
        os.close(writing)
        with os.fdopen(reading, encoding="utf-8") as stream:
            failure = stream.read()
        if failure:
            os.waitpid(pid, 0)
            raise OrderError(f"{unit.name}: {failure}")
        return pid
    stage = "cannot be set up"
    try:
        os.setsid()
        for number in set(signal.Signals) - {signal.SIGKILL, signal.SIGSTOP}:
            signal.signal(number, signal.SIG_DFL)
        signal.pthread_sigmask(signal.SIG_SETMASK, ())
        first_free = _FIRST_PASSED + len(passed.descriptors)
        writing, output = (fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, first_free) for number in (writing, output))
        told = _pass(passed, first_free, source == "socket", not unit.flag("Service", "NonBlocking"))
        _connect(source, target, errors, output)
        os.umask(mask)
        for which, text in limits:
            _limit(which, text)
        if nice:
            os.setpriority(os.PRIO_PROCESS, 0, int(nice))
        if not line.is_privileged:
            stage = f"cannot become the user {who.name or who.uid}"
            _become(who)
        stage = f"cannot enter its directory {directory}"
        _change_directory(directory, who)
        stage = f"cannot execute {program}"
        os.execve(program, arguments, {**given, **told})
    except (OSError, ValueError) as error:
        with contextlib.suppress(OSError):
            os.write(writing, f"{stage}: {getattr(error, 'strerror', error)}".encode())
    finally:
        os._exit(203)  # EXIT_EXEC of systemd.exec(5)


def _streams(unit: Unit, has_socket: bool) -> tuple[str, str, str]:
    """What a command reads, and where it writes; of all commands only the main ones have a socket."""
    defaults = {"StandardInput": "null", "StandardOutput": "journal", "StandardError": "inherit"}
    source, target, errors = (unit.text("Service", key, default) for key, default in defaults.items())
    if has_socket:
        return source, target, errors
    target, errors = ("journal" if text == "socket" else text for text in (target, errors))
    return "null" if source == "socket" else source, target, errors


def _program(name: str, unit: Unit) -> str:
    if name.startswith("/"):
        return name
    for directory in PATH.split(":")[1:]:
        if os.access(f"{directory}/{name}", os.X_OK):
            return f"{directory}/{name}"
    raise OrderError(f"{unit.name}: there is no program {name}")


def _connect(source: str, target: str, errors: str, output: int) -> None:
    """The three standard streams. Of other descriptors those that are passed are inherited, and no more."""
    if source != "socket":
        os.dup2(directories.opened(source[5:] if source.startswith("file:") else os.devnull, os.O_RDONLY), 0)
    os.dup2(_writable(target, output, output), 1)
    os.dup2(_writable(errors, output, 1), 2)


def _pass(passed: Passed, first_free: int, as_input: bool, blocks: bool) -> dict[str, str]:
    """Put descriptors where sd_listen_fds(3) looks for them, or the only one on standard input; variables for that."""
    moved = [fcntl.fcntl(number, fcntl.F_DUPFD_CLOEXEC, first_free) for number in passed.descriptors]
    for place, number in enumerate(moved, 0 if as_input else _FIRST_PASSED):
        os.set_blocking(number, blocks)
        os.dup2(number, place)
    if not moved or as_input:
        return {}
    return {"LISTEN_PID": str(os.getpid()), "LISTEN_FDS": str(len(moved)), "LISTEN_FDNAMES": ":".join(passed.names)}


def _writable(what: str, output: int, inherited: int) -> int:
    kind, _, path = what.partition(":")
    flags = {"file": 0, "append": os.O_APPEND, "truncate": os.O_TRUNC}
    if kind in flags:
        return directories.opened(path, os.O_WRONLY | os.O_CREAT | flags[kind])
    if kind == "null":
        return os.open(os.devnull, os.O_WRONLY)
    if kind == "socket":
        return 0
    return inherited if kind == "inherit" else output


def _limit(which: int, text: str) -> None:
    """Set a resource limit; one above what this user may have becomes that."""
    _, most = resource.getrlimit(which)
    soft, _, hard = text.partition(":")
    wanted = [_amount(part) for part in (soft, hard or soft)]
    if most != resource.RLIM_INFINITY:
        wanted = [most if value == resource.RLIM_INFINITY else min(value, most) for value in wanted]
    with contextlib.suppress(ValueError, OSError):
        resource.setrlimit(which, (wanted[0], wanted[1]))


def _amount(text: str) -> int:
    if text == "infinity":
        return resource.RLIM_INFINITY
    factor = _SIZES.get(text[-1:], 1)
    return int(text.rstrip("KMGT")) * factor


def _become(who: Identity) -> None:
    if (who.uid, who.gid) == (0, 0) and not who.groups:
        return
    os.setgroups(who.groups)
    os.setresgid(who.gid, who.gid, who.gid)
    os.setresuid(who.uid, who.uid, who.uid)


def _change_directory(text: str, who: Identity) -> None:
    optional, path = text.startswith("-"), text.lstrip("-")
    try:
        os.chdir(who.home if path == "~" else path or "/")
    except OSError:
        if not optional:
            raise
        os.chdir("/")
