"""The rows: what each compares with what, and the time that it aims at."""

from __future__ import annotations

import contextlib
import itertools
import json
import os
import shutil
import statistics
import subprocess
import sysconfig
from collections.abc import Iterator
from dataclasses import dataclass, field, replace
from functools import cached_property, partial
from pathlib import Path
from typing import Any

from .accounts import Account, Failure, Worker
from .table import compare, figure, row

BUSY, IDLE = "busy", "idle"  # the environments: in the one a worker lives, in the other nothing
LIBRARIES = f"/usr/lib/{sysconfig.get_config_var('MULTIARCH') or '.'}"
PACKAGES = ("hello", "sl", "figlet", "tree", "rolldice", "units", "pv", "cmatrix")  # the first five that are missing
LOOPS: dict[str, tuple[str, list[str], int, float]] = {  # title, command, times, target
    "find": ("find /usr -xdev -size +1G, warm", ["find", "/usr", "-xdev", "-size", "+1G"], 1, 1.3),
    "compile": ("30 x gcc hello.c", ["gcc", "-o", "hello", "../hello.c"], 30, 1.05),
    "processes": ("500 x /bin/true", ["/bin/true"], 500, 1.05),
    "libraries": ("read all shared libraries", ["sh", "-c", f"cat {LIBRARIES}/*.so* >/dev/null"], 1, 1.05),
}
ROWS = ("start", "check", "join", "create", *LOOPS, "states", "diff", "export", "base", "refresh", "apt", "rebase")
# Prints the seconds that a start takes to find out that the base holds: the median of many times, without its imports.
CHECK = """
import statistics, sys, time
from sysenv_ns.lower import base
from sysenv_ns.host import config, layout
from sysenv_ns import store
found = store.Store(store.location())
environment = found.load(sys.argv[1])
own = base.Base(found, environment.driver, environment.id_map)
host = config.host(found, environment)
seconds = []
for _ in range(21):
    begin = time.perf_counter()
    assert own._holds(layout.layers(host), own._additions(host), watching=True)
    seconds.append(time.perf_counter() - begin)
print(statistics.median(seconds))
"""
# 100 packages get an older version in an environment's database, and in what it takes for the host that it came from.
AGE_INSIDE = """
cd /var/lib/dpkg
awk '/^Version:/ && n++ < 100 { print "Version: 0~bench"; next } { print }' status > status.bench
mv status.bench status
"""
AGE_OUTSIDE = """
cd "$1"/origins*
rm -rf bench bench-root
key=$(ls | head -n 1)
case $key in *-root) new=bench-root ;; *) new=bench ;; esac
cp -r "$key" "$new"
cp "$2/upper/var/lib/dpkg/status" "$new/var/lib/dpkg/status"
echo "{\\"packages\\": \\"$new\\", \\"accounts\\": \\"$new\\"}" > "$2/origin.json"
"""


