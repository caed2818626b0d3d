"""The plan of an apply hides nothing: whoever says yes has seen each right that it gives away, and gets no other."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import pytest
from integration.applying import APT, apply, as_json, asked, index, prepare, tree
from integration.debs import program
from integration.machines import Machine
from integration.support import BASE_LIMIT, refused, succeeded
from integration.terminals import close

_BEFORE = """
cd /opt
for name in same opened closed caps lost owned keyed; do echo 1 > $name; done
echo '# a comment' > /etc/login.defs; chmod 644 /etc/login.defs
chmod 755 caps lost; chmod 666 closed; mkdir room; setcap cap_net_raw=ep lost; ln -s there link; chmod 4755 keyed
"""
_CHANGE = """
cd /opt
umask 022
echo x > plain; echo x > open; chmod 666 open; echo x > program; chmod 755 program
mkdir usual wide drop; chmod 777 wide; chmod 1777 drop
printf '#!/bin/sh\n' > keys; chmod 4755 keys; printf '#!/bin/sh\n' > group; chmod 2755 group; ln keys keys-too
printf '#!/bin/sh\n' > able; chmod 755 able; setcap cap_setuid,cap_dac_override=ep able
printf '#!/bin/sh\n' > heir; setcap cap_kill=eip heir
setcap cap_sys_admin=ep caps
chmod 666 same; echo 2 >> opened; chmod 666 opened; chmod 640 closed; echo 2 >> lost
echo 2 >> keyed; chmod 4755 keyed
echo 'UMASK 000' >> /etc/login.defs; chmod 666 /etc/login.defs
chmod 1777 room; rm link; ln -s /home/somebody link; mkfifo pipe; chmod 666 pipe; setfattr -n user.note -v 1 plain
echo '%sudo ALL=(ALL) NOPASSWD: ALL' > /etc/sudoers.d/zz; chmod 440 /etc/sudoers.d/zz
mkdir -p /etc/cron.d /etc/ld.so.conf.d /etc/systemd/system /etc/profile.d
echo '* * * * * root true' > /etc/cron.d/zz; echo /opt/evil.so > /etc/ld.so.preload
echo /opt > /etc/ld.so.conf.d/zz.conf
printf '[Service]\nExecStart=/bin/true\n' > /etc/systemd/system/zz.service; echo true > /etc/profile.d/zz.sh
ln -s /home/somebody/rules /etc/udev
"""
# cap_kill=ep for user namespaces alone whose root is the user 33.
_VALUE = "010000032000000000000000000000000000000021000000"
_V3 = f'import os; os.setxattr("nested", "security.capability", bytes.fromhex("{_VALUE}"))'
_OWNERS = (
    f"cd /opt; chown games owned; echo x > team; chgrp games team; chmod 4775 team; echo x > nested; python3 -c '{_V3}'"
)
_MODES = {
    "/opt/open": "mode 0666",
    "/opt/program": "mode 0755",
    "/opt/wide": "mode 0777",
    "/opt/drop": "mode 1777 (sticky)",
    "/opt/keys": "mode 4755 (setuid)",
    "/opt/keys-too": "mode 4755 (setuid)",
    "/opt/group": "mode 2755 (setgid)",
    "/opt/same": "mode 0644 -> 0666",
    "/opt/opened": "mode 0644 -> 0666",
    "/opt/closed": "mode 0666 -> 0640",
    "/opt/keyed": "mode 4755 (setuid)",
    "/opt/room": "mode 0755 -> 1777 (sticky)",
    "/opt/pipe": "mode 0666",
    "/etc/login.defs": "mode 0644 -> 0666",
    "/etc/sudoers.d/zz": "mode 0440",
}
_CAPABILITIES = {
    "/opt/able": "capabilities cap_dac_override,cap_setuid=ep",
    "/opt/heir": "capabilities cap_kill=eip",
    "/opt/caps": "capabilities cap_sys_admin=ep",
    "/opt/lost": "capabilities cap_net_raw=ep -> none",
}
_WARNED = {
    "/opt/open": "everybody can write",
    "/opt/same": "everybody can write",
    "/opt/opened": "everybody can write",
    "/opt/pipe": "everybody can write",
    "/etc/login.defs": "everybody can write",
    "/opt/wide": "everybody can put files into it",
    "/opt/keys": "setuid: it runs as root",
    "/opt/keys-too": "setuid: it runs as root",
    "/opt/keyed": "setuid: it runs as root",
    "/opt/group": "setgid: it runs with the group root",
    "/opt/able": "cap_dac_override,cap_setuid=ep",
    "/opt/heir": "cap_kill=eip",
    "/opt/caps": "cap_sys_admin=ep",
    "/etc/sudoers.d/zz": "who may become root",
    "/etc/cron.d/zz": "cron runs",
    "/etc/ld.so.preload": "every program loads it",
    "/etc/ld.so.conf.d/zz.conf": "every program loads libraries",
    "/etc/systemd/system/zz.service": "systemd",
    "/etc/profile.d/zz.sh": "logins",
}
_QUIET = ("/opt/plain", "/opt/program", "/opt/usual", "/opt/drop", "/opt/closed", "/opt/lost", "/opt/room", "/opt/link")


@pytest.fixture
def host(machine: Machine, packages: Path) -> Machine:
    """A small host that has what is changed then."""
    index(packages, program("to-app"))
    prepare(machine, packages)
    machine.sh(_BEFORE)
    machine.sh("[ ! -e /etc/udev ] || rm -r /etc/udev")
    return machine


def _rows(text: str) -> dict[str, str]:
    """What the plan says of each path."""
    rows = (line.strip().split(None, 2) for line in text.splitlines() if line[:2] == "  " and line[2:3] in "+~-")
    return {row[1].rstrip("/"): "".join(row[2:]) for row in rows}


def _warnings(text: str) -> dict[str, str]:
    found: dict[str, str] = {}
    for line in text.splitlines():
        if line.startswith("warning: "):
            path, _, why = line.removeprefix("warning: ").partition(": ")
            found[path] = f"{found.get(path, '')}{why}\n"
    return found


@pytest.mark.modes("full", "single", "root")
def test_every_right_that_is_given_is_seen(host: Machine) -> None:
    """As text and as JSON; what is done then is what was seen."""
    environment = host.create()
    environment.sh(_CHANGE)
    owners = environment.tool.mode != "single"
    if owners:
        environment.sh(_OWNERS)
    text = succeeded(apply(host, "test", "--dry-run")).stdout
    assert text.startswith("warning: ")
    rows, warned = _rows(text), _warnings(text)
    made = as_json(host, "test", "--dry-run")["plan"]
    details = {step["path"]: ", ".join(step["details"]) for step in made["steps"]}
    assert {path: rows[path] for path in details} == details
    for path, words in (*_MODES.items(), *_CAPABILITIES.items()):
        assert words in details[path], path
    assert {path: details[path] for path in ("/opt/plain", "/opt/usual")} == {
        "/opt/plain": "2 B, attribute user.note added",
        "/opt/usual": "",
    }
    assert details["/opt/link"] == "-> /home/somebody"
    assert details["/opt/pipe"] == "fifo, mode 0666"
    assert "-> /home/somebody/rules" in details["/etc/udev"]
    _check_warnings(made, warned)
    assert "it is a link" in warned["/etc/udev"]
    if owners:
        assert "owner root:root -> games:root" in details["/opt/owned"]
        assert "mode 4775 (setuid), owner root:games" in details["/opt/team"]
        assert "the group games can write to it" in warned["/opt/team"]
        assert details["/opt/nested"] == "2 B, capabilities cap_kill=ep [rootid=33]"
    _check_done(host, owners)


def _check_warnings(made: dict[str, Any], warned: dict[str, str]) -> None:
    as_data: dict[str, str] = {}
    for warning in made["warnings"]:
        as_data[warning["what"]] = f"{as_data.get(warning['what'], '')}{warning['why']}\n"
    assert as_data == warned
    for path, words in _WARNED.items():
        assert words in warned[path], path
    assert not {*_QUIET} & warned.keys()


def _check_done(host: Machine, owners: bool) -> None:
    before = tree(host)
    done = as_json(host, "test", "--yes")
    assert done["done"]["skipped"] == []
    modes = {line.split()[0]: line.split()[1:] for line in host.sh("cd /opt; stat -c '%n %a %U:%G' *").splitlines()}
    for path, words in _MODES.items():
        if path.startswith("/opt/"):
            shown = [part for part in words.split() if part.isdecimal()][-1]
            assert int(modes[path[5:]][0], 8) == int(shown, 8), path
    if owners:
        assert (modes["owned"][1], modes["team"]) == ("games:root", ["4775", "root:games"])
    capabilities = host.sh("cd /opt; getcap -n *").splitlines()
    assert capabilities == [
        "able cap_dac_override,cap_setuid=ep",
        "caps cap_sys_admin=ep",
        "heir cap_kill=eip",
        *(["nested cap_kill=ep [rootid=33]"] if owners else []),
    ]
    undo = _rows(succeeded(apply(host, "--undo", "--dry-run")).stdout)
    assert undo["/opt/same"] == "mode 0666 -> 0644"
    assert undo["/opt/caps"] == "capabilities cap_sys_admin=ep -> none"
    assert undo["/opt/lost"] == "capabilities cap_net_raw=ep"
    succeeded(apply(host, "--undo", "--yes"))
    assert tree(host) == before
    assert host.sh("cd /opt; getcap *") == "lost cap_net_raw=ep\n"


@pytest.mark.modes("root")
def test_a_capability_that_goes_alone_is_seen(host: Machine) -> None:
    """Where the overlay shows the host's own: in others an environment has none of these."""
    environment = host.create()
    environment.sh("setcap -r /opt/lost")
    rows = _rows(succeeded(apply(host, "test", "--dry-run")).stdout)
    assert rows == {"/opt/lost": "capabilities cap_net_raw=ep -> none"}


