"""systemctl for the services of an environment: parses the order, carries it out, and reports the result.

The stand-ins on PATH (host/services.py) have seen to it that no package's script asks.
"""

from __future__ import annotations

import argparse
import errno
import fnmatch
import os
import sys
from collections.abc import Callable, Sequence

from sysenv_ns.within import orders, outcomes, questions, states, units, variables
from sysenv_ns.within.questions import Reply
from sysenv_ns.within.units import OrderError

# Done on unit files alone, which the real systemctl does as in a chroot.
_ON_FILES = (
    *("enable", "disable", "reenable", "mask", "unmask", "preset", "preset-all", "is-enabled", "list-unit-files"),
    *("get-default", "set-default", "link", "revert", "add-wants", "add-requires"),
)
_REAL = ("/usr/bin/systemctl", "/bin/systemctl")
_MACHINE = ("halt", "poweroff", "reboot", "kexec", "suspend", "hibernate", "rescue", "emergency", "exit", "switch-root")


def main(arguments: Sequence[str]) -> int:
    """systemctl with these arguments. Returns the exit status."""
    return answered("systemctl", lambda: _systemctl(list(arguments)))


def answered(program: str, function: Callable[[], int]) -> int:
    """The exit status of a program that says on standard error why it cannot do what it was told."""
    try:
        return function()
    except OrderError as error:
        complain(error, program)
        return error.status
    except PermissionError as error:
        complain(OrderError(f"{error.filename or 'this'}: {error.strerror}", f"sudo {program} ..."), program)
    except OSError as error:
        if error.errno != errno.EPIPE:
            complain(OrderError(str(error)), program)
        os.dup2(os.open(os.devnull, os.O_WRONLY), 1)
    except KeyboardInterrupt:
        return 130
    return 1


def say(*lines: str) -> None:
    """On standard output."""
    sys.stdout.writelines(f"{line}\n" for line in lines)


def flush() -> None:
    """Let what has been said be seen."""
    sys.stdout.flush()


def complain(error: OrderError, program: str = "systemctl") -> None:
    """On standard error."""
    sys.stderr.write(f"{program}: {error.message}\n" + (f"hint: {error.hint}\n" if error.hint else ""))


# systemctl


def _options() -> argparse.ArgumentParser:
    parser = argparse.ArgumentParser("systemctl", add_help=False, allow_abbrev=False)
    add = parser.add_argument
    for option in ("--now", "--no-legend", "--plain", "--value", "--failed", "--system", "--user", "--global"):
        add(option, action="store_true")
    for option in ("--no-pager", "--no-block", "--no-ask-password", "--no-reload", "--no-wall", "--runtime", "--wait"):
        add(option, action="store_true")
    for names in (("-a", "--all"), ("-q", "--quiet"), ("-l", "--full"), ("-f", "--force"), ("-r", "--recursive")):
        add(*names, action="store_true")
    add("-h", "--help", action="store_true")
    add("-t", "--type", action="append", default=[])
    add("--state", action="append", default=[])
    add("-p", "--property", "-P", action="append", default=[])
    add("-n", "--lines", type=int, default=10)
    add("-s", "--signal", default="SIGTERM")
    add("--kill-who", "--kill-whom", default="all")
    for option in ("-o", "--output", "--job-mode", "--preset-mode", "--root"):
        add(option)
    return parser


def _systemctl(arguments: list[str]) -> int:
    order = next((word for word in arguments if not word.startswith("-")), "")
    if order in _ON_FILES or "--version" in arguments:
        return _on_files(order, arguments)
    options, words = _options().parse_known_args(arguments)
    unknown = [word for word in words if word.startswith("-")]
    if unknown:
        raise OrderError(f"the option {unknown[0]} is not supported in an environment")
    if options.user or getattr(options, "global"):
        raise OrderError(
            "services of users belong to the host's own manager",
            "to talk to it: SYSTEMD_OFFLINE=0 systemctl --user ...",
        )
    order, *names = words or ["list-units"]
    if order in _CHANGES:
        return _change(order, _matched(order, names), _CHANGES[order])
    if order in questions.ALL:
        return _answer(questions.ALL[order](options, names if order.startswith("list-") else _matched(order, names)))
    carry_out = _OTHERS.get(order)
    if carry_out is None:
        if order in _MACHINE:
            raise OrderError(
                f"{order}: the machine is the host's", "on the host, sysenv-ns stop NAME ends an environment"
            )
        raise OrderError(
            f"{order} is not supported in an environment", "see docs/services.md of sysenv-ns for what is supported"
        )
    return carry_out(options, _matched(order, names))


def _answer(found: Reply) -> int:
    say(*found.lines)
    for failure in found.failures:
        complain(failure)
    return found.status


def _matched(order: str, names: list[str]) -> list[str]:
    """Patterns stand for the units that have been started."""
    if order in ("set-environment", "unset-environment", "show-environment"):
        return names
    found: list[str] = []
    for name in names:
        is_pattern = any(letter in name for letter in "*?[")
        known = [state.name for state in states.known()] if is_pattern else []
        found += [one for one in known if fnmatch.fnmatchcase(one, name)] if is_pattern else [name]
    return found


def _require_root(order: str, names: Sequence[str] = ()) -> None:
    if os.geteuid() != 0:
        said = " ".join((order, *names))
        raise OrderError(f"{order}: only root of the environment may do that", f"sudo systemctl {said}")


