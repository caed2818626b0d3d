"""Daemons run inside, started by hand: each does a piece of real work, and is ended with the environment."""

from __future__ import annotations

import os
import shutil
import socket
import tempfile
import urllib.request
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from .mirror import Mirror
from .support import Environment, Result, ran, succeeded, wait_for

_PACKAGES = ("postgresql", "redis-server", "openssh-server", "openssh-client", "uuid-runtime")
_FURTHER = ("nginx-light", "mariadb-server", "cron", "curl", "logrotate")  # in the single map with --all
# How an administrator takes the user of a daemon; in the single map this is make-believe.
_AS = 'as() { user=$1; shift; setpriv --reuid "$user" --regid "$user" --init-groups -- "$@"; }\n'
_POSTGRES = "version=$(ls /usr/lib/postgresql | sort -V | tail -n 1); PATH=$PATH:/usr/lib/postgresql/$version/bin\n"
_OWNER_OF_PROCESS = 'ps -o user:32= -p "$1"'

pytestmark = pytest.mark.slow


@pytest.fixture(scope="module")
def further(shared_environment: Environment, whole: bool) -> bool:
    """Whether the tests of this mode need all daemons."""
    return whole or shared_environment.tool.mode == "full"


@pytest.fixture(scope="module")
def equipped(shared_environment: Environment, mirror: Mirror, further: bool) -> Environment:
    """An environment with the daemons installed."""
    mirror.install(shared_environment, *_PACKAGES, *(_FURTHER if further else ()))
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
def test_files_have_the_owners_that_the_packages_gave_them(servers: Environment, further: bool) -> None:
    owners = {
        "/var/lib/postgresql": "postgres",
        "/var/lib/redis": "redis",
        "/var/log/redis": "redis",
        "/etc/redis/redis.conf": "redis",
        "/etc/ssh/ssh_host_ed25519_key": "root",
    }
    groups = {"/var/log/redis": "adm"}
    if further:
        owners |= {"/var/lib/mysql": "mysql", "/var/lib/mysql/ibdata1": "mysql", "/var/log/nginx": "root"}
        groups |= {"/var/log/nginx": "adm", "/var/spool/cron/crontabs": "crontab"}
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


@pytest.mark.modes("full", more=("single",))
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


@pytest.mark.modes("full", more=("single",))
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
    return ran(command, env=servers.tool.variables(), **account.become())


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


@pytest.mark.modes("full", more=("single",))
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


# The same by their units: systemctl and the environment's own enabled services.


@pytest.mark.modes("full", "single")
def test_redis_as_a_service(servers: Environment, port: str, further: bool) -> None:
    servers.sh('sed -i "s/^port .*/port $1/" /etc/redis/redis.conf; systemctl enable --now redis-server 2>&1', port)
    status = servers.tool.status(servers.name)
    [service] = status["services"]
    assert (service["name"], service["active"]) == ("redis-server.service", "active")
    assert servers.sh(_OWNER_OF_PROCESS, str(service["main"])).strip() == _owner(servers, "redis")
    servers.sh('redis-cli -p "$1" set kept value', port)
    # It is ended as its unit says, so it saves; and is back with what is enabled.
    succeeded(servers.tool.run("stop", servers.name))
    others = "nginx mariadb cron logrotate.timer" if further else ""
    servers.sh(f"systemctl disable postgresql ssh uuidd.socket {others} 2>&1")
    succeeded(servers.tool.run("start", servers.name, "--services"))
    assert servers.sh('redis-cli -p "$1" get kept; systemctl is-active redis', port) == "value\nactive\n"
    servers.sh('kill -9 "$(systemctl show -p MainPID --value redis-server)"')  # Restart=always
    answers = 'redis-cli -p "$1" ping 2>&1 | grep -q PONG'
    wait_for(lambda: servers.exec("sh", "-c", answers, "sh", port).returncode == 0)