_HOOK = 'DPkg::Pre-Invoke { "touch /mnt/hooked"; };\n// \x1b[2K\r\n'
_OF_APT = """
cd /etc/apt
mkdir -p trusted.gpg.d auth.conf.d
printf %s "$1" > apt.conf.d/zz
ln apt.conf.d/zz apt.conf.d/zz2
ln -s /opt/c apt.conf.d/zl
head -c 99 /dev/urandom > trusted.gpg.d/k.gpg
echo machine x password geheim > auth.conf.d/own.conf
"""


@pytest.mark.modes("full")
@pytest.mark.parametrize("option", ["--packages", "--files"])
def test_what_apt_obeys_at_once_is_shown_with_its_text(host: Machine, option: str) -> None:
    """It is there before apt runs, whatever is asked for."""
    environment = host.create()
    environment.sh("apt-get -q update", limit=BASE_LIMIT)
    environment.sh(APT, "install", "to-app", limit=BASE_LIMIT)
    environment.sh(_OF_APT, _HOOK)
    text = succeeded(apply(host, "test", "--dry-run", option)).stdout
    shown = '      | DPkg::Pre-Invoke { "touch /mnt/hooked"; };\n      | // \\x1b[2K\\r\n'
    assert text.count(shown) == 2
    assert "\x1b" not in text
    assert "geheim" not in text
    assert "      (not shown)\n" in text
    warned = _warnings(text)
    assert "apt obeys it at once" in warned["/etc/apt/apt.conf.d/zz"]
    assert "it is a link" in warned["/etc/apt/apt.conf.d/zl"]
    assert "apt trusts" in warned["/etc/apt/trusted.gpg.d/k.gpg"]
    made = as_json(host, "test", "--dry-run", option)["plan"]
    texts = {step["path"]: step["text"] for step in made["steps"]}
    assert (texts["/etc/apt/apt.conf.d/zz"], texts["/etc/apt/auth.conf.d/own.conf"]) == (_HOOK, None)
    assert made["commands"][0][1:3] == ["--quiet", "update"]
    environment.sh("cd /etc/apt/apt.conf.d; head -c 300000 /dev/zero >> zz; rm zz2 zl ../trusted.gpg.d/k.gpg")
    refused(apply(host, "test", "--dry-run", option), 1, "/etc/apt/apt.conf.d/zz is too long to show")
    environment.sh('printf %s "$1" > /etc/apt/apt.conf.d/zz', _HOOK)
    succeeded(apply(host, "test", "--yes", "--packages"))
    host.sh("test -e /mnt/hooked; to-app")  # it is as the warning says


