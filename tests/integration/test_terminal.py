"""Terminal, signals, exit status, streams, descriptors and all else that a process inherits: as without the tool."""

from __future__ import annotations

import concurrent.futures
import os
import shutil
import signal
from collections.abc import Iterator, Mapping
from pathlib import Path
from typing import Any

import pytest

from .support import START_LIMIT, Environment, Result, describe, end, finish, line, ran, sleeper, succeeded, wait_for
from .terminals import close, inside, spawn

_READY = ("sh", "-c", "echo ready; exec sleep 300")
_NOT_DEADLY = {
    *(signal.SIGCHLD, signal.SIGCONT, signal.SIGURG, signal.SIGWINCH),
    *(signal.SIGSTOP, signal.SIGTSTP, signal.SIGTTIN, signal.SIGTTOU),
}
_HANDLER = """
import os, signal, sys
def handle(number, frame):
    columns, lines = os.get_terminal_size(0)
    os.write(1, f"caught {number} {columns} {lines}\\n".encode())  # print may be what the signal interrupts
for number in map(int, sys.argv[1:]):
    signal.signal(number, handle)
print("ready", os.getpid(), flush=True)
while True:
    signal.pause()
"""


def _outside(environment: Environment, script: str, *arguments: str) -> Result:
    """A script of bash on the host, as the test's user: $TOOL and $NAME are the tool and the environment."""
    return _run(environment, ["bash", "-c", script, "bash", *arguments])


def _run(environment: Environment, command: list[str], variables: Mapping[str, str] | None = None) -> Result:
    """A program on the host as the test's user, leading a session without a terminal."""
    names = {"TOOL": str(environment.tool.launcher), "NAME": environment.name}
    return ran(
        command,
        cwd=environment.tool.account.home,
        env={**environment.tool.variables(), **names} if variables is None else dict(variables),
        errors="surrogateescape",
        **environment.tool.account.become(),
    )


@pytest.fixture(autouse=True)
def _usual_signals() -> Iterator[None]:
    """A shell makes what it runs in the background ignore these, and with pytest all that it starts."""
    before = {number: signal.signal(number, signal.default_int_handler) for number in (signal.SIGINT, signal.SIGQUIT)}
    yield
    for number, handler in before.items():
        signal.signal(number, handler)


@pytest.fixture
def environment(shared_environment: Environment) -> Environment:
    """One for all tests of this file: they leave nothing."""
    return shared_environment


@pytest.fixture
def place(environment: Environment) -> Iterator[Path]:
    """A directory of the user that inside is the same."""
    path = environment.tool.account.home / f"sysenv-test-{environment.name}"
    path.mkdir()
    os.chown(path, environment.tool.account.uid, environment.tool.account.gid)
    yield path
    shutil.rmtree(path)


def test_command_is_the_process_that_was_started(environment: Environment) -> None:
    """Nothing stands between the terminal and the command."""
    terminal = inside(environment, "python3", "-c", _HANDLER, str(int(signal.SIGINT)))
    terminal.expect(r"ready (\d+)\r\n")
    assert int(terminal.match[1]) == terminal.pid
    group = os.getpgid(terminal.pid)
    assert [pid for pid in _processes_in_group(group) if pid != terminal.pid] == []
    terminal.kill(signal.SIGKILL)
    close(terminal)


def _processes_in_group(group: int) -> list[int]:
    found = []
    for name in filter(str.isdecimal, os.listdir("/proc")):
        try:
            if os.getpgid(int(name)) == group:
                found.append(int(name))
        except ProcessLookupError:
            continue
    return found


def test_keys_reach_the_command(environment: Environment) -> None:
    terminal = inside(environment, "python3", "-c", _HANDLER, str(int(signal.SIGINT)), str(int(signal.SIGQUIT)))
    terminal.expect("ready")
    for key, number in (("c", signal.SIGINT), ("\\", signal.SIGQUIT), ("c", signal.SIGINT)):
        terminal.sendcontrol(key)
        terminal.expect(f"caught {int(number)} ")
    terminal.kill(signal.SIGKILL)
    close(terminal)
    assert terminal.signalstatus == signal.SIGKILL


