"""What has run out is said with its remedy: it is no reason for another driver, and none to ask for root."""

from __future__ import annotations

import subprocess
from collections.abc import Iterator
from dataclasses import replace

import pytest

from .machines import Machine
from .support import BASE_LIMIT, ROOT_RUN, Tool, describe, refused, succeeded

# "sudo": the user may use it without a password, so that nothing but the tool itself keeps root out.
pytestmark = pytest.mark.modes("sudo")

_LIMITS = {
    "-f 8": ("EFBIG", "ulimit -f"),
    "-n 8": ("EMFILE", "ulimit -n"),
    "-u 1": ("EAGAIN", "ulimit -u"),
}
_VERBS = (("create", "new"), ("exec", "new", "--", "true"), ("shell", "new"), ("import", "FILE", "new"))


@pytest.fixture
def usual(tool: Tool) -> Iterator[Tool]:
    """The tool of a user who may use sudo and has not asked for a driver."""
    yield replace(tool, options=())
    assert "new" not in succeeded(tool.run("list")).stdout


def _limited(tool: Tool, limit: str) -> Tool:
    """Not by the launcher, a shell script with needs of its own."""
    python = tool.launcher.parent.parent / ".venv/bin/python"
    script = f'ulimit {limit} && shift && exec {python} -I -m sysenv_ns "$@"'
    return replace(tool, prefix=(*tool.prefix, "bash", "-c", script, "bash"))


def _refused(tool: Tool, verb: tuple[str, ...], words: tuple[str, ...]) -> None:
    result = tool.run(*verb)
    refused(result, 125 if verb[0] in ("exec", "shell") else 1, *words)
    assert "sudo" not in result.stderr.replace("sudo sysctl", ""), describe(result)
    assert "no driver works" not in result.stderr, describe(result)


@pytest.mark.parametrize("limit", _LIMITS)
@pytest.mark.parametrize("verb", _VERBS[:3], ids=" ".join)
def test_limits_of_the_session(usual: Tool, limit: str, verb: tuple[str, ...]) -> None:
    _refused(_limited(usual, limit), verb, _LIMITS[limit])


def test_too_little_memory(request: pytest.FixtureRequest, usual: Tool, whole: bool) -> None:
    """However little there is: the tool may be unable to start, but never asks for root."""
    if ROOT_RUN:  # of a small host, whose base is soon built
        machine: Machine = request.getfixturevalue("new_machine")
        usual = replace(_with_sudo(machine), options=())
    for kibibytes in range(20_000, 34_000, 1_000 if whole else 2_000):
        result = _limited(usual, f"-v {kibibytes}").run("create", "new", limit=BASE_LIMIT)
        # The name of the store has the word too: a report that lies there is told of.
        assert "sudo" not in result.stderr.replace(str(usual.store), ""), describe(result)
        if result.returncode == 0:
            succeeded(usual.run("remove", "--purge", "--base", "new"))


def _with_sudo(machine: Machine) -> Tool:
    """The tool of a user who may become root there."""
    machine.sh('echo "$1 ALL=(ALL:ALL) NOPASSWD: ALL" >> /etc/sudoers', machine.tool.account.name)
    return machine.tool


@pytest.mark.parametrize("verb", _VERBS[:3], ids=" ".join)
@pytest.mark.parametrize("state", ["full", "read-only"])
def test_a_store_without_room(usual: Tool, state: str, verb: tuple[str, ...]) -> None:
    if not ROOT_RUN:
        pytest.skip("only root can mount")
    place = usual.account.home / "small"
    place.mkdir()
    subprocess.run(["mount", "-t", "tmpfs", "-o", f"size=64k,mode=700,uid={usual.account.uid}", "t", place], check=True)
    try:
        store = place / "store"
        if state == "full":
            script = 'mkdir "$1" && head -c 1M /dev/zero > "$1/filler"'
            subprocess.run(
                [*usual.account.setpriv(), "sh", "-c", script, "sh", store], check=False, capture_output=True
            )
            _refused(usual.at(store), verb, ("ENOSPC", "free some space"))
        else:
            subprocess.run(["mount", "-o", "remount,ro", place], check=True)
            _refused(usual.at(store), verb, ("EROFS", "writable"))
    finally:
        subprocess.run(["umount", place], check=True)
        place.rmdir()


def test_a_limit_of_namespaces_is_a_policy(usual: Tool) -> None:
    """unshare(2) says ENOSPC then: root can do without, so it is asked."""
    if not ROOT_RUN:
        pytest.skip("only root can set it")
    script = 'echo 0 > /proc/sys/user/max_user_namespaces; exec "$@"'
    limited = ("unshare", "--user", "--map-root-user", "sh", "-c", script, "sh")
    result = usual.run("create", "--driver", "stub", "new", prefix=(*usual.account.setpriv(), *limited))
    refused(result, 1, "ENOSPC", "max_user_namespaces")


@pytest.mark.modes("full")
@pytest.mark.parametrize("order", [("mine", "roots"), ("roots", "mine")])
def test_root_removes_only_what_needs_it(machine: Machine, order: tuple[str, str]) -> None:
    tool = _with_sudo(machine)
    succeeded(tool.run("create", "--driver", "root", "roots"))
    succeeded(tool.run("create", "--driver", "stub", "mine", limit=BASE_LIMIT))
    result = succeeded(tool.run("remove", "--purge", *order, "--base", limit=BASE_LIMIT))
    said = [line for line in result.stderr.splitlines() if "removed" in line and "base" not in line]
    assert said == ["sysenv-ns: removed mine", "sysenv-ns: removed roots"]
    assert "roots has the driver root: continuing with sudo" in result.stderr
    refused(tool.run("remove", "roots"), 1, "there is no environment")


def test_nothing_is_removed_where_one_name_is_wrong(tool: Tool) -> None:
    succeeded(tool.run("create", "--driver", "root", "roots"))
    refused(tool.run("remove", "roots", "missing"), 1, "there is no environment missing", "roots")
    succeeded(tool.run("remove", "--purge", "roots"))


def test_refresh_needs_no_root(tool: Tool) -> None:
    succeeded(tool.run("create", "--driver", "root", "roots"))
    for names in ((), ("roots",)):
        assert "sudo" not in succeeded(tool.run("refresh", *names, limit=BASE_LIMIT)).stderr
    succeeded(tool.run("remove", "--purge", "roots"))