_RIGHTS = """
cd /opt
chmod 6777 tool here
setcap cap_setuid=ep text
chown games text
setfattr -n user.x -v y text
"""
_SEEN = "cd /opt; stat -c '%n %a %U' tool text here; getcap tool text here; getfattr tool text here"
_SWAPS = (
    "echo 2 > more",
    "rm more; ln -s /etc/shadow more",
    "rm more; mkdir more",
    "rm more",
    "cp tool more; chmod 4755 more",
)


@pytest.mark.modes("full")
def test_what_changes_while_it_is_asked_about_is_not_done(host: Machine) -> None:
    """Rights are those that were shown; a content is refused that was not."""
    environment = host.create()
    environment.sh("cd /opt; printf '#!/bin/sh\n' > tool; chmod 755 tool; echo 1 > text; mkdir here")
    for swap in _SWAPS:
        environment.sh("cd /opt; rm -rf more; echo 1 > more")
        program = asked(host)
        environment.sh(f"cd /opt; {swap}")
        program.sendline("y")
        close(program)
        assert program.exitstatus == 1, swap
        assert "more" not in host.sh("ls /opt")
    environment.sh("rm -f /opt/more")
    program = asked(host)
    environment.sh(_RIGHTS)
    program.sendline("y")
    close(program)
    assert program.exitstatus == 0
    assert host.sh(_SEEN) == "tool 755 root\ntext 644 root\nhere 755 root\n"
