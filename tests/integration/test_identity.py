"""Who one is inside, and what that allows."""

from __future__ import annotations

import grp
import os
from pathlib import Path

import pytest

from .support import Environment, refused


@pytest.mark.modes("full")
def test_me_is_the_user(environment: Environment) -> None:
    account = environment.tool.account
    assert environment.me("id -un; id -u; id -g").split() == [account.name, str(account.uid), str(account.gid)]
    assert environment.me("echo $HOME; echo $USER").split() == [str(account.home), account.name]


@pytest.mark.modes("single")
def test_me_needs_the_full_map(environment: Environment) -> None:
    refused(environment.exec("true", identity="--me"), 125, "uidmap", "--me")


@pytest.mark.modes("full")
def test_sudo_as_the_user(environment: Environment) -> None:
    assert environment.me("sudo -n id -u; sudo -n -u nobody id -un").split() == ["0", "nobody"]


@pytest.mark.modes("single", "root")
def test_sudo_as_root(environment: Environment) -> None:
    assert environment.sh("sudo -n true; sudo -n id -u").split() == ["0"]


@pytest.mark.parametrize("identity", ["--root", "--me"])
@pytest.mark.modes("full", "single")
def test_supplementary_groups_stay_effective(environment: Environment, group: str, shared: Path, identity: str) -> None:
    if identity == "--me" and environment.tool.mode == "single":
        identity = ""
    secret = shared / "for-the-group"
    secret.write_text("readable\n")
    os.chown(secret, 0, grp.getgrnam(group).gr_gid)
    secret.chmod(0o640)
    assert environment.sh('cat "$1"', str(secret), identity=identity) == "readable\n"


@pytest.mark.modes("full", "root")
def test_owners_are_real(environment: Environment) -> None:
    environment.sh("touch /opt/file; chown 33:44 /opt/file")
    assert environment.sh("stat -c %u:%g /opt/file") == "33:44\n"


@pytest.mark.modes("full")
def test_host_owners_show_as_on_the_host(environment: Environment) -> None:
    paths = [
        path for path in ("/etc/shadow", "/var/mail", "/var/cache/apt/archives/partial", "/usr/bin") if _there(path)
    ]
    expected = "".join(f"{os.stat(path).st_uid}:{os.stat(path).st_gid}\n" for path in paths)
    assert environment.sh('stat -c %u:%g "$@"', *paths) == expected


def _there(path: str) -> bool:
    return Path(path).exists()


@pytest.mark.modes("single")
def test_calls_for_other_ids_seem_to_succeed(environment: Environment) -> None:
    environment.sh("touch /opt/file; chown 33:44 /opt/file; chgrp 44 /opt/file; mknod /opt/null c 1 3")
    script = "import os; os.setgroups([1, 2]); os.setresgid(5, 5, 5); os.setresuid(7, 7, 7); os.chown('/opt', 3, 3)"
    environment.sh('/usr/bin/python3 -c "$1"', script)


def test_a_fifo_can_be_made(environment: Environment) -> None:
    environment.sh("mkfifo /opt/fifo; test -p /opt/fifo; mknod /opt/other p; test -p /opt/other")


def test_system_users_can_be_added(environment: Environment) -> None:
    environment.sh("groupadd --system crew; useradd --system -g crew -d /srv/sailor -m sailor")
    assert environment.sh("getent passwd sailor").endswith(":/srv/sailor:/bin/sh\n")
    environment.sh("userdel sailor")


def test_adduser(environment: Environment) -> None:
    if not Path("/usr/sbin/adduser").exists():
        environment.install("adduser")
    environment.sh("adduser --system --group --home /srv/newbie --quiet newbie; test -d /srv/newbie")
    assert environment.sh("id -un newbie") == "newbie\n"


@pytest.mark.modes("full")
def test_daemons_users_can_be_taken(environment: Environment) -> None:
    assert environment.sh("setpriv --reuid 33 --regid 33 --clear-groups id -u") == "33\n"


def test_a_user_namespace_can_be_made_inside(environment: Environment) -> None:
    """Browsers and bubblewrap do; it is forbidden in a chroot."""
    assert environment.sh("unshare --map-root-user id -u") == "0\n"
