"""Who one is inside, and what that allows."""

from __future__ import annotations

import grp
import os
from dataclasses import replace
from pathlib import Path

import pytest

from .support import Environment, refused, succeeded


@pytest.fixture
def environment(shared_environment: Environment) -> Environment:
    """One for all tests of this file: they only read, or add what no other looks at."""
    return shared_environment


@pytest.mark.modes("full")
def test_me_is_the_user(environment: Environment) -> None:
    account = environment.tool.account
    assert environment.me("id -un; id -u; id -g").split() == [account.name, str(account.uid), str(account.gid)]
    assert environment.me("echo $HOME; echo $USER").split() == [str(account.home), account.name]


@pytest.mark.modes("single")
def test_me_needs_the_full_map(environment: Environment) -> None:
    refused(environment.exec("true", identity="--me"), 125, "single id map", "usermod --add-subuids")


@pytest.mark.modes("full")
def test_sudo_as_the_user(environment: Environment) -> None:
    assert environment.me("sudo -n id -u; sudo -n -u nobody id -un").split() == ["0", "nobody"]


@pytest.mark.modes("single", more=("fuse",))
def test_your_home_is_roots(new_environment: Environment) -> None:
    """Whoever asks, and however: ssh knows getpwuid(3) alone. It is no change of the environment's."""
    home = new_environment.tool.account.home
    ask = "import os, pwd; print(pwd.getpwuid(0).pw_dir, os.environ['HOME'], os.path.expanduser('~root'))"
    assert new_environment.sh('/usr/bin/python3 -c "$1"', ask).split() == [str(home)] * 3
    assert new_environment.sh("sudo -n -i pwd; su - root -c pwd").split() == [str(home)] * 2
    config = home / ".ssh/config"
    config.parent.mkdir(mode=0o700, exist_ok=True)
    config.write_text("Host likeness\n    HostName likeness.example\n")
    for path in (config.parent, config):
        os.chown(path, new_environment.tool.account.uid, new_environment.tool.account.gid)
    new_environment.sh("command -v ssh >/dev/null || exit 0; ssh -G likeness | grep -q likeness.example")
    assert succeeded(new_environment.tool.run("diff", new_environment.name)).stdout == ""
    new_environment.sh("useradd --system mate")
    changed = succeeded(new_environment.tool.run("diff", new_environment.name, "--", "/etc/passwd")).stdout
    assert [line[:5] for line in changed.splitlines() if line[:1] in "+-" and line[:2] not in ("++", "--")] == ["+mate"]


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


@pytest.mark.modes("full")
@pytest.mark.parametrize("command", ["sudo -n", "sudo -n -s", "sudo -n sudo -n -E", "sudo -n -i"])
def test_sudo_keeps_the_groups_of_the_host(environment: Environment, group: str, shared: Path, command: str) -> None:
    """Of root: with it goes access to devices and to sockets of the host's daemons. Others get their own."""
    secret = shared / "for-the-group-by-sudo"
    secret.write_text("readable\n")
    os.chown(secret, 0, grp.getgrnam(group).gr_gid)
    secret.chmod(0o640)
    assert environment.me(f"{command} cat {secret}") == "readable\n"
    assert environment.me("sudo -n -u nobody id -G; sudo -n -u daemon id -G").split() == ["65534", "1"]
    assert environment.me(f"sudo -n -u nobody cat {secret} 2>&1 || echo denied").endswith("denied\n")


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


@pytest.mark.modes("full", "single", "root")
def test_a_fifo_can_be_made(environment: Environment) -> None:
    environment.sh("mkfifo /opt/fifo; test -p /opt/fifo; mknod /opt/other p; test -p /opt/other")


@pytest.mark.modes("full", "single", "root")
def test_system_users_can_be_added(environment: Environment) -> None:
    environment.sh("groupadd --system crew; useradd --system -g crew -d /srv/sailor -m sailor")
    assert environment.sh("getent passwd sailor").endswith(":/srv/sailor:/bin/sh\n")
    environment.sh("userdel sailor")


@pytest.mark.modes("full", "single", "root")
def test_adduser(environment: Environment) -> None:
    if not Path("/usr/sbin/adduser").exists():
        environment.install("adduser")
    environment.sh("adduser --system --group --home /srv/newbie --quiet newbie; test -d /srv/newbie")
    assert environment.sh("id -un newbie") == "newbie\n"


@pytest.mark.modes("full")
def test_groups_granted_inside(new_environment: Environment, group: str, shared: Path) -> None:
    """They are effective; who has groups of the host that would be lost keeps these, is told so, and has sudo -g."""
    name = new_environment.tool.account.name
    new_environment.sh(f"groupadd crew; usermod -aG crew {name}; groupadd others")
    result = succeeded(new_environment.exec("id", "-Gn", identity="--me"))
    assert "crew" not in result.stdout.split()
    assert "not in the environment's group crew" in result.stderr
    assert group in result.stderr
    of_host, of_crew = shared / f"{name}-of-host", "/opt/of-crew"
    of_host.write_text("host\n")
    os.chown(of_host, 0, grp.getgrnam(group).gr_gid)
    of_host.chmod(0o640)
    new_environment.sh(f"echo crew > {of_crew}; chgrp crew {of_crew}; chmod 640 {of_crew}")
    assert "crew" in new_environment.me("sg crew -c 'id -Gn'").split()
    assert new_environment.me(f"sudo -g crew cat {of_host} {of_crew}") == "host\ncrew\n"
    account = replace(new_environment.tool.account, groups=())
    alone = Environment(replace(new_environment.tool, account=account), new_environment.name)
    result = succeeded(alone.exec("id", "-Gn", identity="--me"))
    assert set(result.stdout.split()) == {name, group, "crew"}
    assert result.stderr == ""
    assert "crew" not in alone.sh("id -Gn").split()


@pytest.mark.modes("full")
def test_daemons_users_can_be_taken(environment: Environment) -> None:
    assert environment.sh("setpriv --reuid 33 --regid 33 --clear-groups id -u") == "33\n"


@pytest.mark.modes("full", "single", "root")
def test_a_user_namespace_can_be_made_inside(environment: Environment) -> None:
    """Browsers and bubblewrap do; it is forbidden in a chroot."""
    assert environment.sh("unshare --map-root-user id -u") == "0\n"
