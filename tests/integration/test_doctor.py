"""doctor where something is forbidden: it names the stage and one remedy, as do create and exec; nothing is left."""

from __future__ import annotations

import json
import os
import re
import shutil
from dataclasses import replace
from pathlib import Path

import pytest

from .support import ROOT_RUN, Environment, Tool, describe, refused, succeeded

# unshare(2) and clone(2) fail as under a container engine's usual filter (libseccomp's seccomp_rule_add(3)).
_FILTER = """
import ctypes, os, sys
library = ctypes.CDLL("libseccomp.so.2")
library.seccomp_init.restype = ctypes.c_void_p
context = ctypes.c_void_p(library.seccomp_init(ctypes.c_uint32(0x7FFF0000)))  # SCMP_ACT_ALLOW
number = library.seccomp_syscall_resolve_name(b"unshare")
assert library.seccomp_rule_add(context, ctypes.c_uint32(0x00050001), number, 0) == 0  # SCMP_ACT_ERRNO(EPERM)
assert library.seccomp_load(context) == 0
os.execv(sys.argv[1], sys.argv[1:])
"""
# A user namespace with the ids below a number, as that of a container is, without its other walls.
_CONTAINER = """
import ctypes, os, sys
entered, ready = os.pipe(), os.pipe()
child = os.fork()
if child == 0:
    assert ctypes.CDLL(None).unshare(0x10000000) == 0  # CLONE_NEWUSER
    os.write(entered[1], b"x")
    os.read(ready[0], 1)
    os.execvp(sys.argv[2], sys.argv[2:])
os.read(entered[0], 1)
for name in ("uid_map", "gid_map"):
    with open(f"/proc/{child}/{name}", "w") as stream:
        stream.write(f"0 0 {sys.argv[1]}")
os.write(ready[1], b"x")
sys.exit(os.waitstatus_to_exitcode(os.waitpid(child, 0)[1]))
"""
_LIMIT = 'echo 0 > "/proc/sys/user/$1"; shift; exec "$@"'


def _limited(tool: Tool, name: str) -> Tool:
    """The tool in a user namespace in which this limit is 0."""
    own = tool.account.setpriv() if ROOT_RUN else []
    return replace(tool, prefix=(*own, "unshare", "--map-root-user", "sh", "-ec", _LIMIT, "sh", name), options=())


def _filtered(tool: Tool) -> Tool:
    """The tool under a filter that forbids new namespaces."""
    own = tool.account.setpriv() if ROOT_RUN else []
    return replace(tool, prefix=(*own, "/usr/bin/python3", "-I", "-c", _FILTER), options=())


def _assert_nothing_works(tool: Tool, *words: str) -> None:
    """doctor, create, exec and shell all say the same, and leave nothing."""
    before = sorted(os.listdir(tool.store / "envs")) if tool.store.exists() else []
    result = tool.run("doctor")
    assert result.returncode == 1, describe(result)
    assert "No environment can be run here." in result.stdout
    assert all(word in result.stdout for word in words), describe(result)
    report = json.loads(tool.run("doctor", "--json").stdout)
    assert (report["driver"], report["id_map"]) == (None, None)
    for command, status in ((("create", "x"), 1), (("exec", "x", "--", "true"), 125), (("shell", "x"), 125)):
        refused(tool.run(*command), status, *words)
    assert sorted(os.listdir(tool.store / "envs")) == before
    assert list((tool.store / "trash").iterdir()) == []


@pytest.mark.modes("single")
@pytest.mark.parametrize("name", ["max_user_namespaces", "max_mnt_namespaces"])
def test_limit_of_namespaces(tool: Tool, name: str) -> None:
    _assert_nothing_works(_limited(tool, name), "namespace failed", "ENOSPC", f"user.{name}=15000")


@pytest.mark.modes("single")
def test_filter_of_a_container(tool: Tool) -> None:
    _assert_nothing_works(_filtered(tool), "creating a user namespace failed", "EPERM", "seccomp=unconfined")


