"""The rows: what each compares with what, and the time that it aims at."""

from __future__ import annotations

import contextlib
import os
import shutil
import statistics
import subprocess
import sysconfig
from collections.abc import Iterator
from functools import partial
from pathlib import Path

from .accounts import Failure, Worker
from .environments import BUSY, IDLE, MANY, Environments, forget
from .table import Row, figure

SUPERVISOR = "sysenv-ns-calls"  # the name of its process
BASE_CHECK = str(Path(__file__).with_name("base_check.py"))
LIBRARIES = f"/usr/lib/{sysconfig.get_config_var('MULTIARCH') or '.'}"
PACKAGES = ("hello", "sl", "figlet", "tree", "rolldice", "units", "pv", "cmatrix")  # the first five that are missing
LOOPS: dict[str, tuple[str, list[str], int, float]] = {  # title, command, times, target
    "find": ("find /usr -xdev -size +1G, warm", ["find", "/usr", "-xdev", "-size", "+1G"], 1, 1.3),
    "compile": ("30 x gcc hello.c", ["gcc", "-o", "hello", "../hello.c"], 30, 1.05),
    "processes": ("500 x /bin/true", ["/bin/true"], 500, 1.05),
    "libraries": ("read all shared libraries", ["sh", "-c", f"cat {LIBRARIES}/*.so* >/dev/null"], 1, 1.05),
}
ROWS = (
    *("start", "link", "check", "join", "ephemeral", "memory", "create", "list"),
    *(*LOOPS, "cold", "states", "copies", "diff", "export"),
    *("base", "room", "refresh", "apt", "rebase"),
)


