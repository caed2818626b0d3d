"""Runs the tool as a test's user and asks its results; makes no users and knows no fixtures."""

from __future__ import annotations

import contextlib
import json
import os
import shutil
import signal
import subprocess
import threading
import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any

import pytest

from .processes import left

Argument = str | bytes
Result = subprocess.CompletedProcess[str]

ROOT_RUN = os.geteuid() == 0
IN_MEMORY = Path("/dev/shm")
MUST_WORK = os.environ.get("SYSENV_MUST_WORK") == "1"
_SLOWNESS = float(os.environ.get("SYSENV_SLOWNESS", "1"))  # of this machine: more than 1 where it is emulated
START_LIMIT = 60.0 * _SLOWNESS  # seconds for a command that does nothing long itself
BASE_LIMIT = 300.0 * _SLOWNESS  # seconds for a first start, which builds the base
APT_LIMIT = 600.0 * _SLOWNESS  # seconds for an installation
_PATIENCE = 10  # seconds for what was killed to end

USER_PREFIX = "sysenv-test-"
# What root keeps for the users of the tests; the directory itself stays there.
ROOT_STORES = Path("/var/lib/sysenv-ns/users")

_APT = """
[ "$SYSENV_NS" = "$1" ] && [ "$(cat /etc/debian_chroot)" = "$1" ] || { echo "not in the environment $1" >&2; exit 99; }
shift
exec env DEBIAN_FRONTEND=noninteractive apt-get -q -y -o Dpkg::Use-Pty=0 "$@"
"""


@dataclass(frozen=True)
class Account:
    """Whom the tool is run as; `groups` are the supplementary ones."""

    name: str
    uid: int
    gid: int
    groups: tuple[int, ...]
    home: Path

    def become(self) -> dict[str, Any]:
        """Arguments for Popen that make the child this user."""
        if self.uid == os.geteuid():
            return {}
        return {"user": self.uid, "group": self.gid, "extra_groups": self.groups}

    def setpriv(self) -> list[str]:
        """The beginning of a command that makes root this user.

        With `become` Popen has to fork, which takes 13 ms in a process of this size; without, vfork(2) and setpriv 3.
        """
        if self.uid == os.geteuid():
            return []
        groups = ["--groups", ",".join(map(str, self.groups))] if self.groups else ["--clear-groups"]
        return ["setpriv", "--reuid", str(self.uid), "--regid", str(self.gid), *groups]


@dataclass(frozen=True)
class Tool:
    """sysenv-ns, as one user and with one way to map ids: "full", "single", or "root" for the driver root.

    `prefix` precedes each command, and has to become the user.
    """

    mode: str
    account: Account
    launcher: Path
    store: Path
    options: tuple[str, ...] = ()  # for making an environment
    driver: str = "stub"
    prefix: tuple[str, ...] = ()

    @property
    def beginning(self) -> Sequence[str]:
        """What precedes each command: the prefix, or else what becomes the user."""
        return self.prefix or self.account.setpriv()

    def variables(self) -> dict[str, str]:
        """A clean environment, as after logging in."""
        kept = ("http_proxy", "https_proxy", "no_proxy")
        return {
            **{name: os.environ[name] for name in kept if name in os.environ},
            "HOME": str(self.account.home),
            "USER": self.account.name,
            "LOGNAME": self.account.name,
            "PATH": "/usr/local/bin:/usr/bin:/bin",
            "SHELL": "/bin/bash",
            "TERM": "xterm",
            "LANG": "C.UTF-8",
            "SYSENV_NS_HOME": str(self.store),
        }

    def start(self, *arguments: Argument, cwd: Path | None = None, prefix: Sequence[str] = ()) -> subprocess.Popen[str]:
        """Start the tool with pipes; it leads a session of its own, so that all of it can be ended."""
        pipe = subprocess.PIPE
        return subprocess.Popen(
            [*(prefix or self.beginning), str(self.launcher), *arguments],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            cwd=cwd or self.account.home,
            env=self.variables(),
            encoding="utf-8",
            errors="surrogateescape",
            start_new_session=True,
            umask=0o022,
        )

    def run(
        self,
        *arguments: Argument,
        stdin: str = "",
        limit: float = START_LIMIT,
        cwd: Path | None = None,
        prefix: Sequence[str] = (),
    ) -> Result:
        """Run the tool to its end; it is killed with all it started after `limit` seconds."""
        process = self.start(*arguments, cwd=cwd, prefix=prefix)
        return finish(process, stdin, limit)

    def status(self, name: str) -> dict[str, Any]:
        """What `status --json` says."""
        return dict(json.loads(succeeded(self.run("status", name, "--json")).stdout))

    def listed(self, prefix: Sequence[str] = ()) -> list[dict[str, Any]]:
        """What `list --json` says of each environment."""
        return list(json.loads(succeeded(self.run("list", "--json", prefix=prefix)).stdout)["environments"])

    def names(self) -> list[str]:
        """The names of the environments that it lists."""
        return [entry["name"] for entry in self.listed()]

    def at(self, store: Path) -> Tool:
        """The same tool with another store."""
        return replace(self, store=store)

    def environment(self, name: str) -> Environment:
        """An environment of that name, whether it exists or not."""
        return Environment(self, name)

    def end(self, name: str) -> None:
        """Kill what runs in an environment, and delete it."""
        if self.run("remove", "--purge", name).returncode == 0:
            return
        deadline = time.monotonic() + START_LIMIT
        while processes := self.status(name)["processes"]:
            assert time.monotonic() < deadline, f"cannot end {processes}"
            for process in processes:
                with contextlib.suppress(ProcessLookupError):
                    os.kill(process["pid"], signal.SIGKILL)
            time.sleep(0.05)
        succeeded(self.run("remove", "--purge", name))


