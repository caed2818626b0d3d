"""Fixtures: the users, the tool in each of its modes, an environment for each test, and the watch over the host."""

from __future__ import annotations

import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Generator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from . import accounts, machines
from .machines import Machine
from .support import (
    BASE_LIMIT,
    IN_MEMORY,
    MUST_WORK,
    ROOT_RUN,
    Account,
    Environment,
    Fingerprint,
    Tool,
    describe,
    fits_in_memory,
    stays_on_its_file_system,
    succeeded,
)

# "disk" is "full" with its store on a disk; the others' lies in memory where there is room, which saves minutes: some
# disks delete the hundred thousand files of a base slower than they are made.
_USUAL = ("full", "single", "root") if ROOT_RUN else ("full", "single")
# "fuse" is "single" with that driver, "sudo" a user with the driver root.
_MODES = (*_USUAL, "disk", "fuse", "sudo")
_MODES_OF = {"stub": _MODES, "root": ("root",), "fuse": ("single",)}  # others: ("full", "single")
_ROOM = 8 << 30  # bytes: two bases, and what the larger tests install
_SMALL_ROOM = 2 << 30  # the same for a small host with its base and a few disks
_numbers = itertools.count(1)
_tried: dict[str, str] = {}  # mode: why it cannot work here, or ""


def pytest_configure() -> None:
    """Undo what a runner in the background hands down to all its children: that they ignore signals."""
    for number in (signal.SIGHUP, signal.SIGQUIT, signal.SIGTERM, signal.SIGTSTP):
        if signal.getsignal(number) == signal.SIG_IGN:
            signal.signal(number, signal.SIG_DFL)
    if signal.getsignal(signal.SIGINT) == signal.SIG_IGN:
        signal.signal(signal.SIGINT, signal.default_int_handler)


