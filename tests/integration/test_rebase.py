"""rebase: the packages of a small host are upgraded under environments, which are carried over."""

from __future__ import annotations

import hashlib
import json
import time
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest

from .debs import Deb
from .machines import Machine
from .support import BASE_LIMIT, Environment, succeeded

pytestmark = pytest.mark.modes("full", "single")

# What dpkg's md5sums say against the files, diverted ones by their other name.
_VERIFY = r"""
cd /
for sums in /var/lib/dpkg/info/*.md5sums; do
    name=$(basename "$sums" .md5sums)
    md5sum --quiet --check "$sums" 2>/dev/null | sed 's/: FAILED.*//' | while read -r path; do
        real=$(dpkg-divert --truename "/$path")
        wanted=$(grep -F "  $path" "$sums" | cut -c 1-32)
        [ "$(dpkg-divert --listpackage "/$path")" != "$name" ] || real=/$path
        [ "$wanted" = "$(md5sum < "$real" 2>/dev/null | cut -c 1-32)" ] || echo "$name /$path"
    done
done
"""


def _deb(name: str, version: str, files: Mapping[str, str], scripts: Mapping[str, str] | None = None) -> Deb:
    """A package with checksums; each file's content tells its version."""
    contents = {path: text or f"{path} {version}\n" for path, text in files.items()}
    sums = "".join(
        f"{hashlib.md5(text.encode()).hexdigest()}  {path[1:]}\n"
        for path, text in contents.items()
        if not path.startswith("/etc/")
    )
    return Deb(f"rb-{name}", version, {}, contents, {"md5sums": sums, **(scripts or {})})


def _simple(name: str, version: str, *more: str, **fields: str) -> Deb:
    """A package with a program, data and a configuration file, and further files."""
    files = dict.fromkeys((f"/usr/bin/rb-{name}", f"/usr/share/rb-{name}/data", *more), "")
    deb = _deb(name, version, {**files, f"/etc/rb-{name}.conf": f"setting {version}\n"})
    return replace(deb, fields=fields)


def _alternative(name: str, version: str, priority: int) -> Deb:
    path = f"/usr/bin/rb-choice-{name}"
    postinst = f"#!/bin/sh\nupdate-alternatives --install /usr/bin/rb-choice rb-choice {path} {priority}\n"
    return _deb(f"choice-{name}", version, {path: ""}, {"postinst": postinst})


_WATCHER = _deb(
    "watcher",
    "1",
    {"/usr/bin/rb-watcher": ""},
    {
        "triggers": "interest-noawait /usr/share/rb-watched\n",
        "postinst": "#!/bin/sh\nmkdir -p /var/cache/rb /usr/share/rb-watched\n"
        "ls /usr/share/rb-watched > /var/cache/rb/list\n",
    },
)
_USER = "#!/bin/sh\nadduser --system --group --no-create-home --home /nonexistent {0} --quiet\n"
_HOST = (
    _simple("plain", "1", "/usr/share/rb-plain/old"),
    _simple("upgraded", "1"),
    _simple("removed", "1"),
    _simple("purged", "1"),
    _simple("both", "1", "/usr/share/rb-both/old"),
    _simple("leaving", "1"),
    _simple("held", "1"),
    _simple("again", "1", "/usr/share/rb-again/old"),
    _simple("edited", "1"),
    _simple("diverted", "1"),
    _alternative("a", "1", 10),
    _WATCHER,
    _deb("daemon", "1", {"/usr/sbin/rb-daemon": ""}, {"postinst": _USER.format("rb-host1")}),
)
_HOST_LATER = (
    _simple("plain", "2", "/usr/share/rb-plain/new", "/usr/share/rb-fresh/file"),
    _simple("upgraded", "3", "/usr/share/rb-upgraded/new"),
    _simple("removed", "2", "/usr/share/rb-removed/new"),
    _simple("purged", "2", "/usr/share/rb-purged/new"),
    _simple("both", "2"),
    _simple("held", "2"),
    _simple("again", "2", "/usr/share/rb-again/new"),
    _simple("edited", "2"),
    _simple("diverted", "2"),
    _simple("new", "1"),
    _alternative("a", "2", 30),
    _deb("noise", "1", {"/usr/share/rb-watched/host": ""}),
    _deb("daemon", "2", {"/usr/sbin/rb-daemon": ""}, {"postinst": _USER.format("rb-host2")}),
)
_OWN_UPGRADED, _OWN_BOTH = _simple("upgraded", "2"), _simple("both", "2")
_ADDED = (_simple("added", "1"), _deb("watched", "1", {"/usr/share/rb-watched/own": ""}), _alternative("b", "1", 20))
_DIVERTER = _deb(
    "diverter",
    "1",
    {"/usr/bin/rb-diverted": "mine\n"},
    {"preinst": "#!/bin/sh\ndpkg-divert --package rb-diverter --rename --add /usr/bin/rb-diverted\n"},
)
_SERVICE = _deb(
    "service",
    "1",
    {"/usr/sbin/rb-service": "", "/lib/systemd/system/rb-service.service": "[Service]\nExecStart=/bin/true\n"},
    {"postinst": _USER.format("rb-own")},
)


