"""diff: compared with a look at every file of both sides, and what it prints."""

from __future__ import annotations

import json
import os
import re
import signal
import time
from functools import partial
from pathlib import Path
from random import Random
from typing import Any

import pytest
from hypothesis import HealthCheck, Phase, given, settings
from hypothesis import strategies as st

from sysenv_ns import policy

from . import trees
from .debs import Deb, attempt, program
from .machines import Machine, output
from .mirror import Mirror
from .support import BASE_LIMIT, Environment, describe, finish, processes_of, refused, sleeper, succeeded, wait_for
from .terminals import spawn

_AREAS = ("/opt/area", "/usr/share/area")
_HOST = """
for area in /opt/area /usr/share/area; do
    mkdir -p $area/a/b/c $area/b/a $area/closed/a
    for file in a/a a/b/a a/b/c/a b/b b/a/c c; do echo "$file of the host" > $area/$file; done
    dd if=/dev/zero of=$area/b/c bs=5000 count=1 status=none
    ln -s b $area/a/link; ln -s ../c $area/b/link; mkfifo $area/b/fifo
    chmod 2755 $area/b; chmod 4755 $area/b/b; chown 1:2 $area/a/a $area/a/b
    echo secret > $area/a/secret; chmod 600 $area/a/secret; chmod 700 $area/closed
done
"""
# Each operation that is not possible is passed over: what is then there is what counts.
_OPERATE = r"""
import contextlib, json, os, shutil, sys
def delete(path, *_):
    shutil.rmtree(path) if os.path.isdir(path) and not os.path.islink(path) else os.unlink(path)
def write(path, other, number):
    no_wait = lambda path, flags: os.open(path, flags | os.O_NONBLOCK, 0o666)  # for somebody who reads a fifo
    with open(path, "w" if number % 2 else "a", opener=no_wait) as stream:
        stream.write("x" * (number // 2))
def same(path, *_):
    with open(path, "rb+") as stream:
        data = stream.read()
        stream.seek(0)
        stream.write(data)
def again(path, *_):
    shutil.copytree(path, path + ".new", symlinks=True)
    shutil.rmtree(path)
    os.rename(path + ".new", path)
def exchange(path, other, number):
    delete(path)
    write(path, other, number) if number % 2 else os.mkdir(path)
operations = {
    "delete": delete, "write": write, "same": same, "again": again, "exchange": exchange,
    "mkdir": lambda path, *_: os.makedirs(path), "symlink": lambda path, other, _: os.symlink(other, path),
    "chmod": lambda path, _, number: os.chmod(path, (0o755, 0o644, 0o4755, 0o2755)[number % 4]),
    "chown": lambda path, _, number: os.lchown(path, number % 3, number % 2),
    "rename": lambda path, other, _: os.rename(path, other), "move": lambda path, other, _: shutil.move(path, other),
    "link": lambda path, other, _: os.link(path, other), "fifo": lambda path, *_: os.mkfifo(path),
    "touch": lambda path, *_: os.utime(path, (1, 1), follow_symlinks=False),
}
for name, path, other, number in json.loads(sys.argv[1]):
    with contextlib.suppress(OSError, shutil.Error):
        operations[name](path, other, number)
"""
_OPERATIONS = (
    *("delete", "delete", "write", "write", "same", "again", "exchange", "mkdir", "symlink", "chmod", "chown"),
    *("rename", "move", "link", "fifo", "touch"),
)
_PARTS = st.sampled_from(["a", "b", "c", ".wh.a", "new\nline", "\udcff", "link", "secret", "closed"])
_PATHS = st.builds(
    lambda area, parts: "/".join((area, *parts)), st.sampled_from(_AREAS), st.lists(_PARTS, min_size=1, max_size=4)
)
_PLANS = st.lists(st.tuples(st.sampled_from(_OPERATIONS), _PATHS, _PATHS, st.integers(0, 50)), min_size=3, max_size=25)
_ACCOUNTS = {
    f"/etc/{name}{backup}"
    for name in ("passwd", "shadow", "group", "gshadow", "subuid", "subgid")
    for backup in ("", "-")
}
_FIFTY = (
    *("hello", "cowsay", "figlet", "sl", "toilet", "fortune-mod", "cmatrix", "boxes", "jq", "bc", "dc", "tree", "pv"),
    *("ncdu", "moreutils", "dos2unix", "unrtf", "html2text", "w3m", "links", "pwgen", "apg", "whois", "socat", "iperf"),
    *("netcat-openbsd", "traceroute", "fping", "iftop", "nload", "bmon", "htop", "atop", "sysstat", "lsof", "strace"),
    *("ltrace", "pciutils", "lshw", "fdupes", "rename", "symlinks", "wdiff", "colordiff", "patchutils", "diffstat"),
    *("units", "datamash", "gawk", "ncal"),
)
_BY_SUDO = "sysenv-ns: : continuing with sudo"


