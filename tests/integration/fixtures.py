"""Fixtures of tests/integration and tests/security: the users, the tool in each of its modes, an environment for each
test, small hosts. A plugin of tests/conftest.py.
"""

from __future__ import annotations

import contextlib
import itertools
import os
import pwd
import shutil
import signal
import subprocess
import tempfile
from collections.abc import Callable, Generator, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sysenv_ns.kernel import idmap, syscalls

from . import accounts, machines
from .machines import Machine
from .mirror import Mirror
from .support import (
    BASE_LIMIT,
    IN_MEMORY,
    MUST_WORK,
    ROOT_RUN,
    Account,
    Environment,
    Tool,
    describe,
    fits_in_memory,
    stays_on_its_file_system,
    succeeded,
)
from .workers import once, place

# "disk" is "full" with its store on a disk; the others' lies in memory where there is room, which saves minutes: some
# disks delete the hundred thousand files of a base slower than they are made.
_USUAL = ("full", "single", "root") if ROOT_RUN else ("full", "single")
# "idmap" is "full" with that driver, "fuse" "single" with that one, "sudo" a user with the driver root.
_MODES = (*_USUAL, "disk", "idmap", "fuse", "sudo")
_MODES_OF = {"stub": _MODES, "root": ("root",), "fuse": ("single",), "idmap": ("full",)}  # others: ("full", "single")
_ROOM = 8 << 30  # bytes: two bases, and what the larger tests install
_SMALL_ROOM = 3 << 30  # the same for small hosts with their bases and a few disks
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
    """Run each test in the modes that it is marked for, else in "full", and with --all in all that a user can have."""
    driver = metafunc.config.getoption("--driver")
    # With another driver, and as a user who may lack ids, the first mode may be none of those that are possible.
    everything = metafunc.config.getoption("--all") or driver != "stub" or not ROOT_RUN
    possible = _MODES_OF.get(driver, ("full", "single"))
    fixtures = sorted({"tool", "shared_environment", "shared_machine"} & set(metafunc.fixturenames))
    if fixtures:
        marker = metafunc.definition.get_closest_marker("modes")
        usual = marker.args if marker else ("full",)
        more = (marker.kwargs.get("more", ()) if marker else _USUAL) if everything else ()
        modes = [mode for mode in dict.fromkeys((*usual, *more)) if mode in _MODES and mode in possible]
        added = pytest.mark.matrix if metafunc.config.getoption("--all") else ()
        parameters = [
            pytest.param(*(mode,) * len(fixtures), marks=() if mode in usual else added, id=mode) for mode in modes
        ]
        metafunc.parametrize(fixtures, parameters, indirect=True)


@pytest.hookimpl(wrapper=True)
def pytest_runtest_makereport() -> Generator[None, pytest.TestReport, pytest.TestReport]:
    """With SYSENV_MUST_WORK=1 a test that cannot run has failed."""
    report = yield
    if MUST_WORK and report.skipped and not hasattr(report, "wasxfail"):
        report.outcome = "failed"
        report.longrepr = f"SYSENV_MUST_WORK=1, but {report.longrepr}"
    return report


@pytest.fixture(scope="session")
def own_mounts() -> None:
    """What is mounted for tests is mounted for this process and its children alone, and ends with them."""
    if ROOT_RUN:
        with contextlib.suppress(PermissionError):  # root of a container, who cannot mount anything
            syscalls.unshare(syscalls.CLONE_NEWNS)
            # What others unmount may not be kept here.
            subprocess.run(["mount", "--make-rslave", "/"], check=True)


@pytest.fixture(scope="session")
def whole(pytestconfig: pytest.Config) -> bool:
    """Whether loops run at their full length (--all)."""
    return bool(pytestconfig.getoption("--all"))


@pytest.fixture(scope="session")
def users(own_mounts: None) -> Iterator[dict[str, Account]]:
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


@pytest.fixture
def shared() -> Iterator[Path]:
    """A directory of the test's own that all users can read."""
    path = Path(tempfile.mkdtemp(prefix="sysenv-test-"))
    path.chmod(0o755)
    yield path
    _delete_tree(path)


@pytest.fixture(scope="session")
def launcher(pytestconfig: pytest.Config) -> Path:
    """helpers/sysenv-ns of a checkout that all users can run; SYSENV_IN_PLACE=1 says that this is one."""
    if os.environ.get("SYSENV_IN_PLACE") == "1":
        return accounts.launcher(accounts.CHECKOUT)
    return accounts.launcher(once(place(pytestconfig) / "checkout", accounts.copy_checkout))


@pytest.fixture(scope="session")
def tools(users: dict[str, Account], launcher: Path, pytestconfig: pytest.Config) -> Iterator[dict[str, Tool]]:
    """The tool in each mode; one store a user for the whole session, as the first start builds the base."""
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
    store = full.store.with_name(f"sysenv-test-{os.getpid()}-idmap")
    found["idmap"] = replace(full, store=store, driver="idmap", options=("--id-map", "full", "--driver", "idmap"))
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
    if ROOT_RUN:
        accounts.release_mounts(launcher, full.account)
    shutil.rmtree(apart)


@pytest.fixture
def tool(request: pytest.FixtureRequest, tools: dict[str, Tool]) -> Tool:
    """The tool in the test's mode, if that works here."""
    return _tried_out(tools, request.param)


