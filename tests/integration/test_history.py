"""snapshot, rollback, history, clone: states come back exactly, clones are apart, nothing is lost or left."""

from __future__ import annotations

import json
import os
import random
import signal
import time
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from .support import Environment, Tool, end, finish, refused, sleeper, succeeded, wait_for

# Everything that programs see of what the scripts below change, and of the directories above.
_PICTURE = r"""
cd /
places="opt/h srv usr/local/bin/h-true usr/share/doc/dpkg usr/share/common-licenses etc/apt"
stat -c '%n %A %u:%g %y' . usr usr/share etc
find $places -type d -printf '%p %y %m %U:%G %T@\n' 2>&1 | LC_ALL=C sort
find $places ! -type d -printf '%p %y %m %U:%G %s %n %T@ %l\n' 2>&1 | LC_ALL=C sort
find $places -type f -exec md5sum {} + 2>&1 | LC_ALL=C sort
[ ! -e opt/h/file ] || getfattr -n user.note opt/h/file
""".replace("\\\\", "\\")
_FIRST = """
mkdir -p /opt/h/deep/er; echo one > /opt/h/file; ln /opt/h/file /opt/h/link; ln -s file /opt/h/symlink
setfattr -n user.note -v first /opt/h/file; chown 33:33 /opt/h/deep; mkfifo /opt/h/fifo
cp /bin/true /usr/local/bin/h-true; chmod 4755 /usr/local/bin/h-true; chmod 700 /srv
rm -r /usr/share/doc/dpkg /usr/share/common-licenses/GPL-3; echo >> /usr/share/common-licenses/GPL-2
"""
_SECOND = """
echo two >> /opt/h/file; rm /opt/h/symlink /usr/local/bin/h-true; mv /opt/h/fifo /opt/h/moved; chmod 755 /srv
rm -r /opt/h/deep; mkdir /opt/h/deep; echo new > /opt/h/deep/new; rm -r /etc/apt; echo file > /etc/apt
mkdir /usr/share/doc/dpkg; echo mine > /usr/share/doc/dpkg/mine; echo 3 > /usr/share/common-licenses/GPL-3
"""
_CHANGES = Path(__file__).parents[1] / "unit" / "changes.py"
# Directories that lie in a layer below are renamed too.
_CHANGE = """
import subprocess, sys
def by_mv(source, target):
    subprocess.run(["mv", "-T", "--", source, target], check=True)
Changes(Path("/srv"), int(sys.argv[1]), True, *((by_mv,) if sys.argv[2:] else ())).make(60)
"""


def _picture(environment: Environment) -> str:
    return environment.sh(_PICTURE)


def _snapshot(environment: Environment, label: str) -> dict[str, Any]:
    return _json(environment.tool, "snapshot", environment.name, label)


def _json(tool: Tool, *arguments: str) -> dict[str, Any]:
    data = json.loads(succeeded(tool.run(*arguments, "--json")).stdout)
    assert isinstance(data, dict)
    return data


def _rollback(environment: Environment, label: str) -> str | None:
    result = _json(environment.tool, "rollback", environment.name, label)
    assert result["label"] == label
    kept = result["kept"]
    assert kept is None or isinstance(kept, str)
    return kept


def _delete(environment: Environment, *labels: str) -> None:
    for label in labels:
        succeeded(environment.tool.run("snapshot", "--delete", environment.name, label))


def _labels(environment: Environment) -> list[str]:
    snapshots = _json(environment.tool, "history", environment.name)["snapshots"]
    assert [snapshot["label"] for snapshot in snapshots] == environment.tool.status(environment.name)["snapshots"]
    return [snapshot["label"] for snapshot in snapshots]


def _frozen(tool: Tool) -> list[str]:
    """The frozen layers in the store; nobody else may be using it."""
    return sorted(name for name in os.listdir(tool.store / "layers") if name != "lock")


def _current(environment: Environment) -> list[str]:
    data = json.loads((environment.tool.store / "envs" / environment.name / "env.json").read_text())
    return list(data.get("layers", []))