def _diff(environment: Environment, *arguments: str) -> dict[str, Any]:
    """What `diff --json` says."""
    result = succeeded(environment.tool.run("diff", "--json", environment.name, *arguments))
    assert result.stderr.replace(f"{environment.name} has the driver root", "").strip() in ("", _BY_SUDO)
    data = json.loads(result.stdout)
    assert isinstance(data, dict)
    return data


def _text(environment: Environment, *arguments: str) -> str:
    return succeeded(environment.tool.run("diff", environment.name, *arguments)).stdout


@pytest.mark.modes("full", "root", more=("single",))
def test_random_changes_are_what_a_look_at_every_file_finds(machine: Machine) -> None:
    machine.sh(_HOST)
    first = machine.create()  # makes the base
    host = trees.outside(first, *_AREAS)
    assert trees.inside(first, *_AREAS) == host
    assert _diff(first)["changes"] == []

    # Not made smaller when it fails: an example takes a second.
    @settings(
        max_examples=8,
        database=None,
        phases=(Phase.generate,),
        suppress_health_check=list(HealthCheck),
    )
    @given(_PLANS)
    def agrees(plan: list[tuple[str, str, str, int]]) -> None:
        environment = machine.tool.environment("random")
        succeeded(machine.tool.run("create", "random"))
        try:
            succeeded(environment.exec("python3", "-B", "-c", _OPERATE, json.dumps(plan)))
            expected = trees.compare(host, trees.inside(environment, *_AREAS))
            found = _diff(environment)
            assert trees.told(found["changes"], *_AREAS) == trees.without_content(expected)
            assert len(found["changes"]) == len(expected)
        finally:
            succeeded(machine.tool.run("remove", "--purge", "random"))

    agrees()


def _many() -> list[Deb]:
    """Packages with files of all kinds, one depending on the other."""
    files = ("/usr/bin/{0}", "/usr/share/{0}/data", "/usr/share/{0}/deep/er/data", "/etc/{0}.conf", "/opt/{0}/x y")
    return [
        Deb(f"many-{n}", "1", {}, {path.format(f"many-{n}"): f"{path} {n}\n" * (n + 1) for path in files})
        for n in range(50)
    ]


@pytest.mark.modes("full", more=("single", "root"))
def test_many_packages(machine: Machine, packages: Path) -> None:
    on_host = [program("host-kept"), program("host-old", "1:1~rc1"), program("host-gone"), program("host-edited")]
    install = 'mkdir -p /var/lib/dpkg/updates /var/lib/dpkg/alternatives /var/log; dpkg -i --force-confold "$@"'
    machine.sh(install, *(str(deb.build(packages)) for deb in on_host))
    environment = machine.create()
    fresh = trees.inside(environment, *_top())
    debs = [*_many(), program("host-old", "1:1")]
    environment.sh('dpkg -i "$@"', *(str(deb.build(packages)) for deb in debs), limit=BASE_LIMIT)
    environment.sh("dpkg --purge host-gone many-7; echo mine >> /etc/host-edited.conf; rm /usr/bin/host-kept")
    own = trees.inside(environment, *_top())
    host = trees.outside(environment, *_top())
    expected = trees.compare(host, own)
    untouched = {path for path in expected if own.get(path) == fresh.get(path)}  # what all environments have
    assert all("sysenv-ns" in path or path.startswith("/etc/") or "policy-rc.d" in path for path in untouched)
    found = _diff(environment)
    told = {path: kinds[0] for path, kinds in trees.told(found["changes"], *_top()).items()}
    assert told == {path: kinds[0] for path, kinds in expected.items() if path not in untouched}
    versions = {package["name"]: (package["kind"], package["old"], package["new"]) for package in found["packages"]}
    many = {f"many-{n}": ("added", "", "1") for n in range(50) if n != 7}
    gone = {"host-gone": ("removed", "1", ""), "host-old": ("upgraded", "1:1~rc1", "1:1")}
    assert versions == {**many, **gone}
    owners = {change["path"]: change["package"] for change in found["changes"]}
    assert owners["/opt/many-3/x y"] == owners["/var/lib/dpkg/info/many-3.list"] == "many-3"
    assert owners["/usr/bin/host-gone"] == "host-gone"
    assert (owners["/etc/host-edited.conf"], owners["/usr/bin/host-kept"]) == ("host-edited", "host-kept")
    text = _text(environment)
    assert re.search(r"^added +many-11 +1 +5 files ", text, re.MULTILINE)
    assert re.search(r"^upgraded +host-old +1:1~rc1 -> 1:1 ", text, re.MULTILINE)
    assert "Files of host-edited\nmodified  /etc/host-edited.conf" in text
    assert "/usr/bin/many-11" not in text
    assert "/usr/bin/many-11" in _text(environment, "--files")
    assert "/var/lib/dpkg/status" not in text
    assert "/var/lib/dpkg/status" in _text(environment, "--files", "--all")
    assert len(_text(environment, "--packages").splitlines()) == len(versions)