@pytest.mark.modes("full")
def test_postgresql_as_a_service(servers: Environment, port: str) -> None:
    servers.sh(_POSTGRES + 'sed -i "s/^port = .*/port = $1/" "/etc/postgresql/$version/main/postgresql.conf"', port)
    query = 'su postgres -c "psql -qAt -p $1 postgres"'
    servers.sh("systemctl start postgresql")
    servers.sh(query, port, stdin="CREATE TABLE kept (n INT); INSERT INTO kept VALUES (42);")
    stopped = succeeded(servers.tool.run("stop", servers.name)).stderr
    assert "stopped postgresql@" in stopped
    servers.sh("service postgresql start")
    assert servers.sh(query, port, stdin="SELECT n FROM kept;") == "42\n"
    servers.sh(_POSTGRES + 'systemctl is-active "postgresql@$version-main"; systemctl reload postgresql')
    servers.sh("systemctl stop postgresql")
    assert servers.exec("sh", "-c", query, "sh", port).returncode != 0
    # A cluster by the name of its instance.
    servers.sh(_POSTGRES + 'systemctl start "postgresql@$version-main"')
    assert servers.sh(query, port, stdin="SELECT n FROM kept; DROP TABLE kept;") == "42\n"


@pytest.mark.modes("full")
def test_postgresql_where_the_cluster_of_the_host_cannot_be_read(servers: Environment, port: str) -> None:
    """Then there is its configuration, as far as all may read it, and an empty directory."""
    script = """
        conf=/etc/postgresql/$version/main
        sed -i "s/^port = .*/port = $1/" "$conf/postgresql.conf"
        rm -rf "/var/lib/postgresql/$version/main"; install -d -m 700 "/var/lib/postgresql/$version/main"
        : > "$conf/pg_hba.conf"; : > "$conf/pg_ident.conf"
        systemctl start postgresql
        su postgres -c "createdb -p $1 trial; psql -qAt -p $1 -c 'SELECT 42' trial"
    """
    assert servers.sh(_POSTGRES + script, port) == "42\n"


@pytest.mark.modes("single")
def test_postgresql_as_a_service_is_refused_where_nobody_else_exists(servers: Environment) -> None:
    result = servers.exec("systemctl", "start", "postgresql")
    assert (result.returncode, "postgresql@" in result.stderr) == (1, True)
    assert servers.tool.status(servers.name)["running"] is False


@pytest.mark.modes("full", more=("single",))
def test_nginx_and_mariadb_and_cron_as_services(servers: Environment, port: str) -> None:
    start = "systemctl start nginx mariadb cron; systemctl is-active nginx mariadb cron"
    servers.sh(
        """
        echo "server { listen 127.0.0.1:$1; root /srv/www; }" > /etc/nginx/sites-available/default
        mkdir -p /srv/www; echo page > /srv/www/index.html
        printf '[mysqld]\\nskip-networking\\nuser=mysql\\n' > /etc/mysql/mariadb.conf.d/99-own.cnf
        """,
        port,
    )
    servers.sh(f"{start}; systemctl reload nginx")
    servers.sh("mysql -e 'CREATE DATABASE kept; CREATE TABLE kept.t (n INT); INSERT INTO kept.t VALUES (42)'")
    questions = "curl -s --noproxy '*' \"http://127.0.0.1:$1/\"; mysql -Ne 'SELECT n FROM kept.t'"
    assert servers.sh(questions, port) == "page\n42\n"
    stopped = succeeded(servers.tool.run("stop", servers.name)).stderr
    assert [line.split()[-1] for line in stopped.splitlines()] == ["cron.service", "mariadb.service", "nginx.service"]
    servers.sh("tail -n 3 /var/log/mysql/error.log 2>/dev/null || journalctl -u mariadb | grep -q 'Shutdown complete'")
    servers.sh(start)
    assert servers.sh(f"{questions}; mysql -e 'DROP DATABASE kept'", port) == "page\n42\n"


