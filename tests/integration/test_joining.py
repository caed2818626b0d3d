"""Sessions that meet: races, background processes, stop, lost state, sandboxes inside, several users."""

from __future__ import annotations

import concurrent.futures
import contextlib
import json
import os
import re
import signal
import subprocess
import time
from pathlib import Path

import pytest

from sysenv_ns.environment import running

from .support import (
    BASE_LIMIT,
    ROOT_RUN,
    START_LIMIT,
    Environment,
    Result,
    Tool,
    describe,
    end,
    finish,
    line,
    refused,
    sleeper,
    succeeded,
    wait_for,
)

_DAEMON = """
import os, sys, time
if os.fork():
    os._exit(0)
os.setsid()
if os.fork():
    os._exit(0)
null = os.open(os.devnull, os.O_RDWR)
for number in range(3):
    os.dup2(null, number)
time.sleep(300)
"""
_STUBBORN = "trap '' TERM; echo ready; while :; do sleep 1; done"


@pytest.fixture
def environment(shared_environment: Environment) -> Environment:
    """One for all tests of this file: nothing runs in it before or after a test, and its files do not matter."""
    return shared_environment


def _kernel_complaints(since: float) -> list[str]:
    """What overlayfs has put into the kernel's log since then (seconds since boot) about a layer that is in use."""
    if not ROOT_RUN:
        return []
    log = subprocess.run(["dmesg"], check=True, capture_output=True, text=True, errors="replace", timeout=30).stdout
    lines = re.findall(r"^\[ *(\d+\.\d+)\] (.*overlayfs.*in-use.*)$", log, re.MULTILINE)
    return [text for seconds, text in lines if float(seconds) > since]


def _uptime() -> float:
    return time.clock_gettime(time.CLOCK_BOOTTIME)


def _root_device(mountinfo: str) -> str:
    """The device of the overlay over / in the text of a mountinfo."""
    match = re.search(r"^\d+ \d+ (\d+:\d+) / / .* - \S*overlay\S* sysenv-ns:", mountinfo, re.MULTILINE)
    assert match is not None, mountinfo
    return match[1]


@pytest.mark.modes("full", more=("single", "root", "disk"))
def test_many_sessions_from_ten_at_once(environment: Environment, whole: bool) -> None:
    long = 1000 if environment.tool.store.is_relative_to(environment.tool.account.home) else 200
    _start_many(environment, long if whole else 60)


