"""apply: what an environment has changed comes to a small host, and goes again. Never to the machine of the tests."""

from __future__ import annotations

import json
import os
import signal
from pathlib import Path

import pytest
from hypothesis import HealthCheck, Phase, given, settings

from .applying import APT, answered, apply, as_json, guard, index, prepare, tree
from .debs import Deb, program
from .machines import Machine
from .support import BASE_LIMIT, finish, refused, succeeded, wait_for
from .test_diff import _HOST as HOST_FILES
from .test_diff import _OPERATE as OPERATE
from .test_diff import _PLANS as PLANS

_HOST = (program("to-old"), program("to-gone"), program("to-purged"), program("to-edited"))
_USER = "#!/bin/sh\nadduser --system --group --no-create-home --home /nonexistent to-user --quiet\n"
_NEW = (
    program("to-app", Depends="to-lib"),
    program("to-lib"),
    program("to-old", "2"),
    Deb("to-daemon", "1", {}, {"/usr/sbin/to-daemon": "daemon\n"}, {"postinst": f"{_USER}date +%N > /etc/to-made\n"}),
)


@pytest.fixture
def host(machine: Machine, packages: Path) -> Machine:
    """A small host with packages, whose apt has those of _NEW too."""
    index(packages, *_HOST, *_NEW)
    prepare(machine, packages)
    machine.sh(APT, "install", *(f"{deb.name}=1" for deb in _HOST))
    return machine


def _states(machine: Machine) -> dict[str, str]:
    form = "${Package} ${db:Status-Abbrev}${Version}\n"
    lines = machine.sh("dpkg-query -W -f \"$1\" 'to-*' || true", form).splitlines()
    return {name: state for name, _, state in (line.partition(" ") for line in lines) if not state.startswith("un")}


_BEFORE = dict.fromkeys(("to-old", "to-gone", "to-purged", "to-edited"), "ii 1")
_CHANGE = """
cd /usr/local
printf '#!/bin/sh\necho tool\n' > bin/to-tool; chmod 755 bin/to-tool
ln bin/to-tool bin/to-tool-2; ln -s to-tool bin/to-link
mkdir -p "/opt/to file/a b"; echo 1 > "/opt/to file/a b/new
line"; chmod 750 "/opt/to file"; mkfifo /opt/to-fifo
echo more >> /etc/issue; rm /etc/issue.net; chmod 600 /etc/host.conf; rm -r /etc/skel; ln -s nowhere /etc/skel
echo own >> /etc/to-edited.conf; echo x >> /etc/hostname; echo y > /etc/machine-id; mkdir -p /var/lib/to-state/x
setfattr -n user.to -v value bin/to-tool
"""


