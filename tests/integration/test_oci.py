"""export --format oci: an image is what the environment shows, holds no secrets of the host, and runs with podman."""

from __future__ import annotations

import hashlib
import json
import os
import signal
import stat
import struct
import tarfile
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest

from . import images
from .debs import program
from .images import Image
from .machines import Machine
from .support import APT_LIMIT, BASE_LIMIT, Environment, end, finish, refused, sleeper, succeeded, wait_for

# On the host: files with several names, private ones, and what tells which machine it is.
_HOST = r"""
mkdir -p /opt/host/private /etc/ssl/private /var/log/app /var/lib/dbus /var/cache/apt/archives
head -c 2000000 /dev/urandom > /opt/host/large; ln /opt/host/large /opt/host/large-2
echo host-secret > /etc/ssl/private/key; chmod 710 /etc/ssl/private
echo host-secret > /opt/host/private/open; chmod 750 /opt/host/private; chgrp "$1" /opt/host/private
echo host-secret > /etc/secret; chmod 640 /etc/secret; chgrp "$1" /etc/secret; echo shown > /etc/shown
echo host-secret > /var/log/app/log; echo host-secret > /root/key
echo host-secret > /var/cache/apt/archives/cached_1_all.deb; echo host-secret > /var/cache/apt/pkgcache.bin
echo host-secret > /etc/machine-id; echo host-secret > /etc/hostname; echo host-secret > /var/lib/dbus/machine-id
"""
# In the environment: all types, owners, names and attributes; changes and deletions of the host's files.
_CHANGES = r"""
mkdir -p /opt/o/deep; cd /opt/o
echo one > file; ln file link; ln -s file symlink; mkfifo fifo; chown 33:33 deep; chmod 2750 deep
echo own > private; chmod 600 private; cp /bin/true setuid; chmod 4755 setuid; : > empty; truncate -s 3M sparse
setfattr -n user.note -v text file; cp /bin/true capable; setfattr -n security.capability -v "$1" capable
echo listed > listed; setfattr -n system.posix_acl_access -v "$2" listed
touch "$(printf 'new\nline')" "$(printf 'b\377d')" "$(printf '\303\251')" -- '-dash = %' .wh.whiteout
mkdir -p "$(printf '%0120d/%0120d' 1 2)"; echo deep > "$(printf '%0120d/%0120d/file' 1 2)"
ln -s "$(printf '%0150d' 3)" long; touch -d @-86400 old; touch -d @99999999999 new
rm -r /usr/share/common-licenses; echo mine > /usr/share/doc/mine; rm /etc/issue; echo >> /usr/bin/ldd
rm -r /etc/apt; mkdir /etc/apt; echo own > /etc/apt/own; echo own > /root/own; chmod 711 /usr/share/doc/bash
echo log > /var/log/own
"""
# capabilities(7): version 2, effective, CAP_NET_RAW. In a namespace the kernel keeps it as version 3.
_CAPABILITY = bytes.fromhex("0100000200200000000000000000000000000000")
_NO_ID = 2**32 - 1
# posix_acl_xattr.h: version 2; owner, user 33, group, mask, others, each with its tag, permissions and id
_ACL = struct.pack(
    "<I" + 5 * "HHI", 2, *(1, 6, _NO_ID), *(2, 6, 33), *(4, 4, _NO_ID), *(16, 6, _NO_ID), *(32, 4, _NO_ID)
)
_ACL_OF_NOBODY = _ACL[:12] + _ACL[20:]  # in the single map, where there is no user 33
_TREES = ("/usr", "/opt", "/etc", "/root", "/var/lib", "/var/log")
_PICTURE = r"""find "$@" -printf '%p\0%y %m %U:%G %Ts %i\0%l\0'"""
_SUMS = 'find "$@" -type f -print0 | xargs -0 sha256sum -z'
_EMPTY = hashlib.sha256().hexdigest()
_SECRET = hashlib.sha256(b"host-secret\n").hexdigest()
# What the tool has added, and what is not what it is inside.
_NOT_THERE = (
    *("/usr/lib/sysenv-ns", "/etc/debian_chroot", "/etc/sudoers.d/sysenv-ns", "/etc/profile.d/zz-sysenv-ns.sh"),
    "/var/lib/dbus/machine-id",
)
_MADE_THERE = ("/etc/machine-id", "/etc/hostname", "/etc/hosts", "/etc/resolv.conf")
_OTHERWISE = (*_MADE_THERE, "/etc/environment", "/etc/localtime", "/etc/passwd")
_OF_THE_TOOL = ("/etc/tmpfiles.d/", "/etc/apt/apt.conf.d/")


