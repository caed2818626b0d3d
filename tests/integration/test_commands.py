"""exec, shell and their surroundings: status, streams, arguments, directory, terminal."""

from __future__ import annotations

import json
import os
import pwd
import signal
from pathlib import Path
from typing import Any

import pexpect
import pytest

from .mirror import Mirror
from .support import (
    APT_LIMIT,
    ROOT_RUN,
    Argument,
    Environment,
    Tool,
    describe,
    processes_of,
    ran,
    refused,
    succeeded,
    wait_for,
)


@pytest.fixture
def environment(shared_environment: Environment) -> Environment:
    """One for all tests of this file: most only read."""
    return shared_environment


@pytest.mark.parametrize(
    ("command", "status"),
    [
        (("true",), 0),
        (("sh", "-c", "exit 7"), 7),
        (("sh", "-c", "exit 125"), 125),
        (("no-such-command",), 127),
        (("/usr/no-such-command",), 127),
        (("/etc/passwd",), 126),
        (("/usr",), 126),
        (("sh", "-c", "kill -9 $$"), -9),
        (("sh", "-c", "kill -15 $$"), -15),
    ],
)
def test_exit_status(environment: Environment, command: tuple[str, ...], status: int) -> None:
    result = environment.exec(*command)
    assert result.returncode == status, describe(result)
    assert "Traceback" not in result.stderr


@pytest.mark.modes("full", "single", "root")
def test_exec_runs_as_root(environment: Environment) -> None:
    assert environment.sh("id -u; id -g; echo $HOME").split() == ["0", "0", _home_of_root(environment)]
    assert "/usr/sbin" in environment.sh("echo $PATH").split("\n")[0].split(":")


def _home_of_root(environment: Environment) -> str:
    # With the driver root the caller is root, in the single map root is the caller: they stay at home.
    return "/root" if environment.tool.mode == "full" else str(environment.tool.account.home)


def test_name_of_the_environment_is_known_inside(environment: Environment) -> None:
    assert environment.sh("echo $SYSENV_NS; cat /etc/debian_chroot").split() == [environment.name] * 2


def test_environment_variables_are_the_callers(environment: Environment) -> None:
    inside = dict(line.split("=", 1) for line in environment.exec("env").stdout.splitlines())
    # PWD and _ are set by the shell that runs helpers/sysenv-ns.
    changed = {"SYSENV_NS", "SYSTEMD_OFFLINE", "TMUX_TMPDIR", "PATH", "HOME", "USER", "LOGNAME", "PWD", "_"}
    changed |= {"SUDO_UID", "SUDO_GID", "SUDO_USER"}
    expected = {k: v for k, v in environment.tool.variables().items() if k not in changed}
    assert {k: v for k, v in inside.items() if k not in changed} == expected


@pytest.mark.parametrize(
    ("closed", "numbers"),
    [("<&-", ["0"]), (">&-", ["1"]), ("<&- >&-", ["0", "1"]), ("<&- >&- 2>&-", ["0", "1", "2"])],
)
def test_closed_streams_stay_closed(new_environment: Environment, closed: str, numbers: list[str]) -> None:
    tool = new_environment.tool
    script = f'"$@" {closed}; echo status=$?'
    inside = "for n in 0 1 2; do [ -e /proc/$$/fd/$n ] || touch /opt/closed$n; done"
    command = ["sh", "-c", script, "sh", str(tool.launcher), "exec", new_environment.name, "--", "sh", "-c", inside]
    result = succeeded(ran(command, env=tool.variables(), cwd="/", **tool.account.become()))
    assert result.stdout == "status=0\n", result.stderr
    assert new_environment.sh("cd /opt; ls -d closed* | tr -d a-z").split() == numbers


@pytest.mark.modes("full", more=("single",))
def test_an_ignored_sigchld_is_handed_down(environment: Environment) -> None:
    """As cron jobs and children of some servers have it; not by the launcher, whose shell would set it right."""
    tool = environment.tool
    script = (
        "import os, signal, sys; signal.signal(signal.SIGCHLD, signal.SIG_IGN); os.execv(sys.argv[1], sys.argv[1:])"
    )
    python = str(tool.launcher.parents[1] / ".venv" / "bin" / "python")
    command = [python, "-I", "-m", "sysenv_ns", "exec", environment.name, "--", "grep", "SigIgn", "/proc/self/status"]
    result = ran([python, "-I", "-c", script, *command], env=tool.variables(), cwd="/", **tool.account.become())
    assert result.returncode == 0, result.stderr
    assert int(result.stdout.split()[1], 16) >> (signal.SIGCHLD - 1) & 1


