"""host run: a command of the host for who is inside; who may have one, and that it is as if it were run there."""

from __future__ import annotations

import os
import signal
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .support import Environment, Result, finish, line, refused, succeeded, wait_for
from .terminals import close, spawn

pytestmark = pytest.mark.modes("full", more=("single",))


@pytest.fixture
def environment(shared_environment: Environment) -> Environment:
    """One for all tests of this file: what they do, they do on the host."""
    return shared_environment


def _identity(environment: Environment) -> str:
    return "--me" if environment.tool.mode == "full" else "--root"


def _host(environment: Environment, *command: str, stdin: str = "") -> Result:
    """A command of the host, asked for inside by the user."""
    run = (str(environment.tool.launcher), "host", "run", "--")
    return environment.exec(*run, *command, identity=_identity(environment), stdin=stdin)


def test_it_runs_on_the_host_as_the_user(environment: Environment) -> None:
    environment.sh("cp /bin/true /usr/local/bin/only-inside")
    script = """
        readlink /proc/self/ns/mnt /proc/self/ns/user; id -u; pwd; echo "[$SYSENV_NS] $HOME"; cat; echo e >&2; exit 7
    """
    result = _host(environment, "sh", "-c", script, stdin="said")
    outside = [os.readlink(f"/proc/self/ns/{kind}") for kind in ("mnt", "user")]
    account = environment.tool.account
    expected = [*outside, str(account.uid), str(account.home), f"[] {account.home}"]
    assert (result.returncode, result.stderr) == (7, "e\n")
    assert result.stdout.splitlines() == [*expected, "said"]
    refused(_host(environment, "only-inside"), 127, "only-inside: command not found on the host")
    refused(_host(environment, "/etc/passwd"), 126, "/etc/passwd cannot be executed on the host")
    assert _host(environment, "sh", "-c", "kill -9 $$").returncode == -signal.SIGKILL
    every = "".join(map(chr, range(1, 127)))
    assert _host(environment, "printf", "%s|", every, "\udcff", "").stdout == f"{every}|\udcff||".replace("\r", "\n")


def test_it_has_the_variables_of_who_began_the_session(environment: Environment) -> None:
    before = {name: value for name, value in environment.tool.variables().items() if name != "TERM"}
    said = succeeded(_host(environment, "env", "-0")).stdout
    after = dict(pair.split("=", 1) for pair in said.split("\0") if pair)
    assert {name: value for name, value in after.items() if name in before} == before
    assert "SYSENV_NS" not in after


def test_a_directory_that_is_only_inside(environment: Environment) -> None:
    environment.sh("mkdir -p /opt/only-inside")
    run = f"cd /opt/only-inside; exec {environment.tool.launcher} host run -- pwd"
    result = succeeded(environment.exec("sh", "-c", run, identity=_identity(environment)))
    assert result.stdout == f"{environment.tool.account.home}\n"
    assert "/opt/only-inside does not exist on the host" in result.stderr


def test_nothing_else_is_inherited(environment: Environment) -> None:
    assert succeeded(_host(environment, "ls", "/proc/self/fd")).stdout.split() == ["0", "1", "2", "3"]
    probe = ("grep", "-E", "^(ShdPnd|SigPnd|SigBlk|SigIgn|SigCgt|Seccomp|NoNewPrivs|CapEff):", "/proc/self/status")
    account = environment.tool.account
    outside = subprocess.run(
        [*environment.tool.prefix, *probe], check=True, capture_output=True, text=True, **account.become()
    )
    assert succeeded(_host(environment, *probe)).stdout == outside.stdout


# The call of kernel/visits.py, for who cannot run the tool itself.
_CALL = """
import os, socket, stat
_, theirs = socket.socketpair(socket.AF_UNIX, socket.SOCK_SEQPACKET)
try:
    os.mknod("sysenv-ns-host", stat.S_IFCHR, dir_fd=theirs.fileno())
    print("accepted")
except OSError as error:
    print(error.strerror)
"""
_REFUSED = "Operation not permitted\n"