def _tried_out(tools: dict[str, Tool], mode: str) -> Tool:
    """The tool in a mode, if that works here, which is found out by trying."""
    tool = tools[mode]
    if mode not in _tried:
        if tool.driver == "idmap" and ROOT_RUN:
            accounts.prepare_mounts(tool.launcher, tool.account)
        result = tool.run("create", "first", *tool.options, limit=BASE_LIMIT)
        if result.returncode == 0:
            result = tool.environment("first").exec("true")
            tool.run("remove", "--purge", "first")
        _tried[mode] = "" if result.returncode == 0 else describe(result)
    if _tried[mode]:
        pytest.skip(f"the mode {mode} does not work here: {_tried[mode]}")
    return tool


@pytest.fixture
def environment(new_environment: Environment) -> Environment:
    """What a test usually takes: a new one. A file whose tests only read takes its `shared_environment` for it."""
    return new_environment


@pytest.fixture
def new_environment(tool: Tool) -> Iterator[Environment]:
    """An environment of the test's own, removed afterwards."""
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
def mirror(pytestconfig: pytest.Config) -> Mirror:
    """An archive of the packages that tests install."""
    return Mirror(place(pytestconfig) / "mirror")


@pytest.fixture(scope="session")
def host_image(pytestconfig: pytest.Config, users: dict[str, Account]) -> Iterator[Path]:
    """The disk of a small host with this process's users."""
    if not ROOT_RUN:
        pytest.skip("only root can mount")
    common = once(place(pytestconfig, fits_in_memory(_SMALL_ROOM)) / "host.img", machines.build_image)
    own = machines.with_accounts(common)
    yield own
    own.unlink()


@pytest.fixture(scope="session")
def small_host(host_image: Path) -> Iterator[Path]:
    """The files of a small host, for reading."""
    with machines.mounted(host_image, "ro") as directory:
        yield directory / "root"


@pytest.fixture(scope="session")
def based_images(host_image: Path, tools: dict[str, Tool]) -> Iterator[Callable[[str], Path]]:
    """For each mode the disk of a small host, and on it a store that has the base of this host already."""
    made: dict[str, Path] = {}

    def image(mode: str) -> Path:
        if mode not in made:
            made[mode] = machines.with_base(host_image, _tried_out(tools, mode))
        return made[mode]

    yield image
    for path in made.values():
        path.unlink()


@pytest.fixture
def machine(host_image: Path, based_images: Callable[[str], Path], tool: Tool) -> Iterator[Machine]:
    """A small host of the test's own, with a store beside its files that has the base, and no environment."""
    with _copied(host_image, based_images, tool) as machine:
        yield machine


@pytest.fixture(scope="module")
def shared_machine(
    request: pytest.FixtureRequest,
    host_image: Path,
    based_images: Callable[[str], Path],
    tools: dict[str, Tool],
) -> Iterator[Machine]:
    """A small host with an environment, for all tests of a file in one mode: for tests that only read."""
    tool = _tried_out(tools, request.param)
    with _copied(host_image, based_images, tool) as machine:
        machine.create()
        yield machine


def _copied(
    host_image: Path, based_images: Callable[[str], Path], tool: Tool
) -> contextlib.AbstractContextManager[Machine]:
    # The driver fuse has no base, and no device here; that of idmap is built in a moment.
    image = host_image if tool.driver in ("fuse", "idmap") else based_images(tool.mode)
    return machines.copied(image, tool)


@pytest.fixture
def new_machine(host_image: Path, tool: Tool) -> Iterator[Machine]:
    """The same where the tool has never been used: there is no store, and the base is built by the test."""
    with machines.copied(host_image, tool) as machine:
        yield machine


@pytest.fixture
def small_tool(request: pytest.FixtureRequest, tool: Tool) -> Tool:
    """The tool on a small host where it has never been used, whose base is soon built; without root on this one."""
    if not ROOT_RUN:
        return tool
    machine: Machine = request.getfixturevalue("new_machine")
    return machine.tool


@pytest.fixture
def small_environment(request: pytest.FixtureRequest, tool: Tool) -> Iterator[Environment]:
    """A new one of a small host, where apt and dpkg have little to read; without root, of this one."""
    if not ROOT_RUN:
        yield request.getfixturevalue("new_environment")
        return
    machine: Machine = request.getfixturevalue("machine")
    yield machine.create()
    machine.tool.end(machine.environment.name)


@pytest.fixture
def packages(shared: Path) -> Path:
    """A directory for packages that all can read."""
    path = shared / "packages"
    path.mkdir(mode=0o755)
    return path


@pytest.fixture
def memory_store(small_tool: Tool) -> Iterator[Tool]:
    """The tool with a store without a base on a file system in memory; of a small host, whose base is soon built."""
    stays_on_its_file_system(small_tool)
    if not os.access(IN_MEMORY, os.W_OK):
        pytest.skip(f"there is no {IN_MEMORY}")
    path = IN_MEMORY / f"sysenv-test-{os.getpid()}"
    path.mkdir(mode=0o700)
    os.chown(path, small_tool.account.uid, small_tool.account.gid)
    fresh = replace(small_tool, store=path)
    yield fresh
    _delete_store(fresh)


def _place(driver: str, room: int, disk: Path) -> Path:
    """Where a store of the tests lies: in memory if it can, which has no extents to be shared."""
    return IN_MEMORY if driver != "reflink" and fits_in_memory(room) else disk


def _delete_tree(path: Path) -> None:
    subprocess.run(["rm", "-rf", path], check=True, timeout=600)  # thrice as fast as shutil.rmtree


def _delete_store(tool: Tool) -> None:
    if ROOT_RUN or not tool.store.exists():
        _delete_tree(tool.store)
    else:  # files of other ids: only root of a user namespace may
        widest = idmap.widest()
        map_all = ("--map-auto",) if widest is not None and widest.kind == "full" else ()
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