@pytest.mark.slow
@pytest.mark.modes("full")
def test_packages_of_apt_and_random_changes(environment: Environment, mirror: Mirror, whole: bool) -> None:
    """Compared with a look at every file of both sides, of the whole system; with --all of fifty packages, at all that
    is in large files, and at what no package of the test can touch.
    """
    passed_over = trees.PASSED_OVER if whole else trees.without_the_largest()
    look_inside = partial(trees.dated_inside, environment, *_top(), passed_over=passed_over)
    look_outside = partial(trees.dated_outside, environment, *_top(), passed_over=passed_over)
    ends: trees.Look = "content" if whole else "ends"
    packages = _FIFTY if whole else _FIFTY[::5]
    fresh = look_inside(look="times")
    before = look_outside(look="times")
    begin = time.time()
    mirror.install(environment, "--no-install-recommends", *packages)
    random = Random(7)
    # It fails where the directories of other users' stores are.
    search = f'find "$@" -newerct @{begin} -print0 || :'
    newer = environment.sh(search, *_top()).split("\0")
    not_looked_at = tuple(f"{path}/" for path in passed_over)
    files = sorted(path for path in {*newer} - {*fresh, ""} if not path.startswith(not_looked_at))
    paths = [*random.sample(files, 200), *random.sample(sorted(p for p in fresh if p.startswith("/usr/share/")), 100)]
    plan = [
        (random.choice(_OPERATIONS), random.choice(paths), f"{random.choice(paths)}.new", random.randrange(50))
        for _ in range(150)
    ]
    succeeded(environment.exec("python3", "-B", "-c", _OPERATE, json.dumps(plan)))
    own = look_inside(look=ends)
    found = _diff(environment)
    host = look_outside(look=ends)
    expected = trees.compare(trees.undated(host), trees.undated(own))
    ignored = {*expected} & trees.same(fresh, own)  # what all environments have
    alive = ({*before} | {*host}) - trees.same(before, host)  # the host is
    # Other tests make users: then what an environment has in place of the host's passwords is another one, too.
    ignored |= alive | (_ACCOUNTS if alive & _ACCOUNTS else set())
    ignored |= {path for path in expected if path.startswith("/var/lib/sysenv-ns/users/")}  # bound: root's own stores
    ignored |= {path for path in expected if re.fullmatch(policy.LEFT_OUT_CACHES, path)}
    told = {path: kinds[0] for path, kinds in trees.told(found["changes"], *_top()).items() if path not in ignored}
    assert told == {path: kinds[0] for path, kinds in expected.items() if path not in ignored}
    query = ("dpkg-query", "-W", "-f", "${Package} ${Version}\n")
    added = {*environment.exec(*query).stdout.split("\n")} - {*output(*query).split("\n")}
    assert added == {f"{package['name']} {package['new']}" for package in found["packages"]}
    assert len(added) >= len(packages)