def _on_files(order: str, arguments: list[str]) -> int:
    """What is done on unit files, by the real systemctl, and then --now."""
    now = "--now" in arguments
    rest = [word for word in arguments if word != "--now"]
    names = [word for word in rest if not word.startswith("-")][1:]
    real = _first(_REAL, "systemd")
    if now and order in ("enable", "disable", "mask", "reenable"):
        _require_root(f"{order} --now", names)
    given = {**os.environ, "SYSTEMD_OFFLINE": "1"}
    if not now:
        sys.stdout.flush()
        os.execve(real, [real, *rest], given)
    status = os.waitstatus_to_exitcode(os.waitpid(os.posix_spawn(real, [real, *rest], given), 0)[1])
    if status == 0 and order in ("enable", "reenable"):
        return _change("start", names, orders.start)
    if status == 0 and order in ("disable", "mask"):
        return _stop_running(names)
    return status


def become(programs: Sequence[str], arguments: list[str], package: str) -> int:
    """Go on as the first of these programs that is there. Raises OrderError, OSError; never returns."""
    sys.stdout.flush()
    real = _first(programs, package)
    return os.execv(real, [real, *arguments])


def _first(programs: Sequence[str], package: str) -> str:
    for path in programs:
        if os.access(path, os.X_OK):
            return path
    raise OrderError(f"this needs the package {package}, which is not installed", f"apt-get install {package}")


def _stop_running(names: list[str]) -> int:
    failures = []
    for name in map(units.full_name, names):
        state = states.read(name)
        if state.is_supervised:
            orders.end(state, float("inf"))
        elif state.is_active:
            failures += orders.stop([name])
    for failure in failures:
        complain(failure)
    return 1 if failures else 0


def _set_environment(options: argparse.Namespace, names: list[str]) -> int:
    _require_root("set-environment")
    return _write_environment({**variables.of_manager(), **dict(word.split("=", 1) for word in names if "=" in word)})


def _unset_environment(options: argparse.Namespace, names: list[str]) -> int:
    _require_root("unset-environment")
    gone = {word.partition("=")[0] for word in names}
    return _write_environment({key: value for key, value in variables.of_manager().items() if key not in gone})


def _write_environment(found: dict[str, str]) -> int:
    os.makedirs(states.DIRECTORY, mode=0o755, exist_ok=True)
    with open(variables.MANAGER_VARIABLES, "w", encoding="utf-8", errors="surrogateescape") as stream:
        stream.writelines(f"{key}={value}\n" for key, value in found.items())
    return 0


def _daemon_reload(options: argparse.Namespace, names: list[str]) -> int:
    _require_root("daemon-reload")
    orders.prepare()  # all else is read anew with each order
    return 0


def _reset_failed(options: argparse.Namespace, names: list[str]) -> int:
    _require_root("reset-failed", names)
    orders.reset(names)
    return 0


def _kill(options: argparse.Namespace, names: list[str]) -> int:
    questions.require_names(names)
    _require_root("kill", names)
    orders.kill(names, outcomes.signal_of(options.signal), options.kill_who == "main")
    return 0


def _stop_all(options: argparse.Namespace, names: list[str]) -> int:
    _require_root("stop")
    failures = orders.stop_all()
    for failure in failures:
        complain(failure)
    return 1 if failures else 0


def _start_enabled(options: argparse.Namespace, names: list[str]) -> int:
    """Of these units, start those that are enabled: sysenv-ns start."""
    chosen = [name for name in names if units.is_enabled(name) and name.endswith((".service", ".socket", ".timer"))]
    if not chosen:
        raise OrderError("no service has been enabled in this environment", "sudo systemctl enable NAME, inside")
    say(f"starting {', '.join(chosen)}")
    return _change("start", chosen, orders.start)


def _start_accepted(options: argparse.Namespace, names: list[str]) -> int:
    """Start the instance of a service for the connection that is descriptor 3."""
    orders.start_accepted(names[0], 3)
    return 0


def _change(order: str, names: list[str], function: Callable[[list[str]], list[OrderError]]) -> int:
    """Carry out an order that needs root; says of each unit that it has failed for why."""
    questions.require_names(names)
    _require_root(order, names)
    orders.prepare()
    failures = function(names)
    if order == "stop":
        for name in map(units.full_name, names):
            if triggers := orders.activating(name):
                complain(OrderError(f"{name} can still be started by: {', '.join(triggers)}"))
    for failure in failures:
        complain(failure)
    return max((failure.status for failure in failures), default=0)


# Those that change what runs.
_CHANGES: dict[str, Callable[[list[str]], list[OrderError]]] = {
    "start": orders.start,
    "stop": orders.stop,
    "restart": orders.restart,
    "try-restart": lambda names: orders.restart(names, only_active=True),
    "condrestart": lambda names: orders.restart(names, only_active=True),
    "reload": orders.reload,
    "reload-or-restart": lambda names: orders.reload(names, or_restart=True),
    "force-reload": lambda names: orders.reload(names, or_restart=True),
    "try-reload-or-restart": lambda names: orders.reload(names, or_restart=True, only_active=True),
    "reload-or-try-restart": lambda names: orders.reload(names, or_restart=True, only_active=True),
}
_OTHERS: dict[str, Callable[[argparse.Namespace, list[str]], int]] = {
    "set-environment": _set_environment,
    "unset-environment": _unset_environment,
    "daemon-reload": _daemon_reload,
    "daemon-reexec": _daemon_reload,
    "reset-failed": _reset_failed,
    "kill": _kill,
    # For sysenv-ns itself, and its supervisor of a socket unit.
    "stop-all": _stop_all,
    "start-enabled": _start_enabled,
    "start-accepted": _start_accepted,
}
