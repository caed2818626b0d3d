"""Runs the tool as a test's user and asks its results; makes no users and knows no fixtures."""

from __future__ import annotations

import contextlib
import json
import os
import re
import shutil
import signal
import subprocess
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from dataclasses import dataclass, field, replace
from pathlib import Path
from typing import Any

import pytest

Argument = str | bytes
Result = subprocess.CompletedProcess[str]

ROOT_RUN = os.geteuid() == 0
IN_MEMORY = Path("/dev/shm")
MUST_WORK = os.environ.get("SYSENV_MUST_WORK") == "1"
_SLOWNESS = float(os.environ.get("SYSENV_SLOWNESS", "1"))  # of this machine: more than 1 where it is emulated
START_LIMIT = 60.0 * _SLOWNESS  # seconds for a command that does nothing long itself
BASE_LIMIT = 300.0 * _SLOWNESS  # seconds for a first start, which builds the base
APT_LIMIT = 600.0 * _SLOWNESS  # seconds for an installation

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
        """The beginning of a command that makes root this user."""
        groups = ",".join(map(str, self.groups))
        return ["setpriv", "--reuid", str(self.uid), "--regid", str(self.gid), "--groups", groups]


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
        prefix = prefix or self.prefix
        become = {} if prefix else self.account.become()
        return subprocess.Popen(
            [*prefix, str(self.launcher), *arguments],
            stdin=pipe,
            stdout=pipe,
            stderr=pipe,
            cwd=cwd or self.account.home,
            env=self.variables(),
            encoding="utf-8",
            errors="surrogateescape",
            start_new_session=True,
            umask=0o022,
            **become,
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
        result = succeeded(self.run("status", name, "--json"))
        data = json.loads(result.stdout)
        assert isinstance(data, dict)
        return data

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
        os.killpg(process.pid, signal.SIGKILL)
        output, errors = process.communicate()
        raise AssertionError(f"{process.args!r} took over {limit} s\n{tail(output)}\n{tail(errors)}") from None
    return subprocess.CompletedProcess(process.args, process.returncode, output, errors)


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
    assert process.stdout is not None
    assert process.stdout.readline() == "ready\n"
    return process


def end(process: subprocess.Popen[str]) -> Result:
    """Kill a session."""
    process.kill()
    return finish(process)


def describe(result: Result) -> str:
    """A result for a failure's message."""
    return f"{result.args!r}: status {result.returncode}\n{tail(result.stdout)}\n{tail(result.stderr)}"


def tail(text: str) -> str:
    """The last lines."""
    return "\n".join(text.splitlines()[-40:])


def wait_for(condition: Callable[[], bool], limit: float = START_LIMIT) -> None:
    """Poll until the condition holds."""
    deadline = time.monotonic() + limit
    while not condition():
        assert time.monotonic() < deadline, "waited in vain"
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


def processes_of(uids: range) -> list[int]:
    """The processes that belong to these users."""
    found = []
    for entry in Path("/proc").iterdir():
        with contextlib.suppress(OSError):
            if entry.name.isdecimal() and entry.stat().st_uid in uids:
                found.append(int(entry.name))
    return found


SYSTEM_DIRECTORIES = ("/usr", "/etc", "/var", "/opt", "/boot", "/srv")
# What daemons of a living host write at any time, and scratch space.
_UNSTEADY = ("/var/log", "/var/tmp", "/var/lib/sudo", "/var/lib/systemd", "/var/spool")
# Another session of these tests may make users at any time: its lines do not count here, nor copies of these files.
_ACCOUNTS = ("/etc/passwd", "/etc/group", "/etc/shadow", "/etc/gshadow", "/etc/subuid", "/etc/subgid")
# What root keeps for the users of the tests; the directory itself stays there.
ROOT_STORES = Path("/var/lib/sysenv-ns/users")
_CHECKOUT = str(Path(__file__).resolve().parents[2])  # it may lie there: pytest and Python keep what they like in it
_PASSED_OVER = {*_UNSTEADY, "/etc/.pwd.lock", str(ROOT_STORES.parent), _CHECKOUT}
_WITHOUT_TIMES = {os.path.dirname(path) for path in _PASSED_OVER}
_MADE_MEANWHILE = re.compile(rf"({'|'.join(_ACCOUNTS)})(-|\+|\.lock|\.[0-9]+)")
USER_PREFIX = "sysenv-test-"

Signature = tuple[int, ...]


@dataclass
class Fingerprint:
    """What the host's system directories look like: everything that any write to them changes."""

    entries: dict[str, Signature] = field(default_factory=dict)

    @classmethod
    def take(cls) -> Fingerprint:
        """Read the directories now."""
        entries: dict[str, Signature] = {f"/{name}": () for name in os.listdir("/")}
        for directory in SYSTEM_DIRECTORIES:
            entries.update(_walk(directory))
        return cls(entries)

    def difference(self, later: Mapping[str, Signature]) -> list[str]:
        """The paths that came, went or changed."""
        paths = sorted(self.entries.keys() | later.keys())
        return [path for path in paths if self.entries.get(path) != later.get(path)]


def _walk(directory: str) -> Iterator[tuple[str, Signature]]:
    waiting = [directory]
    while waiting:
        with (
            contextlib.suppress(FileNotFoundError, NotADirectoryError, PermissionError),
            os.scandir(waiting.pop()) as entries,
        ):
            for entry in entries:
                if entry.path in _PASSED_OVER or _MADE_MEANWHILE.fullmatch(entry.path):
                    continue
                if entry.is_dir(follow_symlinks=False):
                    waiting.append(entry.path)
                with contextlib.suppress(FileNotFoundError):  # it alone is gone
                    yield entry.path, _entry_signature(entry)


def _entry_signature(entry: os.DirEntry[str]) -> Signature:
    if entry.path in _ACCOUNTS:
        return _lines(entry.path)
    status = entry.stat(follow_symlinks=False)
    size = 0 if entry.is_dir(follow_symlinks=False) else status.st_size
    times = () if entry.path in _WITHOUT_TIMES else (status.st_mtime_ns, status.st_ctime_ns)
    return (status.st_mode, status.st_uid, status.st_gid, size, status.st_ino, *times)


def _lines(path: str) -> Signature:
    """What an account database says of all users but those of these tests."""
    lines = Path(path).read_text(errors="replace").splitlines()
    return tuple(hash(line) for line in lines if not line.startswith(USER_PREFIX))