@pytest.mark.modes("full", "root", more=("single",))
def test_packages_and_files_come_and_go(host: Machine) -> None:
    host.sh("echo own >> /etc/to-purged.conf")
    environment = host.create()
    environment.sh(APT, "install", "to-app", "to-old=2", "to-daemon", "to-gone-", limit=BASE_LIMIT)
    environment.sh("dpkg --purge to-purged; echo mine > /etc/to-app.conf")
    environment.sh(_CHANGE)
    environment.sh("echo mine > /etc/to-made")
    owners = environment.tool.mode != "single"
    if owners:
        environment.sh("echo d > /etc/to-daemon; chown to-user:adm /etc/to-daemon; chown games /opt/to-fifo")
    before = tree(host)
    plan = as_json(host, "test", "--dry-run")["plan"]
    assert tree(host) == before
    actions = {
        package["name"]: (package["action"], package["new"], package["automatic"]) for package in plan["packages"]
    }
    assert actions == {
        "to-app": ("added", "1", False),
        "to-lib": ("added", "1", True),
        "to-daemon": ("added", "1", False),
        "to-old": ("upgraded", "2", False),
        "to-gone": ("removed", "", False),
        "to-purged": ("removed", "", False),
    }
    steps = {step["path"]: step["action"] for step in plan["steps"]}
    bash = {path: "delete" for path in before if path.startswith("/etc/skel/")}
    assert steps == bash | ({"/etc/to-daemon": "put"} if owners else {}) | {
        **dict.fromkeys(("/usr/local/bin/to-tool", "/usr/local/bin/to-tool-2", "/usr/local/bin/to-link"), "put"),
        **dict.fromkeys(("/opt/to file", "/opt/to file/a b", "/opt/to file/a b/new\nline", "/opt/to-fifo"), "put"),
        **{"/etc/issue": "put", "/etc/issue.net": "delete", "/etc/host.conf": "metadata", "/etc/skel": "put"},
        **{"/etc/to-edited.conf": "put", "/etc/to-app.conf": "put", "/etc/to-made": "put"},
    }
    left = {part["what"]: part["why"] for part in plan["left"]}
    assert left["/etc/passwd"] == "accounts are never overwritten"
    assert left["/etc/hostname"] == left["/etc/machine-id"] == "it is specific to this machine"
    assert "/var/lib/to-state" in left
    assert "user to-user" in left
    assert "its configuration and data stay" in left["purge of to-purged"]
    refused(apply(host, "test"), 1, "cannot ask for confirmation")
    assert tree(host) == before
    done = as_json(host, "test", "--yes")["done"]
    assert done["skipped"] == []
    assert _states(host) == {
        **dict.fromkeys(("to-app", "to-lib", "to-daemon", "to-edited"), "ii 1"),
        "to-old": "ii 2",
        "to-gone": "rc 1",
        "to-purged": "rc 1",
    }
    assert "own" in host.sh("cat /etc/to-purged.conf")
    assert host.sh("apt-mark showauto 'to-.*'") == "to-lib\n"
    assert (
        host.sh("to-tool; to-app; tail -n 1 /etc/to-edited.conf; cat /etc/to-app.conf") == "tool\nto-app 1\nown\nmine\n"
    )
    assert host.sh("stat -c '%a %U %h' /usr/local/bin/to-tool; readlink /etc/skel") == "755 root 2\nnowhere\n"
    assert host.sh("stat -c %a /etc/host.conf '/opt/to file'; ls -A '/opt/to file/a b' | wc -l") == "600\n750\n2\n"
    assert "user.to" in host.sh("getfattr /usr/local/bin/to-tool 2>/dev/null")
    assert host.sh("! test -e /etc/issue.net; tail -n 1 /etc/issue; dpkg --audit; id -un to-user") == "more\nto-user\n"
    assert host.sh("cat /etc/to-made") == "mine\n"  # and not what the package's script has made here
    if owners:
        assert host.sh("stat -c %U:%G /etc/to-daemon /opt/to-fifo") == "to-user:adm\ngames:root\n"
    again = [step["path"] for step in as_json(host, "test", "--dry-run")["plan"]["steps"]]
    assert again == []  # nothing is left to be done
    _undo_all(host, before)


def _undo_all(host: Machine, before: dict[str, tuple[object, ...]]) -> None:
    host.sh("echo later >> /etc/issue")
    refused(apply(host, "--undo", "--yes"), 1, "changed since", "/etc/issue")
    assert _states(host)["to-old"] == "ii 1"
    found = as_json(host, "--undo", "--dry-run")["plan"]
    assert [file["path"] for file in found["files"]] == ["/etc/issue"]
    succeeded(apply(host, "--undo", "--yes", "--force"))
    assert "later" in host.sh("cat /var/backups/sysenv-ns/*/forced/*")
    after = tree(host)
    # What packages' own scripts make, remove does not take away, nor configuration.
    kept = {"/etc/to-lib.conf", "/etc/to-app.conf", "/etc/to-made"}
    accounts = {f"/etc/{name}{end}" for name in ("passwd", "group", "shadow", "gshadow") for end in ("", "-")}
    accounts |= {"/etc", "/etc/subuid", "/etc/subgid", "/etc/.pwd.lock"}
    assert host.sh("cat /etc/to-app.conf") == "as shipped\n"  # not deleted: dpkg would not bring it again
    assert {path for path in before.keys() | after.keys() if before.get(path) != after.get(path)} <= kept | accounts
    assert {name: state for name, state in _states(host).items() if state[0] == "i"} == _BEFORE
    refused(apply(host, "--undo", "--yes"), 1, "nothing to undo")