@dataclass(frozen=True)
class Environment:
    """One environment of a tool."""

    tool: Tool
    name: str

    def exec(self, *command: Argument, identity: str = "", **keywords: Any) -> Result:
        """`exec` of a command; identity is "", "--me" or "--root"."""
        options = [identity] if identity else []
        return self.tool.run("exec", *options, self.name, "--", *command, **keywords)

    def sh(self, script: str, *arguments: Argument, **keywords: Any) -> str:
        """The output of a shell script that must succeed, run as root of the environment."""
        return succeeded(self.exec("sh", "-ec", script, "sh", *arguments, **keywords)).stdout

    def me(self, script: str, **keywords: Any) -> str:
        """The same, run as the user."""
        return self.sh(script, identity="--me", **keywords)

    def apt(self, *arguments: str, limit: float = APT_LIMIT) -> str:
        """apt-get, which must succeed; refuses to run anywhere but in this environment."""
        return succeeded(self.exec("sh", "-c", _APT, "sh", self.name, *arguments, limit=limit)).stdout

    def install(self, *packages: str) -> None:
        """apt-get update and install."""
        self.apt("update")
        self.apt("install", *packages)

    def audit(self) -> str:
        """What dpkg finds wrong with the packages."""
        return self.sh("dpkg --audit")


def finish(process: subprocess.Popen[str], stdin: str = "", limit: float = START_LIMIT) -> Result:
    """Wait for a started tool; kill it with all it started after `limit` seconds."""
    try:
        output, errors = process.communicate(stdin, timeout=limit)
    except subprocess.TimeoutExpired:
        raise _given_up(process, f"took over {limit} s") from None
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


def ran(command: Sequence[Argument | Path], stdin: str = "", limit: float = START_LIMIT, **keywords: Any) -> Result:
    """The result of any program, which is killed with all it started after `limit` seconds."""
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command, stdin=pipe, stdout=pipe, stderr=pipe, encoding="utf-8", start_new_session=True, **keywords
    )
    return finish(process, stdin, limit)


def line(process: subprocess.Popen[str], limit: float = START_LIMIT, *, of_errors: bool = False) -> str:
    """The next line that a process prints, which it has to do within `limit` seconds."""
    stream = process.stderr if of_errors else process.stdout
    assert stream is not None
    return _read(process, stream.readline, "line", limit)


def rest(process: subprocess.Popen[str], limit: float = START_LIMIT) -> str:
    """All that a process prints until it closes its output, which it has to do within `limit` seconds."""
    assert process.stdout is not None
    return _read(process, process.stdout.read, "end of its output", limit)


def _read(process: subprocess.Popen[str], read: Callable[[], str], what: str, limit: float) -> str:
    said: list[str] = []
    # What is buffered cannot be asked for; a reader that never gets anything holds nothing up.
    reader = threading.Thread(target=lambda: said.append(read()), daemon=True)
    reader.start()
    reader.join(limit)
    if not said:
        raise _given_up(process, f"printed no {what} within {limit} s")
    if not said[0]:
        raise _given_up(process, f"printed no {what}")
    return said[0]


