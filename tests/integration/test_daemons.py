"""Daemons run inside, started by hand: each does a piece of real work, and is ended with the environment."""

from __future__ import annotations

import os
import shutil
import socket
import subprocess
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from .support import Environment, Result, finish, succeeded, wait_for

_PACKAGES = (
    *("postgresql", "redis-server", "nginx-light", "mariadb-server", "openssh-server", "openssh-client"),
    *("cron", "curl"),
)
# How an administrator takes the user of a daemon; in the single map this is make-believe.
_AS = 'as() { user=$1; shift; setpriv --reuid "$user" --regid "$user" --init-groups -- "$@"; }\n'
_POSTGRES = "version=$(ls /usr/lib/postgresql | sort -V | tail -n 1); PATH=$PATH:/usr/lib/postgresql/$version/bin\n"
_OWNER_OF_PROCESS = 'ps -o user:32= -p "$1"'

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def equipped(shared_environment: Environment) -> Environment:
    """An environment with all daemons installed."""
    shared_environment.install(*_PACKAGES)
    return shared_environment


@pytest.fixture
def servers(equipped: Environment) -> Iterator[Environment]:
    """The same, in which nothing runs before and after the test."""
    yield equipped
    succeeded(equipped.tool.run("stop", equipped.name))
    assert equipped.tool.status(equipped.name)["processes"] == []


@pytest.fixture
def scratch(servers: Environment, shared: Path) -> Path:
    """A directory of the user's, the same on the host and inside."""
    path = Path(tempfile.mkdtemp(dir=shared))
    os.chown(path, servers.tool.account.uid, servers.tool.account.gid)
    return path


