"""Environments on a cluster: Debian's Slurm with nodes that are all this machine, run by the test itself."""

from __future__ import annotations

import os
import statistics
import time
from collections.abc import Iterator
from pathlib import Path

import pytest

from .clusters import Cluster
from .support import Environment, Tool, succeeded, wait_for

pytestmark = pytest.mark.together

_LOOK = "cat /opt/own; echo more >> /opt/own; touch /usr/new; ls -d /usr/new"
_SEEN = "own\n/usr/new\n"
_STUBBORN = 'trap "" TERM; echo ready; while :; do sleep 1; done'
_COMPILE = r"""
printf '#include <regex>\nint main() { return std::regex_match("a", std::regex("a")) ? 0 : 1; }\n' |
    c++ -O2 -x c++ -c -o /dev/null -
echo made
"""  # some seconds
_ROUNDS = 5


@pytest.fixture
def source(environment: Environment) -> Environment:
    """What all tasks have below them."""
    environment.sh("echo own > /opt/own")
    return environment


@pytest.fixture
def output(source: Environment) -> Iterator[Path]:
    """What a job prints; that is over before its environment is removed."""
    path = source.tool.account.home / "job.out"
    yield path
    path.unlink()


def _throwaway(source: Environment, *command: str) -> tuple[str, ...]:
    return (str(source.tool.launcher), "exec", "--ephemeral", source.name, "--", *command)


def _assert_nothing_is_left(source: Environment) -> None:
    """Once anybody looks: no process, and nothing in the store but what was there."""
    tool = source.tool
    wait_for(lambda: tool.names() == [source.name])
    assert os.listdir(tool.store / "envs") == [source.name]
    assert os.listdir(tool.store / "trash") == []
    assert source.sh("cat /opt/own; ls /usr/new 2>&1 || :").startswith("own\nls: ")


def _submit(cluster: Cluster, source: Environment, output: Path, *options: str) -> str:
    """The number of a job that does not end by itself, nor by SIGTERM; its environment has begun."""
    script = " ".join(_throwaway(source, "sh", "-c", f"'{_STUBBORN}'"))
    result = cluster.run(source.tool, "sbatch", "--parsable", f"--output={output}", *options, f"--wrap={script}")
    wait_for(lambda: output.exists() and output.read_text() == "ready\n")
    return succeeded(result).stdout.strip()


def test_an_array_of_short_tasks(cluster: Cluster, source: Environment) -> None:
    """Several at once on each node; each sees what is below, and nothing of the others."""
    assert cluster.array(source.tool, 20, *_throwaway(source, "sh", "-ec", _LOOK)) == [_SEEN] * 20
    _assert_nothing_is_left(source)


def test_a_task_that_is_cancelled(cluster: Cluster, source: Environment, output: Path) -> None:
    """SIGTERM, and later SIGKILL."""
    tool = source.tool
    job = _submit(cluster, source, output)
    (running,) = [name for name in tool.names() if name != source.name]
    assert tool.status(running)["processes"]
    succeeded(cluster.run(tool, "scancel", job))
    wait_for(lambda: "CANCELLED" in output.read_text())
    _assert_nothing_is_left(source)


@pytest.mark.matrix
def test_a_task_that_takes_longer_than_it_may(cluster: Cluster, source: Environment, output: Path) -> None:
    """The same at the end of the time limit, the shortest of which is a minute."""
    _submit(cluster, source, output, "--time=1")
    wait_for(lambda: "DUE TO TIME LIMIT" in output.read_text(), 180)
    _assert_nothing_is_left(source)


@pytest.mark.matrix
def test_a_node_that_is_lost(cluster: Cluster, source: Environment, output: Path) -> None:
    tool = source.tool
    job = _submit(cluster, source, output, "--nodelist=node2")
    cluster.lose("node2")
    _assert_nothing_is_left(source)
    succeeded(cluster.run(tool, "scancel", job))
    cluster.start("node2")
    assert cluster.array(tool, 8, *_throwaway(source, "sh", "-ec", _LOOK)) == [_SEEN] * 8


@pytest.mark.matrix
@pytest.mark.parametrize(
    ("count", "script", "printed", "most"),
    [(100, "true", "", 4.0), (10, _COMPILE, "made\n", 1.2)],
    ids=["true", "compile"],
)
def test_hundreds_of_tasks(
    cluster: Cluster, source: Environment, count: int, script: str, printed: str, most: float
) -> None:
    """In turn with the same tasks alone, `count` at a time; `most` is the ratio of the times, the median of all pairs.

    One that does nothing is all overhead.
    """
    alone, inside = ("sh", "-ec", script), _throwaway(source, "sh", "-ec", script)
    times = [
        tuple(_timed(cluster, source.tool, count, printed, *command) for command in (alone, inside))
        for _ in range(_ROUNDS)
    ]
    print(f"{count} tasks alone and in throwaway environments, in seconds: {times}")
    assert statistics.median(second / first for first, second in times) <= most
    _assert_nothing_is_left(source)


def _timed(cluster: Cluster, tool: Tool, count: int, printed: str, *command: str) -> float:
    """Seconds of a job array."""
    begin = time.monotonic()
    assert cluster.array(tool, count, *command) == [printed] * count
    return time.monotonic() - begin