class Bench(Environments):
    """The rows, a method each."""

    def loop(self, title: str, command: list[str], times: int, target: float) -> Iterator[Row]:
        """A loop inside against the same loop outside."""
        a, b = (partial(worker.time, command, times) for worker in self.workers)
        yield (
            self.compare(title, a, b, self.runs, target) if shutil.which(command[0]) else Row(title, f"no {command[0]}")
        )

    def start(self) -> Iterator[Row]:
        """A start against importing the tool's largest library, and against a sandbox written in C."""
        a = self.entering(IDLE)
        b = partial(self.account.time, self.python, "-c", "import click")
        yield self.compare("start / python3 -c 'import click'", a, b, self.runs, 1)
        with contextlib.suppress(Failure, OSError):  # not installed, or not allowed here
            b = partial(self.account.time, "bwrap", "--bind", "/", "/", "true")
            yield self.compare("start / bwrap --bind / / true", a, b, self.runs, None)

    def link(self) -> Iterator[Row]:
        """A command that `link` has made, which starts its environment."""
        a = partial(self.account.time, self.linked)
        b = partial(self.account.time, self.python, "-c", "import click")
        yield self.compare("a linked command / python3 -c 'import click'", a, b, self.runs, 1)

    def check(self) -> Iterator[Row]:
        """What it costs a start to find out that nothing has changed on the host."""

        def once() -> float:
            for _ in range(3):  # others may be changing the host: a start then brings the base up to date
                with contextlib.suppress(Failure):
                    return float(self.account.run(self.python, "-I", BASE_CHECK, IDLE))
                self.account.run(*self.enter(IDLE, "true"))
            return float(self.account.run(self.python, "-I", BASE_CHECK, IDLE))

        samples = [once() for _ in range(self.runs)]
        yield Row("comparing the base with the host", figure(samples), "5 ms", statistics.median(samples) / 0.005, 1)

    def copies(self) -> Iterator[Row]:
        """The first change of many host files, each of which is copied up, against that of files of its own."""
        source = Path(__file__).with_name("copy_up.py").read_text()
        for title, place in (("", ("new",)), (", --ephemeral", ("--ephemeral",))):
            samples = []
            for _ in range(self.few):
                printed = self.account.run(self.tool, "exec", *place, "--", "python3", "-c", source)
                samples.append([float(line) for line in printed.split()])
                if not title:
                    self.account.run(self.tool, "remove", "--purge", "new")
            for number, operation in enumerate(("chmod", "chown")):
                first, own = ([sample[2 * number + side] for sample in samples] for side in (0, 1))
                ratio = statistics.median(first) / statistics.median(own)
                yield Row(f"{operation} of 10,000 host files / own{title}", figure(first), figure(own), ratio, 10)

    def join(self) -> Iterator[Row]:
        """A further session in an environment against the first one."""
        self.workers[0].time(["true"])  # it runs by now
        a, b = (self.entering(name) for name in (BUSY, IDLE))
        yield self.compare("join / start", a, b, self.runs, 1)

    def ephemeral(self) -> Iterator[Row]:
        """A session in a throwaway environment, and deleting those before it, against one that stays."""
        self.new("source")  # the first one on top of it freezes what it has
        a = partial(self.account.time, self.tool, "exec", "--ephemeral", "source", "--", "true")
        b = self.entering(IDLE)
        yield self.compare("exec --ephemeral / start", a, b, self.runs, 1.15)

    def memory(self) -> Iterator[Row]:
        """What the supervisor of a session holds, its part of what it shares with others included."""
        title, before = "memory of a session's supervisor (PSS)", supervisors()
        with self.account.start(self.enter(IDLE, "cat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as session:
            print("in", file=session.stdin, flush=True)
            session.stdout.readline()  # type: ignore[union-attr]
            texts = [text for path in supervisors() - before if (text := memory_of(path))]
        if not texts:
            yield Row(title, "this driver has none")
            return
        kilobytes = max(int(line.split()[1]) for text in texts for line in text.splitlines() if line[:4] == "Pss:")
        yield Row(title, f"{kilobytes} kB", "6000 kB", kilobytes / 6000, 1)

    def list(self) -> Iterator[Row]:
        """Listing the environments, of which one has drifted."""
        self.new("drifted")
        self.age("drifted")
        a = partial(self.account.time, self.tool, "list")
        start = self.entering(IDLE)
        yield self.compare("list, one drifted / start", a, start, self.runs, 1)

    def create(self) -> Iterator[Row]:
        """A new environment where a base exists: its time, and its disk use after the first start."""

        def once() -> float:
            seconds = self.account.time(self.tool, "create", "new")
            self.account.run(self.tool, "remove", "--purge", "new")
            return seconds

        start = self.entering(IDLE)
        yield self.compare("create, with a base / start", once, start, self.runs, 1.05)
        size = int(self.account.run("du", "-s", "--block-size=1000", self.status["path"]).split()[0])
        yield Row("disk use of a new environment", f"{size} kB", "100 kB", size / 100, 1)

    def states(self) -> Iterator[Row]:
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
            self.account.run(self.tool, "remove", "--purge", "copy")
            return seconds

        start = self.entering(IDLE)
        for function in (snapshot, rollback, clone):
            yield self.compare(f"{function.__name__} / start", function, start, self.runs, None)

    def diff(self) -> Iterator[Row]:
        """Finding the changes of an environment with many files against listing them."""
        a = partial(self.account.time, self.tool, "diff", "--json", MANY)
        b = partial(self.account.time, "du", "-a", self.many)
        yield self.compare("diff / du -a of the changes", a, b, self.few, 3)

    def export(self) -> Iterator[Row]:
        """Writing an environment with many files as one file against tar, as it is and with as many threads."""
        if shutil.which("zstd") is None:
            yield Row("export / tar --zstd", "no zstd")
            return
        file = f"{self.account.directory}/exported.tar.zst"
        threads = len(os.sched_getaffinity(0))
        a = partial(self.account.time, self.tool, "export", "--force", MANY, f"{file}.own")
        for title, count in (("", 1), (f" in {threads} threads", threads)):
            b = partial(self.account.time, "env", f"ZSTD_NBTHREADS={count}", "tar", "--zstd", "-cf", file, self.many)
            yield self.compare(f"export / tar --zstd{title}", a, b, self.few, 1.1)

    def cold(self) -> Iterator[Row]:
        """The first look at all of /usr after a start of the system; for root, who alone can forget what is known."""
        if os.geteuid() != 0:
            yield Row("find /usr, cold", "for root alone")
            return

        def once(worker: Worker) -> float:
            os.sync()
            Path("/proc/sys/vm/drop_caches").write_text("3")
            return worker.time(LOOPS["find"][1])

        a, b = (partial(once, worker) for worker in self.workers)
        yield self.compare("find /usr, cold", a, b, self.few, 2)

    def room(self) -> Iterator[Row]:
        """The disk that the base takes, for each 100,000 files of the system, as the file system says it."""
        title = "disk use of the base, 100,000 files"
        if not Path(self.status["path"]).parent.with_name("base").is_dir():
            yield Row(title, "this driver has none")
            return
        # Not as du says it: of a block that many stubs have in common, each has all. Others are to write little.
        before = self.used()
        self.built("room")
        used = self.used() - before
        count = self.account.run("sh", "-c", 'find "$1" | wc -l', "sh", f"{self.account.directory}/room/base")
        each = used / 1e6 / int(count) * 100_000
        yield Row(title, f"{each:.0f} MB", "300 MB", each / 300, 1)

    def base(self) -> Iterator[Row]:
        """Building the base against copying the metadata of most of its trees."""

        def copy() -> float:
            target = f"{self.account.directory}/copy{next(self.numbers)}"
            self.account.run("mkdir", target)
            os.sync()
            options = "-r", "--attributes-only", "--preserve=mode,timestamps"
            return self.account.time("cp", *options, "/usr", "/opt", "/etc", target)

        title = "build the base / cp -r --attributes-only"
        if self.status["driver"] == "root":
            yield Row(title, "driver root has none")
            return
        self.account.run(*LOOPS["find"][1])  # the host's metadata gets warm
        yield self.compare(title, self.build, copy, self.few, 1.2, warms_up=False)

    def refresh(self) -> Iterator[Row]:
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
        yield self.compare(f"{title} / build the base", once, self.build, self.few, 0.3, warms_up=False)
        with account.start(self.enter(BUSY, "cat"), stdin=subprocess.PIPE, stdout=subprocess.PIPE) as session:
            print("in", file=session.stdin, flush=True)
            session.stdout.readline()  # type: ignore[union-attr]
            yield self.compare(f"{title}, one running / build", once, self.build, self.few, 0.5, warms_up=False)

    def apt(self) -> Iterator[Row]:
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
        samples = [] if self.outside_apt else [once(inside) for _ in range(self.few + self.warms_up)][self.warms_up :]
        alone = figure(samples) if samples else None
        yield Row(title, alone) if alone else self.compare(title, *pair, self.few, None)

    def rebase(self) -> Iterator[Row]:
        """Carrying an environment over after 100 packages of the host have changed, as it seems to it."""
        self.new("moved")

        def once(*options: str) -> float:
            self.age("moved")
            return self.account.time(self.tool, "rebase", "moved", *options)

        start = self.entering(IDLE)
        yield self.compare("rebase --dry-run, 100 packages / start", partial(once, "--dry-run"), start, self.few, 4)
        yield self.compare("rebase, 100 packages / start", once, start, self.few, None)


def supervisors() -> set[Path]:
    """The processes that answer system calls for sessions, whoever's they are."""
    found = set()
    for path in Path("/proc").glob("[0-9]*"):
        with contextlib.suppress(OSError):  # it has ended
            if (path / "comm").read_text() == f"{SUPERVISOR}\n":
                found.add(path)
    return found


def memory_of(process: Path) -> str:
    """What the kernel says of a process's memory; nothing where it is somebody else's, or has ended."""
    try:
        return (process / "smaps_rollup").read_text()
    except (PermissionError, ProcessLookupError, FileNotFoundError):
        return ""