@pytest.fixture
def port() -> str:
    """A TCP port of the loopback device that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


def _owner(servers: Environment, name: str) -> str:
    """Who a user of the environment is in the end: in the single map everybody is root."""
    return name if servers.tool.mode == "full" else "root"


def _own_name(servers: Environment) -> str:
    return _owner(servers, servers.tool.account.name)


def _user(servers: Environment) -> str:
    """The option for being the user, as far as the map has one."""
    return "--me" if servers.tool.mode == "full" else "--root"


@pytest.mark.modes("full", "single")
def test_files_have_the_owners_that_the_packages_gave_them(servers: Environment) -> None:
    owners = {
        "/var/lib/postgresql": "postgres",
        "/var/lib/mysql": "mysql",
        "/var/lib/mysql/ibdata1": "mysql",
        "/var/lib/redis": "redis",
        "/var/log/redis": "redis",
        "/var/log/nginx": "root",
        "/etc/redis/redis.conf": "redis",
        "/etc/ssh/ssh_host_ed25519_key": "root",
    }
    groups = {"/var/log/nginx": "adm", "/var/log/redis": "adm", "/var/spool/cron/crontabs": "crontab"}
    assert servers.sh('stat -c %U "$@"', *owners).split() == [_owner(servers, name) for name in owners.values()]
    assert servers.sh('stat -c %G "$@"', *groups).split() == [_owner(servers, name) for name in groups.values()]


@pytest.mark.modes("full", "single")
def test_redis(servers: Environment, port: str) -> None:
    start = """
        mkdir -p /run/redis; chown redis: /run/redis
        as redis redis-server --daemonize yes --bind 127.0.0.1 --port "$1" --unixsocket /run/redis/redis.sock \
            --dir /var/lib/redis --pidfile /run/redis/redis.pid
    """
    answers = 'redis-cli -p "$1" ping 2>&1 | grep -q PONG'
    servers.sh(_AS + start, port)
    wait_for(lambda: servers.exec("sh", "-c", answers, "sh", port).returncode == 0)
    status = servers.tool.status(servers.name)
    assert status["running"] is True
    [process] = [process for process in status["processes"] if process["command"].startswith("redis-server")]
    assert servers.sh(_OWNER_OF_PROCESS, str(process["pid"])).strip() == _owner(servers, "redis")
    # From sessions that join, through both ways in.
    servers.sh('redis-cli -p "$1" set greeting hello; redis-cli -p "$1" save', port)
    assert servers.sh("redis-cli -s /run/redis/redis.sock get greeting") == "hello\n"
    assert servers.sh("stat -c %U /var/lib/redis/dump.rdb").strip() == _owner(servers, "redis")
    stopped = succeeded(servers.tool.run("stop", servers.name))
    assert f"ended {process['pid']} redis-server" in stopped.stderr
    assert servers.tool.status(servers.name)["running"] is False
    # What it saved is there at the next start.
    servers.sh(_AS + start, port)
    wait_for(lambda: servers.exec("sh", "-c", answers, "sh", port).returncode == 0)
    assert servers.sh('redis-cli -p "$1" get greeting', port) == "hello\n"


@pytest.mark.modes("full", "single")
def test_nginx(servers: Environment, port: str) -> None:
    servers.sh(
        """
        mkdir -p /srv/www
        echo "only in the environment" > /srv/www/index.html
        echo "server { listen 127.0.0.1:$1; root /srv/www; }" > /etc/nginx/sites-available/default
        nginx
        """,
        port,
    )
    url = f"http://127.0.0.1:{port}/"
    direct = urllib.request.build_opener(urllib.request.ProxyHandler({}))
    with direct.open(url, timeout=30) as response:
        assert response.read() == b"only in the environment\n"
    assert servers.sh("curl -s --noproxy '*' \"$1\"", url) == "only in the environment\n"
    workers = servers.sh('ps -o user:32= --ppid "$(cat /run/nginx.pid)"').split()
    assert set(workers) == {_owner(servers, "www-data")}
    assert servers.sh("grep -c 'GET / ' /var/log/nginx/access.log") == "2\n"
    assert not Path("/srv/www").exists()


@pytest.mark.modes("full", "single")
def test_mariadb(servers: Environment) -> None:
    # In the single map a daemon may be told to be another user, or to stay root.
    for user in ("mysql",) if servers.tool.mode == "full" else ("mysql", "root"):
        _query_mariadb(servers, user)


def _query_mariadb(servers: Environment, user: str) -> None:
    servers.sh(
        """
        mkdir -p /run/mysqld; chown mysql: /run/mysqld
        mysqld_safe --user="$1" --skip-networking --skip-syslog --log-error=/var/lib/mysql/own.err \
            --socket=/run/mysqld/own.sock --pid-file=/run/mysqld/own.pid < /dev/null > /dev/null 2>&1 &
        """,
        user,
    )
    wait_for(lambda: servers.exec("mysqladmin", "--socket=/run/mysqld/own.sock", "ping").returncode == 0)
    assert servers.sh(
        """
        mysql --socket=/run/mysqld/own.sock --skip-column-names --batch <<END
            CREATE DATABASE trial; CREATE TABLE trial.numbers (n INT); INSERT INTO trial.numbers VALUES (40), (2);
            SELECT current_user(), sum(n) FROM trial.numbers;