@pytest.fixture
def packages(shared: Path) -> Path:
    """A directory for packages that all can read."""
    path = shared / f"rebase-{time.monotonic_ns()}"
    path.mkdir(mode=0o755)
    return path


def _upgrade(machine: Machine, packages: Path, *debs: Deb) -> None:
    """Install packages on the small host."""
    script = 'mkdir -p /var/lib/dpkg/updates /var/lib/dpkg/alternatives /var/log; dpkg --force-confold -i "$@"'
    machine.sh(script, *(str(deb.build(packages)) for deb in debs))


def _install(environment: Environment, packages: Path, *debs: Deb) -> None:
    environment.sh('dpkg -i "$@"', *(str(deb.build(packages)) for deb in debs), limit=BASE_LIMIT)


def _rebase(environment: Environment, *options: str) -> dict[str, Any]:
    result = succeeded(environment.tool.run("rebase", *options, "--json", environment.name, limit=BASE_LIMIT))
    data = json.loads(result.stdout)
    assert isinstance(data, dict)
    return data


def _versions(environment: Environment) -> dict[str, str]:
    lines = environment.sh("dpkg-query -W -f '${Package} ${db:Status-Abbrev}${Version}\n' 'rb-*'").splitlines()
    return {name[3:]: state for name, _, state in (line.partition(" ") for line in lines)}


def _assert_sound(machine: Machine, environment: Environment) -> None:
    assert environment.sh("dpkg --audit") == ""
    environment.sh("apt-get check -q")
    # What the host itself lacks of its packages is not there inside.
    broken = set(environment.sh(_VERIFY, limit=BASE_LIMIT).splitlines())
    assert broken - set(machine.sh(_VERIFY).splitlines()) == set()
    assert _lists(environment.sh) <= _lists(machine.sh)  # the machine has some without a package
    environment.sh("test -z \"$(find /etc/alternatives -xtype l -name 'rb-*')\"")


def _lists(sh: Callable[..., str]) -> set[str]:
    """The lists that belong to no package."""
    lists = sh("cd /var/lib/dpkg/info; ls *.list | sed 's/.list$//'").split()
    known = [line.split(" ") for line in sh("dpkg-query -W -f '${binary:Package} ${Multi-Arch}\n'").splitlines()]
    stems = {name if multi == "same" else name.partition(":")[0] for name, multi in known}
    assert stems <= set(lists)
    return set(lists) - stems


def _first(machine: Machine, packages: Path) -> Environment:
    _upgrade(machine, packages, *_HOST)
    environment = machine.create()
    environment.sh("mkdir -p /var/lib/apt/lists/partial /var/cache/apt/archives/partial")
    return environment


def _later(machine: Machine, packages: Path) -> None:
    _upgrade(machine, packages, *_HOST_LATER)
    machine.sh("dpkg --purge rb-leaving")


def test_added_packages_stay_and_the_host_moves_below(machine: Machine, packages: Path) -> None:
    environment = _first(machine, packages)
    _install(environment, packages, *_ADDED, _DIVERTER)
    environment.sh("echo own > /usr/local/own; mkdir -p /opt/own; echo 1 > /opt/own/file")
    _later(machine, packages)
    entered = environment.exec("true")
    assert "sysenv-ns rebase test" in succeeded(entered).stderr
    assert "rebase" not in succeeded(environment.exec("true")).stderr  # said once
    status = environment.tool.status("test")
    assert "rb-plain" in [change["name"] for change in status["drift"]["changed"]]
    assert "drifted" in succeeded(environment.tool.run("list")).stdout
    before = _versions(environment)
    _rebase(environment, "--dry-run")
    assert _versions(environment) == before
    _rebase(environment)
    found = _versions(environment)
    assert found["plain"] == "ii 2"
    assert found["new"] == found["added"] == "ii 1"
    assert "leaving" not in found
    _assert_sound(machine, environment)
    assert environment.sh("cat /usr/bin/rb-plain /etc/rb-plain.conf") == "/usr/bin/rb-plain 2\nsetting 2\n"
    assert environment.sh("cat /usr/bin/rb-diverted /usr/bin/rb-diverted.distrib") == "mine\n/usr/bin/rb-diverted 2\n"
    assert environment.sh("readlink /etc/alternatives/rb-choice") == "/usr/bin/rb-choice-a\n"
    assert environment.sh("update-alternatives --list rb-choice").split() == [
        "/usr/bin/rb-choice-a",
        "/usr/bin/rb-choice-b",
    ]
    assert environment.sh("cat /var/cache/rb/list").split() == ["host", "own"]
    assert environment.sh("cat /usr/local/own /opt/own/file") == "own\n1\n"
    environment.sh("dpkg --purge rb-added rb-diverter rb-watched rb-choice-b")
    assert environment.sh("cat /usr/bin/rb-diverted") == "/usr/bin/rb-diverted 2\n"
    assert not environment.tool.status("test")["drift"]["changed"]
    assert not _rebase(environment)["packages"]