def _export(environment: Environment, *options: str) -> dict[str, Any]:
    call = ("export", environment.name, str(_file(environment)), "--format", "oci", "--json", "--force")
    result = environment.tool.run(*call, *options, limit=BASE_LIMIT)
    data = json.loads(succeeded(result).stdout)
    assert isinstance(data, dict)
    return data


def _file(environment: Environment) -> Path:
    return environment.tool.account.home / "image.tar"


def _picture(environment: Environment) -> tuple[dict[str, tuple[str, ...]], dict[str, str]]:
    """What find(1) says of each path, with where a link leads to, and the sums of all regular files."""
    fields = environment.sh(_PICTURE, *_TREES).split("\0")[:-1]
    entries = {path: (*facts.split(), link) for path, facts, link in zip(*[iter(fields)] * 3, strict=True)}
    rows = environment.sh(_SUMS, *_TREES).split("\0")[:-1]
    return entries, {path: total for total, path in (row.split("  ", 1) for row in rows)}


def _facts(member: tarfile.TarInfo, image: Image, entries: dict[str, tuple[str, ...]]) -> tuple[str, ...]:
    """A member in the words of find(1); of a hard link those of the file that it is another name of."""
    if member.islnk():
        assert entries[f"/{member.linkname}"][4] == entries[f"/{member.name}"][4]  # the inode
        member = image.members[f"/{member.linkname}"]
    kinds = {tarfile.REGTYPE: "f", tarfile.SYMTYPE: "l", tarfile.DIRTYPE: "d", tarfile.FIFOTYPE: "p"}
    return kinds[member.type], f"{member.mode:o}", f"{member.uid}:{member.gid}", str(int(member.mtime)), member.linkname


@pytest.mark.modes("full", "single", more=("root",))
def test_an_image_is_what_the_environment_shows(machine: Machine) -> None:
    machine.sh(_HOST, str(machine.tool.account.gid))
    environment = machine.create()
    environment.sh(_CHANGES, f"0x{_CAPABILITY.hex()}", f"0x{_ACL.hex()}")
    result = _export(environment)
    entries, sums = _picture(environment)
    image = images.read(_file(environment))
    assert (image.name, image.digest) == (result["image"], result["digest"]) == ("localhost/test:latest", image.digest)
    assert result["left_out"] == ["/opt/o/.wh.whiteout"]
    withheld = set(result["withheld"])
    assert {"/etc/shadow", "/etc/secret", "/etc/ssl/private/", "/opt/host/private/", "/root/"} <= withheld
    hidden = tuple(path for path in withheld if path.endswith("/"))
    for path, (kind, mode, owner, seconds, _, link) in entries.items():
        if _is_left_out(path, hidden) or kind not in "fdlp":
            assert path not in image.members
            continue
        if path in _OTHERWISE or path.startswith(_OF_THE_TOOL):
            continue
        shown = _facts(image.members[path], image, entries)
        assert shown == (kind, shown[1] if kind == "l" else mode, owner, seconds, link), path
        if kind == "f":
            logged = path.startswith("/var/log/") and path != "/var/log/own"
            assert image.sum(path) == (_EMPTY if logged else sums[path]) or path in withheld
    assert {p for p in image.members if p.startswith(tuple(f"{t}/" for t in _TREES))} <= entries.keys()
    _is_of_no_machine(image)
    assert image.members["/opt/o/file"].pax_headers["SCHILY.xattr.user.note"] == "text"
    attributes = image.members["/opt/o/capable"].pax_headers
    assert os.fsencode(attributes["SCHILY.xattr.security.capability"]) == _CAPABILITY
    listed = image.members["/opt/o/listed"].pax_headers.get("SCHILY.xattr.system.posix_acl_access", "")
    assert os.fsencode(listed) == (_ACL_OF_NOBODY if machine.tool.mode == "single" else _ACL)


def _is_left_out(path: str, hidden: tuple[str, ...]) -> bool:
    if path == "/root/own":
        return False
    return path.startswith((*hidden, *_NOT_THERE)) or "/.wh." in path


