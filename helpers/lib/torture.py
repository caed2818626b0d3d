"""What helpers/torture works on: a store, the operations on it, and all that has to hold afterwards."""

from __future__ import annotations

import collections
import contextlib
import json
import os
import random
import re
import signal
import subprocess
import time
from collections.abc import Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

LIMIT = 300.0  # seconds for a command, which may build a base, be the machine as busy as it likes
PATIENCE = 10.0  # seconds that helper processes of a killed command may take to end
NAMES = ("a", "b", "c")
LAYER = re.compile(r"(top|etc|stubs)-[0-9]+")
CHEAP = ("root", "etc")  # trees that are mirrored in no time
ENTER = '[ "$(cat /etc/debian_chroot)" = "$0" ] || exit 99; exec "$@"'  # nothing of this may happen on the host
WRITE = """
d=/usr/lib/torture; rm -rf $d; mkdir $d
for i in 0 1 2 3 4 5 6 7 8 9; do echo $i >$d/$i; ln $d/$i $d/link$i; mv $d/$i $d/moved$i; done
cp -a /etc/apt /opt/; rm -rf /usr/share/doc/dpkg; echo >>/usr/bin/sort; chmod 700 /srv
"""
BACKGROUND = "setsid sleep 90 >/dev/null 2>&1 </dev/null &"
AT_REST = ("snapshot", "forget", "rollback", "clone", "export", "import", "remove")  # not while it runs
# What a kill during unpacking leaves, dpkg itself wants to be installed again.
REPAIR = """
dpkg-query --show >/dev/null || exit 3
[ -n "$(dpkg --audit)" ] || exit 0
dpkg --configure -a; [ -n "$(dpkg --audit)" ] || exit 0
dpkg --install "$@" && [ -z "$(dpkg --audit)" ]
"""
# A signal; when, relative to how long the command usually takes; and whether to its group or to the tool alone.
Fault = tuple[signal.Signals, float, bool]
USUAL = {"create": 0.6, "remove": 0.5, "install": 1.5, "rebuild": 2.0}  # seconds, until they have been measured