@pytest.fixture
def copy(tool: Tool) -> Iterator[Environment]:
    """The name of an environment that a test makes."""
    environment = tool.environment("copy")
    yield environment
    if (tool.store / "envs" / environment.name).exists():
        tool.end(environment.name)


@pytest.mark.modes("full", "root", "fuse", more=("single", "disk"))
def test_states_come_back_exactly(environment: Environment) -> None:
    """Content, modes, owners, times, links, attributes; of what was made, changed, deleted and replaced."""
    environment.sh(_FIRST)
    first = _picture(environment)
    _snapshot(environment, "first")
    assert _picture(environment) == first
    environment.sh(_SECOND)
    second = _picture(environment)
    changes = _json(environment.tool, "diff", environment.name, "--files")
    _snapshot(environment, "second")
    assert _json(environment.tool, "diff", environment.name, "--files") == changes
    assert _picture(environment) == second != first
    assert _rollback(environment, "first") is None  # nothing to be kept
    assert _picture(environment) == first
    environment.sh("echo third > /opt/h/third")
    third = _picture(environment)
    assert _rollback(environment, "second") == "before-rollback"
    assert _picture(environment) == second
    assert _rollback(environment, "before-rollback") is None
    assert _picture(environment) == third
    assert _labels(environment) == ["first", "second", "before-rollback"]
    wait_for(lambda: environment.tool.status(environment.name)["running"] is False)  # or layers are not merged
    _delete(environment, "second", "before-rollback", "first")
    assert _picture(environment) == third
    assert len(_frozen(environment.tool)) == 1  # those that only the present state needs are one


@pytest.mark.modes("full", "fuse", more=("root",))
def test_random_changes_merged(environment: Environment) -> None:
    """Whatever lies above whatever: the states are those that they were, and merged layers show the same."""
    source = f"{_CHANGES.read_text()}\n{_CHANGE}"
    # Without a supervisor, as real root is, rename(2) of a directory that is in a layer below is EXDEV.
    more = "mv" if environment.tool.mode == "root" else ""
    pictures = {}
    for seed in ("1", "2", "3", "4"):
        environment.sh('python3 -c "$1" $2 $3', source, seed, more)
        pictures[seed] = _picture(environment)
        _snapshot(environment, seed)
    _rollback(environment, "2")
    assert _picture(environment) == pictures["2"]
    _delete(environment, "1", "2")
    assert _picture(environment) == pictures["2"]
    _rollback(environment, "4")
    _delete(environment, "3", "4", "before-rollback")
    assert _labels(environment) == []
    assert _picture(environment) == pictures["4"]
    assert len(_current(environment)) == 1
    environment.sh("rm -r /srv; mkdir /srv; touch /srv/x")
    assert environment.sh("ls -A /srv") == "x\n"


@pytest.mark.modes("full", more=("root",))
def test_a_clone_is_the_same_and_apart(environment: Environment, copy: Environment) -> None:
    tool = environment.tool
    environment.sh(_FIRST)
    _snapshot(environment, "first")
    first = _picture(environment)
    environment.sh(_SECOND)
    (tool.store / "envs" / environment.name / "config.toml").write_text('shell = "/bin/sh"\n')
    expected = _picture(environment)
    before = len(_frozen(tool))
    created = _json(tool, "clone", environment.name, copy.name)
    assert (created["name"], created["snapshots"], created["running"]) == ("copy", ["first"], False)
    assert len(_frozen(tool)) == before + 1  # shared
    assert _picture(copy) == _picture(environment) == expected
    assert copy.sh("cat /etc/debian_chroot; echo $SYSENV_NS") == "copy\ncopy\n"
    assert (tool.store / "envs/copy/config.toml").read_text() == 'shell = "/bin/sh"\n'
    copy.sh("echo copy > /opt/h/file; rm /opt/h/moved")
    environment.sh("rm -r /opt/h/deep")
    assert environment.sh("cat /opt/h/file; ls /opt/h") == "one\ntwo\nfile\nlink\nmoved\n"
    _snapshot(environment, "second")
    session = sleeper(environment)
    assert _json(tool, "clone", "--snapshot", "first", environment.name, "past")["snapshots"] == ["first"]
    end(session)
    assert _picture(replace(environment, name="past")) == first
    tool.end("past")
    _rollback(environment, "first")
    tool.end(environment.name)
    assert copy.sh("cat /opt/h/file; ls /opt/h") == "copy\ndeep\nfile\nlink\n"
    _rollback(copy, "first")  # with the history of what it was made from
    assert copy.sh("cat /opt/h/file /etc/debian_chroot") == "one\ncopy\n"
    tool.end(copy.name)
    assert _frozen(tool) == os.listdir(tool.store / "trash") == []
    succeeded(tool.run("create", *tool.options, environment.name))  # for the fixture


