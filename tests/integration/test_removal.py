"""remove: of what runs, is removed already, is damaged, belongs to lost ids or lies elsewhere."""

from __future__ import annotations

import os
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path

import pytest

from .machines import Machine
from .support import ROOT_RUN, Environment, Tool, describe, end, ended, finish, refused, sleeper, succeeded, wait_for

_HIDE = """
for path in $1; do mount --bind /dev/null "$path"; done
shift
exec "$@"
"""
_DEEP = """
import os, sys
os.makedirs("/srv/deep", exist_ok=True); os.chdir("/srv/deep")
for _ in range(int(sys.argv[1])):
    os.makedirs("d", exist_ok=True); os.chdir("d")
open("file", "w").close()
"""


@pytest.fixture
def doomed(tool: Tool) -> Iterator[Environment]:
    """An environment with something in it, which a test may remove or damage."""
    yield from _doomed(tool)


@pytest.fixture
def doomed_there(machine: Machine) -> Iterator[Environment]:
    """The same on a small host, for tests that need a base for each id map."""
    yield from _doomed(machine.tool)


def _doomed(tool: Tool) -> Iterator[Environment]:
    environment = tool.environment("doomed")
    succeeded(tool.run("create", *tool.options, environment.name))
    environment.sh("cp -r /usr/share/common-licenses /srv/copied; rm -r /usr/share/doc; chown -R 33:33 /srv/copied")
    yield environment
    if os.path.lexists(_directory(environment)):
        tool.end(environment.name)


def _directory(environment: Environment) -> Path:
    return environment.tool.store / "envs" / environment.name


def _assert_gone(environment: Environment) -> None:
    assert environment.name not in os.listdir(environment.tool.store / "envs")
    assert os.listdir(environment.tool.store / "trash") == []


@pytest.mark.modes("full", more=("single",))
def test_deep_trees(doomed: Environment) -> None:
    """As deep as paths can tell, everything works; deeper it is said, and what is so deep can be removed."""
    tool, name = doomed.tool, doomed.name
    archive = tool.account.home / "deep.tar.zst"
    doomed.sh('python3 -c "$1" 1500', _DEEP)
    shown = succeeded(tool.run("diff", name, "--files")).stdout
    assert f"/srv/deep{'/d' * 1500}/file" in shown
    for snapshot in ("one", "two"):
        succeeded(tool.run("snapshot", name, snapshot))
    succeeded(tool.run("snapshot", name, "--delete", "one"))
    succeeded(tool.run("export", name, str(archive)))
    succeeded(tool.run("remove", "--purge", name))
    succeeded(tool.run("import", str(archive), *tool.options))
    archive.unlink()
    assert succeeded(tool.run("diff", name, "--files")).stdout == shown
    doomed.sh('python3 -c "$1" 3000', _DEEP)
    result = tool.run("diff", name)
    assert (result.returncode, "File name too long (ENAMETOOLONG)" in result.stderr) == (1, True), result.stderr[:999]
    succeeded(tool.run("remove", "--purge", name))
    _assert_gone(doomed)
    assert os.listdir(tool.store / "layers") == ["lock"]


def test_several_removes_at_once(doomed: Environment) -> None:
    """One removes it, the others find it gone."""
    removes = [doomed.tool.start("remove", "--purge", doomed.name) for _ in range(6)]
    results = [finish(process) for process in removes]
    assert sorted(result.returncode for result in results) == [0, 1, 1, 1, 1, 1], [*map(describe, results)]
    for result in results:
        if result.returncode == 0:
            assert result.stderr == f"sysenv-ns: removed {doomed.name}\n"
        else:
            refused(result, 1, f"there is no environment {doomed.name}")
    _assert_gone(doomed)


def test_removes_and_starts_at_once(doomed: Environment) -> None:
    """Whoever comes first: it runs and stays, or it is gone and made anew; nothing is mounted without its files."""
    tool = doomed.tool
    command = ("exec", *tool.options, doomed.name, "--", "sh", "-c", "touch /usr/x && sleep 0.2 && test -e /usr/x")
    processes = [tool.start(*(command if number % 2 else ("remove", doomed.name))) for number in range(10)]
    results = [finish(process) for process in processes]
    for number, result in enumerate(results):
        if result.returncode != 0:
            words = ("environment",) if number % 2 else ()
            refused(result, 125 if number % 2 else 1, doomed.name, *words)
    assert [name for name in os.listdir(tool.store / "trash") if name.startswith(doomed.name)] == []
    succeeded(tool.run("remove", "--purge"))


def test_names_that_can_be_removed_are(doomed: Environment) -> None:
    """One of several that is not there or runs is told; what comes before it is gone."""
    tool = doomed.tool
    succeeded(tool.run("create", *tool.options, "running"))
    session = sleeper(tool.environment("running"))
    refused(tool.run("remove", "--purge", doomed.name, "running"), 1, "running is running", str(session.pid))
    _assert_gone(doomed)
    end(session)
    tool.end("running")


