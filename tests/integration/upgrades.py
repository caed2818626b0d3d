"""Packages of a small host in two versions, what environments do to them in between, and whether all fits then."""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Mapping
from dataclasses import replace
from pathlib import Path
from typing import Any

from .debs import Deb
from .machines import Machine
from .support import BASE_LIMIT, Environment, succeeded

# What dpkg's md5sums say against the files, diverted ones by their other name.
_VERIFY = r"""
cd /
info=/var/lib/dpkg/info
cat $info/*.md5sums | md5sum --quiet --check 2>/dev/null | sed 's/: FAILED.*//' | sort -u | while read -r path; do
    for sums in $(grep -lF "  $path" $info/*.md5sums); do
        name=$(basename "$sums" .md5sums)
        number=$(cut -c 35- "$sums" | grep -nxF "$path" | cut -d : -f 1)
        [ -n "$number" ] || continue  # another path only begins like this
        wanted=$(sed -n "${number}s/ .*//p" "$sums")
        grep -qxF "/$path" "$info/$name.list" || continue  # another package has taken it over
        real=$(dpkg-divert --truename "/$path")
        [ "$(dpkg-divert --listpackage "/$path")" != "$name" ] || real=/$path
        [ "$wanted" = "$(md5sum < "$real" 2>/dev/null | cut -c 1-32)" ] || echo "$name /$path"
    done
done
"""


_USER = "#!/bin/sh\nadduser --system --group --no-create-home --home /nonexistent {0} --quiet\n"


def _deb(name: str, version: str, files: Mapping[str, str], scripts: Mapping[str, str] | None = None) -> Deb:
    """A package with checksums; each file's content tells its version."""
    contents = {path: text or f"{path} {version}\n" for path, text in files.items()}
    sums = "".join(
        f"{hashlib.md5(text.encode()).hexdigest()}  {path[1:]}\n"
        for path, text in contents.items()
        if not path.startswith("/etc/")
    )
    return Deb(f"rb-{name}", version, {}, contents, {"md5sums": sums, **(scripts or {})})


def simple(name: str, version: str, *more: str, **fields: str) -> Deb:
    """A package with a program, data and a configuration file, and further files."""
    files = dict.fromkeys((f"/usr/bin/rb-{name}", f"/usr/share/rb-{name}/data", *more), "")
    deb = _deb(name, version, {**files, f"/etc/rb-{name}.conf": f"setting {version}\n"})
    return replace(deb, fields=fields)


def _alternative(name: str, version: str, priority: int) -> Deb:
    path = f"/usr/bin/rb-choice-{name}"
    postinst = f"#!/bin/sh\nupdate-alternatives --install /usr/bin/rb-choice rb-choice {path} {priority}\n"
    return _deb(f"choice-{name}", version, {path: ""}, {"postinst": postinst})


def owning(name: str, version: str, *paths: str, **fields: str) -> Deb:
    """A package with these files alone."""
    return replace(_deb(name, version, dict.fromkeys(paths, "")), fields=fields)


def reowning(version: str, user: str) -> Deb:
    """A package that has its data, and what it ships there, owned by a system user."""
    make = "#!/bin/sh\n" if user == "root" else _USER.format(user)
    postinst = f"{make}echo data > /var/lib/rb-reowned/data\nchown -R {user}:{user} /var/lib/rb-reowned\n"
    return _deb("reowned", version, {"/var/lib/rb-reowned/shipped": ""}, {"postinst": postinst})