@pytest.mark.modes("full")
def test_no_subordinate_ids(tool: Tool, shared: Path) -> None:
    """Only the full map is missing then; the remedy can be pasted."""
    if not ROOT_RUN:
        pytest.skip("only root can hide a file")
    script = 'mount --bind /dev/null /etc/subuid; exec "$@"'
    without = replace(tool, prefix=("unshare", "--mount", "sh", "-ec", script, "sh", *tool.account.setpriv()))
    result = succeeded(without.run("doctor"))
    assert "id map full     no: no full id map: /etc/subuid grants you no subordinate ids" in result.stdout
    name = tool.account.name
    shown = re.search(r"sudo usermod --add-subuids (\d+)-(\d+) --add-subgids \1-\2 (\S+)\n", result.stdout)
    assert shown
    assert shown[3] == name
    first, last = int(shown[1]), int(shown[2])
    for other, start, count in (line.split(":") for line in Path("/etc/subgid").read_text().splitlines()):
        assert not (int(start) <= last and int(start) + int(count) > first), other
    assert "New environments use the driver stub and the id map single." in result.stdout


def _in_container(tool: Tool, ids: int) -> Tool:
    """The tool where only the ids below this number exist."""
    container = ("/usr/bin/python3", "-I", "-c", _CONTAINER, str(ids))
    return replace(tool, prefix=(*container, *tool.account.setpriv()), options=())


@pytest.mark.modes("full")
@pytest.mark.parametrize("ids", [65536, 100_001])
def test_subordinate_ids_that_a_container_does_not_have(tool: Tool, ids: int) -> None:
    """As in LXC, whose containers have 65536 ids, of which useradd(8) knows nothing: the single map is what works."""
    if not ROOT_RUN:
        pytest.skip("only root can map several ids")
    inside = _in_container(tool, ids)
    said = succeeded(inside.run("doctor")).stdout
    problem = "no full id map: /etc/subuid grants you too few subordinate ids that exist in this container"
    assert problem in said
    assert "New environments use the driver stub and the id map single." in said
    assert "security.idmap.size" in said
    assert "usermod" not in said
    refused(inside.run("create", "--id-map", "full", "contained"), 1, problem)
    try:
        assert succeeded(inside.run("exec", "contained", "--", "id", "-u", limit=300)).stdout == "0\n"
    finally:
        tool.end("contained")


@pytest.mark.modes("full")
def test_subordinate_ids_that_a_container_has(tool: Tool) -> None:
    """As in one that was given enough of them."""
    if not ROOT_RUN:
        pytest.skip("only root can map several ids")
    inside = _in_container(tool, 4294967295)
    assert re.search("id map full +works", succeeded(inside.run("doctor")).stdout)


@pytest.mark.modes("full")
def test_ids_that_are_not_the_users_any_more(environment: Environment, shared: Path) -> None:
    """What was made with them is refused, and is had again by the same range, not by another."""
    if not ROOT_RUN:
        pytest.skip("only root can hide a file")
    account = environment.tool.account
    lines = Path("/etc/subuid").read_text().splitlines()
    (own,) = [line for line in lines if line.startswith(f"{account.name}:")]
    first, count = map(int, own.split(":")[1:])
    grants = shared / "subuid"
    script = 'mount --bind "$0" /etc/subuid; exec "$@"'
    changed = ("unshare", "--mount", "sh", "-ec", script, str(grants), *account.setpriv())
    again = f"sudo usermod --add-subuids {first}-{first + count - 1} {account.name}\n"
    for text, hint in (
        ("", again),
        (f"{account.name}:{first + 10 * count}:{count}\n", again),
        (f"somebody-else:{first + count // 2}:{count}\n", "/etc/subuid now grants somebody-else the ids"),
    ):
        grants.write_text(text)
        result = replace(environment.tool, prefix=changed).run("exec", environment.name, "--", "true")
        refused(result, 125, "newuidmap refused the id map", hint)


@pytest.mark.modes("full")
def test_newuidmap_without_its_rights(tool: Tool, shared: Path) -> None:
    """As where a system was copied without them: ids are granted, so more of them are no remedy."""
    if not ROOT_RUN:
        pytest.skip("only root can hide a file")
    shutil.copyfile("/usr/bin/newuidmap", shared / "newuidmap")
    (shared / "newuidmap").chmod(0o755)
    script = 'mount --bind "$0" /usr/bin/newuidmap; exec "$@"'
    own = ("unshare", "--mount", "sh", "-ec", script, str(shared / "newuidmap"))
    result = succeeded(replace(tool, prefix=(*own, *tool.account.setpriv())).run("doctor"))
    assert "newuidmap refused the id map" in result.stdout
    assert "/usr/bin/newuidmap has lost its setuid bit" in result.stdout
    assert "usermod" not in result.stdout
    assert re.search("driver idmap +no: not tried: it needs the id map full", result.stdout)
    script = 'mount --bind /usr/bin /usr/bin; mount -o remount,bind,nosuid /usr/bin; exec "$@"'
    own = ("unshare", "--mount", "sh", "-ec", script, "sh")
    result = succeeded(replace(tool, prefix=(*own, *tool.account.setpriv())).run("doctor"))
    assert "/usr/bin/newuidmap has no effect, as its file system is mounted nosuid" in result.stdout