def test_nested_creation_is_refused(environment: Environment) -> None:
    command = (str(environment.tool.launcher), "exec", "another", "--", "true")
    refused(environment.exec(*command), 125, environment.name)


def test_stdin_and_stdout_are_pipes(environment: Environment) -> None:
    text = "line\n" * 100_000
    assert succeeded(environment.exec("cat", stdin=text)).stdout == text


def test_arguments_arrive_unchanged(environment: Environment) -> None:
    arguments: list[Argument] = ["two words", "line\nbreak", "'\"$HOME`\\", "", "--help", b"\xff\xfe", "ä"]
    result = succeeded(environment.exec("printf", "%s|", *arguments))
    expected = b"|".join(os.fsencode(argument) for argument in arguments) + b"|"
    assert os.fsencode(result.stdout) == expected


def test_current_directory_is_kept(environment: Environment) -> None:
    directory = environment.tool.account.home / "a b"
    directory.mkdir(exist_ok=True)
    os.chown(directory, environment.tool.account.uid, environment.tool.account.gid)
    result = succeeded(environment.exec("pwd", cwd=directory))
    assert (result.stdout, result.stderr) == (f"{directory}\n", "")


def test_current_directory_that_is_not_there_inside(new_environment: Environment) -> None:
    new_environment.sh("rm -r /usr/share/doc")
    result = succeeded(new_environment.exec("pwd", cwd=Path("/usr/share/doc")))
    assert "/usr/share/doc does not exist inside" in result.stderr
    assert result.stdout == f"{_home_of_root(new_environment)}\n"


@pytest.mark.modes("full", "single", "root")
def test_files_in_the_home_are_the_hosts(environment: Environment) -> None:
    home = environment.tool.account.home
    identity = "--me" if environment.tool.mode == "full" else "--root"
    environment.sh('echo "Hello world" > hello.txt', identity=identity, cwd=home)
    written = home / "hello.txt"
    assert written.read_text() == "Hello world\n"
    assert written.stat().st_uid == environment.tool.account.uid


@pytest.mark.modes("full", "single", "root")
def test_shell_takes_commands_from_stdin(environment: Environment) -> None:
    result = environment.tool.run("shell", environment.name, stdin="id -un\necho $0\nexit 3\n")
    user = environment.tool.account.name if environment.tool.mode == "full" else "root"
    assert (result.returncode, result.stdout.split()) == (3, [user, "/bin/bash"]), describe(result)


def test_shell_makes_the_environment_and_says_so(tool: Tool) -> None:
    result = succeeded(tool.run("shell", *tool.options, "from-shell", stdin="echo $SYSENV_NS\n"))
    assert result.stdout == "from-shell\n"
    assert "created the environment from-shell" in result.stderr
    tool.end("from-shell")


def _terminal(environment: Environment, *arguments: str) -> Any:
    """The tool in a new terminal, as its user."""
    account = environment.tool.account

    def become() -> None:
        if ROOT_RUN:
            os.setgroups(account.groups)
            os.setresgid(account.gid, account.gid, account.gid)
            os.setresuid(account.uid, account.uid, account.uid)

    return pexpect.spawn(
        str(environment.tool.launcher),
        list(arguments),
        env=environment.tool.variables(),
        cwd=str(account.home),
        timeout=30,
        encoding="utf-8",
        preexec_fn=become,
        dimensions=(24, 200),
    )


@pytest.mark.modes("full", "single", more=("root",))
def test_prompt_on_a_terminal(environment: Environment) -> None:
    user = environment.tool.account.name if environment.tool.mode == "full" else "root"
    prompt = rf"\({environment.name}\){user}@[^$#]*[$#] "
    terminal = _terminal(environment, "shell", environment.name)
    terminal.expect(prompt)
    terminal.sendline("sh -c 'echo ready; exec sleep 300'")
    terminal.expect("ready\r\n")
    terminal.sendcontrol("c")
    terminal.expect(prompt)
    terminal.sendline("echo status=$?")
    terminal.expect("status=130\r\n")
    terminal.expect(prompt)
    terminal.sendline("exit 5")
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert terminal.exitstatus == 5


