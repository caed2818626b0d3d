"""The main job: packages are installed, work, stay, and are not on the host."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .mirror import Mirror
from .support import Environment

_DATABASE = Path("/var/lib/dpkg/status")
_SERVERS = ("postfix", "bind9")
_OTHER_SERVERS = ("docker.io", "postgresql", "openssh-server", "mariadb-server", "cron")  # most are of test_daemons.py


def _on_host(program: str) -> bool:
    return shutil.which(program, path="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/usr/games") is not None


@pytest.mark.modes("full", "single", "root", more=("disk", "fuse", "sudo"))
def test_install(environment: Environment) -> None:
    before = _DATABASE.read_bytes()
    environment.install("hello", "nginx-light", "redis-server")
    assert environment.sh("hello") == "Hello, world!\n"
    assert environment.audit() == ""
    # The next session, which mounts everything anew.
    assert environment.sh("hello; nginx -v 2>&1; redis-server --version").startswith("Hello, world!\nnginx")
    assert environment.tool.status(environment.name)["running"] is False
    assert not _on_host("hello")
    assert not _on_host("nginx")
    assert _DATABASE.read_bytes() == before


def test_remove_a_package_of_the_host(environment: Environment) -> None:
    program = shutil.which("tmux", path="/usr/bin")
    if program is None:
        pytest.skip("the host has no tmux to be removed inside")
    environment.apt("remove", "--purge", "tmux")
    assert environment.audit() == ""
    assert environment.exec("tmux", "-V").returncode == 127
    assert Path(program).exists()


@pytest.mark.slow
@pytest.mark.modes("full", more=("single",))
def test_upgrade_everything(environment: Environment, mirror: Mirror, whole: bool) -> None:
    """All that apt has newer versions of: of some packages, and with --all of the whole system."""
    if whole:
        environment.apt("update")
    else:
        mirror.provide(environment, "--only-upgrade", *mirror.upgradable()[:5])
    environment.apt("upgrade", limit=900)
    assert environment.audit() == ""
    assert environment.sh("apt-get -q -s upgrade").count("\nInst ") == 0


@pytest.mark.slow
@pytest.mark.modes("full", more=("single",))
def test_install_servers(environment: Environment, mirror: Mirror, whole: bool) -> None:
    mirror.install(environment, *_SERVERS, *(_OTHER_SERVERS if whole else ()))
    assert environment.audit() == ""
    environment.sh("named -V; ls /etc/postfix/main.cf")
    if whole:
        environment.sh("dockerd --version; sshd -V 2>&1 | grep -q OpenSSH; mariadb --version")