def _is_of_no_machine(image: Image) -> None:
    """Nothing that is the host's own, and what whoever runs it puts there."""
    assert _SECRET not in image.sums.values()
    assert "/var/cache/apt/archives" in image.members
    assert not {"/var/cache/apt/archives/cached_1_all.deb", "/var/cache/apt/pkgcache.bin"} & image.members.keys()
    assert not [path for path, member in image.members.items() if member.issym() and "run/host/" in member.linkname]
    for name in ("dev", "home", "mnt", "proc", "run", "sys", "tmp", "var/tmp"):
        assert image.members[f"/{name}"].isdir()
        assert not [path for path in image.members if path.startswith(f"/{name}/")]
    assert {path: image.sum(path) for path in _MADE_THERE if path in image.members}.items() <= {
        (path, _EMPTY) for path in _MADE_THERE
    }
    assert stat.filemode(image.members["/tmp"].mode) == "?rwxrwxrwt"
    assert image.config["config"]["Cmd"] == ["/bin/bash"]


@pytest.mark.modes("full")
def test_the_same_state_is_the_same_image(machine: Machine) -> None:
    environment = machine.create()
    environment.sh("echo one > /opt/file")
    first = _export(environment)
    refused(machine.tool.run("export", "test", str(_file(environment)), "--format", "oci"), 1, "exists", "--force")
    assert _export(environment) == first
    succeeded(machine.tool.run("snapshot", "test"))
    assert _export(environment)["digest"] == first["digest"]
    environment.sh("echo two > /opt/file")
    assert _export(environment)["digest"] != first["digest"]
    assert stat.S_IMODE(_file(environment).stat().st_mode) == 0o600
    session = sleeper(environment)
    try:
        refused(machine.tool.run("export", "test", str(_file(environment)), "--format", "oci", "--force"), 1, "running")
    finally:
        end(session)


@pytest.mark.modes("full", more=("single", "root"))
def test_the_second_image_of_a_host_costs_its_changes(machine: Machine) -> None:
    """Its other layers are the same; what it deleted is hidden in them, and in one layer not there at all."""
    machine.sh(_HOST, str(machine.tool.account.gid))
    one, other = machine.create(), machine.tool.environment("other")
    succeeded(machine.tool.run("create", "other", *machine.tool.options))
    one.sh("echo one > /opt/one; echo one > /etc/hostname")
    succeeded(machine.tool.run("snapshot", "test"))
    one.sh("echo more > /opt/more")
    other.sh("rm /opt/host/large; rm -r /usr/share/common-licenses; chmod 700 /usr/share/doc; mv /etc/issue /etc/other")
    _export(one)
    first = images.read(_file(one))
    _export(other)
    second = images.read(_file(other))
    *below, top = second.layers
    assert below == [*first.layers][:-1]
    assert second.sizes[top] <= sum(first.sizes.values()) * 0.05
    whiteouts = {path for path in second.layers[top] if "/.wh." in path}
    assert whiteouts == {"/opt/host/.wh.large", "/usr/share/.wh.common-licenses", "/etc/.wh.issue"}
    assert stat.S_IMODE(second.members["/usr/share/doc"].mode) == 0o700
    assert {"/opt/one", "/opt/more"} <= first.layers[[*first.layers][-1]].keys()
    shown = {path: second.sums.get(path) for path in second.members}
    _export(other, "--squash")
    squashed = images.read(_file(other))
    assert {path: squashed.sums.get(path) for path in squashed.members} == shown
    assert len(squashed.layers) == 1
    succeeded(machine.tool.run("remove", "other"))


@pytest.mark.modes("root")
def test_what_was_private_and_is_changed_is_told(machine: Machine) -> None:
    """Only root can: what others may not read they see empty."""
    machine.sh(_HOST, "0")
    environment = machine.create()
    environment.sh("echo more >> /etc/secret; echo more >> /root/key; echo more >> /etc/shown")
    assert _export(environment)["revealed"] == ["/etc/secret", "/root/key"]


@pytest.mark.modes("full")
def test_a_file_that_root_makes_for_a_user_is_the_users(machine: Machine) -> None:
    machine.sh("echo 'ALL ALL=(ALL:ALL) NOPASSWD: ALL' > /etc/sudoers.d/test; mount -o remount,suid,bind /")
    succeeded(machine.tool.run("create", "--driver", "root", "test"))
    _export(machine.environment)
    status = _file(machine.environment).stat()
    assert (status.st_uid, stat.S_IMODE(status.st_mode)) == (machine.tool.account.uid, 0o600)
    assert _SECRET not in images.read(_file(machine.environment)).sums.values()
    succeeded(machine.tool.run("remove", "--purge", "test"))