@pytest.mark.modes("full", more=("single",))
def test_sshd_as_a_service(servers: Environment, scratch: Path, port: str) -> None:
    key = _make_key(servers, scratch)
    if servers.tool.mode == "single":  # see test_ssh_login
        servers.sh("usermod --non-unique --uid 0 --gid 0 sshd")
    configuration = f"Port {port}\nListenAddress 127.0.0.1\nAuthorizedKeysFile /etc/ssh/test-keys\n"
    servers.sh("cat > /etc/ssh/sshd_config.d/own.conf; systemctl start ssh; systemctl reload ssh", stdin=configuration)
    client = _ssh(servers, key, port)
    said = succeeded(servers.exec(*client, "systemctl is-active ssh; echo $SYSENV_NS", identity=_user(servers))).stdout
    assert said.split()[0] == "active"
    servers.sh("rm /etc/ssh/sshd_config.d/own.conf")


@pytest.mark.modes("full", more=("single",))
def test_sshd_by_its_socket(servers: Environment, scratch: Path, port: str) -> None:
    key = _make_key(servers, scratch)
    if servers.tool.mode == "single":  # see test_ssh_login
        servers.sh("usermod --non-unique --uid 0 --gid 0 sshd")
    servers.sh(
        """
        cd /etc/systemd/system; mkdir -p ssh.socket.d
        printf '[Socket]\\nListenStream=\\nListenStream=127.0.0.1:%s\\n' "$1" > ssh.socket.d/own.conf
        echo 'AuthorizedKeysFile /etc/ssh/test-keys' > /etc/ssh/sshd_config.d/own.conf
        systemctl start ssh.socket
        """,
        port,
    )
    assert servers.sh("systemctl is-active ssh.socket ssh || :") == "active\ninactive\n"
    client = _ssh(servers, key, port)
    for _ in range(2):
        said = succeeded(servers.exec(*client, "cat /etc/debian_chroot", identity=_user(servers))).stdout
        assert said == f"{servers.name}\n"
    servers.sh("rm -r /etc/ssh/sshd_config.d/own.conf /etc/systemd/system/ssh.socket.d")


@pytest.mark.modes("full", "single")
def test_uuidd_by_its_socket(servers: Environment) -> None:
    servers.sh("systemctl enable --now uuidd.socket 2>&1; ! systemctl is-active uuidd")
    first, second = (servers.sh("uuidd -t").strip() for _ in range(2))
    assert len(first) == len(second) == 36
    assert first != second
    # It has answered, perhaps before whoever has started it says that it is there.
    wait_for(lambda: servers.exec("systemctl", "is-active", "uuidd").returncode == 0)
    pid = servers.sh("systemctl show -p MainPID --value uuidd").strip()
    assert servers.sh(_OWNER_OF_PROCESS, pid).strip() == _owner(servers, "uuidd")
    # The service requires its socket, which is there before it.
    servers.sh("systemctl stop uuidd.socket; systemctl start uuidd; systemctl is-active uuidd.socket")
    assert len(servers.sh("uuidd -t").strip()) == 36


@pytest.mark.modes("full", more=("single",))
def test_logrotate_by_its_timer(servers: Environment) -> None:
    servers.sh(
        """
        mkdir -p /etc/systemd/system/logrotate.timer.d /var/lib/systemd/timers
        echo line > /var/log/own.log
        printf '/var/log/own.log {\\n rotate 2\\n daily\\n}\\n' > /etc/logrotate.d/own
        printf '"/var/log/own.log" 2020-1-1-0:0:0\\n' > /var/lib/logrotate/status
        touch -d '2 days ago' /var/lib/systemd/timers/stamp-logrotate.timer
        sed -i '1s/.*/logrotate state -- version 2\\n&/' /var/lib/logrotate/status
        systemctl start logrotate.timer
        """
    )
    # Once a day; what has been missed is made up for.
    wait_for(lambda: servers.exec("test", "-e", "/var/log/own.log.1").returncode == 0)
    [row] = servers.sh("systemctl list-timers --no-legend").splitlines()
    assert row.split()[-2:] == ["logrotate.timer", "logrotate.service"]