@pytest.mark.parametrize(("key", "number"), [("c", signal.SIGINT), ("\\", signal.SIGQUIT)])
def test_keys_end_the_command(environment: Environment, key: str, number: signal.Signals) -> None:
    terminal = inside(environment, *_READY)
    terminal.expect("ready")
    terminal.sendcontrol(key)
    close(terminal)
    assert (terminal.exitstatus, terminal.signalstatus) == (None, number)


def test_suspended_in_a_shell_of_the_host(environment: Environment) -> None:
    terminal = spawn(environment, "bash", "--norc", "-i", variables={"PS1": "host> "})
    terminal.expect("host> ")
    terminal.sendline(f"{environment.tool.launcher} exec {environment.name} -- sh -c 'echo ready; exec cat'")
    terminal.expect("ready\r\n")
    terminal.sendline("before")
    terminal.expect("before\r\nbefore\r\n")
    terminal.sendcontrol("z")
    terminal.expect("Stopped")
    terminal.expect("host> ")
    terminal.sendline("jobs")
    terminal.expect(r"\[1\]\+ +Stopped")
    terminal.expect("host> ")
    terminal.sendline("fg")
    terminal.expect("exec cat")
    terminal.sendline("after")
    terminal.expect("after\r\nafter\r\n")
    terminal.sendcontrol("d")
    terminal.expect("host> ")
    terminal.sendline("echo status=$?")
    terminal.expect("status=0\r\n")
    terminal.sendline("exit")
    close(terminal)


def test_job_control_in_a_shell(environment: Environment) -> None:
    """Other shells, and more programs that need a terminal: test_programs.py."""
    terminal = spawn(environment, str(environment.tool.launcher), "shell", environment.name)
    terminal.sendline("echo rea''dy")
    terminal.expect("[\r\n]ready")
    terminal.sendline("sh -c 'echo beg''un; exec sleep 300'")
    terminal.expect("[\r\n]begun")
    terminal.sendcontrol("z")
    terminal.expect("[Ss]topped|suspended")
    terminal.sendline("echo pau''sed")
    terminal.expect("[\r\n]paused")
    terminal.sendline("fg")
    terminal.expect("sleep 300|continued")
    terminal.sendcontrol("c")
    terminal.sendline("echo aft''er")
    terminal.expect("[\r\n]after")
    terminal.sendline("exit 5")
    close(terminal)
    assert terminal.exitstatus == 5


def test_size_of_the_window(environment: Environment) -> None:
    terminal = inside(environment, "python3", "-c", _HANDLER, str(int(signal.SIGWINCH)))
    terminal.expect("ready")
    terminal.setwinsize(30, 100)
    terminal.expect(f"caught {int(signal.SIGWINCH)} 100 30\r\n")
    terminal.kill(signal.SIGKILL)
    close(terminal)
    assert succeeded_output(inside(environment, "stty", "size")) == "24 200"


def succeeded_output(terminal: Any) -> str:
    """What a program in a terminal prints till its end, which must be a good one."""
    output = terminal.read()
    terminal.close()
    assert terminal.exitstatus == 0, output
    assert isinstance(output, str)
    return output.strip()


def test_full_screen_program(environment: Environment) -> None:
    terminal = inside(environment, "top")
    terminal.expect("PID")
    terminal.send("q")
    close(terminal)
    assert terminal.exitstatus == 0


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGHUP, signal.SIGUSR1])
def test_signals_to_the_tool_reach_the_command(environment: Environment, number: signal.Signals) -> None:
    script = f"trap 'echo caught; exit 7' {number.name.removeprefix('SIG')}; echo ready; while :; do sleep 0.1; done"
    process = environment.tool.start("exec", environment.name, "--", "sh", "-c", script)
    assert line(process) == "ready\n"
    os.kill(process.pid, number)
    result = finish(process)
    assert (result.returncode, result.stdout, result.stderr) == (7, "caught\n", "")


