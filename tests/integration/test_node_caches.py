"""From a laptop to a cluster by a registry: each node fills a cache of its own, once, and tasks begin with that."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from . import registries
from .clusters import Cluster
from .machines import Machine
from .registries import Registry, push
from .support import BASE_LIMIT, Environment, Tool, ended, refused, succeeded, wait_for

pytestmark = pytest.mark.together

# docs/cluster.md; what pull says goes to a file, as Slurm has one for both streams of a task.
_TASK = """
export SYSENV_NS_HOME=$1/$SLURMD_NODENAME
"$2" pull --if-missing "$3" "$4" 2>> "$SYSENV_NS_HOME.log" || exit
exec "$2" exec --ephemeral "$4" -- sh -ec "$5" sh "$1"
"""
_LOOK = "cat /opt/version; touch /usr/new; ls -d /usr/new"
_STAY = 'cat /opt/version; while [ ! -e "$1/go" ]; do sleep 0.2; done; cat /opt/version'


@pytest.fixture
def caches(environment: Environment) -> Iterator[Path]:
    """A directory with that of each node."""
    account = environment.tool.account
    path = account.home / "caches"
    path.mkdir()
    path.chmod(0o777)
    yield path
    subprocess.run(["rm", "-rf", path], check=True)


def _task(tool: Tool, caches: Path, reference: str, name: str, script: str) -> tuple[str, ...]:
    return ("sh", "-c", _TASK, "sh", str(caches), str(tool.launcher), reference, name, script)


def _pushed(environment: Environment, repository: str, version: int) -> str:
    environment.sh('echo "$1" > /opt/version', str(version))
    return f"{repository}@{push(environment, f'{repository}:{version}')['digest']}"


@pytest.mark.matrix
@pytest.mark.modes("full", "single")
def test_each_node_pulls_once(
    cluster: Cluster, registry: Registry, repository: str, environment: Environment, caches: Path
) -> None:
    """Also a later version, into the cache of tasks that are running, whose own one is even removed meanwhile."""
    tool = environment.tool
    nodes = {name: tool.at(caches / name) for name in cluster.nodes}
    first, second = (_pushed(environment, repository, version) for version in (1, 2))
    found = cluster.array(tool, 12, *_task(tool, caches, first, "proj-1", _LOOK), options=("--cpus-per-task=2",))
    assert found == ["1\n/usr/new\n"] * 12
    for name in nodes:
        assert (caches / f"{name}.log").read_text().count("pulled proj-1") == 1

    output = caches / "output"
    output.touch()
    output.chmod(0o666)
    staying = caches / "job.sh"
    staying.write_text('#!/bin/sh\nexec "$@"\n')
    call = ("sbatch", "--wait", "--nodelist=node1", f"--output={output}", str(staying))
    with cluster.started(tool, *call, *_task(tool, caches, first, "proj-1", _STAY)) as job:
        wait_for(lambda: output.read_text() == "1\n")
        later = _task(tool, caches, second, "proj-2", _LOOK)
        assert cluster.array(tool, 4, *later, options=("--nodelist=node1",)) == ["2\n/usr/new\n"] * 4
        succeeded(nodes["node1"].run("remove", "--purge", "proj-1"))
        (caches / "go").touch()
        assert ended(job) == 0
    assert output.read_text() == "1\n1\n"
    assert (caches / "node1.log").read_text().count("pulled proj-2") == 1
    for name, node in nodes.items():
        succeeded(node.run("remove", "--all", "--yes", limit=BASE_LIMIT))
        for directory in ("envs", "layers", "trash"):
            assert not [path for path in (caches / name / directory).iterdir() if path.name != "lock"]


def test_a_node_of_another_release(registry: Registry, machine: Machine) -> None:
    """Refused with both names and nothing left behind, whatever is there in the node's cache; or taken nevertheless."""
    environment = machine.create()
    tag = registry.repository(f"release-{machine.tool.mode}") + ":1"
    registries.put_skopeo(machine)
    node = machine.tool.at(machine.tool.store.with_name("node"))
    with registry.known_to(machine.tool.account):
        push(environment, tag)
        machine.sh("rm /etc/os-release; printf 'ID=debian\\nVERSION_ID=\"99\"\\n' > /etc/os-release")
        for options in ((), ("--if-missing",)):
            result = node.run("pull", *options, tag, "proj")
            refused(result, 1, f"{tag} was made on debian ", "this system is debian 99", "--force takes it")
            assert [*node.store.glob("envs/*"), *node.store.glob("trash/*")] == []
        succeeded(node.run("pull", "--if-missing", "--force", tag, "proj"))
        assert node.environment("proj").sh(". /etc/os-release; echo $VERSION_ID") == "99\n"