def test_changed_packages_stay_as_the_environment_has_them(machine: Machine, packages: Path) -> None:
    environment = _first(machine, packages)
    _install(environment, packages, _OWN_UPGRADED, _OWN_BOTH)
    again = next(deb for deb in _HOST if deb.name == "rb-again")
    _install(environment, packages, again)
    environment.sh("dpkg -r rb-removed; dpkg -P rb-purged; echo rb-held hold | dpkg --set-selections")
    _later(machine, packages)
    result = _rebase(environment)
    assert {d["key"]: d["why"] for d in result["packages"]}["rb-held"] == "updated, hold"
    found = _versions(environment)
    assert (found["upgraded"], found["both"], found["again"]) == ("ii 2", "ii 2", "ii 2")
    assert (found["removed"], found["held"]) == ("rc 1", "hi 2")
    assert "purged" not in found
    _assert_sound(machine, environment)
    assert environment.sh("ls -A /usr/share/rb-upgraded; cat /etc/rb-upgraded.conf") == "data\nsetting 2\n"
    assert environment.sh("ls -A /usr/share/rb-both /usr/share/rb-again").split() == [
        *("/usr/share/rb-again:", "data", "new", "/usr/share/rb-both:", "data")
    ]
    assert (
        environment.sh("ls -d /usr/share/rb-removed /usr/share/rb-purged /usr/bin/rb-removed 2>&1 || :").count("No")
        == 3
    )
    assert environment.sh("cat /etc/rb-removed.conf") == "setting 1\n"
    upper = Path(environment.tool.status("test")["path"], "upper")
    assert not (upper / "usr/bin/rb-both").exists()
    assert not (upper / "usr/bin/rb-again").exists()


def test_users_services_and_edited_files_stay(machine: Machine, packages: Path) -> None:
    environment = _first(machine, packages)
    _install(environment, packages, _SERVICE)
    environment.sh("""
        echo own >> /etc/rb-edited.conf; echo own >> /etc/rb-plain.conf; echo own >> /etc/rb-held.conf
        mkdir -p /etc/systemd/system/multi-user.target.wants
        ln -s /lib/systemd/system/rb-service.service /etc/systemd/system/multi-user.target.wants/
        touch /var/lib/rb-own; chmod 700 /usr/bin/rb-held
    """)
    machine.sh("echo host >> /etc/rb-edited.conf")  # both edit it, and dpkg keeps the host's
    owner = "rb-own" if environment.tool.mode == "full" else "root"
    environment.sh('chown "$1" /var/lib/rb-own', owner)
    _later(machine, packages)
    _rebase(environment)
    _assert_sound(machine, environment)
    assert (
        environment.sh("cat /etc/rb-edited.conf /etc/rb-edited.conf.dpkg-dist") == "setting 1\nown\nsetting 1\nhost\n"
    )
    assert environment.sh("cat /usr/bin/rb-held; stat -c %a /usr/bin/rb-held") == "/usr/bin/rb-held 2\n700\n"
    names = environment.sh("getent passwd | cut -d: -f1,3 | grep rb-").split()
    ids = dict(name.split(":") for name in names)
    assert set(ids) == {"rb-host1", "rb-host2", "rb-own"}
    assert len(set(ids.values())) == 3
    assert environment.sh("getent group | cut -d: -f1 | grep rb- | sort").split() == sorted(ids)
    assert environment.sh("stat -c %U /var/lib/rb-own") == f"{owner}\n"
    environment.sh("test -L /etc/systemd/system/multi-user.target.wants/rb-service.service; pwck -qr; grpck -r")