@pytest.mark.modes("full", more=("single", "root", "fuse"))
def test_another_name(environment: Environment, copy: Environment) -> None:
    """It has the files, the history and the prompt of before, also where the prompt's file is frozen."""
    tool = environment.tool
    environment.sh(_FIRST)
    _snapshot(environment, "first")
    environment.sh("touch /etc/of-this-environment")
    expected = _picture(environment)
    session = sleeper(environment)
    refused(tool.run("rename", environment.name, copy.name), 1, f"{environment.name} is running")
    end(session)
    succeeded(tool.run("rename", environment.name, copy.name))
    assert not tool.store.joinpath("envs", environment.name).exists()
    assert (_picture(copy), _labels(copy)) == (expected, ["first"])
    listed = json.loads(succeeded(tool.run("list", "--size", "--json")).stdout)["environments"]
    history = _json(tool, "history", copy.name)
    parts = [history["size"], *(snapshot["size"] for snapshot in history["snapshots"])]
    assert [found["size"] for found in listed if found["name"] == copy.name] == [sum(parts)]
    assert copy.sh("cat /etc/debian_chroot; echo $SYSENV_NS; stat -c %a /etc /etc/debian_chroot") == (
        f"{copy.name}\n{copy.name}\n755\n644\n"
    )
    _rollback(copy, "first")
    assert copy.sh("cat /etc/debian_chroot") == f"{copy.name}\n"
    succeeded(tool.run("rename", copy.name, environment.name))  # for the fixture
    assert environment.sh("cat /etc/debian_chroot") == f"{environment.name}\n"
    refused(tool.run("rename", environment.name, environment.name), 1, "already exists")
    environment.sh("echo mine > /etc/debian_chroot")
    succeeded(tool.run("rename", environment.name, copy.name))
    assert copy.sh("cat /etc/debian_chroot") == "mine\n"
    succeeded(tool.run("rename", copy.name, environment.name))


@pytest.mark.modes("full", more=("root",))
def test_refused_while_it_runs(environment: Environment, copy: Environment) -> None:
    """What would be wrong then; the history can be looked at, and a snapshot be forgotten."""
    tool, name = environment.tool, environment.name
    environment.sh("echo 1 > /usr/local/state")
    for label in ("one", "two"):
        _snapshot(environment, label)
    session = sleeper(environment)
    for command in (("snapshot", name), ("rollback", name, "one"), ("clone", name, copy.name)):
        refused(tool.run(*command), 1, f"{name} is running: {session.pid} (", f"sysenv-ns stop {name}")
    assert _labels(environment) == ["one", "two"]
    _delete(environment, "one")
    assert environment.sh("cat /usr/local/state") == "1\n"
    end(session)
    assert _labels(environment) == ["two"]
    assert not (tool.store / "envs" / copy.name).exists()
    assert environment.sh("cat /usr/local/state") == "1\n"