@pytest.mark.modes("full")
def test_what_apt_has_not_comes_with_the_environment(host: Machine, packages: Path) -> None:
    """A source of its own with its packages, a package file; what there is nowhere is said before anything is done."""
    other = packages / "other"
    other.mkdir(mode=0o755)
    index(other, program("to-other"))
    deb = program("to-file", "1:2~x").build(packages)
    environment = host.create()
    before = tree(host)
    environment.sh('dpkg -i "$1"', str(deb))
    refused(apply(host, "test", "--dry-run"), 1, "no to-file 1:2~x", "/var/cache/apt/archives")
    environment.sh('cp "$1" /var/cache/apt/archives/', str(deb))
    environment.sh("echo 1 > /usr/local/one; echo 2 > /usr/local/two")
    made = as_json(host, "test", "--dry-run", "--packages")["plan"]
    assert [package["file"] for package in made["packages"]] == [deb.name]
    assert [made["steps"], as_json(host, "test", "--dry-run", "--files")["plan"]["packages"]] == [[], []]
    chosen = as_json(host, "test", "--dry-run", "--", "/usr/local/one", "/var/lib/dpkg/info/to-file.list")["plan"]
    assert [step["path"] for step in chosen["steps"]] == ["/usr/local/one"]
    list_ = f"deb [trusted=yes] file:{other} ./"
    environment.sh('echo "$1" > /etc/apt/sources.list.d/other.list; apt-get -q update', list_, limit=BASE_LIMIT)
    environment.sh(APT, "install", "to-other", limit=BASE_LIMIT)
    text = succeeded(apply(host, "test", "--dry-run")).stdout
    assert text.startswith("warning: package to-file: its file comes from the environment")
    assert (
        f"\n\nSources of packages\n  +  /etc/apt/sources.list.d/other.list  {len(list_) + 1} B\n      | {list_}\n"
        in text
    )
    assert "\n  /usr/bin/apt-get --quiet update" in text
    environment.sh("mkdir -p /var/lib/rpm; echo x > /var/lib/rpm/rpmdb.sqlite")
    refused(apply(host, "test", "--dry-run"), 1, "cannot be installed by apt", "--files")
    succeeded(apply(host, "test", "--dry-run", "--files"))
    environment.sh("rm -r /var/lib/rpm")
    answered(host, "n")
    assert tree(host) == before
    answered(host, "y")
    assert _states(host) | _BEFORE == {**_BEFORE, "to-file": "ii 1:2~x", "to-other": "ii 1"}
    assert host.sh("cat /usr/local/one /usr/local/two") == "1\n2\n"
    succeeded(apply(host, "--undo", "--yes"))
    assert "to-other" not in host.sh("apt-cache madison to-other")
    assert {path for path, found in tree(host).items() if before.get(path) != found} <= {
        "/etc/to-file.conf",
        "/etc/to-other.conf",
        "/etc",
    }
    # Without its archive, apt cannot say what it has: all that was done is taken back.
    (other / "Packages").unlink()
    refused(apply(host, "test", "--yes"), 1, "apt's sources are restored")
    assert not (host.root / "etc/apt/sources.list.d/other.list").exists()
    assert not (host.root / "usr/local/one").exists()


# u::rw-,u:5:r--,g::r--,m::r--,o::r--
_ACL = "0x0200000001000600ffffffff020004000500000004000400ffffffff10000400ffffffff20000400ffffffff"