@pytest.mark.modes("full")
def test_others_are_refused(environment: Environment) -> None:
    """Root, its other users, and whoever is the user in some respects only."""
    uid = environment.tool.account.uid
    for become in (
        "",
        "setpriv --reuid=www-data --regid=www-data --clear-groups",
        f"setpriv --ruid={uid} --regid={uid} --clear-groups",
        f"setpriv --euid={uid} --clear-groups",
    ):
        assert environment.sh(f'{become} python3 -c "$1"', _CALL) == _REFUSED, become
    assert environment.sh('python3 -c "$1"', _CALL, identity="--me") == "accepted\n"
    run = environment.exec(str(environment.tool.launcher), "host", "run", "--", "true")
    refused(run, 125, "only programs that run as you", "exec --me")


@pytest.mark.parametrize(
    "confined", ["setpriv --no-new-privs", "unshare --user --map-root-user", "unshare --user --mount --map-root-user"]
)
def test_who_has_been_confined_is_refused(environment: Environment, confined: str) -> None:
    script = f"exec {confined} {environment.tool.launcher} host run -- echo on the host"
    result = environment.exec("sh", "-c", script, identity=_identity(environment))
    refused(result, 125, "nothing on the host's side answers")
    assert result.stdout == ""


@pytest.mark.modes("full")
def test_a_filter_of_ones_own_is_refused(environment: Environment) -> None:
    """Though it allows everything, and needs no no_new_privs as root: who filters itself wants to be kept."""
    uid = environment.tool.account.uid
    code = f"""
import ctypes, os
library = ctypes.CDLL("libseccomp.so.2")
library.seccomp_init.restype = ctypes.c_void_p
context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(0x7FFF0000)))
assert library.seccomp_attr_set(context, 3, 0) == 0  # SCMP_FLTATR_CTL_NNP
assert library.seccomp_load(context) == 0
os.setresuid({uid}, {uid}, {uid})
{_CALL}"""
    assert environment.sh('python3 -c "$1"', code) == _REFUSED
    assert environment.sh('python3 -c "$1"', code.replace("assert library.seccomp_load", "#")) == "accepted\n"


@pytest.mark.modes("full")
@pytest.mark.parametrize("kind", ["mount", "net", "pid --fork", "ipc", "uts"])
def test_who_is_kept_in_other_namespaces_is_refused(environment: Environment, kind: str) -> None:
    """What root of an environment makes needs no user namespace: a container without a home, or without a network."""
    user = f"setpriv --reuid={environment.tool.account.uid} --regid={environment.tool.account.uid} --clear-groups"
    assert environment.sh(f'{user} python3 -c "$1"', _CALL) == "accepted\n"
    assert environment.sh(f'unshare --{kind} {user} python3 -c "$1"', _CALL) == _REFUSED


@pytest.mark.modes("full")
def test_who_is_in_another_root_is_refused(environment: Environment) -> None:
    uid = environment.tool.account.uid
    code = f"""
import os, socket, stat
os.chroot("/usr")
os.chdir("/")
os.setresuid({uid}, {uid}, {uid})
{_CALL}"""
    assert environment.sh('python3 -c "$1"', code) == _REFUSED
    assert environment.sh('python3 -c "$1"', code.replace('"/usr"', '"/"')) == "accepted\n"


@pytest.fixture
def settings(environment: Environment) -> Iterator[Path]:
    """The environment's config.toml."""
    path = environment.tool.store / "envs" / environment.name / "config.toml"
    yield path
    path.unlink()


def test_settings_forbid_it(environment: Environment, settings: Path) -> None:
    settings.write_text("host-commands = false\n")
    refused(_host(environment, "true"), 125, "config.toml forbids commands on the host")
    settings.write_text("host-commands = true\n")
    succeeded(_host(environment, "true"))
    settings.write_text("host-commands = 1\n")
    refused(environment.tool.run("exec", environment.name, "--", "true"), 125, "host-commands cannot be 1")