@pytest.mark.parametrize("damage", ["env.json", "upper", "work", "root", "lock", "unreadable", "directory", "empty"])
def test_damaged(doomed: Environment, damage: str) -> None:
    """It is listed, entering it works or says what is wrong, and it can be removed."""
    tool, path = doomed.tool, _directory(doomed)
    _damage(tool, path, damage)
    assert doomed.name in succeeded(tool.run("list")).stdout
    assert tool.status(doomed.name)["running"] is False
    entered = doomed.exec("cat", "/srv/copied/GPL-3")
    if entered.returncode == 0:
        assert damage in ("work", "root", "lock")
        assert entered.stdout == Path("/usr/share/common-licenses/GPL-3").read_text()
    else:
        refused(entered, 125, str(path), f"sysenv-ns remove {doomed.name}")
        assert damage not in ("work", "root", "lock")
    succeeded(tool.run("remove", "--purge", doomed.name))
    _assert_gone(doomed)


def test_damaged_while_it_runs(doomed: Environment) -> None:
    """The files below a mounted overlay are not taken away."""
    session = sleeper(doomed)
    (_directory(doomed) / "env.json").write_text("{")
    refused(doomed.tool.run("remove", doomed.name), 1, "running", str(session.pid), "kill")
    assert [process["pid"] for process in doomed.tool.status(doomed.name)["processes"]] == [session.pid]
    end(session)
    succeeded(doomed.tool.run("remove", "--purge", doomed.name))
    _assert_gone(doomed)


def _damage(tool: Tool, path: Path, damage: str) -> None:
    if damage == "unreadable":
        (path / "env.json").chmod(0)
        if tool.account.uid == 0:  # who can read it all the same
            (path / "env.json").write_bytes(b"\xff\xfe")
    elif damage == "directory":
        (path / "env.json").unlink()
        (path / "env.json").mkdir()
        os.chown(path / "env.json", tool.account.uid, tool.account.gid)
    elif damage == "empty":
        shutil.rmtree(path)
        path.mkdir()
        os.chown(path, tool.account.uid, tool.account.gid)
    elif (path / damage).is_dir():
        shutil.rmtree(path / damage) if ROOT_RUN else subprocess.run(
            ["unshare", "--map-auto", "--map-root-user", "rm", "-r", path / damage], check=True
        )
    else:
        (path / damage).unlink()


@pytest.mark.modes("full")
@pytest.mark.parametrize(
    ("lost", "remedy"),
    [("/etc/subuid /etc/subgid", "usermod --add-subuids"), ("/usr/bin/newuidmap /usr/bin/newgidmap", "uidmap")],
)
def test_subordinate_ids_are_gone(machine: Machine, doomed_there: Environment, lost: str, remedy: str) -> None:
    """It says what to do and loses nothing: when they are back, everything is."""
    doomed, tool = doomed_there, doomed_there.tool
    hidden = [*machine.prefix, "unshare", "--mount", "sh", "-ec", _HIDE, "sh", lost, *tool.account.setpriv()]
    for status, *arguments in (
        ("125", "exec", doomed.name, "--", "true"),
        ("125", "shell", doomed.name),
        ("1", "remove", doomed.name),
        ("1", "create", "--id-map", "full", "another"),
    ):
        refused(tool.run(*arguments, prefix=hidden), int(status), remedy)
    listed = tool.listed(hidden)
    assert [entry["problem"] for entry in listed if entry["name"] == doomed.name] == [""]
    # The single map is there for new ones.
    succeeded(tool.run("exec", "another", "--", "true", prefix=hidden, limit=300))
    succeeded(tool.run("remove", "--purge", "another", prefix=hidden))
    assert doomed.sh("stat -c %U /srv/copied/GPL-3") == "www-data\n"
    (_directory(doomed) / "env.json").write_text("{")
    refused(tool.run("remove", doomed.name, prefix=hidden), 1, remedy)
    assert (_directory(doomed) / "upper/srv/copied/GPL-3").exists()
    succeeded(tool.run("remove", "--purge", doomed.name))
    _assert_gone(doomed)


@pytest.mark.modes("full", more=("single",))
def test_a_file_that_only_real_root_can_delete(doomed: Environment) -> None:
    """It is told once, with the place, and is in nobody's way afterwards."""
    if not ROOT_RUN:
        pytest.skip("only root can make it")
    tool, foreign = doomed.tool, _directory(doomed) / "upper/srv/foreign"
    foreign.mkdir(0o755)
    (foreign / "file").touch()
    refused(tool.run("remove", "--purge", doomed.name), 1, str(tool.store / "trash"), "as root")
    (left,) = (tool.store / "trash").iterdir()
    try:
        succeeded(tool.run("create", *tool.options, "other"))
        assert succeeded(tool.run("remove", "--purge", "other")).stderr == "sysenv-ns: removed other\n"
    finally:
        shutil.rmtree(left)