@pytest.mark.modes("full")
def test_directories(host: Machine) -> None:
    """What goes is looked at whole, nothing is looked for behind a link, and what is missing above comes too."""
    host.sh("mkdir -p /opt/vol/inner /opt/keys /opt/elsewhere /etc/ssh; echo 1 > /opt/file; echo 1 > /opt/elsewhere/x")
    host.sh("ln -s elsewhere /opt/link; touch /etc/ssh/ssh_host_x_key; echo 1 > /opt/listed; echo 1 > /opt/keys/one")
    environment = host.create()
    environment.sh(
        "cd /opt; rm -r vol /boot /etc/ssh file link keys; mkdir file link; echo 2 | tee file/x link/x listed"
    )
    environment.sh("mkdir -p /opt/tool/bin; chmod 751 /opt/tool; echo 3 | tee /opt/tool/bin/x /opt/tool/y")
    host.sh("mkdir -p /opt/vol/inner; mount -t tmpfs none /opt/vol/inner")
    host.sh("setfattr -n system.posix_acl_access -v $1 /opt/listed", _ACL)
    before = tree(host)
    chosen = as_json(host, "test", "--yes", "--", "/opt/tool/bin/x")["plan"]["steps"]
    assert [step["path"] for step in chosen] == ["/opt/tool", "/opt/tool/bin", "/opt/tool/bin/x"]
    assert host.sh("stat -c %a /opt/tool; ls /opt/tool") == "751\nbin\n"
    succeeded(apply(host, "--undo", "--yes"))
    assert tree(host) == before
    made = as_json(host, "test", "--yes")["plan"]
    steps = {step["path"]: step["action"] for step in made["steps"] if "/tool" not in step["path"]}
    assert steps == {
        **dict.fromkeys(("/opt/file", "/opt/file/x", "/opt/link", "/opt/link/x"), "put"),
        **dict.fromkeys(("/opt/keys", "/opt/keys/one"), "delete"),
    }
    left = {part["what"]: part["why"] for part in made["left"]}
    assert left["/opt/vol"] == "something is mounted there on this system"
    assert left["/boot"] == "package scripts create it"
    assert "ssh_host_" in left["/etc/ssh"]
    assert "access control list" in left["/opt/listed"]
    assert host.sh("cat /opt/file/x /opt/link/x /opt/elsewhere/x; readlink /opt/link || true") == "2\n2\n1\n"
    succeeded(apply(host, "--undo", "--yes"))
    assert tree(host) == before
    host.sh("umount /opt/vol/inner")


@pytest.mark.modes("full")
def test_killed_in_the_middle_and_what_both_sides_have_changed(host: Machine, packages: Path) -> None:
    guard(host)
    scripts = {
        "postinst": f"#!/bin/sh\n[ ! -p {packages}/wait ] || {{ touch {packages}/ready; cat {packages}/wait; }}\n"
    }
    index(packages, Deb("to-slow", "1", {}, {"/usr/share/to-slow": "x\n"}, scripts))
    host.sh("apt-get -q update; echo host > /opt/both")
    environment = host.create()
    environment.sh("apt-get -q update", limit=BASE_LIMIT)
    environment.sh(APT, "install", "to-slow", "to-old=2", limit=BASE_LIMIT)
    environment.sh("echo own | tee -a /etc/issue /opt/both > /usr/local/own")
    before = tree(host)
    os.mkfifo(packages / "wait")
    process = host.tool.start("apply", "test", "--yes")
    wait_for((packages / "ready").exists)
    _kill_below(process.pid)
    assert "status -9" in finish(process).stderr or "137" in finish(process).stderr
    (packages / "wait").unlink()
    assert host.sh("dpkg --audit") != ""
    succeeded(apply(host, "--undo", "--yes"))
    assert host.sh("dpkg --audit") == ""
    assert {name: state for name, state in _states(host).items() if state[0] == "i"} == _BEFORE
    assert {path for path, found in tree(host).items() if before.get(path) != found} == set()
    host.sh("echo host >> /opt/both")
    refused(apply(host, "test", "--dry-run"), 1, "/opt/both has changed", "sysenv-ns diff test -- /opt/both")
    environment.sh("touch /opt/both")
    assert "/opt/both" in succeeded(apply(host, "test", "--dry-run")).stdout
    host.sh("echo host >> /etc/issue")
    refused(apply(host, "test", "--dry-run"), 1, "/etc/issue changed on both sides", "sysenv-ns rebase test")
    host.sh(APT, "install", "to-old=2")
    assert "to-old" not in succeeded(apply(host, "test", "--dry-run", "--packages")).stdout
    inside = environment.exec(str(host.tool.launcher), "apply", "test")
    refused(inside, 1, "from inside the environment")


