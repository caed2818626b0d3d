"""The main job: packages are installed, work, stay, and are not on the host."""

from __future__ import annotations

import shutil
from pathlib import Path

import pytest

from .support import Environment

_DATABASE = Path("/var/lib/dpkg/status")
_SERVERS = ("postgresql", "openssh-server", "mariadb-server", "docker.io", "cron", "postfix", "bind9")


def _on_host(program: str) -> bool:
    return shutil.which(program, path="/usr/local/bin:/usr/bin:/bin:/usr/sbin:/sbin:/usr/games") is not None


@pytest.mark.modes("full", "single", "disk", "root", "fuse", "sudo")
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
@pytest.mark.modes("full", "single")
def test_upgrade_everything(environment: Environment) -> None:
    environment.apt("update")
    environment.apt("upgrade", limit=900)
    assert environment.audit() == ""
    assert environment.sh("apt-get -q -s upgrade").count("\nInst ") == 0


@pytest.mark.slow
@pytest.mark.modes("full", "single")
def test_install_servers(environment: Environment) -> None:
    environment.apt("update")
    environment.apt("install", *_SERVERS, limit=900)
    assert environment.audit() == ""
    environment.sh(
        "sshd -V 2>&1 | grep -q OpenSSH; named -V; dockerd --version; mariadb --version; ls /etc/postfix/main.cf"
    )