def _start_many(environment: Environment, count: int) -> None:
    """Each starts the environment or joins it, as it happens; never is it mounted twice, and the kernel is silent."""
    begin = _uptime()

    def some(_: int) -> list[Result]:
        return [environment.exec("true", limit=BASE_LIMIT) for _ in range(count // 10)]

    with concurrent.futures.ThreadPoolExecutor(10) as pool:
        results = [result for results in pool.map(some, range(10)) for result in results]
    slow = f"sysenv-ns: the last session of {environment.name} is still being written to the disk: waiting for that\n"
    failed = [describe(result) for result in results if result.returncode != 0 or result.stderr not in ("", slow)]
    assert failed == []
    assert environment.tool.status(environment.name)["running"] is False
    assert _kernel_complaints(begin) == []


@pytest.mark.modes("full", "root")
def test_who_looks_keeps_no_other_users_environment_mounted(environment: Environment) -> None:
    """Root looks at all processes; what it held would stay mounted meanwhile, and the next start would meet it."""
    if not ROOT_RUN:
        pytest.skip("others' processes are not ours to look at")
    process = sleeper(environment)
    try:
        theirs = os.readlink(f"/proc/{process.pid}/ns/mnt")
        with running.scan() as seen:
            held = [os.readlink(entry.path) for entry in os.scandir("/proc/self/fd") if os.path.lexists(entry.path)]
        assert (theirs in held) == (environment.tool.mode == "root")
        assert process.pid in [pid for group in seen.groups for pid in group.pids]
    finally:
        end(process)


@pytest.mark.modes("full", "root", "fuse", more=("single",))
def test_last_one_out_ends_it(environment: Environment) -> None:
    first, second = sleeper(environment), sleeper(environment)
    end(first)
    assert environment.tool.status(environment.name)["running"] is True
    environment.sh('test "$(readlink /proc/self/ns/mnt)" = "$(readlink "/proc/$1/ns/mnt")"', str(second.pid))
    end(second)
    status = environment.tool.status(environment.name)
    assert (status["running"], status["processes"]) == (False, [])
    assert "stopped" in succeeded(environment.tool.run("status", environment.name)).stdout
    assert "sysenv-ns:" not in Path("/proc/self/mountinfo").read_text()


@pytest.mark.modes("full", "root", more=("single", "fuse", "sudo"))
def test_daemon_keeps_it_running_until_stop(environment: Environment) -> None:
    tool = environment.tool
    succeeded(environment.exec("python3", "-c", _DAEMON))
    wait_for(lambda: len(tool.status(environment.name)["processes"]) == 1)
    (process,) = tool.status(environment.name)["processes"]
    assert process["command"].startswith("python3 -c")
    listed = tool.listed()
    assert [entry["processes"] for entry in listed if entry["name"] == environment.name] == [[process]]
    (line,) = (text for text in succeeded(tool.run("list")).stdout.splitlines() if environment.name in text.split())
    assert "running (1)" in line
    text = succeeded(tool.run("status", environment.name)).stdout
    assert f"{process['pid']} python3 -c" in text
    refused(tool.run("remove", environment.name), 1, "running", str(process["pid"]))
    stopped = succeeded(tool.run("stop", environment.name))
    assert f"ended {process['pid']} " in stopped.stderr
    assert tool.status(environment.name)["running"] is False
    assert "was not running" in succeeded(tool.run("stop", environment.name)).stderr


@pytest.mark.modes("full", more=("single", "root", "fuse"))
def test_stop_kills_what_does_not_end(environment: Environment) -> None:
    tool = environment.tool
    obedient = sleeper(environment)
    stubborn = tool.start("exec", environment.name, "--", "sh", "-c", _STUBBORN)
    assert line(stubborn) == "ready\n"
    begin = time.monotonic()
    result = tool.start("stop", environment.name, "--time", "2")
    assert finish(obedient).returncode == -signal.SIGTERM
    assert finish(stubborn).returncode == -signal.SIGKILL
    assert time.monotonic() - begin >= 2
    stopped = succeeded(finish(result))
    for process in (obedient, stubborn):
        assert f"ended {process.pid} " in stopped.stderr
    assert tool.status(environment.name)["running"] is False


def test_stop_ends_a_stopped_process(environment: Environment) -> None:
    process = sleeper(environment)
    os.kill(process.pid, signal.SIGSTOP)
    succeeded(environment.tool.run("stop", environment.name, "--time", "30"))
    assert finish(process).returncode == -signal.SIGTERM


@pytest.mark.modes("full", "single", more=("root",))
def test_stop_ends_what_another_user_of_the_environment_runs(environment: Environment) -> None:
    if environment.tool.mode == "full":
        script = "setpriv --reuid 33 --regid 33 --clear-groups setsid sleep 300 >/dev/null 2>&1 </dev/null &"
    else:
        script = "setsid sleep 300 >/dev/null 2>&1 </dev/null &"
    environment.sh(script)
    wait_for(lambda: "sleep 300" in str(environment.tool.status(environment.name)["processes"]))
    assert "sleep 300" in succeeded(environment.tool.run("stop", environment.name)).stderr
    assert environment.tool.status(environment.name)["running"] is False


def test_session_joins_while_stop_waits(environment: Environment) -> None:
    """It enters at once; that stop then ends it as well is what stop is for."""
    tool = environment.tool
    stubborn = tool.start("exec", environment.name, "--", "sh", "-c", _STUBBORN)
    assert line(stubborn) == "ready\n"
    stopping = tool.start("stop", environment.name, "--time", "8")
    time.sleep(1)
    joining = environment.exec("true")
    assert joining.returncode in (0, -signal.SIGTERM), describe(joining)
    assert joining.stderr == ""
    assert stubborn.poll() is None, "the session had to wait for stop"
    succeeded(finish(stopping))
    assert finish(stubborn).returncode == -signal.SIGKILL
    succeeded(environment.exec("true"))


@pytest.mark.modes("full", "root", more=("single",))
def test_only_a_sandbox_is_left(environment: Environment) -> None:
    """A process with mount and user namespaces of its own keeps the overlay mounted, and nobody can join it."""
    unshare = ("unshare", "--mount") if environment.tool.mode == "root" else ("unshare", "--map-root-user", "--mount")
    begin = _uptime()
    sandbox = sleeper(environment, *unshare)
    device = _root_device(Path(f"/proc/{sandbox.pid}/mountinfo").read_text())
    assert [p["pid"] for p in environment.tool.status(environment.name)["processes"]] == [sandbox.pid]
    refused(environment.tool.run("remove", environment.name), 1, "running")
    result = environment.exec("cat", "/proc/self/mountinfo")
    if result.returncode == 0:
        assert _root_device(result.stdout) == device, "the environment is mounted a second time"
    else:
        refused(result, 125, environment.name, "stop")
    assert _kernel_complaints(begin) == []
    end(sandbox)
    succeeded(environment.exec("true"))


@pytest.mark.parametrize("damage", ["missing", "truncated", "empty", "reused pid", "reused pid and start time"])
def test_lost_state_of_a_running_environment(environment: Environment, damage: str) -> None:
    """The state file is a hint only: a new session joins nevertheless."""
    state = environment.tool.store / "envs" / environment.name / "state.json"
    begin = _uptime()
    process = sleeper(environment)
    device = _root_device(Path(f"/proc/{process.pid}/mountinfo").read_text())
    _damage_state(state, damage)
    result = succeeded(environment.exec("cat", "/proc/self/mountinfo"))
    assert _root_device(result.stdout) == device, "the environment is mounted a second time"
    assert _kernel_complaints(begin) == []
    end(process)


@pytest.mark.parametrize("damage", ["missing", "truncated", "empty", "reused pid", "reused pid and start time"])
def test_state_of_an_environment_that_ended(environment: Environment, damage: str) -> None:
    succeeded(environment.exec("true"))
    _damage_state(environment.tool.store / "envs" / environment.name / "state.json", damage)
    assert environment.tool.status(environment.name)["running"] is False
    assert environment.sh("id -u") == "0\n"


def _damage_state(path: Path, damage: str) -> None:
    text = path.read_text()
    data = json.loads(text)
    if damage == "missing":
        path.unlink()
    elif damage == "truncated":
        path.write_text(text[: len(text) // 2])
    elif damage == "empty":
        path.write_text("")
    else:  # this process is alive and has nothing to do with the environment
        data["pid"] = os.getpid()
        if damage == "reused pid and start time":
            data["start_time"] = int(Path("/proc/self/stat").read_text().rpartition(")")[2].split()[19])
        path.write_text(json.dumps(data))


@pytest.mark.parametrize("known", [True, False])
def test_not_inside_an_environment(environment: Environment, known: bool) -> None:
    """What the tool does not do inside it refuses in a sentence, also where sudo has cleared the variables."""
    prefix = () if known else ("env", "-u", "SYSENV_NS")
    for status, *arguments in (
        (1, "create", "another"),
        (125, "shell", "another"),
        (125, "exec", "another", "--", "true"),
        (1, "stop", environment.name),
        (1, "remove", environment.name),
    ):
        result = environment.exec(*prefix, str(environment.tool.launcher), *map(str, arguments))
        refused(result, int(status), "inside the environment")


@pytest.mark.modes("full", "single", "root")
def test_sandboxes_work_inside(environment: Environment) -> None:
    environment.sh("unshare --map-root-user true")
    environment.sh("unshare --map-root-user --mount --pid --fork --mount-proc true")
    environment.sh("unshare --map-root-user --mount sh -ec 'mount -t tmpfs none /mnt; touch /mnt/x; test ! -e /mnt/y'")
    if environment.tool.mode == "full":
        environment.me("unshare --map-root-user --mount true")


@pytest.mark.modes("full")
def test_two_users_at_once(tool: Tool, tools: dict[str, Tool]) -> None:
    """The same name is two environments, which know nothing of each other."""
    both = (tool, tools["single"])
    script = "echo $1 > /usr/whose; sleep 1; cat /usr/whose"
    sessions = []
    for user in both:
        command = ("exec", *user.options, "same-name", "--", "sh", "-c", script, "sh", user.mode)
        sessions.append(user.start(*command))
    for user, session in zip(both, sessions, strict=True):
        assert succeeded(finish(session, limit=BASE_LIMIT)).stdout == f"{user.mode}\n"
    session = sleeper(tool.environment("same-name"))
    assert both[1].status("same-name")["running"] is False
    succeeded(both[1].run("stop", "same-name"))
    assert session.poll() is None
    end(session)
    for user in both:
        user.end("same-name")


def test_sessions_in_a_store_in_memory(memory_store: Tool) -> None:
    succeeded(memory_store.run("create", *memory_store.options, "test", limit=BASE_LIMIT))
    environment = memory_store.environment("test")
    session = sleeper(environment)
    environment.sh("echo text > /usr/x; mv /usr/x /usr/y")
    succeeded(memory_store.run("stop", "test", limit=START_LIMIT))
    finish(session)
    assert environment.sh("cat /usr/y") == "text\n"
    memory_store.end("test")


_ROOT_OF_ITS_OWN = """
mkdir /opt/root
mount -t tmpfs tmpfs /opt/root
mkdir /opt/root/bin
cp /bin/sleep /opt/root/bin
cp --parents $(ldd /bin/sleep | grep -o '/[^ ]*') /opt/root
"""


@pytest.mark.modes("full", more=("single",))
@pytest.mark.parametrize(("prepare", "root"), [("", "/usr"), (_ROOT_OF_ITS_OWN, "/opt/root")], ids=["part", "mount"])
def test_a_daemon_in_a_chroot_belongs_to_the_environment(environment: Environment, prepare: str, root: str) -> None:
    """Its mount table has nothing of the environment: daemons of mail, names and time lock themselves up so."""
    pid = int(environment.sh(f"{prepare}\nchroot {root} /bin/sleep 300 < /dev/null > /dev/null 2>&1 & echo $!"))
    process = Path(f"/proc/{pid}")
    try:
        wait_for(lambda: (process / "cmdline").read_bytes().startswith(b"/bin/sleep"))
        status = environment.tool.status(environment.name)
        assert (status["running"], [process["pid"] for process in status["processes"]]) == (True, [pid])
        succeeded(environment.exec("true"))
        assert f"ended {pid} /bin/sleep" in succeeded(environment.tool.run("stop", environment.name)).stderr
    finally:
        with contextlib.suppress(ProcessLookupError):
            os.kill(pid, signal.SIGKILL)
        wait_for(lambda: not process.exists())


@pytest.mark.modes("full", "single")
def test_joining_when_only_a_daemon_in_a_user_namespace_of_its_own_lives(environment: Environment) -> None:
    """It is in the environment's mount namespace, but there is no root where it is."""
    start = "unshare --user --map-user=1234 --map-group=1234 sleep 300 < /dev/null > /dev/null 2>&1 & echo $!"
    pid = int(environment.sh(start))
    wait_for(lambda: Path(f"/proc/{pid}/cmdline").read_bytes().startswith(b"sleep"))
    assert [process["pid"] for process in environment.tool.status(environment.name)["processes"]] == [pid]
    assert environment.sh("id -u; touch /opt/joined; stat -c %U /opt/joined").split() == ["0", "root"]