def test_terminal_that_is_closed(environment: Environment) -> None:
    """The command gets SIGHUP as any would, and nothing stays behind."""
    terminal = inside(environment, *_READY)
    terminal.expect("ready")
    terminal.close(force=False)
    wait_for(lambda: environment.tool.status(environment.name)["running"] is False)


@pytest.mark.modes("full", more=("single", "root", "fuse"))
def test_exit_status_of_every_kind(environment: Environment, whole: bool) -> None:
    """Each of a session of its own; all of them in one mode at most, as the way is the same."""
    every = whole and environment.tool.mode == "full"
    statuses = range(256) if every else (0, 1, 2, 64, 125, 126, 127, 128, 130, 255)
    session = sleeper(environment)  # the others join
    with concurrent.futures.ThreadPoolExecutor(4) as pool:
        results = list(pool.map(lambda status: environment.exec("sh", "-c", f"exit {status}"), statuses))
    assert [(result.returncode, result.stderr) for result in results] == [(status, "") for status in statuses]
    end(session)


def test_ended_by_a_signal(environment: Environment, whole: bool) -> None:
    """Each that ends a process, of those without a name the last one at least.

    The signal itself, not 128 and its number: the caller's shell makes that.
    """
    numbers = sorted(signal.valid_signals() - _NOT_DEADLY)
    assert len(numbers) > 50
    every = whole and environment.tool.mode == "full"
    for number in numbers if every else (*numbers[:25], numbers[-1]):
        result = environment.exec("sh", "-c", f"ulimit -c 0; kill -{int(number)} $$")
        assert (result.returncode, result.stderr) == (-number, ""), number
    result = _outside(environment, '"$TOOL" exec "$NAME" -- sh -c "kill -TERM \\$\\$"; echo $?')
    assert result.stdout == "143\n"


@pytest.mark.modes("full", "sudo", more=("single", "root", "fuse"))
def test_stdin_is_a_file(environment: Environment, place: Path) -> None:
    (place / "input").write_text("one\ntwo\n")
    script = 'exec 3<"$1"; "$TOOL" exec "$NAME" -- head -c 4 <&3; cat <&3'
    assert succeeded(_outside(environment, script, str(place / "input"))).stdout == "one\ntwo\n"


def test_closed_streams_stay_closed(environment: Environment) -> None:
    probe = "for n in 0 1 2; do [ -e /proc/$$/fd/$n ] && kept=$kept$n\\ ; done; echo $kept >&9; exit 3"
    for streams, kept in (
        ("<&-", "1 2"),
        (">&-", "0 2"),
        ("2>&-", "0 1"),
        ("<&- 2>&-", "1"),
        ("<&- >&- 2>&-", ""),
    ):
        script = f'"$TOOL" exec "$NAME" -- sh -c "$1" 9>&1 {streams}; echo status=$?'
        result = _outside(environment, script, probe)
        assert result.stdout.split() == [*kept.split(), "status=3"], (streams, describe(result))
        assert result.stderr == ""


def test_errors_without_stderr(environment: Environment) -> None:
    result = _outside(environment, '"$TOOL" exec "$NAME" -- no-such-command 2>&-; echo $?')
    assert (result.stdout, result.stderr) == ("127\n", "")


def test_stdout_is_a_closed_pipe(environment: Environment) -> None:
    result = _outside(environment, '"$TOOL" exec "$NAME" -- yes | head -n 1; echo ${PIPESTATUS[0]}')
    assert (result.stdout, result.stderr) == ("y\n141\n", "")


def test_descriptors_are_inherited_and_none_added(environment: Environment, place: Path) -> None:
    script = 'exec 7>"$1"; "${@:2}" sh -c "echo text >&7; ls /proc/self/fd"'
    host = _outside(environment, script, str(place / "host"))
    inside = _outside(
        environment, script, str(place / "inside"), str(environment.tool.launcher), "exec", environment.name, "--"
    )
    assert "7" in succeeded(inside).stdout.split()
    assert inside.stdout == succeeded(host).stdout
    assert (place / "inside").read_text() == "text\n"