@pytest.mark.modes("full")
def test_what_a_killed_remove_left_of_another_id_map(doomed_there: Environment) -> None:
    """Whoever comes next deletes it, whatever the map of what is made or removed is."""
    doomed, tool = doomed_there, doomed_there.tool
    left = tool.store / "trash" / f"{doomed.name}.4194304.00000000"  # no process can have that id
    _directory(doomed).rename(left)
    succeeded(tool.run("create", "--id-map", "single", "other", limit=300))
    assert not left.exists()
    assert succeeded(tool.run("remove", "--purge", "other")).stderr == "sysenv-ns: removed other\n"
    _assert_gone(doomed)


@pytest.mark.modes("full", more=("single",))
@pytest.mark.parametrize("comes_next", ["exec", "create", "remove", "base"])
def test_what_a_killed_removal_left(doomed: Environment, comes_next: str) -> None:
    """Of a process that has ended, be it that its number is another's by now, or that nobody has waited for it."""
    tool, directory = doomed.tool, _directory(doomed)
    succeeded(tool.run("create", *tool.options, "other"))
    zombie = subprocess.Popen(["true"])
    wait_for(lambda: Path(f"/proc/{zombie.pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z")
    lefts = [
        tool.store / "trash" / name
        for name in (f"doomed.{os.getpid()}-1.00000000", f"a.b.{zombie.pid}.00000000", "doomed.4194304-7.00000000")
    ]
    directory.rename(lefts[0])
    for left in lefts[1:]:
        left.mkdir()
        os.chown(left, tool.account.uid, tool.account.gid)
    probe = tool.store / "trash" / "probe.4194304.00000000"
    probe.touch()
    report = tool.run("doctor").stdout
    assert "trash" in report
    assert f"interrupted commands have left 0 MB in {tool.store}/trash" in report
    if comes_next == "exec":
        succeeded(tool.run("exec", "other", "--", "true"))
    elif comes_next == "create":
        succeeded(tool.run("create", *tool.options, "third"))
        tool.end("third")
    elif comes_next == "remove":
        tool.end("other")
    else:
        succeeded(tool.run("remove", "--base"))
    wait_for(lambda: os.listdir(tool.store / "trash") == [])  # exec has it done beside the session
    assert "interrupted" not in tool.run("doctor").stdout
    ended(zombie)
    if comes_next != "remove":
        tool.end("other")


@pytest.mark.modes("full", more=("single", "root"))
def test_the_last_removal_leaves_no_state_of_the_host(new_machine: Machine) -> None:
    """Though it is young: it is kept for whoever is making an environment with it, and for as long."""
    tool = new_machine.tool
    origins = tool.store / ("origins-root" if tool.account.uid == 0 else "origins")
    for name in ("one", "two"):
        succeeded(tool.run("create", *tool.options, name, limit=300))
    assert len(os.listdir(origins)) == 1
    succeeded(tool.run("remove", "--purge", "one"))
    assert len(os.listdir(origins)) == 1
    (tool.store / "envs/two/env.json").write_text("{")
    succeeded(tool.run("remove", "--purge", "two"))
    assert os.listdir(origins) == []
    if tool.driver != "root":
        succeeded(tool.run("remove", "--base"))
        assert list((tool.store / "base").glob("*/")) == []


@pytest.mark.parametrize("link", ["to a directory", "to an environment", "dangling"])
def test_a_symbolic_link_is_not_followed(doomed: Environment, tmp_path: Path, link: str) -> None:
    tool = doomed.tool
    (tmp_path / "kept").write_text("kept\n")
    target = {"to a directory": tmp_path, "to an environment": _directory(doomed), "dangling": tmp_path / "missing"}[
        link
    ]
    path = tool.store / "envs" / "link"
    path.symlink_to(target)
    try:
        for status, *arguments in (
            ("1", "remove", "link"),
            ("125", "exec", "link", "--", "true"),
            ("1", "stop", "link"),
        ):
            refused(tool.run(*arguments), int(status), str(path), "remove it by hand")
        refused(tool.run("create", *tool.options, "link"), 1, "exists")
        assert "not a directory" in tool.status("link")["problem"]
        assert doomed.name in succeeded(tool.run("list")).stdout
    finally:
        path.unlink()
    assert (tmp_path / "kept").read_text() == "kept\n"
    doomed.sh("test -e /srv/copied/GPL-3")


def test_symbolic_links_inside_are_not_followed(doomed: Environment, tmp_path: Path) -> None:
    tmp_path.chmod(0o777)
    (tmp_path / "kept").write_text("kept\n")
    doomed.sh('ln -s "$1" /srv/link; ln -s "$1/kept" /srv/file', str(tmp_path))
    (_directory(doomed) / "more").symlink_to(tmp_path)
    succeeded(doomed.tool.run("remove", "--purge", doomed.name))
    _assert_gone(doomed)
    assert (tmp_path / "kept").read_text() == "kept\n"
