"""No other namespace is taken for an environment's: at the next session, or by list, status, stop and remove."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import stat
import subprocess
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.support import ROOT_RUN, Environment, Tool, describe, finish, line, rest, succeeded

from . import fuse, namespaces

_COUNT = 60  # more than the namespaces that the tool itself uses between two sessions
_PROGRAM = Path(namespaces.__file__)


@pytest.fixture
def rounds(whole: bool) -> int:
    """How often the attack is tried."""
    return 200 if whole else 3


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory where everybody may make something."""
    path = Path(tempfile.mkdtemp(prefix="sysenv-test-"))
    path.chmod(0o1777)
    yield path
    shutil.rmtree(path)


def _source(environment: Environment) -> str:
    """What every local user can read in /proc/PID/mountinfo while it runs."""
    description = json.loads((Path(environment.tool.status(environment.name)["path"]) / "env.json").read_bytes())
    return f"sysenv-ns:{description['ident']}"


@contextlib.contextmanager
def _attack(command: list[str], source: str, place: Path) -> Iterator[subprocess.Popen[str]]:
    """Namespaces of an attacker; `command` is the beginning of a command as the attacker."""
    program = place / "namespaces.py"
    if not program.exists():
        shutil.copy(_PROGRAM, program)
        program.chmod(0o644)
    directory = Path(tempfile.mkdtemp(dir=place))
    directory.chmod(0o777)
    arguments = [*command, "/usr/bin/python3", str(program), source, str(_COUNT), str(directory)]
    process = subprocess.Popen(arguments, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        assert line(process) == "ready\n"
        yield process
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.killpg(process.pid, signal.SIGKILL)
        finish(process)
        shutil.rmtree(directory, ignore_errors=True)


def _withstands(environment: Environment, attacker: list[str], place: Path, rounds: int) -> None:
    source = _source(environment)
    for number in range(rounds):
        succeeded(environment.exec("true"))
        with _attack(attacker, source, place) as attack:
            result = environment.exec("/bin/sh", "-c", "echo fine")
            assert (result.returncode, result.stdout) == (0, "fine\n"), describe(result)
            if number > 0:
                continue
            status = environment.tool.status(environment.name)
            assert (status["running"], status["processes"]) == (False, [])
            listed = environment.tool.listed()
            assert [entry["processes"] for entry in listed if entry["name"] == environment.name] == [[]]
            succeeded(environment.tool.run("stop", environment.name))
            assert attack.poll() is None
    with _attack(attacker, source, place) as attack:
        succeeded(environment.tool.run("remove", "--purge", environment.name))
        assert attack.poll() is None
    succeeded(environment.tool.run("create", environment.name, *environment.tool.options))


@pytest.mark.skipif(not ROOT_RUN, reason="only root can be another user")
@pytest.mark.modes("full", "single", "root", "sudo")
def test_namespaces_of_another_user(environment: Environment, tools: dict[str, Tool], place: Path, rounds: int) -> None:
    attacker = tools["full" if environment.tool.mode == "single" else "single"].account
    _withstands(environment, attacker.setpriv(), place, rounds)


@pytest.mark.modes("full")
def test_namespaces_of_a_daemon_inside_another_environment(
    tool: Tool, environment: Environment, place: Path, rounds: int
) -> None:
    """Its user is a subordinate id of the user's, and it sees the same processes."""
    other = tool.environment(f"{environment.name}-other")
    succeeded(tool.run("create", other.name, *tool.options))
    account = tool.account
    become = [
        *account.setpriv(),
        "env",
        "-C",
        str(account.home),
        f"SYSENV_NS_HOME={tool.store}",
        f"HOME={account.home}",
    ]
    daemon = ["setpriv", "--reuid", "33", "--regid", "33", "--clear-groups"]
    attacker = [*become, str(tool.launcher), "exec", other.name, "--", *daemon]
    _withstands(environment, attacker, place, rounds)
    tool.end(other.name)


_SANDBOX = """
import os, runpy, sys, time
from pathlib import Path
program, source, place = sys.argv[1:]
deceive = runpy.run_path(program)["deceive"]
for way in range(3):
    directory = Path(place, f"sandbox-{way}")
    directory.mkdir()
    if os.fork() == 0:
        deceive(source, directory, way)
        print("ready", flush=True)
        time.sleep(600)
time.sleep(600)
"""


@pytest.mark.modes("full")
def test_a_sandbox_belongs_to_the_environment_it_was_made_in(environment: Environment, place: Path) -> None:
    """What it calls its mounts neither blocks another environment nor shows there."""
    tool = environment.tool
    other = tool.environment(f"{environment.name}-other")
    succeeded(tool.run("create", other.name, *tool.options))
    succeeded(other.exec("true"))
    source = _source(other)
    program = shutil.copy(_PROGRAM, place)
    script = ("/usr/bin/python3", "-c", _SANDBOX, str(program), source, str(place))
    session = tool.start("exec", environment.name, "--", *script)
    assert [line(session) for _ in range(3)] == ["ready\n"] * 3
    assert tool.status(other.name)["processes"] == []
    assert other.sh("echo fine") == "fine\n"
    assert session.pid in [process["pid"] for process in tool.status(environment.name)["processes"]]
    os.killpg(session.pid, signal.SIGKILL)
    finish(session)
    tool.end(other.name)


_TRACER = """
import os, sys
print("ready", flush=True)
caught = set()
while not os.path.exists(sys.argv[1]):
    for pid in filter(str.isdecimal, os.listdir("/proc")):
        try:
            command = open(f"/proc/{pid}/cmdline", "rb").read()
            if b"sysenv_ns" in command and b"_TRACER" not in command:
                os.close(os.open(f"/proc/{pid}/mem", os.O_RDWR))
                here = os.path.samefile(f"/proc/{pid}/root", "/")
                if os.listdir(f"/proc/{pid}/fd") or not here:  # else it only waits for its command (waiting.py)
                    caught.add(command.replace(b"\\0", b" ").decode())
        except OSError:
            pass
print(*sorted(caught), sep="\\n", flush=True)
"""


@pytest.mark.modes("full", "single")
def test_nobody_inside_traces_what_comes_in(environment: Environment, place: Path) -> None:
    """Root of an environment may trace all that is in its user namespace; what has not become the command yet has
    memory and descriptors of the host's side.
    """
    tool = environment.tool
    end = place / "end"
    tracer = tool.start("exec", environment.name, "--", "/usr/bin/python3", "-c", _TRACER, str(end))
    assert line(tracer) == "ready\n"
    # In a chroot its own mounts do not tell whose it is, so list and status have to look from inside.
    environment.sh("chroot /usr /bin/sleep 300 < /dev/null > /dev/null 2>&1 &")
    for _ in range(8):
        succeeded(environment.exec("true"))
        succeeded(tool.run("list"))
    end.touch()
    assert rest(tracer).split("\n") == ["", ""]
    finish(tracer)


_HOST = """
mount --make-rshared /
mount --bind "$1" /dev/fuse
unshare --mount --propagation slave sleep 300 & echo $!
exec sleep 300
"""


@contextlib.contextmanager
def _host_with_fuse(place: Path) -> Iterator[tuple[list[str], int]]:
    """A mount namespace whose mounts spread, where everybody may open /dev/fuse, as on most machines: how to enter it,
    and a service in a namespace of its own.
    """
    node = place / "fuse-node"
    os.mknod(node, stat.S_IFCHR, os.makedev(10, 229))
    node.chmod(0o666)
    command = ["unshare", "--mount", "sh", "-ec", _HOST, "sh", str(node)]
    process = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
    try:
        service = int(line(process))
        yield ["nsenter", f"--mount=/proc/{process.pid}/ns/mnt"], service
    finally:
        os.killpg(process.pid, signal.SIGKILL)
        finish(process)


@pytest.mark.skipif(not ROOT_RUN, reason="only root can be another user")
@pytest.mark.skipif(shutil.which("fusermount3") is None, reason="needs fusermount3")
@pytest.mark.modes("full", "root")
def test_a_fuse_file_system_of_another_user(environment: Environment, tools: dict[str, Tool], place: Path) -> None:
    """It has what name and subtype its maker likes, and spreads to services and to environments that run."""
    tool = environment.tool
    attacker = tools["single"].account
    program = shutil.copy(fuse.__file__, place / "fuse.py")
    with _host_with_fuse(place) as (enter, service):
        victim = [*enter, *tool.account.setpriv()]
        succeeded(tool.run("exec", environment.name, "--", "sh", "-c", "echo own > /etc/whose", prefix=victim))
        state = Path(tool.status(environment.name)["path"], "state.json")
        point = place / "point"
        point.mkdir()
        os.chown(point, attacker.uid, attacker.gid)
        command = [*enter, *attacker.setpriv(), "/usr/bin/python3", str(program), _source(environment), str(point)]
        attack = subprocess.Popen(command, stdout=subprocess.PIPE, text=True, start_new_session=True)
        try:
            assert line(attack) == "ready\n"
            assert str(point) in Path(f"/proc/{service}/mountinfo").read_text()
            for _ in range(2):
                status = json.loads(succeeded(tool.run("status", environment.name, "--json", prefix=victim)).stdout)
                assert status["processes"] == []
                succeeded(tool.run("stop", environment.name, prefix=victim))
                result = tool.run("exec", environment.name, "--", "cat", "/etc/whose", prefix=victim)
                assert (result.returncode, result.stdout) == (0, "own\n"), describe(result)
                state.unlink()
            assert Path(f"/proc/{service}").exists()
        finally:
            os.killpg(attack.pid, signal.SIGKILL)
            finish(attack)