@pytest.mark.modes("full")
def test_a_script_that_fails_does_not_stop_what_takes_it_back(host: Machine, packages: Path) -> None:
    """On the host alone: there is something that the environment has not."""
    fails = {"postinst": "#!/bin/sh\ntest ! -e /mnt/fails\n"}
    index(packages, Deb("to-fails", "1", {"Depends": "to-lib"}, {"/usr/share/to-fails": "x\n"}, fails))
    host.sh("apt-get -q update")
    environment = host.create()
    environment.sh("apt-get -q update", limit=BASE_LIMIT)
    environment.sh(APT, "install", "to-fails", "to-old=2", limit=BASE_LIMIT)
    environment.sh("echo own > /usr/local/own")
    before = tree(host)
    host.sh("touch /mnt/fails")
    refused(apply(host, "test", "--yes"), 1, "apt-get failed", "apply --undo")
    assert host.sh("dpkg --audit") != ""
    undone = succeeded(apply(host, "--undo", "--yes"))
    assert "not finished configuring" not in undone.stderr
    assert host.sh("dpkg --audit") == ""
    assert {name: state for name, state in _states(host).items() if state[0] == "i"} == _BEFORE
    assert {path for path, found in tree(host).items() if before.get(path) != found} <= {"/etc/to-lib.conf", "/etc"}
    refused(apply(host, "--undo", "--yes"), 1, "nothing to undo")


@pytest.mark.modes("full", more=("root",))
def test_random_changes_come_and_go(host: Machine) -> None:
    """Afterwards diff finds no difference but in what was left alone."""
    host.sh(HOST_FILES)
    host.create()

    @settings(max_examples=4, database=None, phases=(Phase.generate,), suppress_health_check=list(HealthCheck))
    @given(PLANS)
    def come_and_go(operations: list[tuple[str, str, str, int]]) -> None:
        environment = host.tool.environment("random")
        succeeded(host.tool.run("create", "random"))
        try:
            succeeded(environment.exec("python3", "-B", "-c", OPERATE, json.dumps(operations)))
            before = tree(host)
            made = as_json(host, "random", "--yes")
            left = {part["what"] for part in made["plan"]["left"]}
            changes = json.loads(succeeded(host.tool.run("diff", "random", "--json")).stdout)["changes"]
            paths = {change["path"] for change in changes if not change["fold"]}
            assert {path for path in paths if not left & {path, *map(str, Path(path).parents)}} == set()
            if made["done"]:
                succeeded(apply(host, "--undo", "--yes"))
            assert tree(host) == before
        finally:
            succeeded(host.tool.run("remove", "--purge", "random"))

    come_and_go()


def _kill_below(pid: int) -> None:
    """SIGKILL to all that a process has started, the youngest last: as if the machine had lost its power."""
    children = [
        int(child) for path in Path(f"/proc/{pid}/task").glob("*/children") for child in path.read_text().split()
    ]
    for child in children:
        os.kill(child, signal.SIGSTOP)
        _kill_below(child)
        os.kill(child, signal.SIGKILL)