def _top() -> tuple[str, ...]:
    return tuple(f"/{name}" for name in trees.TOP)


@pytest.mark.modes("full", more=("single",))
def test_what_the_host_did_is_no_change(machine: Machine, packages: Path) -> None:
    """Neither of an environment without a package database, nor of one that the host has left behind."""
    install = 'mkdir -p /var/lib/dpkg/updates /var/lib/dpkg/alternatives /var/log; dpkg -i --force-confold "$@"'
    machine.sh(install, str(program("host-kept").build(packages)), str(program("both").build(packages)))
    environment = machine.create()
    environment.sh("touch /etc/host-kept.conf; chmod 755 /usr/bin/host-kept; mkdir -p /usr/share/doc")
    assert _diff(environment)["changes"] == []
    environment.sh('dpkg -i "$@"', str(program("own").build(packages)), str(program("both", "2").build(packages)))
    later = (program("host-kept", "2"), program("both", "2"), program("host-new"))
    machine.sh(install, *(str(deb.build(packages)) for deb in later))
    found = _diff(environment)
    assert [(package["name"], package["kind"]) for package in found["packages"]] == [("own", "added")]
    kinds = {change["path"]: change["kind"] for change in found["changes"]}
    assert "/usr/bin/both" not in kinds
    assert kinds["/usr/bin/host-kept"] == "modified"  # the environment's copy of the earlier one
    assert "2 packages of this system have changed" in found["notes"][0]


@pytest.mark.modes("full", "fuse", "sudo")
def test_every_driver(environment: Environment) -> None:
    environment.sh("""
        echo own >> /etc/issue; rm /etc/issue.net; chmod 600 /etc/host.conf; touch /etc/hosts.new /usr/bin/env
        cp -a /etc/skel /etc/skel.new; rm -r /etc/skel; mv /etc/skel.new /etc/skel; echo new > /etc/skel/new
        rm -r /usr/share/doc/dpkg; mkdir /usr/share/doc/dpkg; rm /etc/os-release; mkdir /etc/os-release
        mkdir -p /opt/test-diff/a; echo 12345 > /opt/test-diff/a/b; mkdir -p /var/log; echo x > /var/log/test-diff
    """)
    running = sleeper(environment)
    while_running = _diff(environment)
    succeeded(environment.tool.run("stop", environment.name))
    finish(running)
    found = _diff(environment)
    assert found == while_running
    kinds = {change["path"]: change["kind"] for change in found["changes"]}
    deleted = {path for path, kind in kinds.items() if kind == "deleted"}
    assert deleted == {"/etc/issue.net", *(f"/usr/share/doc/dpkg/{name}" for name in os.listdir("/usr/share/doc/dpkg"))}
    assert {path: kind for path, kind in kinds.items() if kind != "deleted"} == {
        "/etc/issue": "modified",
        "/etc/host.conf": "metadata",
        "/etc/hosts.new": "added",
        "/etc/skel/new": "added",
        "/etc/os-release": "type",
        **dict.fromkeys(("/opt/test-diff", "/opt/test-diff/a", "/opt/test-diff/a/b", "/var/log/test-diff"), "added"),
    }
    text = _text(environment)
    assert re.search(r"^added +/opt/test-diff/ +1 file, 6 B$", text, re.MULTILINE)
    assert "mode 0644 -> 0600" in text
    assert "not shown without --all: logs (1 file, 2 B)" in text
    assert environment.tool.run("diff", environment.name, "--exit-code").returncode == 1