def test_descriptors_of_a_joining_session(environment: Environment) -> None:
    with environment.tool.start("exec", environment.name, "--", *_READY) as process:
        line(process)
        assert environment.exec("ls", "/proc/self/fd").stdout.split() == ["0", "1", "2", "3"]
        process.kill()


def test_no_controlling_terminal(environment: Environment) -> None:
    """As cron and systemd start it."""
    script = "ps -o tty= -p $$; if (exec </dev/tty) 2>/dev/null; then echo terminal; else echo none; fi"
    result = succeeded(_run(environment, [str(environment.tool.launcher), *_command(environment, script)]))
    assert (result.stdout.split(), result.stderr) == (["?", "none"], "")


def _command(environment: Environment, script: str) -> list[str]:
    return ["exec", environment.name, "--", "sh", "-c", script]


def test_every_byte_in_an_argument(environment: Environment) -> None:
    every = bytes(range(1, 256)).replace(b"\r", b"")  # what reads the output takes that for the end of a line
    arguments = [every, b"two words", b"line\nbreak", b"'\"$HOME`\\", b"", b"--", b"-x", b"\xc3\x28", "\u20ac".encode()]
    result = succeeded(environment.exec("printf", "%s|", *arguments))
    assert os.fsencode(result.stdout) == b"|".join(arguments) + b"|"


@pytest.mark.parametrize(
    "locale",
    [{}, {"LANG": "C"}, {"LANG": "C.UTF-8"}, {"LC_CTYPE": "C"}, {"LC_ALL": "C"}, {"LC_CTYPE": "C.UTF-8"}],
    ids=str,
)
def test_environment_variables_are_kept(environment: Environment, locale: dict[str, str]) -> None:
    """To the byte; Python itself adds LC_CTYPE where the locale is C (PEP 538), which the command must not see."""
    tool = environment.tool
    odd = {"EMPTY": "", "LINES_": "a\nb", "BYTES": "\udcff\udcfe", "BASH_FUNC_f%%": "() { :; }", "PYTHONPATH": "/x"}
    kept = {name: value for name, value in tool.variables().items() if name != "LANG"}
    variables = {**kept, **odd, **locale, "PWD": str(tool.account.home)}
    # Not the launcher: the shell that runs it may add variables of its own.
    python = str(tool.launcher.parent.parent / ".venv/bin/python")
    command = [python, "-I", "-m", "sysenv_ns", "exec", environment.name, "--", "env", "-0"]
    result = succeeded(_run(environment, command, variables))
    inside = dict(entry.split("=", 1) for entry in result.stdout.split("\0") if entry)
    assert (inside.pop("SYSENV_NS"), inside.pop("SYSTEMD_OFFLINE")) == (environment.name, "1")
    assert inside.pop("TMUX_TMPDIR") == "/run/sysenv-ns/sockets"
    for name in ("PATH", "HOME", "USER", "LOGNAME"):
        inside.pop(name)
        variables.pop(name)
    told = {name: value for name, value in inside.items() if name.startswith("SUDO_")}  # whom root works for
    if environment.tool.mode == "full":
        assert (told["SUDO_UID"], told["SUDO_USER"]) == (str(tool.account.uid), tool.account.name)
    assert {name: value for name, value in inside.items() if name not in told} == variables


def test_current_directory_that_is_gone(environment: Environment, place: Path) -> None:
    """Everywhere, not only inside: the command starts in its home, and the tool says so."""
    script = 'mkdir "$1/gone"; cd "$1/gone"; rmdir "$1/gone"; "$TOOL" exec "$NAME" -- sh -c "pwd -P; echo $HOME"'
    result = succeeded(_outside(environment, script.replace("$HOME", "\\$HOME"), str(place)))
    where, home = result.stdout.split()
    assert where == home
    assert "does not exist inside; continuing in" in result.stderr