def ended(process: subprocess.Popen[Any], limit: float = START_LIMIT) -> int:
    """The status of a process, which has to end within `limit` seconds, whoever has its pipes."""
    try:
        return process.wait(limit)
    except subprocess.TimeoutExpired:
        raise _given_up(process, f"did not end within {limit} s") from None


def _given_up(process: subprocess.Popen[Any], why: str) -> AssertionError:
    """What to say of a process that is killed with its group: what it has said, and what was left of it.

    A descendant in another session may have its pipes, and go on.
    """
    around = left(process)
    with contextlib.suppress(ProcessLookupError, PermissionError):
        group = os.getpgid(process.pid)  # of another process, if this one has been waited for
        if process.returncode is None:
            (os.killpg if group == process.pid else os.kill)(process.pid, signal.SIGKILL)
    try:
        said = process.communicate(timeout=_PATIENCE)
    except subprocess.TimeoutExpired as late:
        said = late.output, late.stderr
        around = [*around, "and after it was killed:", *left(process)]
    parts = (part.decode(errors="replace") if isinstance(part, bytes) else part or "" for part in said)
    return AssertionError("\n".join([f"{process.args!r} {why}", *map(tail, parts), *around]))


def succeeded(result: Result) -> Result:
    """The same result, if its status is 0."""
    assert result.returncode == 0, f"{describe(result)}"
    return result


def refused(result: Result, status: int, *words: str) -> None:
    """The tool itself failed as documented: one sentence with these words, a hint, no traceback."""
    assert result.returncode == status, describe(result)
    assert "Traceback" not in result.stderr, describe(result)
    assert "hint: " in result.stderr, describe(result)
    assert all(word in result.stderr for word in words), describe(result)


def sleeper(environment: Environment, *command: str) -> subprocess.Popen[str]:
    """A session that stays; `command` precedes the program that sleeps."""
    script = "echo ready; exec sleep 300"
    process = environment.tool.start("exec", environment.name, "--", *command, "sh", "-c", script)
    assert line(process) == "ready\n"
    return process


def end(process: subprocess.Popen[str]) -> Result:
    """Kill a session."""
    process.kill()
    return finish(process)


def notices(result: Result) -> str:
    """What the tool has said, without that only root will exist inside: users without a range are told at first."""
    return "".join(said for said in result.stderr.splitlines(keepends=True) if not _is_told_first(said))


def notice(process: subprocess.Popen[str]) -> str:
    """The next line of that which a process prints."""
    said = line(process, of_errors=True)
    return line(process, of_errors=True) if _is_told_first(said) else said


def _is_told_first(said: str) -> bool:
    return said.startswith("sysenv-ns: only root will exist inside (")


def describe(result: Result) -> str:
    """A result for a failure's message."""
    return f"{result.args!r}: status {result.returncode}\n{tail(result.stdout)}\n{tail(result.stderr)}"


def tail(text: str) -> str:
    """The last lines."""
    return "\n".join(text.splitlines()[-40:])


def wait_for(condition: Callable[[], bool], limit: float = START_LIMIT, why: str = "") -> None:
    """Poll until the condition holds."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, f"waited in vain for {limit} s {why}"
        time.sleep(0.05)


def fits_in_memory(size: int) -> bool:
    """Whether so many bytes have room in a file system in memory."""
    lines = (line.split() for line in Path("/proc/meminfo").read_text().splitlines())
    free = next((int(line[1]) * 1024 for line in lines if line[0] == "MemAvailable:"), 0)
    return os.access(IN_MEMORY, os.W_OK) and min(free, shutil.disk_usage(IN_MEMORY).free) > size


def stays_on_its_file_system(tool: Tool) -> None:
    """Skip a test that puts the store on another file system than /usr where that has nothing to do with the driver."""
    if tool.driver == "reflink":
        pytest.skip("this driver works on the file system of /usr alone")


def keeps_files_of_the_host(tool: Tool) -> None:
    """Skip a test of what the base keeps while the host changes, where the driver shows the host's own files."""
    if tool.driver == "fuse":
        pytest.skip("this driver shows the host's own files at once")


def running(*command: str) -> list[int]:
    """The processes that run this command, with just these arguments."""
    wanted, found = "".join(f"{word}\0" for word in command).encode(), []
    for path in Path("/proc").glob("[0-9]*/cmdline"):
        with contextlib.suppress(OSError):
            if path.read_bytes() == wanted:
                found.append(int(path.parent.name))
    return found


def processes_of(uids: range) -> list[int]:
    """The processes that belong to these users."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and entry.stat().st_uid in uids:
                found.append(int(entry.name))
    return found