@pytest.mark.modes("single")
def test_mistakes_are_told(environment: Environment) -> None:
    tool, name = environment.tool, environment.name
    refused(tool.run("rollback", name, "none"), 1, f"{name} has no snapshot none", f"sysenv-ns snapshot {name}")
    _snapshot(environment, "one")
    refused(tool.run("snapshot", name, "one"), 1, "already has a snapshot one", "--delete")
    refused(tool.run("snapshot", "--delete", name, "two"), 1, f"{name} has no snapshot two", "existing ones: one")
    refused(
        tool.run("clone", "--snapshot", "none", name, "new"), 1, f"{name} has no snapshot none", "existing ones: one"
    )
    refused(tool.run("clone", name, name), 1, f"the environment {name} already exists")
    for command in (("snapshot", "none"), ("history", "none"), ("rollback", "none", "one"), ("clone", "none", "new")):
        refused(tool.run(*command), 1, "there is no environment none")
    assert not (tool.store / "envs/new").exists()


@pytest.mark.modes("single")
def test_what_is_printed(environment: Environment) -> None:
    name, run = environment.name, environment.tool.run
    assert json.loads(succeeded(run("history", name, "--json")).stdout)["snapshots"] == []
    made = _snapshot(environment, "one")
    assert (made["label"], made["environment"], made["automatic"]) == ("one", name, False)
    unnamed = succeeded(run("snapshot", name))
    assert unnamed.stdout == ""
    label = _labels(environment)[1]
    assert (
        unnamed.stderr
        == f"sysenv-ns: created the snapshot {label}; to go back to it: sysenv-ns rollback {name} {label}\n"
    )
    environment.sh("head -c 3000000 /dev/urandom > /usr/local/big")
    assert succeeded(run("rollback", name, "one")).stderr.endswith(f"sysenv-ns rollback {name} before-rollback\n")
    found = _json(environment.tool, "history", name)
    sizes = {s["label"]: s["size"] for s in found["snapshots"]}
    assert (sizes[label], found["size"]) == (0, 0)
    assert 3_000_000 <= sizes["before-rollback"] < 3_100_000
    assert [s["current"] for s in found["snapshots"]] == [True, True, False]
    assert [s["automatic"] for s in found["snapshots"]] == [False, False, True]
    lines = succeeded(run("history", name)).stdout.splitlines()
    assert [line.split()[0] for line in lines] == ["SNAPSHOT", "one", label, "before-rollback", "(since)"]
    assert lines[3].endswith("3.0 MB  kept by a rollback")
    assert f"one, {label}, before-rollback" in succeeded(run("status", name)).stdout


@pytest.mark.modes("full", more=("root",))
def test_killed_at_any_moment(environment: Environment, copy: Environment) -> None:
    """A command has done all or nothing, the environment opens, and what was begun is gone after the next one."""
    tool, name, rng = environment.tool, environment.name, random.Random(7)
    environment.sh("echo 0 > /usr/local/state")
    begin = time.monotonic()
    _snapshot(environment, "s0")
    usual, state, states = time.monotonic() - begin, "0", {"s0": "0"}
    for number in range(1, 9):
        environment.sh("echo $1 > /usr/local/state", written := str(number))
        if not states:  # what was killed has deleted the last one before
            _snapshot(environment, "again")
            states = {"again": written}
        target = rng.choice(sorted(states))
        verb, *arguments = (
            ("snapshot", name, f"s{number}"),
            ("rollback", name, target),
            ("clone", name, copy.name),
            ("snapshot", "--delete", name, target),
        )[number % 4]
        process = tool.start(verb, *arguments)
        time.sleep(rng.uniform(0.4, 1.1) * usual)
        os.killpg(process.pid, signal.SIGKILL)
        finish(process)
        state = environment.sh("cat /usr/local/state").strip()
        assert state in ({written, states[target]} if verb == "rollback" else {written})
        if (tool.store / "envs" / copy.name).exists():
            assert copy.sh("cat /usr/local/state /etc/debian_chroot") == f"{written}\ncopy\n"
            tool.end(copy.name)
        labels = set(_labels(environment))
        assert states.keys() - {target} <= labels
        states = {label: states.get(label, written) for label in labels}
    for label, content in states.items():
        _rollback(environment, label)
        assert environment.sh("cat /usr/local/state").strip() == content
    tool.end(name)
    assert _frozen(tool) == os.listdir(tool.store / "trash") == []
    succeeded(tool.run("create", *tool.options, name))  # for the fixture


