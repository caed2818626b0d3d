"""A cluster for tests: Debian's Slurm and munge on the loopback address, with several nodes that are all this machine.

Its programs come from packages that are unpacked into a directory, in which all of its state is too. The daemons are
children of this process, and end with it. A plugin of tests/conftest.py.
"""

from __future__ import annotations

import contextlib
import os
import signal
import socket
import subprocess
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from pathlib import Path

import pytest

from .mirror import Mirror
from .support import BASE_LIMIT, ROOT_RUN, START_LIMIT, Result, Tool, ended, ran, wait_for
from .workers import place

_TASK_LIMIT = START_LIMIT / 6  # seconds for a task that compiles a file, where it has to wait for others
_PACKAGES = ("munge", "slurm-client", "slurmctld", "slurmd")
_CONFIG = """
ClusterName=test
SlurmctldHost=localhost(127.0.0.1)
SlurmctldPort={port}
SlurmUser=root
SlurmdUser=root
AuthType=auth/munge
AuthInfo=socket={place}/munge/socket
CredType=cred/munge
PluginDir={plugins}
StateSaveLocation={place}/controller
SlurmdSpoolDir={place}/%n
SlurmctldPidFile={place}/controller.pid
SlurmdPidFile={place}/%n.pid
SlurmctldLogFile={place}/controller.log
SlurmdLogFile={place}/%n.log
ProctrackType=proctrack/pgid
TaskPlugin=task/none
SelectType=select/cons_tres
SelectTypeParameters=CR_CPU
SchedulerParameters=batch_sched_delay=0,sched_min_interval=0
MpiDefault=none
SwitchType=switch/none
JobAcctGatherType=jobacct_gather/none
AccountingStorageType=accounting_storage/none
ReturnToService=2
MaxArraySize=2001
MinJobAge=300
KillWait=3
SlurmdParameters=config_overrides
{nodes}
PartitionName=all Nodes=ALL Default=YES State=UP MaxTime=INFINITE
"""


@dataclass(frozen=True)
class Cluster:
    """A running cluster: where its files are, and the daemon of each node."""

    place: Path
    nodes: dict[str, subprocess.Popen[bytes]]

    def variables(self) -> dict[str, str]:
        """What the cluster's programs need."""
        root = self.place / "root"
        libraries = root / "usr/lib" / f"{os.uname().machine}-linux-gnu"
        return {
            "LD_LIBRARY_PATH": f"{libraries}:{libraries / 'slurm-wlm'}",
            "SLURM_CONF": str(self.place / "slurm.conf"),
            "PATH": f"{root / 'usr/bin'}:{root / 'usr/sbin'}:/usr/bin:/bin",
        }

    def run(self, tool: Tool, *command: str, limit: float = BASE_LIMIT) -> Result:
        """The result of one of Slurm's programs, run by a tool's user."""
        variables = tool.variables() | self.variables()
        return ran(command, limit=limit, cwd=tool.account.home, env=variables, **tool.account.become())

    @contextlib.contextmanager
    def started(self, tool: Tool, *command: str) -> Iterator[subprocess.Popen[bytes]]:
        """One of Slurm's programs, run by a tool's user within the context; it is killed at its end."""
        variables = tool.variables() | self.variables()
        with subprocess.Popen(
            command, stdin=subprocess.DEVNULL, cwd=tool.account.home, env=variables, **tool.account.become()
        ) as process:
            try:
                yield process
            finally:
                process.kill()

    def array(self, tool: Tool, count: int, *command: str, options: Sequence[str] = ()) -> list[str]:
        """What the tasks of a job array have printed, in their order; the job has ended when this returns."""
        output = tool.account.home / "output"
        output.mkdir()
        os.chown(output, tool.account.uid, tool.account.gid)
        try:
            script = '#!/bin/sh\nexec "$@"\n'
            arguments = ["sbatch", "--wait", f"--array=1-{count}", f"--output={output}/%a", *options]
            job = tool.account.home / "job.sh"
            job.write_text(script)
            result = self.run(tool, *arguments, str(job), *command, limit=BASE_LIMIT + count * _TASK_LIMIT)
            found = [(output / str(number)).read_text() for number in range(1, count + 1)]
            assert result.returncode == 0, (result.stdout, result.stderr, sorted(set(found)))
            return found
        finally:
            subprocess.run(["rm", "-rf", output, tool.account.home / "job.sh"], check=True)

    def start(self, node: str) -> None:
        """Start the daemon of a node, and wait until it has no work to do."""
        stepd = str(self.place / "root/usr/sbin/slurmstepd-wlm")
        self.nodes[node] = _started(self, "slurmd-wlm", "-D", "-N", node, "-d", stepd)
        wait_for(lambda: node in _idle(self))

    def end(self) -> None:
        """End the daemons of all nodes."""
        for daemon in self.nodes.values():
            _end(daemon)

    def lose(self, node: str) -> None:
        """Let all of a node end at once, as without power: its daemon, and the tasks that it has begun."""
        daemon = self.nodes[node]
        doomed = [pid for pid in _steps(self.place) if _has_open(pid, self.place / f"{node}.log")]
        for pid in [daemon.pid, *doomed, *(child for step in doomed for child in _descendants(step))]:
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
        ended(daemon)


