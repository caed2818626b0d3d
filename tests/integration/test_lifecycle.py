"""create, list, status, remove; sessions that meet; stores that are new, damaged, small or forbidden."""

from __future__ import annotations

import os
import signal
import subprocess
from collections import Counter
from pathlib import Path

import pytest

from .machines import Machine
from .support import (
    BASE_LIMIT,
    ROOT_RUN,
    Environment,
    Tool,
    describe,
    finish,
    line,
    notices,
    refused,
    succeeded,
    wait_for,
)


@pytest.mark.modes("full", "single", "root", more=("fuse", "sudo"))
def test_list_and_status(environment: Environment) -> None:
    tool = environment.tool
    status = tool.status(environment.name)
    kind = None if tool.mode == "root" else tool.mode
    assert (status["name"], status["driver"], status["id_map"]) == (environment.name, tool.driver, kind)
    assert (status["running"], status["processes"], status["problem"]) == (False, [], "")
    assert status.pop("version") == 1
    assert status in tool.listed()
    assert environment.name in succeeded(tool.run("list")).stdout
    assert "stopped" in succeeded(tool.run("status", environment.name)).stdout


def test_create_twice(environment: Environment) -> None:
    refused(environment.tool.run("create", environment.name), 1, environment.name, "exists")


@pytest.mark.parametrize("name", ["-x", ".x", "a/b", "", "ä", "a b"])
def test_bad_names(tool: Tool, name: str) -> None:
    result = tool.run("create", "--", name)
    assert result.returncode == 2, describe(result)
    assert "Traceback" not in result.stderr


def test_unknown_environment(tool: Tool) -> None:
    refused(tool.run("status", "unknown"), 1, "unknown")
    refused(tool.run("remove", "unknown"), 1, "unknown")


def test_other_driver_than_that_of_the_environment(environment: Environment) -> None:
    other = "copy" if environment.tool.driver == "reflink" else "reflink"
    refused(environment.tool.run("exec", "--driver", other, environment.name, "--", "true"), 125, "exists")


def test_damaged_description(tool: Tool) -> None:
    succeeded(tool.run("create", *tool.options, "damaged"))
    (tool.store / "envs" / "damaged" / "env.json").write_text('{"version": 1, "driver"')
    refused(tool.run("exec", "damaged", "--", "true"), 125, "damaged", "env.json")
    assert tool.status("damaged")["problem"]
    assert "damaged" in succeeded(tool.run("list")).stdout
    succeeded(tool.run("remove", "--purge", "damaged"))
    assert not (tool.store / "envs" / "damaged").exists()


@pytest.mark.modes("full", "single", "root", more=("fuse",))
def test_second_session_joins_the_first(environment: Environment) -> None:
    tool = environment.tool
    first = tool.start("exec", environment.name, "--", "sh", "-c", "echo one > /run/first; echo ready; exec sleep 300")
    assert line(first) == "ready\n"
    assert environment.sh("cat /run/first; echo two > /opt/second; echo $SYSENV_NS; id -u").split() == [
        *("one", environment.name, "0")
    ]
    environment.sh('test "$(readlink /proc/self/ns/mnt)" = "$(readlink "/proc/$1/ns/mnt")"', str(first.pid))
    status = tool.status(environment.name)
    assert status["running"] is True
    assert [process["pid"] for process in status["processes"]] == [first.pid]
    assert "sleep 300" in status["processes"][0]["command"]
    refused(tool.run("remove", environment.name), 1, "running")
    os.kill(first.pid, signal.SIGTERM)
    assert finish(first).returncode == -signal.SIGTERM
    assert tool.status(environment.name)["running"] is False
    assert environment.sh("cat /opt/second") == "two\n"


def test_a_daemon_outlives_the_session(environment: Environment) -> None:
    environment.sh("setsid sleep 300 >/dev/null 2>&1 </dev/null & echo kept > /run/kept")
    assert environment.tool.status(environment.name)["running"] is True
    assert environment.sh("cat /run/kept") == "kept\n"


@pytest.mark.modes("full", more=("single", "root", "fuse", "sudo"))
def test_many_sessions_at_once(environment: Environment) -> None:
    script = "echo $$ >> /opt/pids; sleep 1"
    sessions = [environment.tool.start("exec", environment.name, "--", "sh", "-c", script) for _ in range(6)]
    for session in sessions:
        succeeded(finish(session))
    assert len(environment.sh("cat /opt/pids").split()) == len(sessions)


@pytest.mark.modes("full", more=("single",))
def test_two_first_starts_at_once(new_machine: Machine) -> None:
    """One builds the base, the other waits for it."""
    tool = new_machine.tool
    sessions = [tool.start("exec", *tool.options, name, "--", "sort", "--version") for name in ("one", "two")]
    for session in sessions:
        assert "coreutils" in succeeded(finish(session, limit=BASE_LIMIT)).stdout
    _assert_one_base(tool)