def test_outside_it_just_runs_the_command(environment: Environment) -> None:
    result = environment.tool.run("host", "run", "--", "sh", "-c", 'echo "[$SYSENV_NS] $1"; exit 3', "sh", "a  b")
    assert (result.returncode, result.stdout, result.stderr) == (3, "[] a  b\n", "")
    refused(environment.tool.run("host", "run", "--", "no-such-command"), 127, "command not found")


def test_signals_and_the_end_of_either_side(environment: Environment) -> None:
    tool, script = environment.tool, "trap 'echo caught; exit 5' USR1; echo ready $$; while :; do sleep 0.1; done"
    command = ("exec", _identity(environment), environment.name, "--", str(tool.launcher), "host", "run", "--")
    for number, status in ((signal.SIGUSR1, 5), (signal.SIGTERM, -signal.SIGTERM), (signal.SIGKILL, -signal.SIGKILL)):
        process = tool.start(*command, "sh", "-c", script)
        word, pid = line(process).split()
        assert word == "ready"
        process.send_signal(number)
        assert finish(process).returncode == status
        wait_for(lambda pid=pid: not Path("/proc", pid).exists())  # type: ignore[misc]


def test_terminal(environment: Environment) -> None:
    """Size, keys, /dev/tty, job control on both sides, and the settings of the terminal afterwards."""
    tool = environment.tool
    host = f"{tool.launcher} host run --"
    shell = ("exec", _identity(environment), environment.name, "--", "bash", "--norc", "--noprofile", "-i")
    terminal = spawn(environment, str(tool.launcher), *shell, variables={"PS1": "inside> "})
    terminal.expect_exact("inside> ")
    terminal.sendline(f"{host} sh -c 'stty size; echo by tty > /dev/tty; exit 3'; echo status=$?")
    for expected in ("24 200", "by tty", "status=3"):
        terminal.expect_exact(f"{expected}\r\n")
    terminal.sendline(f"{host} env PS1='out''side> ' bash --norc --noprofile -i")
    terminal.expect_exact("outside> ")
    terminal.setwinsize(30, 100)
    terminal.sendline("stty size; sh -c 'echo beg''un; exec sleep 300'")
    terminal.expect_exact("30 100\r\nbegun\r\n")
    terminal.sendcontrol("z")
    terminal.expect("Stopped")
    terminal.expect_exact("outside> ")
    terminal.sendline("fg")
    terminal.expect_exact("exec sleep 300'\r\n")
    terminal.sendcontrol("c")
    terminal.expect_exact("outside> ")
    terminal.sendline("echo status=$?")
    terminal.expect_exact("status=130\r\n")
    terminal.sendline("exit 9")
    terminal.expect_exact("inside> ")
    terminal.sendline(f"{host} sh -c 'echo rea''dy; exec cat'")
    terminal.expect_exact("ready\r\n")
    terminal.sendcontrol("z")
    terminal.expect("Stopped")
    terminal.expect_exact("inside> ")
    terminal.sendline("fg")
    terminal.sendline("words")
    terminal.expect_exact("words\r\nwords\r\n")
    terminal.sendcontrol("d")
    terminal.expect_exact("inside> ")
    terminal.sendline(f"{host} sh -c 'echo rea''dy; exec sleep 300' | cat")
    terminal.expect_exact("ready\r\n")
    terminal.sendcontrol("c")
    terminal.expect_exact("inside> ")
    terminal.sendline("echo status=${PIPESTATUS[0]}")
    terminal.expect_exact("status=130\r\n")
    terminal.sendline("stty -a | grep -ow -e -icanon -e icanon; exit")
    terminal.expect("[\r\n]icanon\r\n")
    close(terminal)