def test_limits_are_kept(environment: Environment) -> None:
    probe = (
        "ulimit -a; umask; nice; cat /proc/self/oom_score_adj /proc/self/cgroup; grep Cpus_allowed: /proc/self/status"
    )
    before = "umask 027; ulimit -n 300; ulimit -f 400000; ulimit -s 4096; exec nice -n 3"
    script = f'{before} "${{@:2}}" sh -c "$1"'
    host = succeeded(_outside(environment, script, probe)).stdout
    tool = (str(environment.tool.launcher), "exec", environment.name, "--")
    assert succeeded(_outside(environment, script, probe, *tool)).stdout == host


@pytest.mark.parametrize("before", [":", "trap '' HUP", "trap '' INT QUIT TERM USR1"])
def test_signal_dispositions_are_kept(environment: Environment, before: str) -> None:
    script = f'{before}; "$@" grep -E "^(ShdPnd|SigPnd|SigBlk|SigIgn|SigCgt)" /proc/self/status'
    host = succeeded(_outside(environment, script)).stdout
    tool = (str(environment.tool.launcher), "exec", environment.name, "--")
    assert succeeded(_outside(environment, script, *tool)).stdout == host


def test_nohup(environment: Environment) -> None:
    script = 'nohup "$TOOL" exec "$NAME" -- sh -c "kill -HUP \\$\\$; echo alive" 2>/dev/null'
    assert succeeded(_outside(environment, script)).stdout == "alive\n"


def test_orphaned_job_lives_on(new_environment: Environment) -> None:
    pid = int(new_environment.sh("sleep 300 >/dev/null 2>&1 </dev/null & echo $!"))
    assert [process["pid"] for process in new_environment.tool.status(new_environment.name)["processes"]] == [pid]
    assert new_environment.sh("kill -0 $1; echo seen", str(pid)) == "seen\n"
    succeeded(new_environment.tool.run("stop", new_environment.name, limit=START_LIMIT))
    assert new_environment.tool.status(new_environment.name)["processes"] == []


def test_job_of_a_closed_shell_lives_on(new_environment: Environment) -> None:
    script = "nohup sleep 300 >/dev/null 2>&1 &\nexit\n"
    succeeded(new_environment.tool.run("shell", new_environment.name, stdin=script))
    (process,) = new_environment.tool.status(new_environment.name)["processes"]
    assert process["command"] == "sleep 300"


@pytest.mark.parametrize(
    ("shell", "rc", "expected"),
    [
        ("dash", "", "({}) $ "),
        ("bash", "PS1='mine> '", "({}) mine> "),
        # As starship does it: made anew each time, and of more than a line.
        ("bash", "theme() { PS1=$'\\nmine> '; }; PROMPT_COMMAND=theme", "\n({}) mine> "),
    ],
)
@pytest.mark.modes("full")
def test_prompts_show_the_name(environment: Environment, place: Path, shell: str, rc: str, expected: str) -> None:
    """Where nothing on the host does it, and with the user's own files as they are."""
    (place / ".bashrc").write_text(f"{rc}\n")
    (place / ".bashrc").chmod(0o644)
    variables = {"SHELL": f"/bin/{shell}", "HOME": str(place), "TERM": "dumb"}
    command = (str(environment.tool.launcher), "shell", environment.name)
    for more, prompt in (({}, expected.format(environment.name)), ({"SYSENV_NS_DISABLE_PROMPT": "1"}, "")):
        terminal = spawn(environment, *command, variables={**variables, **more})
        for _ in range(2):
            terminal.expect_exact(prompt.replace("\n", "\r\n") or {"dash": "$ ", "bash": "mine> "}[shell])
            assert prompt or environment.name not in terminal.before
            terminal.sendline("false")
        terminal.sendline("exit")
        close(terminal)
    assert sorted(path.name for path in place.iterdir() if path.name != ".bash_history") == [".bashrc"]