END
        """
    ).split() == ["root@localhost", "42"]
    pid = servers.sh("cat /run/mysqld/own.pid").strip()
    assert servers.sh(_OWNER_OF_PROCESS, pid).strip() == _owner(servers, "mysql")
    assert servers.sh("stat -c %U /var/lib/mysql/trial/numbers.ibd").strip() == _owner(servers, "mysql")
    servers.sh("mysql --socket=/run/mysqld/own.sock -e 'DROP DATABASE trial'")
    servers.sh("mysqladmin --socket=/run/mysqld/own.sock shutdown")
    wait_for(lambda: not servers.tool.status(servers.name)["running"])
    assert "Shutdown complete" in servers.sh("tail -n 5 /var/lib/mysql/own.err")


@pytest.mark.modes("full")
def test_postgresql_cluster_of_the_package(servers: Environment, port: str) -> None:
    servers.sh(_POSTGRES + 'pg_createcluster "$version" own -p "$1"; pg_ctlcluster "$version" own start', port)
    query = 'su postgres -c "psql -qAt -p $1 postgres"'
    servers.sh(query, port, stdin="CREATE TABLE numbers (n INT); INSERT INTO numbers VALUES (42);")
    # From another session, and after a restart.
    servers.sh(_POSTGRES + 'pg_ctlcluster "$version" own restart')
    assert servers.sh(query, port, stdin="SELECT n, current_user FROM numbers;") == "42|postgres\n"
    pid = servers.sh(_POSTGRES + "head -n 1 /var/lib/postgresql/$version/own/postmaster.pid").strip()
    assert servers.sh(_OWNER_OF_PROCESS, pid).strip() == "postgres"
    assert servers.sh(_POSTGRES + "stat -c %U:%G /var/lib/postgresql/$version/own/base").strip() == "postgres:postgres"
    servers.sh(_POSTGRES + 'pg_ctlcluster "$version" own stop; pg_dropcluster "$version" own')
    assert servers.tool.status(servers.name)["running"] is False


@pytest.mark.modes("full")
def test_postgresql_of_the_user(servers: Environment, scratch: Path, port: str) -> None:
    _use_postgres_of_one_user(servers, scratch, port, identity="--me")
    assert (scratch / "data" / "PG_VERSION").stat().st_uid == servers.tool.account.uid


def _use_postgres_of_one_user(servers: Environment, scratch: Path, port: str, identity: str, prefix: str = "") -> None:
    script = """
        cd "$1"
        initdb --no-sync --auth trust data > initdb.log
        pg_ctl -D data -o "-k '$1' -p $2" -l server.log --wait start > pg_ctl.log
        psql -qAt -h "$1" -p "$2" -d postgres -c "CREATE TABLE numbers (n INT); INSERT INTO numbers VALUES (42)"
        psql -qAt -h "$1" -p "$2" -d postgres -c "SELECT n FROM numbers"
        pg_ctl -D data --wait stop > pg_ctl.log
    """
    wrapped = f'{_POSTGRES} export PATH; exec {prefix} sh -ec "$0" sh "$@"'
    result = servers.exec("sh", "-ec", wrapped, script, str(scratch), port, identity=identity)
    assert succeeded(result).stdout == "42\n"


@pytest.mark.modes("single")
def test_postgresql_refuses_root_where_nobody_else_exists(servers: Environment) -> None:
    """It asks who it is, which no emulation of setuid(2) changes."""
    refusal = servers.exec("su", "postgres", "-c", "/usr/lib/postgresql/*/bin/initdb -D /srv/postgres")
    assert refusal.returncode != 0
    assert "cannot be run as root" in refusal.stderr
    refusal = servers.exec("sh", "-ec", _POSTGRES + 'pg_createcluster "$version" own')
    assert refusal.returncode != 0
    assert "Could not change user id" in refusal.stderr
    servers.sh(_POSTGRES + 'test ! -e /srv/postgres; test ! -e "/var/lib/postgresql/$version/own"')


@pytest.mark.modes("single")
def test_postgresql_in_a_user_namespace_where_root_is_somebody(servers: Environment, scratch: Path, port: str) -> None:
    account = servers.tool.account
    prefix = f"unshare --user --map-user={account.uid} --map-group={account.gid}"
    _use_postgres_of_one_user(servers, scratch, port, identity="--root", prefix=prefix)
    assert (scratch / "data" / "PG_VERSION").stat().st_uid == account.uid


_SSHD = """
    mkdir -p /run/sshd
    /usr/sbin/sshd -p "$1" -E /var/log/sshd.log -o ListenAddress=127.0.0.1 -o PidFile=/run/own-sshd.pid \
        -o AuthorizedKeysFile=/etc/ssh/test-keys -o PermitRootLogin=prohibit-password