@pytest.mark.modes("full", more=("single", "root"))
def test_text_differences(environment: Environment) -> None:
    environment.sh(r"""
        echo 'own\033[31m' >> /etc/issue; rm /etc/issue.net; ln -sf nowhere /etc/localtime; chmod 700 /etc/host.conf
        printf 'a\0b' > /etc/binary; printf 'no end' > "/etc/new
line"; mkdir -p /opt/test-diff/a; echo 1 > /opt/test-diff/a/b; ln -s /opt/test-diff /etc/test-diff
    """)
    text = _text(environment, "--", "/etc/issue")
    issue = Path("/etc/issue").read_text()
    header = f"/etc/issue: modified\n--- host/etc/issue\n+++ {environment.name}/etc/issue\n"
    assert text.startswith(header)
    assert text.endswith("+own\033[31m\n")
    assert all(f" {line}\n" in text for line in issue.splitlines()[-3:])
    removed = _text(environment, "/etc/issue.net")
    assert "--- host/etc/issue.net\n+++ /dev/null\n" in removed
    both = _text(environment, "--", "/etc/host.conf", "/etc/binary", "/etc/localtime")
    assert "/etc/host.conf: mode 0644 -> 0700\n" in both
    assert f"Binary files host/etc/binary and {environment.name}/etc/binary differ\n" in both
    assert "+nowhere\n\\ No newline at end of file\n" in both
    name = environment.name
    assert f'+++ "{name}/etc/new\\nline"\n@@ -0,0 +1 @@\n+no end\n' in _text(environment, "/etc/new\nline")
    assert f"+++ {name}/opt/test-diff/a/b\n@@ -0,0 +1 @@\n+1\n" in _text(environment, "/etc/test-diff/a")
    assert _text(environment, "/etc/passwd") == ""
    home = environment.tool.run("diff", environment.name, "--", str(environment.tool.account.home))
    assert "is this system's own" in succeeded(home).stderr
    refused(environment.tool.run("diff", environment.name, "/etc/absent"), 1, "there is no /etc/absent")
    everything = _text(environment, "/")
    assert all(part in everything for part in (header, "/etc/issue.net: deleted file", "/opt/test-diff: new directory"))


@pytest.mark.modes("full")
def test_on_a_terminal(environment: Environment) -> None:
    """Colours, the user's pager, and nothing that the environment's files do to the terminal."""
    environment.sh(r"printf '\033]0;title\007\377\n' >> /etc/issue; touch '/etc/x'$(printf '\033')")
    command = (str(environment.tool.launcher), "diff", environment.name)
    for arguments, pager in ((("--", "/etc/issue"), "cat"), (("--", "/etc/issue"), "sed 's/^/paged: /'"), ((), "cat")):
        terminal = spawn(environment, *command, *arguments, variables={"PAGER": pager})
        output = terminal.read()
        assert "\033]" not in output
        assert "\007" not in output
        assert ("\\x1b]0;title\\x07\\xff" if arguments else '"/etc/x\\033"') in output
        assert "\033[32m" in output
        assert ("paged: " in output) == pager.startswith("sed")
    terminal = spawn(environment, *command, "/etc/issue", variables={"PAGER": "echo ready; exec sleep 60"})
    terminal.expect("ready")
    terminal.sendintr()
    assert "Traceback" not in terminal.read()


@pytest.mark.modes("full", more=("root",))
def test_interrupted_it_leaves_nothing(environment: Environment) -> None:
    environment.sh("cp -r /usr/lib/python3* /opt/; echo own >> /etc/issue")
    before = _diff(environment)
    mounts = Path("/proc/self/mounts").read_text()
    for delay, number in ((0.1, signal.SIGINT), (0.2, signal.SIGINT), (0.15, signal.SIGTERM), (0.25, signal.SIGKILL)):
        process = environment.tool.start("diff", environment.name)
        time.sleep(delay)
        process.send_signal(number)
        result = finish(process)
        assert "Traceback" not in result.stderr, describe(result)
        wait_for(lambda: not _helpers(environment))
    assert _diff(environment) == before
    assert Path("/proc/self/mounts").read_text() == mounts


def _helpers(environment: Environment) -> list[int]:
    """The processes with which it looks at an environment's files."""
    uid = environment.tool.account.uid
    return [pid for pid in processes_of(range(uid, uid + 1)) if _name(pid) == "sysenv-ns-diff"]


def _name(pid: int) -> str:
    try:
        return Path(f"/proc/{pid}/comm").read_text().strip()
    except OSError:
        return ""


@pytest.mark.modes("full")
def test_errors(environment: Environment) -> None:
    name = environment.name
    inside = attempt(environment, 'exec "$1" diff "$2"', str(environment.tool.launcher), name)
    refused(inside, 1, "cannot compare an environment from inside")
    refused(environment.tool.run("diff", "absent"), 1, "there is no environment absent")
    upper = Path(environment.tool.status(name)["path"], "upper")
    away = upper.rename(upper.with_name("away"))
    try:
        refused(environment.tool.run("diff", name), 1, "has lost its files")
    finally:
        away.rename(upper)