@pytest.mark.modes("full", more=("single", "root"))
def test_first_sessions_of_one_new_name(new_machine: Machine) -> None:
    """One makes it, the others wait and join; those that ask for something else are told what there is."""
    tool = new_machine.tool
    command = ("exec", *tool.options, "new", "--", "sh", "-c", "echo $$ >> /opt/pids; sleep 1")
    results = [finish(session, limit=BASE_LIMIT) for session in [tool.start(*command) for _ in range(3)]]
    told = sorted(notices(succeeded(result)) for result in results)
    assert told == ["", "", "sysenv-ns: created the environment new\n"]
    assert len(tool.environment("new").sh("cat /opt/pids").split()) == 3
    again = [tool.start("exec", "short", "--", "true") for _ in range(8)]
    for result in [finish(session, limit=BASE_LIMIT) for session in again]:
        succeeded(result)
    assert sorted(os.listdir(tool.store / "envs")) == ["new", "short"]
    assert list((tool.store / "trash").iterdir()) == []


@pytest.mark.modes("full", more=("single",))
def test_a_backup_of_the_home_passes_the_store_over(environment: Environment, tmp_path: Path) -> None:
    """By the tag of the bases and the two names that docs/share.md gives; before, tar met files of other ids."""
    store = environment.tool.store
    environment.sh("install -d -m 700 -o 33 /srv/closed; touch /srv/closed/file")
    skipped = [f"--exclude={store.name}/{name}" for name in ("envs", "layers")]
    tar = ["tar", "-C", str(store.parent), "--exclude-caches", *skipped, "-cf", "/dev/null", "-v", store.name]
    result = subprocess.run(tar, capture_output=True, text=True, check=False, **environment.tool.account.become())
    assert result.returncode == 0, result.stderr
    assert f"{store.name}/base/CACHEDIR.TAG" in result.stdout.splitlines()
    assert "/tree/" not in result.stdout


def _assert_one_base(tool: Tool) -> None:
    (base,) = (tool.store / "base").glob("*/")
    layers = Counter(path.name.rpartition("-")[0] for path in base.iterdir() if path.is_dir())
    assert set(layers.values()) == {1}, layers
    assert "new" not in layers
    assert list((tool.store / "trash").iterdir()) == []


def _half_made(tool: Tool) -> set[Path]:
    """The layers with a part of /usr that are not in their places yet: those of a build, and what others have left."""
    return {*(tool.store / "base").glob("*/new-*/tree/usr/share")}


@pytest.mark.modes("full", more=("single",))
def test_interrupted_build(fresh_store: Tool) -> None:
    """Whatever ends a build, the next start makes a whole base."""
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        before = _half_made(fresh_store)
        process = fresh_store.start("create", *fresh_store.options, "interrupted")
        wait_for(lambda before=before: bool(_half_made(fresh_store) - before))  # type: ignore[misc]
        assert process.poll() is None, "the build was over before the signal"
        # As from a terminal, which sends it to all; nobody sends SIGKILL so.
        (os.kill if number == signal.SIGKILL else os.killpg)(process.pid, number)
        result = finish(process)
        assert result.returncode != 0
        assert "Traceback" not in result.stderr, describe(result)
    environment = fresh_store.environment("interrupted")
    command = ("exec", *fresh_store.options, environment.name, "--", "ls", "-A", "/usr/share")
    listed = succeeded(fresh_store.run(*command, limit=BASE_LIMIT)).stdout
    assert set(listed.split("\n")) >= {path.name for path in Path("/usr/share").iterdir()}
    _assert_one_base(fresh_store)


def test_store_in_memory(memory_store: Tool) -> None:
    """It works, or there is too little room and the tool says so and leaves nothing half-made."""
    result = memory_store.run("exec", *memory_store.options, "test", "--", "touch", "/usr/x", limit=BASE_LIMIT)
    if result.returncode != 0:
        refused(result, 125)
        assert list((memory_store.store / "envs").iterdir()) == []
        return
    succeeded(memory_store.run("exec", "test", "--", "test", "-e", "/usr/x"))
    memory_store.end("test")


@pytest.mark.modes("full", "root", more=("single",))
@pytest.mark.parametrize("place", ["/proc/store", "/usr/share/store"])
def test_store_that_cannot_be_written(tool: Tool, place: str) -> None:
    if tool.account.uid == 0 and place != "/proc/store":
        place = "/sys/store"
    forbidden = tool.at(Path(place))
    refused(forbidden.run("create", *tool.options, "x"), 1, place)
    refused(forbidden.run("exec", *tool.options, "x", "--", "true"), 125, place)
    assert forbidden.listed() == []


@pytest.mark.modes("full", more=("single",))
def test_store_of_somebody_else(tool: Tool, shared: Path) -> None:
    if not ROOT_RUN:
        pytest.skip("only root can make a directory for somebody else")
    directory = shared / "foreign"
    directory.mkdir(mode=0o777, exist_ok=True)
    directory.chmod(0o777)
    refused(tool.at(directory).run("create", *tool.options, "x"), 1, "belongs to another user")
    assert list(directory.iterdir()) == []


def test_store_is_closed_to_others(environment: Environment) -> None:
    wait_for(environment.tool.store.exists)
    assert environment.tool.store.stat().st_mode & 0o777 == 0o700