"""


def _ssh(servers: Environment, key: Path, port: str) -> list[str]:
    """The client's arguments up to the command."""
    options = ("BatchMode=yes", "StrictHostKeyChecking=no", "UserKnownHostsFile=/dev/null", "LogLevel=ERROR")
    arguments = ["ssh", "-F", "none", "-i", str(key), "-p", port]
    arguments += [argument for option in options for argument in ("-o", option)]
    return [*arguments, f"{_own_name(servers)}@127.0.0.1"]


def _on_host(servers: Environment, command: Sequence[str]) -> Result:
    """Run a command as the user, outside any environment."""
    account = servers.tool.account
    pipe = subprocess.PIPE
    process = subprocess.Popen(
        command,
        stdin=pipe,
        stdout=pipe,
        stderr=pipe,
        env=servers.tool.variables(),
        text=True,
        start_new_session=True,
        **account.become(),
    )
    return finish(process)


def _make_key(servers: Environment, scratch: Path) -> Path:
    key = scratch / "key"
    servers.sh('ssh-keygen -q -t ed25519 -N "" -f "$1"', str(key), identity=_user(servers))
    servers.sh('cp "$1.pub" /etc/ssh/test-keys; echo only here > /usr/share/only-here', str(key))
    return key


@pytest.mark.modes("full", "single")
def test_ssh_login(servers: Environment, scratch: Path, port: str) -> None:
    key = _make_key(servers, scratch)
    servers.sh(_SSHD, port)
    client = _ssh(servers, key, port)
    if servers.tool.mode == "single":
        # sshd makes sure that it cannot be root again after it has become the user sshd, unless that is root.
        assert servers.exec(*client, "true").returncode == 255
        servers.sh("grep -q 'was able to restore old' /var/log/sshd.log; usermod --non-unique --uid 0 --gid 0 sshd")
    question = "id -un; cat /usr/share/only-here /etc/debian_chroot; sudo -n id -u"
    answer = [_own_name(servers), "only", "here", servers.name, "0"]
    assert succeeded(servers.exec(*client, question, identity=_user(servers))).stdout.split() == answer
    if shutil.which("ssh"):
        assert succeeded(_on_host(servers, [*client, question])).stdout.split() == answer
    # On a terminal, which then belongs to who logged in.
    terminal = succeeded(servers.exec(*client, "-tt", 'stat -c %U "$(tty)"', identity=_user(servers)))
    assert terminal.stdout.split() == [_own_name(servers)]


@pytest.mark.modes("full")
def test_ssh_login_as_root(servers: Environment, scratch: Path, port: str) -> None:
    key = _make_key(servers, scratch)
    servers.sh(_SSHD, port)
    client = [*_ssh(servers, key, port)[:-1], "root@127.0.0.1"]
    question = "id -u; cat /etc/debian_chroot; touch /usr/share/by-ssh"
    assert succeeded(servers.exec(*client, question, identity="--me")).stdout.split() == ["0", servers.name]
    assert not Path("/usr/share/by-ssh").exists()


@pytest.mark.modes("full", "single")
def test_cron(servers: Environment) -> None:
    servers.sh(
        """
        rm -f /srv/by-root /srv/by-user; mkdir -p /srv; chmod 1777 /srv
        echo '* * * * * root (id -un; cat /etc/debian_chroot) > /srv/by-root' > /etc/cron.d/own
        """
    )
    # crontab is set-group-id, to write to a directory that the user may not.
    servers.sh("echo '* * * * * (id -un; cat /etc/debian_chroot) > /srv/by-user' | crontab -", identity=_user(servers))
    servers.sh("cron")
    expected = f"root\n{servers.name}\n{_own_name(servers)}\n{servers.name}\n"
    wait_for(lambda: servers.exec("cat", "/srv/by-root", "/srv/by-user").stdout == expected, limit=90)
    owners = f"{_own_name(servers)}:{_owner(servers, 'crontab')}\n"
    assert servers.sh("stat -c %U:%G /var/spool/cron/crontabs/*") == owners
    assert any(process["command"] == "cron" for process in servers.tool.status(servers.name)["processes"])