@pytest.mark.modes("full", more=("single",))
def test_transcript_of_the_documentation(new_environment: Environment, mirror: Mirror) -> None:
    """sudo apt-get install, sudo make install, a file in the home; on a terminal, from the first word to the last."""
    mirror.provide(new_environment, "hello")
    home = new_environment.tool.account.home
    (home / "Makefile").write_text("install:\n\tinstall -D -m 755 /bin/true /usr/local/bin/made-here\n")
    terminal = _terminal(new_environment, "shell", new_environment.name)
    prompt = rf"\({new_environment.name}\)[a-z0-9-]+@[^$#]*[$#] "
    terminal.expect(prompt)
    for line, limit in (
        (f"[ $SYSENV_NS = {new_environment.name} ] || exit 99", 30),
        ("sudo apt-get update", APT_LIMIT),
        ("sudo DEBIAN_FRONTEND=noninteractive apt-get -y install hello", APT_LIMIT),
        ("sudo make install || sudo install -m 755 /bin/true /usr/local/bin/made-here", 60),
        ("made-here", 30),
        ('echo "Hello world" > hello.txt', 30),
    ):
        terminal.sendline(f"{line}; echo status=$?")
        terminal.expect(r"status=(\d+)\r\n", timeout=limit)
        assert terminal.match[1] == "0", f"{line}: {terminal.before[-2000:]}"
        terminal.expect(prompt)
    terminal.sendline("hello")
    terminal.expect("Hello, world!")
    terminal.expect(prompt)
    terminal.sendeof()
    terminal.expect(pexpect.EOF)
    assert (home / "hello.txt").read_text() == "Hello world\n"
    assert not Path("/usr/local/bin/made-here").exists()


@pytest.mark.modes("full", more=("single",))
def test_nothing_stays_behind(environment: Environment) -> None:
    account = environment.tool.account
    before = set(processes_of(range(account.uid, account.uid + 1)))
    environment.sh("touch /usr/x")
    # The supervisor of the session ends with it, a moment later.
    wait_for(lambda: set(processes_of(range(account.uid, account.uid + 1))) <= before)
    assert environment.tool.status(environment.name)["processes"] == []


@pytest.mark.modes("full", more=("single",))
def test_the_supervisor_is_nobodys_child_and_holds_nothing(new_environment: Environment) -> None:
    """A program may wait for all its children, and whoever reads a pipe for its end."""
    script = "ps -o pid= --ppid $$ | wc -l; sleep 300 > /dev/null 2>&1 < /dev/null &"
    children = new_environment.sh(script)  # would wait for the end of the pipe
    assert int(children) == 2  # ps and wc
    processes = new_environment.tool.status(new_environment.name)["processes"]
    assert [process["command"] for process in processes] == ["sleep 300"]


def test_mounts_stay_out_of_the_hosts_table(environment: Environment) -> None:
    before = Path("/proc/self/mountinfo").read_text()
    environment.sh("grep -q sysenv-ns /proc/self/mountinfo")
    assert Path("/proc/self/mountinfo").read_text() == before


@pytest.mark.modes("full", "single", "root")
def test_doctor(tool: Tool) -> None:
    assert "works" in succeeded(tool.run("doctor")).stdout
    report = json.loads(succeeded(tool.run("doctor", "--json")).stdout)
    expected = {"full": ("stub", "full"), "single": ("stub", "single"), "root": ("root", None)}[tool.mode]
    if ROOT_RUN:
        assert (report["driver"], report["id_map"]) == expected


def test_help_is_the_tools(tool: Tool) -> None:
    assert succeeded(tool.run("--help")).stdout.startswith("Usage: sysenv-ns ")


@pytest.mark.modes("root")
def test_other_users_of_the_host_are_the_same(environment: Environment) -> None:
    assert environment.sh("getent passwd") == "".join(f"{':'.join(map(str, e))}\n" for e in pwd.getpwall())