@pytest.mark.modes("single", more=("root",))
def test_sessions_and_snapshots_at_once(environment: Environment) -> None:
    """Each comes before the other or after it: nothing that was written is lost."""
    tool, name = environment.tool, environment.name
    script = "mkdir -p /usr/local/lines && echo x > /usr/local/lines/$1"
    started = [
        tool.start("exec", name, "--", "sh", "-c", script, "sh", str(number))
        if number % 2
        else tool.start("snapshot", name, f"s{number}")
        for number in range(12)
    ]
    results = [finish(process) for process in started]
    for number, result in enumerate(results):
        if number % 2:
            succeeded(result)
        elif result.returncode != 0:
            refused(result, 1, "is running")
    assert environment.sh("ls /usr/local/lines").split() == sorted(str(n) for n in range(1, 12, 2))


@pytest.mark.modes("single")
def test_any_number_of_them(environment: Environment) -> None:
    """Deep ones are merged; all states stay."""
    for number in range(34):
        environment.sh("echo $1 > /usr/local/$1; rm -f /usr/local/$2", str(number), str(number - 2))
        _snapshot(environment, f"s{number}")
    assert len(_current(environment)) < 33
    for number in (33, 20, 32):
        _rollback(environment, f"s{number}")
        assert environment.sh("cd /usr/local; ls | grep '^[0-9]'").split() == [str(number - 1), str(number)]


@pytest.mark.modes("full")
def test_of_a_damaged_one_nothing_is_freed(environment: Environment, copy: Environment) -> None:
    """Its layers may be anybody's. When it is removed, what nobody needs goes."""
    tool = environment.tool
    environment.sh("echo 1 > /usr/local/state")
    succeeded(tool.run("clone", environment.name, copy.name))
    description = tool.store / "envs/copy/env.json"
    whole = description.read_text()
    description.write_text(whole[:100])
    _snapshot(environment, "one")
    _delete(environment, "one")
    frozen = _frozen(tool)
    tool.end(environment.name)
    assert _frozen(tool) == frozen
    description.write_text(whole)
    assert copy.sh("cat /usr/local/state") == "1\n"
    description.write_text(whole[:100])
    succeeded(tool.run("remove", "--purge", copy.name))
    assert _frozen(tool) == []
    succeeded(tool.run("create", *tool.options, environment.name))  # for the fixture


@pytest.mark.modes("full", "single")
def test_a_layer_with_a_damaged_description_is_deleted(environment: Environment) -> None:
    """Whose ids its files have, their owner tells."""
    tool = environment.tool
    environment.sh("mkdir -p /usr/local/state/inner; echo 1 > /usr/local/state/x; chmod -R go= /usr/local/state/")
    _snapshot(environment, "one")
    assert _frozen(tool)
    for path in (tool.store / "layers").glob("*/env.json"):
        path.write_text("{")
    tool.end(environment.name)
    assert _frozen(tool) == []
    succeeded(tool.run("create", *tool.options, environment.name))  # for the fixture


@pytest.mark.modes("root", more=("disk",))
def test_lost_layers(environment: Environment) -> None:
    """It is told which, nothing is mounted without them, and what is left can be removed."""
    tool, name = environment.tool, environment.name
    environment.sh("echo 1 > /usr/local/state")
    _snapshot(environment, "one")
    (ident,) = _current(environment)
    lost = tool.store / "layers" / ident
    lost.rename(tool.store / "trash" / f"{ident}.4194304.00000000")  # the next removal deletes it
    refused(environment.exec("true"), 125, "has lost its files", str(lost), f"sysenv-ns remove {name}")
    refused(tool.run("snapshot", name), 1, str(lost))
    assert str(lost) in tool.status(name)["problem"]