@dataclass
class Bench:
    """The rows and what they share; the workers are made when a row first asks for them."""

    account: Account  # its directory is the throwaway one, its variables name the throwaway store
    tool: str
    runs: int
    few: int  # runs of what takes long
    outside_apt: bool
    cleanup: contextlib.ExitStack
    status: dict[str, Any]  # what the tool says about the idle environment
    numbers: Iterator[int] = field(default_factory=itertools.count)

    def enter(self, name: str, *command: str) -> list[str]:
        """The command line that runs a command in an environment."""
        return [self.tool, "exec", name, "--", *command]

    @cached_property
    def workers(self) -> tuple[Worker, Worker]:
        """One in the busy environment and one on the host; they end before the environment is removed."""
        places = (replace(self.account, directory=f"{self.account.directory}/{n}") for n in ("inside", "outside"))
        workers = Worker(next(places), *self.enter(BUSY)), Worker(next(places))
        for worker in workers:
            self.cleanup.callback(worker.process.communicate)
        return workers

    def loop(self, title: str, command: list[str], times: int, target: float) -> Iterator[str]:
        """A loop inside against the same loop outside."""
        a, b = (partial(worker.time, command, times) for worker in self.workers)
        yield compare(title, a, b, self.runs, target) if shutil.which(command[0]) else row(title, f"no {command[0]}")

    def start(self) -> Iterator[str]:
        """A start against importing the tool's largest library, and against a sandbox written in C."""
        a = partial(self.account.time, *self.enter(IDLE, "true"))
        b = partial(self.account.time, self.python, "-c", "import click")
        yield compare("start / python3 -c 'import click'", a, b, self.runs, 2)
        with contextlib.suppress(Failure, OSError):  # not installed, or not allowed here
            b = partial(self.account.time, "bwrap", "--bind", "/", "/", "true")
            yield compare("start / bwrap --bind / / true", a, b, self.runs, None)

    @cached_property
    def python(self) -> str:
        """The Python that runs the tool."""
        python = Path(self.tool).parent.parent / ".venv/bin/python3"
        if not python.exists():  # the tool is a script of pip or pipx
            python = Path(Path(self.tool).read_text().partition("\n")[0].lstrip("#!").split()[0])
        return str(python)

    def check(self) -> Iterator[str]:
        """What it costs a start to find out that nothing has changed on the host."""
        samples = [float(self.account.run(self.python, "-I", "-c", CHECK, IDLE)) for _ in range(self.runs)]
        yield row("comparing the base with the host", figure(samples), "20 ms", statistics.median(samples) / 0.02, 1)

    def join(self) -> Iterator[str]:
        """A further session in an environment against the first one."""
        self.workers[0].time(["true"])  # it runs by now
        a, b = (partial(self.account.time, *self.enter(name, "true")) for name in (BUSY, IDLE))
        yield compare("join / start", a, b, self.runs, 1)

    def create(self) -> Iterator[str]:
        """A new environment where a base exists: its time, and its disk use after the first start."""

        def once() -> float:
            seconds = self.account.time(self.tool, "create", "new")
            self.account.run(self.tool, "remove", "new")
            return seconds

        start = partial(self.account.time, *self.enter(IDLE, "true"))
        yield compare("create, with a base / start", once, start, self.runs, 1.1)
        size = int(self.account.run("du", "-s", "--block-size=1000", self.status["path"]).split()[0])
        yield row("disk use of a new environment", f"{size} kB", "100 kB", size / 100, 1)

    def states(self) -> Iterator[str]:
        """Snapshot, rollback and clone of an environment with a small change against a start."""
        self.new("states")

        def change() -> None:
            self.account.run(*self.enter("states", "sh", "-c", "date > /etc/bench"))

        def snapshot() -> float:
            change()
            seconds = self.account.time(self.tool, "snapshot", "states", "bench")
            self.account.run(self.tool, "snapshot", "--delete", "states", "bench")
            return seconds

        def rollback() -> float:
            self.account.run(self.tool, "snapshot", "states", "bench")
            change()
            seconds = self.account.time(self.tool, "rollback", "states", "bench")
            for label in ("before-rollback", "bench"):
                self.account.run(self.tool, "snapshot", "--delete", "states", label)
            return seconds

        def clone() -> float:
            change()
            seconds = self.account.time(self.tool, "clone", "states", "copy")
            self.account.run(self.tool, "remove", "copy")
            return seconds

        start = partial(self.account.time, *self.enter(IDLE, "true"))
        for function in (snapshot, rollback, clone):
            yield compare(f"{function.__name__} / start", function, start, self.runs, None)

    def diff(self) -> Iterator[str]:
        """Finding the changes of an environment with many files against listing them."""
        upper = self.many("differing")
        a = partial(self.account.time, self.tool, "diff", "--json", "differing")
        yield compare("diff / du -a of the changes", a, partial(self.account.time, "du", "-a", upper), self.few, None)

    def export(self) -> Iterator[str]:
        """Writing an environment with many files as one file against tar."""
        if shutil.which("zstd") is None:
            yield row("export / tar --zstd", "no zstd")
            return
        upper, file = self.many("exported"), f"{self.account.directory}/exported.tar.zst"
        a = partial(self.account.time, self.tool, "export", "--force", "exported", f"{file}.own")
        b = partial(self.account.time, "tar", "--zstd", "-cf", file, upper)
        yield compare("export / tar --zstd of the changes", a, b, self.few, None)

    def new(self, name: str) -> None:
        """An environment for as long as the measurement lasts."""
        self.account.run(self.tool, "create", name)
        self.cleanup.callback(self.account.run, self.tool, "remove", name)

    def many(self, name: str) -> str:
        """The upper directory of a new environment with a copy of /usr/share."""
        self.new(name)
        self.account.run(
            *self.enter(name, "sh", "-c", "mkdir /opt/bench; cp -r /usr/share /opt/bench; chmod -R a+rX /opt/bench")
        )
        return str(Path(self.status["path"]).with_name(name) / "upper")

    def build(self) -> float:
        """The seconds that a new store takes until it has its base."""
        # Each run leaves its tree for the end: for minutes ext4 passes over inodes just freed, one by one.
        os.sync()  # not to pay for what others, or the previous run, left to write
        return self.at(f"build{next(self.numbers)}").time(self.tool, "create", "new")

    def at(self, store: str) -> Account:
        """The account with another store."""
        variables = self.account.variables | {"SYSENV_NS_HOME": f"{self.account.directory}/{store}"}
        return replace(self.account, variables=variables)

    def base(self) -> Iterator[str]:
        """Building the base against copying the metadata of /usr alone."""

        def copy() -> float:
            os.sync()
            target = f"{self.account.directory}/copy{next(self.numbers)}"
            return self.account.time("cp", "-r", "--attributes-only", "--preserve=mode,timestamps", "/usr", target)

        title = "build the base / cp -r --attributes-only"
        if self.status["driver"] == "root":
            yield row(title, "driver root has none")
            return
        self.account.run(*LOOPS["find"][1])  # the host's metadata gets warm
        yield compare(title, self.build, copy, self.few, 1.2, warm_up=0)

    def refresh(self) -> Iterator[str]:
        """The base follows 100 packages. Nothing is installed: it is made to remember their files as other ones."""
        lists = sorted(Path("/var/lib/dpkg/info").glob("*.list"))
        account, store = self.at("refresh"), Path(f"{self.account.directory}/refresh")
        files = set("\n".join(path.read_text() for path in lists[:: max(len(lists) // 100, 1)][:100]).splitlines())
        for name in (BUSY, IDLE):
            account.run(self.tool, "create", name)

        def once() -> float:
            forget(store, files)
            os.sync()
            return account.time(*self.enter(IDLE, "true"))

        title = f"start after {min(len(lists), 100)} packages changed"
        yield compare(f"{title} / build the base", once, self.build, self.few, 0.3, warm_up=0)
        with account.start(self.enter(BUSY, "cat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as session:
            print("in", file=session.stdin, flush=True)
            session.stdout.readline()  # type: ignore[union-attr]
            yield compare(f"{title}, one running / build", once, self.build, self.few, 0.5, warm_up=0)

    def apt(self) -> Iterator[str]:
        """Installing five small packages, without the download; outside only on demand: it changes the host."""
        packages = [name for name in PACKAGES if not Path(f"/var/lib/dpkg/info/{name}.list").exists()][:5]
        verb = ["apt-get", "-y", "-o", "Binary::apt-get::APT::Keep-Downloaded-Packages=true"]

        def once(worker: Worker) -> float:
            worker.time([*verb, "install", "--download-only", *packages])
            seconds = worker.time([*verb, "install", *packages])
            worker.time([*verb, "purge", *packages])
            return seconds

        title = f"apt-get install of {len(packages)} packages"
        inside, outside = self.workers
        for worker in self.workers[: 1 + self.outside_apt]:
            worker.time([*verb, "update"])
        pair = partial(once, inside), partial(once, outside)
        alone = None if self.outside_apt else figure([once(inside) for _ in range(self.few + 1)][1:])
        yield row(title, alone) if alone else compare(title, *pair, self.few, None)

    def rebase(self) -> Iterator[str]:
        """Carrying an environment over after 100 packages of the host have changed, as it seems to it."""
        self.new("moved")
        path = str(Path(self.status["path"]).with_name("moved"))
        store = self.account.variables["SYSENV_NS_HOME"]

        def once() -> float:
            self.account.run(*self.enter("moved", "sh", "-ec", AGE_INSIDE))
            self.account.run("sh", "-ec", AGE_OUTSIDE, "sh", store, path)
            return self.account.time(self.tool, "rebase", "moved")

        start = partial(self.account.time, *self.enter(IDLE, "true"))
        yield compare("rebase, 100 packages / start", once, start, self.few, None)


def forget(store: Path, files: set[str]) -> None:
    """Make the base remember these files and directories as others than they are, and the package database too."""
    for described in store.glob("base/*/*/usr.json"):
        index = described.with_name("usr.index.json")
        data, seen = (json.loads(path.read_text()) for path in (described, index))
        data["watched"]["/var/lib/dpkg/status"] = [0, 0, 0]
        for part in (seen["directories"], seen["stubs"], seen["copied"]):
            part.update({path: [0, 0, part[path][2]] for path in part.keys() & files})
        described.write_text(json.dumps(data))
        index.write_text(json.dumps(seen))