def asking(name: str, version: str, *questions: str) -> Deb:
    """A package that asks by way of debconf; the default answer is its version."""
    form = "Template: {}\nType: string\nDefault: {}\nDescription: of a test\n"
    begin = "#!/bin/sh\nset -e\nexport DEBIAN_FRONTEND=noninteractive\n. /usr/share/debconf/confmodule\n"
    scripts = {
        "templates": "\n".join(form.format(question, version) for question in questions),
        "config": begin + "".join(f"db_input high {question} || :\n" for question in questions) + "db_go || :\n",
        "postinst": f"{begin}db_stop\n",
        "postrm": f'{begin}[ "$1" != purge ] || db_purge\n',
    }
    return _deb(name, version, {f"/usr/share/rb-{name}/data": ""}, scripts)


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
HOST = (
    simple("plain", "1", "/usr/share/rb-plain/old"),
    simple("upgraded", "1"),
    simple("removed", "1"),
    simple("purged", "1"),
    simple("both", "1", "/usr/share/rb-both/old"),
    simple("leaving", "1"),
    simple("held", "1"),
    simple("again", "1", "/usr/share/rb-again/old"),
    simple("edited", "1"),
    simple("diverted", "1"),
    _alternative("a", "1", 10),
    _WATCHER,
    _deb("daemon", "1", {"/usr/sbin/rb-daemon": ""}, {"postinst": _USER.format("rb-host1")}),
)
HOST_LATER = (
    simple("plain", "2", "/usr/share/rb-plain/new", "/usr/share/rb-fresh/file"),
    simple("upgraded", "3", "/usr/share/rb-upgraded/new"),
    simple("removed", "2", "/usr/share/rb-removed/new"),
    simple("purged", "2", "/usr/share/rb-purged/new"),
    simple("both", "2"),
    simple("held", "2"),
    simple("again", "2", "/usr/share/rb-again/new"),
    simple("edited", "2"),
    simple("diverted", "2"),
    simple("new", "1"),
    _alternative("a", "2", 30),
    _deb("noise", "1", {"/usr/share/rb-watched/host": ""}),
    _deb("daemon", "2", {"/usr/sbin/rb-daemon": ""}, {"postinst": _USER.format("rb-host2")}),
)
OWN_UPGRADED, OWN_BOTH = simple("upgraded", "2"), simple("both", "2")
ADDED = (simple("added", "1"), _deb("watched", "1", {"/usr/share/rb-watched/own": ""}), _alternative("b", "1", 20))
DIVERTER = _deb(
    "diverter",
    "1",
    {"/usr/bin/rb-diverted": "mine\n"},
    {
        "preinst": "#!/bin/sh\ndpkg-divert --package rb-diverter --rename --add /usr/bin/rb-diverted\n",
        "postrm": "#!/bin/sh\ndpkg-divert --package rb-diverter --rename --remove /usr/bin/rb-diverted\n",
    },
)
SERVICE = _deb(
    "service",
    "1",
    {"/usr/sbin/rb-service": "", "/lib/systemd/system/rb-service.service": "[Service]\nExecStart=/bin/true\n"},
    {"postinst": _USER.format("rb-own")},
)


def upgrade(machine: Machine, packages: Path, *debs: Deb) -> None:
    """Install packages on the small host."""
    script = 'mkdir -p /var/lib/dpkg/updates /var/lib/dpkg/alternatives /var/log; dpkg --force-confold -i "$@"'
    machine.sh(script, *(str(deb.build(packages)) for deb in debs))


def install(environment: Environment, packages: Path, *debs: Deb) -> None:
    """dpkg -i in an environment."""
    environment.sh('dpkg -i "$@"', *(str(deb.build(packages)) for deb in debs), limit=BASE_LIMIT)


def rebase(environment: Environment, *options: str) -> dict[str, Any]:
    """What `rebase --json` says."""
    result = succeeded(environment.tool.run("rebase", *options, "--json", environment.name, limit=BASE_LIMIT))
    data = json.loads(result.stdout)
    assert isinstance(data, dict)
    return data


def assert_up_to_date(environment: Environment) -> None:
    """A rebase has nothing to do."""
    operations = rebase(environment)["operations"]
    assert operations == [], operations


def versions(environment: Environment) -> dict[str, str]:
    """The states and versions of our packages, without their prefix."""
    lines = environment.sh("dpkg-query -W -f '${Package} ${db:Status-Abbrev}${Version}\n' 'rb-*'").splitlines()
    return {name[3:]: state for name, _, state in (line.partition(" ") for line in lines)}


def assert_sound(machine: Machine, environment: Environment) -> None:
    """dpkg and apt are content, and each package has the files that it should have."""
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


def first(machine: Machine, packages: Path, *options: str) -> Environment:
    """A host with the first versions, and an environment of it."""
    upgrade(machine, packages, *HOST)
    machine.sh("dpkg --triggers-only --pending")  # those of the machine's own packages
    environment = machine.create(*options)
    environment.sh("mkdir -p /var/lib/apt/lists/partial /var/cache/apt/archives/partial")
    return environment


def later(machine: Machine, packages: Path) -> None:
    """The host has the later versions."""
    upgrade(machine, packages, *HOST_LATER)
    machine.sh("dpkg --purge rb-leaving")