@dataclass
class Torture:
    """The store, what is known of it, and what went wrong."""

    tool: str
    options: tuple[str, ...]
    directory: Path
    store: Path
    seed: int
    token: str = f"{os.getpid()}-{time.time_ns()}"  # by which a daemon is known later
    promised: set[str] = field(default_factory=set)  # reported as created, and nobody has begun to remove them
    sessions: dict[int, str] = field(default_factory=dict)  # of what was started: the leader, and when that was
    usual: dict[str, float] = field(default_factory=lambda: dict(USUAL))
    counts: collections.Counter[str] = field(default_factory=collections.Counter)
    faults: int = 0
    violations: int = 0
    step: int = 0
    doing: str = "setting up"

    def violation(self, text: object) -> None:
        self.violations += 1
        print(f"violation: seed {self.seed} step {self.step} ({self.doing}): {text}", flush=True)

    def start(self, arguments: Sequence[str], number: int) -> subprocess.Popen[bytes]:
        """Start the tool in a session of its own, its output going to files: daemons would hold a pipe open."""
        variables = os.environ | {"SYSENV_NS_HOME": str(self.store), "LC_ALL": "C.UTF-8", "TORTURE": self.token}
        with contextlib.ExitStack() as stack:
            files = [stack.enter_context(open(self.directory / f"{name}{number}", "wb")) for name in ("out", "err")]
            streams: Any = {"stdin": subprocess.DEVNULL, "stdout": files[0], "stderr": files[1], "env": variables}
            command = [self.tool, *arguments]
            process = subprocess.Popen(command, cwd=self.directory, start_new_session=True, **streams)
        self.sessions[process.pid] = start_time(process.pid)
        return process

    def finish(self, process: subprocess.Popen[bytes], number: int, may_fail: bool) -> tuple[int, str]:
        """Wait for the tool; gives its status and output. A hang and a traceback are violations, whatever it does."""
        title = repr(" ".join(map(str, process.args[1:])))[:200]  # type: ignore[index]
        try:
            status = process.wait(LIMIT)
        except subprocess.TimeoutExpired:
            self.violation(f"{title} took over {LIMIT:.0f} s")
            os.killpg(process.pid, signal.SIGKILL)
            status = process.wait(LIMIT)
        output, errors = ((self.directory / f"{name}{number}").read_text(errors="replace") for name in ("out", "err"))
        if (status != 0 and not may_fail) or ("Traceback" in errors and "/sysenv_ns/" in errors):
            self.violation(f"{title} ended with status {status}: {errors.strip()[-600:]}")
        return status, output

    def must(self, *arguments: str) -> str:
        """Run the tool to its end and give its output; that it fails is a violation."""
        return self.finish(self.start(arguments, 0), 0, may_fail=False)[1]

    def attack(self, kind: str, command: Sequence[str], fault: Fault | None) -> bool:
        """Run a command, or five in a crowd; at its moment the first one gets the fault. Whether that succeeded."""
        begin = time.monotonic()
        processes = [self.start(command, number) for number in range(5 if kind == "crowd" else 1)]
        signalled = False
        if fault is not None:
            with contextlib.suppress(subprocess.TimeoutExpired):
                processes[0].wait(fault[1] * self.usual.get(kind, 0.3))
            if signalled := processes[0].poll() is None:
                self.faults += 1
                (os.killpg if fault[2] else os.kill)(processes[0].pid, fault[0])
        results = [self.finish(p, n, may_fail=signalled and n == 0) for n, p in enumerate(processes)]
        if not signalled:
            self.usual[kind] = (self.usual.get(kind, 0.3) + time.monotonic() - begin) / 2
        return results[0][0] == 0

    def environments(self) -> list[dict[str, Any]]:
        """What `list` says."""
        return list(json.loads(self.must("list", "--json"))["environments"])

    def processes(self) -> list[tuple[int, str]]:
        """What any command has left running: its session tells, or, for a daemon, its variables."""
        found = []
        for entry in Path("/proc").glob("[0-9]*"):
            with contextlib.suppress(OSError):
                command, _, rest = (entry / "stat").read_text(errors="replace").rpartition(")")
                state, _, _, session = rest.split()[:4]
                mine = self.is_mine(int(session))
                if not mine:  # unreadable for those of others: what is ours can be read or is in a known session
                    with contextlib.suppress(PermissionError):
                        mine = f"TORTURE={self.token}".encode() in (entry / "environ").read_bytes()
                if mine and state not in "ZX":
                    found.append((int(entry.name), command.partition("(")[2]))
        return found

    def is_mine(self, session: int) -> bool:
        """Whether it is one of its own, and not another that has got its number."""
        started = self.sessions.get(session)
        with contextlib.suppress(OSError):
            return started == start_time(session)
        return started is not None  # its leader has ended

    def operate(self, kind: str, name: str, rng: random.Random, fault: Fault | None) -> None:
        """One operation on one environment, which is made when it is not there."""
        exists = name in {environment["name"] for environment in self.environments()}
        kind = ("write" if kind == "create" else kind) if exists else "create"
        self.doing = f"{kind} {name}, {fault}" if fault else f"{kind} {name}"
        self.counts[kind] += 1
        if kind in AT_REST:
            self.must("stop", name, "--time", "2")
        if kind == "remove":
            self.promised.discard(name)
        elif kind in ("rebuild", "refresh"):
            self.forget(rng.choice(CHEAP))
        elif kind == "damage":
            self.damage(name, rng)
        guarded = ("exec", name, "--", "sh", "-c", ENTER, name)
        package = f"{self.directory}/torture-{rng.choice(('one', 'two'))}_{rng.choice('12')}_all.deb"
        commands: dict[str, tuple[str, ...]] = {
            "create": ("create", name, *self.options),
            "write": (*guarded, "sh", "-ec", WRITE),
            "install": (*guarded, "dpkg", "--force-downgrade", "--install", package),
            "background": (*guarded, "sh", "-c", BACKGROUND),
            "stop": ("stop", name, "--time", "2"),
            **self.of_states(name, rng),
            "remove": ("remove", "--purge", name),
            "refresh": ("refresh", name),
            "ask": rng.choice((("list",), ("status", name), ("status", name, "--json"))),
        }
        command = commands.get(kind, (*guarded, "true"))
        if self.attack(kind, command, fault) and kind in ("create", "clone", "import"):
            self.promised.add(name if kind == "create" else command[-1])

    def of_states(self, name: str, rng: random.Random) -> dict[str, tuple[str, ...]]:
        """The operations on states that are possible now; the others are looks at the history."""
        known = {environment["name"]: environment["snapshots"] for environment in self.environments()}
        labels, archive = known.get(name, []), f"{self.directory}/archive"
        free = [other for other in NAMES if other not in known]
        look = ("history", name)
        return {
            "snapshot": ("snapshot", name),
            "forget": ("snapshot", "--delete", name, rng.choice(labels)) if labels else look,
            "rollback": ("rollback", name, rng.choice(labels)) if labels else look,
            "clone": ("clone", name, free[0]) if free else look,
            "export": ("export", "--force", name, archive),
            "import": ("import", archive, free[0]) if free and os.path.exists(archive) else look,
        }

    def fresh(self, fault: Fault | None) -> None:
        """The first build in a new store; when it was interrupted the next one works."""
        usual, self.store, self.doing = self.store, self.directory / "fresh", f"fresh, {fault}"
        self.attack("fresh", ("create", "first", *self.options), fault)
        self.must("exec", *self.options, "first", "--", "true")
        self.check_base(finished=True)
        self.must("remove", "--purge", "first")
        delete(self.store)
        self.store = usual

    def forget(self, tree: str) -> None:
        """Take a tree's description out of the base: the next start makes that tree again."""
        for path in self.store.glob(f"base/*/*/{tree}.json"):
            path.unlink()

    def damage(self, name: str, rng: random.Random) -> None:
        """Leave files like those of killed commands, of a full disk, or of before a reboot."""
        path = self.store / "envs" / name
        state = path / "state.json"
        text = state.read_text() if state.exists() else "{}"
        # Ourselves: a process that is alive and has nothing to do with it.
        own = {"pid": os.getpid(), "start_time": int(start_time(os.getpid()))}
        reused = (json.loads(text) if text[-2:] == "]}" else {}) | own
        state.write_text(rng.choice((text[: len(text) // 2], "", "null", "[]", json.dumps(reused))))
        (path / f"state.{os.getpid()}.new").write_text("{")
        (path / "lock").write_text("left over")
        dead = max(self.sessions)  # it has been waited for
        (self.store / "trash" / f"{name}.{dead}.0badc0de" / "upper").mkdir(parents=True, exist_ok=True)

    def check(self) -> None:
        """Everything that has to hold after a fault."""
        self.doing = f"after {self.doing.removeprefix('after ')}"
        self.check_environments()  # those that run are joined
        for environment in self.environments():
            self.must("stop", environment["name"], "--time", "2")
        deadline = time.monotonic() + PATIENCE
        while (left := self.processes()) and time.monotonic() < deadline:
            time.sleep(0.05)
        if left:
            self.violation(f"processes are left: {left}")
        else:
            self.sessions.clear()  # their numbers may be others' from now on
        self.check_environments()  # now they are started
        self.check_base(finished=False)
        packages = [f"{self.directory}/torture-{name}_2_all.deb" for name in ("one", "two")]
        for environment in self.environments():
            name = environment["name"]
            self.must("exec", name, "--", "sh", "-c", ENTER, name, "sh", "-c", REPAIR, "sh", *packages)
            if environment["running"]:
                self.violation(f"{name} runs after its last process: {environment['processes']}")
        if any(self.store.glob("trash/*")) or self.unneeded_layers():
            self.must("create", "scratch", *self.options)
            self.must("remove", "--purge", "scratch")
            if trash := list(self.store.glob("trash/*")):
                self.violation(f"remove has not emptied the trash: {trash}")
            if layers := self.unneeded_layers():
                self.violation(f"remove has left layers that nobody needs: {layers}")
        if b" sysenv-ns:" in Path("/proc/self/mountinfo").read_bytes():
            self.violation("an environment's mount is in the host's mount table")

    def unneeded_layers(self) -> set[str]:
        """Frozen layers that are in no environment and no snapshot."""
        needed = {"lock"}
        for path in self.store.glob("envs/*/env.json"):
            described = json.loads(path.read_text())
            chains = [described.get("layers", []), *(s["layers"] for s in described.get("snapshots", []))]
            needed.update(ident for chain in chains for ident in chain)
        return {path.name for path in self.store.glob("layers/*")} - needed

    def check_environments(self) -> None:
        """All that are there are whole and open, and none is missing."""
        found = self.environments()
        for environment in found:
            if environment["problem"]:
                self.violation(f"{environment['name']} is damaged: {environment['problem']}")
            self.must("exec", environment["name"], "--", "true")
        if missing := self.promised - {environment["name"] for environment in found}:
            self.violation(f"lost: {missing}")

    def check_base(self, finished: bool) -> None:
        """Each layer has a tree and a description of it; what an interrupted build left goes with the next one."""
        layers = [path for path in self.store.glob("base/*/*") if path.is_dir()]
        numbered = sorted((len(path.name), path.name, path) for path in layers if LAYER.fullmatch(path.name))
        for layer in {name.partition("-")[0]: path for _, name, path in numbered}.values():  # the newest of each
            indexes = {path.name.removesuffix(".index.json") for path in layer.glob("*.index.json")}
            described = {path.stem for path in layer.glob("*.json") if not path.name.endswith(".index.json")}
            if not (layer / "tree").is_dir() or not described or described != indexes:
                self.violation(f"a half layer: {layer.name} with {sorted(os.listdir(layer))}")
        left = any(path.name.startswith("new-") for path in layers)
        if left and finished:
            self.violation("the build has not cleaned up what an earlier one left")
        elif left and self.promised:
            self.forget("root")
            self.must("exec", min(self.promised), "--", "true")
            self.check_base(finished=True)


def start_time(pid: int) -> str:
    """When a process was started, which tells it from a later one of that number. Raises OSError."""
    return Path(f"/proc/{pid}/stat").read_text(errors="replace").rpartition(")")[2].split()[19]


def delete(path: Path) -> None:
    """Delete a tree. Parts of a base belong to subordinate ids: only in a user namespace can they go."""
    script = " || ".join(f'{way} rm -rf "$1" 2>/dev/null' for way in ("unshare -r --map-auto", "unshare -r", ""))
    subprocess.run(["sh", "-c", f"trap '' INT TERM; {script}", "sh", path], check=True, timeout=LIMIT)