@pytest.mark.modes("fuse")
def test_with_fuse(machine: Machine, shared: Path) -> None:
    """The host's own files are below: what is there, and not the environment's, shows no more than elsewhere."""
    machine.sh('mknod -m 666 "$1" c 10 229; mount --bind "$1" /dev/fuse', str(shared / "fuse-node"))
    machine.sh(_HOST, str(machine.tool.account.gid))
    environment = machine.create()
    environment.sh("rm -r /usr/share/common-licenses; echo own > /opt/own")
    _export(environment)
    image = images.read(_file(environment))
    _is_of_no_machine(image)
    assert {"/opt/own", "/opt/host/large", "/usr/bin/apt-get", "/etc/passwd"} <= image.members.keys()
    assert not [path for path in image.members if path.startswith("/usr/share/common-licenses")]
    assert image.sum("/opt/host/large") == image.sum("/opt/host/large-2")


@pytest.mark.modes("full")
def test_an_interruption_leaves_nothing(machine: Machine) -> None:
    environment = machine.create()
    environment.sh("truncate -s 100G /opt/large")
    place = machine.tool.account.home / "place"
    machine.sh('install -d -o "$1" "$2"; echo old > "$2/image.tar"', str(machine.tool.account.uid), str(place))
    for number in (signal.SIGINT, signal.SIGTERM, signal.SIGKILL):
        process = machine.tool.start("export", "test", str(place / "image.tar"), "--format", "oci", "--force")
        wait_for(lambda: bool(machine.tool.status("test")["processes"]))
        os.killpg(process.pid, number)
        result = finish(process)
        assert result.returncode != 0
        assert "Traceback" not in result.stderr
        assert [(path.name, path.read_text()) for path in place.iterdir()] == [("image.tar", "old\n")]
        wait_for(lambda: not machine.tool.status("test")["processes"])
        assert environment.sh("cat /etc/debian_chroot") == "test\n"


@pytest.mark.modes("full")
def test_no_room_for_it(machine: Machine) -> None:
    environment = machine.create()
    machine.sh("mount -t tmpfs -o size=5M,mode=1777 tmpfs /mnt; mkdir -m 700 /mnt/closed")
    refused(machine.tool.run("export", "test", "/mnt/image.tar", "--format", "oci"), 1, "ENOSPC", "more space")
    assert machine.sh("ls -A /mnt; df --output=used /mnt | tail -n 1").split() == ["closed", "0"]
    refused(machine.tool.run("export", "test", "/mnt/closed/image.tar", "--format", "oci"), 1, "EACCES")
    assert environment.sh("true") == ""


# Directories that files of several layers are in, some of them changed by the environment.
_SHOWN = """
export LC_ALL=C
ls /usr/share; stat -c '%n %a %F %U %Y' /usr/share/doc /etc/issue /usr/share/man /usr/lib /usr/bin /var/lib
"""


@pytest.mark.slow
@pytest.mark.modes("full")
def test_podman_loads_and_runs_it(machine: Machine, packages: Path, whole: bool) -> None:
    """As a user, who is not root for podman either; with --all of environments with both id maps."""
    check = program("check").build(packages)
    helper = str(machine.tool.launcher.with_name("oci-check"))
    owners = {"full": "daemon mail 4750", "single": "root root 4750"}
    for id_map, owner in owners.items() if whole else [("full", owners["full"])]:
        environment = machine.tool.environment(f"of-{id_map}")
        succeeded(machine.tool.run("create", environment.name, "--id-map", id_map, limit=BASE_LIMIT))
        environment.sh('dpkg --install "$1"; install -D -o daemon -g mail -m 4750 /bin/true /opt/program', str(check))
        environment.sh("rm -r /usr/share/common-licenses /etc/issue; mkdir /etc/issue; chmod 1700 /usr/share/doc")
        image = _export(environment)["image"]
        script = "check; stat -c '%U %G %a' /opt/program; id -u; cat /etc/machine-id; " + _SHOWN
        result = replace(machine.tool, launcher=Path(helper)).run(
            "--keep", str(_file(environment)), image, "sh", "-ec", script, limit=APT_LIMIT
        )
        assert succeeded(result).stdout == f"check 1\n{owner}\n0\n" + environment.sh(_SHOWN)