def pytest_generate_tests(metafunc: pytest.Metafunc) -> None:
    """Run each test in the modes that it is marked for, else in all that this user can have."""
    for fixture in {"tool", "shared_environment"} & set(metafunc.fixturenames):
        marker = metafunc.definition.get_closest_marker("modes")
        wanted = marker.args if marker else _USUAL
        possible = _MODES_OF.get(metafunc.config.getoption("--driver"), ("full", "single"))
        metafunc.parametrize(fixture, [m for m in wanted if m in _MODES and m in possible], indirect=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With SYSENV_MUST_WORK=1 a test that cannot run has failed."""
    report = yield
    if MUST_WORK and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"SYSENV_MUST_WORK=1, but {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def users() -> Iterator[dict[str, Account]]:
    """The user of each mode."""
    me = pwd.getpwuid(os.getuid())
    if not ROOT_RUN:
        account = Account(me.pw_name, me.pw_uid, me.pw_gid, tuple(os.getgroups()), Path.home())
        yield dict.fromkeys(_USUAL, account)
        return
    with (
        accounts.throwaway_users() as found,
        tempfile.TemporaryDirectory(prefix="sysenv-test-", dir="/var/tmp") as home,
    ):
        # Not root's own home: it is the only part of /root that an environment would share with the host.
        yield {**found, "root": Account(me.pw_name, 0, 0, (0,), Path(home))}


@pytest.fixture(scope="session")
def group(users: dict[str, Account]) -> str:
    """The name of a supplementary group of all users."""
    if not ROOT_RUN:
        pytest.skip("only root can make a group")
    return accounts.group_name()


@pytest.fixture(scope="session")
def shared() -> Iterator[Path]:
    """A directory that all users can read."""
    path = Path(tempfile.mkdtemp(prefix="sysenv-test-"))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@pytest.fixture(scope="session", autouse=True)
def _host_untouched(users: dict[str, Account]) -> Iterator[None]:
    """The host's system directories are after the tests what they were before."""
    before = Fingerprint.take()
    yield
    changed = before.difference(Fingerprint.take().entries)
    assert not changed, "the host was changed:\n" + "\n".join(changed[:200])


@pytest.fixture(scope="session")
def tools(
    users: dict[str, Account], shared: Path, pytestconfig: pytest.Config, _host_untouched: None
) -> Iterator[dict[str, Tool]]:
    """The tool in each mode; one store a user for the whole session, as the first start builds the base."""
    launcher = accounts.copy_of_checkout(shared / "checkout")
    driver = pytestconfig.getoption("--driver")
    found = {}
    for mode, account in users.items():
        options = () if ROOT_RUN else ("--id-map", mode)
        parent = _place(driver, _ROOM, account.home) if mode != "root" else account.home
        tool = Tool(mode, account, launcher, parent / f"sysenv-test-{os.getpid()}-{mode}", options)
        if mode == "root":
            found[mode] = replace(tool, driver="root", options=("--driver", "root"))
        else:
            chosen = () if driver == "stub" else ("--driver", driver)
            found[mode] = replace(tool, driver=driver, options=(*options, *chosen))
    full, single = found["full"], found["single"]
    found["disk"] = replace(full, store=full.account.home / "sysenv-test-disk")
    apart = Path(tempfile.mkdtemp(prefix="sysenv-test-"))  # in the shared one, tests open to all what they make
    apart.chmod(0o755)
    fuse = accounts.with_fuse(single.account, apart) if ROOT_RUN else ()
    if driver == "fuse":
        found["single"] = replace(single, prefix=fuse)
    store = single.store.with_name(f"sysenv-test-{os.getpid()}-fuse")
    found["fuse"] = replace(single, store=store, driver="fuse", options=("--driver", "fuse"), prefix=fuse)
    sudo = accounts.with_sudo(full.account, apart) if ROOT_RUN else ()
    store = full.account.home / "sysenv-test-sudo"
    found["sudo"] = replace(full, mode="root", store=store, driver="root", options=("--driver", "root"), prefix=sudo)
    yield found
    for tool in found.values():
        _delete_store(tool)
    shutil.rmtree(apart)


@pytest.fixture
def tool(request: pytest.FixtureRequest, tools: dict[str, Tool]) -> Tool:
    """The tool in the test's mode, if that works here."""
    return _tried_out(tools, request.param)


def _tried_out(tools: dict[str, Tool], mode: str) -> Tool:
    """The tool in a mode, if that works here, which is found out by trying."""
    tool = tools[mode]
    if mode not in _tried:
        result = tool.run("create", "first", *tool.options, limit=BASE_LIMIT)
        if result.returncode == 0:
            result = tool.environment("first").exec("true")
            tool.run("remove", "first")
        _tried[mode] = "" if result.returncode == 0 else describe(result)
    if _tried[mode]:
        pytest.skip(f"the mode {mode} does not work here: {_tried[mode]}")
    return tool


@pytest.fixture
def environment(tool: Tool) -> Iterator[Environment]:
    """A new environment, removed after the test."""
    name = f"test-{next(_numbers)}"
    result = tool.run("create", name, *tool.options)
    assert result.returncode == 0, describe(result)
    yield tool.environment(name)
    tool.end(name)


@pytest.fixture(scope="module")
def shared_environment(request: pytest.FixtureRequest, tools: dict[str, Tool]) -> Iterator[Environment]:
    """One environment for all tests of a file in one mode, whatever they leave in it: saves a long installation."""
    tool = _tried_out(tools, request.param)
    name = f"test-{next(_numbers)}"
    succeeded(tool.run("create", name, *tool.options))
    yield tool.environment(name)
    tool.end(name)


@pytest.fixture
def fresh_store(tool: Tool) -> Iterator[Tool]:
    """The tool with a store that does not exist yet; in memory where possible, as its base is built and deleted."""
    parent = _place(tool.driver, _ROOM, tool.account.home)
    fresh = replace(tool, store=parent / f"sysenv-fresh-{os.getpid()}-{next(_numbers)}")
    yield fresh
    _delete_store(fresh)


@pytest.fixture(scope="session")
def small_host(pytestconfig: pytest.Config) -> Iterator[Path]:
    """The files of a small host."""
    if not ROOT_RUN:
        pytest.skip("only root can mount")
    parent = _place(pytestconfig.getoption("--driver"), _SMALL_ROOM, Path("/tmp"))  # both are a machine's own too
    with tempfile.TemporaryDirectory(prefix=f"sysenv-host-{os.getpid()}-", dir=parent) as directory:
        root = Path(directory, "root")
        machines.build(root)
        yield root


@pytest.fixture
def machine(small_host: Path, tool: Tool) -> Iterator[Machine]:
    """A small host of the test's own, with a new store beside its files."""
    number = next(_numbers)
    root = Path(f"{small_host}-{number}")
    subprocess.run(["cp", "-a", small_host, root], check=True)
    fresh = tool.at(Path(f"{small_host.parent}-store-{number}"))
    with machines.started(root, fresh) as machine:
        yield machine
    _delete_tree(root)
    _delete_store(fresh)


@pytest.fixture
def packages(shared: Path) -> Path:
    """A directory for packages that all can read."""
    path = shared / f"packages-{next(_numbers)}"
    path.mkdir(mode=0o755)
    return path


@pytest.fixture
def memory_store(tool: Tool) -> Iterator[Tool]:
    """The tool with a store on a file system in memory."""
    stays_on_its_file_system(tool)
    if not os.access(IN_MEMORY, os.W_OK):
        pytest.skip(f"there is no {IN_MEMORY}")
    path = IN_MEMORY / f"sysenv-test-{os.getpid()}"
    path.mkdir(mode=0o700)
    os.chown(path, tool.account.uid, tool.account.gid)
    fresh = replace(tool, store=path)
    yield fresh
    _delete_store(fresh)


def _place(driver: str, room: int, disk: Path) -> Path:
    """Where a store or a host of the tests lies: in memory if it can, which has no extents to be shared."""
    return IN_MEMORY if driver != "reflink" and fits_in_memory(room) else disk


def _delete_tree(path: Path) -> None:
    subprocess.run(["rm", "-rf", path], check=True, timeout=600)  # thrice as fast as shutil.rmtree


def _delete_store(tool: Tool) -> None:
    if ROOT_RUN or not tool.store.exists():
        _delete_tree(tool.store)
    else:  # files of other ids: only root of a user namespace may
        map_all = ("--map-auto",) if tool.mode == "full" else ()
        command = ["unshare", "--map-root-user", *map_all, "rm", "-rf", str(tool.store)]
        subprocess.run(command, check=True, timeout=120)


@pytest.fixture
def file(tool: Tool) -> Iterator[Path]:
    """Where an archive may be written: a directory that all can read, on all machines."""
    directory = Path("/tmp") / f"sysenv-archive-{os.getpid()}"
    directory.mkdir(mode=0o755)
    os.chown(directory, tool.account.uid, tool.account.gid)
    yield directory / "test.tar.zst"
    subprocess.run(["rm", "-rf", directory], check=True)