@pytest.fixture(scope="module")
def cluster(
    request: pytest.FixtureRequest, pytestconfig: pytest.Config, own_mounts: None, mirror: Mirror
) -> Iterator[Cluster]:
    """A cluster of two nodes for a file of tests."""
    if not ROOT_RUN:
        pytest.skip("only root can run the daemon of a node")
    with running(place(pytestconfig) / f"cluster-of-{request.path.stem}", mirror, count=2) as found:
        yield found


@contextlib.contextmanager
def running(place: Path, mirror: Mirror, count: int = 1) -> Iterator[Cluster]:
    """A cluster of so many nodes, until the end of the context."""
    place.mkdir(mode=0o755)
    root = place / "root"
    mirror.unpack(root, *_PACKAGES)
    names = [f"node{number}" for number in range(1, count + 1)]
    for name in ("controller", "munge", *names):
        (place / name).mkdir(mode=0o755)
    _configure(place, names)
    cluster = Cluster(place, {})
    munge = place / "munge"
    options = {"key-file": "key", "socket": "socket", "pid-file": "pid", "log-file": "log", "seed-file": "seed"}
    with contextlib.ExitStack() as stack:
        stack.callback(_end_steps, place)
        given = [f"--{option}={munge / name}" for option, name in options.items()]
        stack.callback(_end, _started(cluster, "munged", "--foreground", *given))
        wait_for((munge / "socket").exists)
        stack.callback(_end, _started(cluster, "slurmctld-wlm", "-D", "-c"))
        stack.callback(cluster.end)
        for name in names:
            cluster.start(name)
        yield cluster


def _configure(place: Path, names: Sequence[str]) -> None:
    port, *ports = _free_ports(len(names) + 1)
    (plugins,) = (place / "root/usr/lib").glob("*/slurm-wlm")
    rows = (
        f"NodeName={name} NodeHostname=localhost NodeAddr=127.0.0.1 Port={own} CPUs=8 RealMemory=1000"
        for name, own in zip(names, ports, strict=True)
    )
    text = _CONFIG.format(place=place, port=port, plugins=plugins, nodes="\n".join(rows))
    (place / "slurm.conf").write_text(text)
    (place / "munge/key").write_bytes(os.urandom(128))
    (place / "munge/key").chmod(0o400)


def _free_ports(count: int) -> list[int]:
    with contextlib.ExitStack() as stack:
        found = [stack.enter_context(socket.socket()) for _ in range(count)]
        for one in found:
            one.bind(("127.0.0.1", 0))
        return [one.getsockname()[1] for one in found]


def _started(cluster: Cluster, program: str, *options: str) -> subprocess.Popen[bytes]:
    """A daemon of root's, which ends with this process."""
    command = ["setpriv", "--pdeathsig", "KILL", str(cluster.place / "root/usr/sbin" / program), *options]
    with (cluster.place / f"{program}.out").open("ab") as log:
        return subprocess.Popen(
            command, stdin=subprocess.DEVNULL, stdout=log, stderr=log, env=os.environ | cluster.variables(), cwd="/"
        )


def _end(daemon: subprocess.Popen[bytes]) -> None:
    daemon.terminate()
    try:
        daemon.wait(10)
    except subprocess.TimeoutExpired:
        daemon.kill()
        ended(daemon)


def _idle(cluster: Cluster) -> list[str]:
    """The nodes that wait for work."""
    command = ["sinfo", "--noheader", "--Node", "--states=idle", "--format=%N"]
    return ran(command, env=os.environ | cluster.variables()).stdout.split()


def _steps(place: Path) -> list[int]:
    """The processes that watch over tasks: a daemon of a node leaves them alone when it ends."""
    program = f"{place}/root/usr/sbin/slurmstepd-wlm"
    found = []
    for path in Path("/proc").glob("[0-9]*/exe"):
        with contextlib.suppress(OSError):
            if os.readlink(path) == program:
                found.append(int(path.parent.name))
    return found


def _has_open(pid: int, path: Path) -> bool:
    """Whether a process has this file open."""
    with contextlib.suppress(OSError):
        return any(os.path.samefile(found, path) for found in Path(f"/proc/{pid}/fd").iterdir() if found.exists())
    return False


def _descendants(pid: int) -> list[int]:
    """The processes below one."""
    children: dict[int, list[int]] = {}
    for path in Path("/proc").glob("[0-9]*/stat"):
        with contextlib.suppress(OSError):
            parent = int(path.read_text().rpartition(")")[2].split()[1])
            children.setdefault(parent, []).append(int(path.parent.name))
    found, waiting = [], [pid]
    while waiting:
        below = children.get(waiting.pop(), [])
        found += below
        waiting += below
    return found


def _end_steps(place: Path) -> None:
    for step in _steps(place):
        for pid in (*_descendants(step), step):
            with contextlib.suppress(ProcessLookupError):
                os.kill(pid, signal.SIGKILL)