@pytest.mark.modes("full")
def test_newuidmap_after_newgrp(tool: Tool) -> None:
    """It serves nobody with another group than the usual one; more ids are no remedy."""
    if not ROOT_RUN:
        pytest.skip("only root can give any group")
    other = ("setpriv", "--reuid", str(tool.account.uid), "--regid", "44", "--clear-groups")
    result = succeeded(replace(tool, prefix=other).run("doctor"))
    assert "newuidmap refused the id map" in result.stdout
    assert "newgrp" in result.stdout
    assert "usermod" not in result.stdout


@pytest.mark.modes("full")
def test_idmap_where_sudo_cannot_be_used(tool: Tool) -> None:
    """Its remedy is root's then."""
    if not ROOT_RUN:
        pytest.skip("only root can hide a file")
    script = 'mount --bind /dev/null /usr/bin/sudo; mount -t tmpfs -o mode=755 tmpfs /run; exec "$@"'
    hidden = ("unshare", "--mount", "sh", "-ec", script, "sh")
    without = replace(tool, prefix=(*hidden, *tool.account.setpriv()), options=())
    remedy = f"sysenv-ns host prepare --user {tool.account.uid}"
    assert remedy in without.run("doctor").stdout
    refused(without.run("exec", "--driver", "idmap", "x", "--", "true"), 125, remedy)


@pytest.mark.modes("full", "single", "root")
def test_what_works_is_what_is_chosen(tool: Tool) -> None:
    before = _tree(tool)
    report = json.loads(succeeded(tool.run("doctor", "--json")).stdout)
    works = {finding["subject"] for finding in report["findings"] if finding["works"]}
    assert f"driver {report['driver']}" in works
    assert report["id_map"] is None or f"id map {report['id_map']}" in works
    for finding in report["findings"]:
        assert finding["works"] or finding["detail"], finding
    assert _tree(tool) == before


@pytest.mark.modes("full")
def test_what_no_new_privs_takes_away(environment: Environment) -> None:
    """newuidmap is there and has no effect: installing it is no advice."""
    if not ROOT_RUN:
        pytest.skip("only root can become the user so")
    confined = replace(environment.tool, prefix=(*environment.tool.account.setpriv(), "--no-new-privs"))
    for status, *arguments in (
        ("125", "exec", environment.name, "--", "true"),
        ("1", "create", "--id-map", "full", "x"),
    ):
        result = confined.run(*arguments)
        refused(result, int(status), "newuidmap refused the id map", "no_new_privs is set here", "--id-map single")
        assert "install" not in result.stderr
    assert "no_new_privs is set here" in confined.run("doctor").stdout
    succeeded(confined.run("exec", "confined", "--", "true", limit=300))  # which has the single one
    succeeded(confined.run("remove", "--purge", "confined"))


@pytest.mark.modes("full")
def test_it_says_how_ports_below_1024_are_had(tool: Tool) -> None:
    """By the setting of this system, which a server inside depends on, as one outside does."""
    bind = "import socket; socket.socket().bind(('127.0.0.1', 81))"
    first = int(Path("/proc/sys/net/ipv4/ip_unprivileged_port_start").read_text())
    said = tool.run("doctor").stdout
    succeeded(tool.run("create", *tool.options, "server"))
    try:
        opened = tool.run("exec", "server", "--", "python3", "-c", bind).returncode == 0
    finally:
        tool.end("server")
    assert opened == (first <= 81)
    assert ("sudo sysctl -w net.ipv4.ip_unprivileged_port_start=80" in said) == (first > 80)
    assert ("low ports       works" in said) == (first <= 80)


def _tree(tool: Tool) -> list[str]:
    return sorted(str(path) for name in ("envs", "base", "trash") for path in (tool.store / name).glob("*"))
