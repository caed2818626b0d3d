"""Timers start what they are for when their time has come, sockets when somebody comes."""

from __future__ import annotations

import socket
import struct
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest

from .support import Environment, Result, succeeded, wait_for

pytestmark = pytest.mark.modes("full", more=("single",))

_READER = """
import os, socket, stat, sys
assert os.environ["LISTEN_PID"] == str(os.getpid())
names = os.environ["LISTEN_FDNAMES"].split(":")
kinds = [stat.filemode(os.fstat(3 + n).st_mode)[0] for n in range(int(os.environ["LISTEN_FDS"]))]
blocking = [os.get_blocking(3 + n) for n in range(len(kinds))]
print("passed", *map(":".join, zip(names, kinds, map(str, blocking))), flush=True)
listener = socket.socket(fileno=3)
while True:
    connection, _ = listener.accept()
    said = connection.recv(100).decode().strip()
    connection.sendall(f"{said} from {os.getpid()} {os.getresuid()[0]}\\n".encode())
    connection.close()
    if said == "end":
        sys.exit()
"""
_TALK = """
import socket, sys
place = sys.argv[1]
with socket.socket(socket.AF_UNIX if "/" in place else socket.AF_INET) as talking:
    talking.settimeout(60)
    talking.connect(place if "/" in place else ("127.0.0.1", int(place)))
    talking.sendall(sys.argv[2].encode() + b"\\n")
    print(talking.makefile().readline(), end="")
"""
_JOB = "[Service]\nType=oneshot\nExecStart=/bin/sh -c 'echo %p >> /run/%p'\n"
_FILES = {
    "systemd/system/often.timer": "[Timer]\nOnActiveSec=200ms\nOnUnitActiveSec=300ms\n",
    "systemd/system/often.service": _JOB,
    "systemd/system/once.timer": "[Timer]\nOnBootSec=0\nRemainAfterElapse=no\nUnit=job.service\n",
    "systemd/system/job.service": _JOB,
    "systemd/system/missed.timer": "[Timer]\nOnCalendar=monthly\nPersistent=yes\n[Install]\nWantedBy=timers.target\n",
    "systemd/system/missed.service": _JOB,
    "systemd/system/yearly.timer": "[Unit]\nDescription=Next year\n[Timer]\nOnCalendar=yearly UTC\n",
    "systemd/system/yearly.service": _JOB,
    "systemd/system/long.timer": "[Timer]\nOnActiveSec=0\nOnUnitInactiveSec=200ms\n",
    "systemd/system/long.service": "[Service]\nExecStart=/bin/sh -c 'echo %p >> /run/%p; sleep 1000'\n",
    "systemd/system/reader.socket": """
        [Unit]
        Description=Reader's
        [Socket]
        ListenStream=/run/reader/socket
        ListenDatagram=/run/reader/datagrams
        ListenFIFO=/run/reader/fifo
        FileDescriptorName=own
        SocketUser=daemon
        SocketMode=0600
        RemoveOnStop=yes
        [Install]
        WantedBy=sockets.target
        """,
    "systemd/system/reader.service": "[Service]\nUser=daemon\nExecStart=/usr/bin/python3 /etc/reader.py\n",
    "systemd/system/needing.service": """
        [Unit]
        Requires=reader.socket
        [Service]
        ExecStart=/bin/sleep 1000
        """,
    "systemd/system/each.socket": "[Socket]\nListenStream=127.0.0.1:PORT\nAccept=yes\n",
    "systemd/system/each@.service": """
        [Service]
        StandardInput=socket
        StandardOutput=socket
        ExecStart=/bin/sh -c 'read word; echo "$$word %p $REMOTE_ADDR"'
        """,
    "systemd/system/failing.socket": "[Socket]\nListenStream=/run/failing\nSymlinks=/run/link\n",
    "systemd/system/failing.service": "[Service]\nExecStart=/bin/sh -c 'echo no; exit 3'\n",
    "reader.py": _READER,
    "talk.py": _TALK,
}


@pytest.fixture(scope="module")
def port() -> str:
    """A TCP port of the loopback device that nobody listens on."""
    with socket.socket() as listener:
        listener.bind(("127.0.0.1", 0))
        return str(listener.getsockname()[1])


@pytest.fixture(scope="module")
def equipped(shared_environment: Environment, port: str) -> Environment:
    """An environment with these files in /etc."""
    if shared_environment.exec("sh", "-c", "command -v systemctl").returncode != 0:
        pytest.skip("this host has no systemctl")
    for name, text in _FILES.items():
        unindented = text if name.endswith(".py") else "\n".join(line.strip() for line in text.splitlines())
        shared_environment.sh(
            'mkdir -p /etc/systemd/system; cat > "/etc/$1"', name, stdin=unindented.replace("PORT", port)
        )
    return shared_environment


@pytest.fixture
def environment(equipped: Environment) -> Iterator[Environment]:
    """The same, in which nothing runs before and after the test."""
    yield equipped
    succeeded(equipped.tool.run("stop", equipped.name))
    assert equipped.tool.status(equipped.name)["processes"] == []


def _order(environment: Environment, *words: str) -> Result:
    return environment.exec("systemctl", *words)


def _lines_in(environment: Environment, file: str) -> int:
    return len(environment.exec("cat", file).stdout.splitlines())


def _talk(environment: Environment, place: str, said: str) -> list[str]:
    return environment.sh('python3 /etc/talk.py "$1" "$2"', place, said).split()


def test_a_timer_elapses_again_and_again(environment: Environment) -> None:
    environment.sh("systemctl start often.timer; systemctl is-active often.timer")
    wait_for(lambda: _lines_in(environment, "/run/often") >= 3)
    # Nothing but the timer keeps the environment running.
    [service] = [
        found for found in environment.tool.status(environment.name)["services"] if found["name"] == "often.timer"
    ]
    assert service["active"] == "active"
    environment.sh("systemctl stop often.timer")
    # What it had started at that moment comes to its own end.
    wait_for(lambda: environment.tool.status(environment.name)["running"] is False)


def test_a_timer_that_does_not_remain(environment: Environment) -> None:
    environment.sh("systemctl start once.timer")
    wait_for(lambda: _order(environment, "is-active", "once.timer").stdout == "inactive\n")
    assert _lines_in(environment, "/run/job") in (0, 1)  # 0: with its last process, /run of the environment is gone


def test_a_timer_waits_for_what_it_has_started(environment: Environment) -> None:
    environment.sh("systemctl start long.timer")
    wait_for(lambda: _lines_in(environment, "/run/long") == 1)
    pid = environment.sh("systemctl show -p MainPID --value long").strip()
    environment.sh('sleep 0.5; kill -9 "$1"', pid)
    wait_for(lambda: _lines_in(environment, "/run/long") == 2)
    assert environment.sh("systemctl show -p MainPID --value long").strip() != pid


def test_what_a_persistent_timer_has_missed_is_made_up_for(environment: Environment) -> None:
    environment.sh("rm -f /var/lib/systemd/timers/stamp-missed.timer; systemctl enable missed.timer 2>&1")
    succeeded(environment.tool.run("start", environment.name, "--services"))
    stamp = float(environment.sh("stat -c %Y /var/lib/systemd/timers/stamp-missed.timer"))
    assert stamp > datetime.now(UTC).timestamp() - 600
    assert _order(environment, "show", "-p", "MainPID", "missed").returncode == 0
    succeeded(environment.tool.run("stop", environment.name))
    environment.sh("touch -d '60 days ago' /var/lib/systemd/timers/stamp-missed.timer; systemctl start missed.timer")
    wait_for(lambda: _lines_in(environment, "/run/missed") == 1)
    environment.sh("systemctl disable missed.timer 2>&1")


def test_timers_are_listed(environment: Environment) -> None:
    environment.sh("systemctl start yearly.timer often.timer")
    wait_for(lambda: _lines_in(environment, "/run/often") >= 1)
    head, first, second, *_ = environment.sh("systemctl list-timers").splitlines()
    assert head.split() == ["NEXT", "LEFT", "LAST", "PASSED", "UNIT", "ACTIVATES"]
    assert first.split()[-2:] == ["often.timer", "often.service"] or "often.timer" in second
    [yearly] = environment.sh("systemctl list-timers --no-legend yearly.timer").splitlines()
    new_year = datetime(datetime.now(UTC).year + 1, 1, 1, tzinfo=UTC)
    assert yearly.split()[-4:] == ["-", "-", "yearly.timer", "yearly.service"]
    shown = environment.sh(
        "date -u -d \"$(systemctl status yearly.timer | sed -n 's/.*Trigger: \\(.*\\);.*/\\1/p')\" +%s"
    )
    assert timedelta(seconds=float(shown) - new_year.timestamp()) == timedelta()
    assert "Triggers: yearly.service" in environment.sh("systemctl status yearly.timer")
    assert "TriggeredBy: yearly.timer" in _order(environment, "status", "yearly").stdout
    assert [line.split()[0] for line in environment.sh("systemctl list-units -t timer --no-legend").splitlines()] == [
        "often.timer",
        "yearly.timer",
    ]


@pytest.mark.modes("full", "single")
def test_a_service_is_started_by_the_first_who_comes(environment: Environment) -> None:
    environment.sh("systemctl start reader.socket; systemctl is-active reader.socket")
    assert _order(environment, "is-active", "reader").stdout == "inactive\n"
    owner = "daemon" if environment.tool.mode == "full" else "root"
    assert environment.sh("stat -c '%U %a %F' /run/reader/socket") == f"{owner} 600 socket\n"
    said, _, pid, uid = _talk(environment, "/run/reader/socket", "hello")
    assert (said, uid) == ("hello", environment.sh("id -u daemon").strip() if owner == "daemon" else "0")
    assert environment.sh("systemctl show -p MainPID --value reader").strip() == pid
    assert "passed own:s:True own:s:True own:p:True" in environment.sh("journalctl -u reader")
    # The same one serves the next; when it has ended, another one.
    assert _talk(environment, "/run/reader/socket", "more")[2] == pid
    assert _talk(environment, "/run/reader/socket", "end")[2] == pid
    assert _talk(environment, "/run/reader/socket", "again")[2] != pid
    assert environment.sh("systemctl list-sockets --no-legend | awk '{print $1, $2, $3}'").splitlines() == [
        f"/run/reader/{name} reader.socket reader.service" for name in ("datagrams", "fifo", "socket")
    ]
    # It can be stopped, and comes back with the next; without the socket nobody can come.
    result = _order(environment, "stop", "reader")
    assert (result.returncode, "can still be started by: reader.socket" in result.stderr) == (0, True)
    _talk(environment, "/run/reader/socket", "back")
    environment.sh("systemctl stop reader.socket; test ! -e /run/reader/socket;")
    environment.sh("systemctl stop reader")


def test_a_service_that_is_started_by_hand_gets_the_sockets(environment: Environment) -> None:
    environment.sh("systemctl start reader.socket reader")
    pid = environment.sh("systemctl show -p MainPID --value reader").strip()
    assert _talk(environment, "/run/reader/socket", "hello")[2] == pid
    environment.sh("systemctl start reader.socket")  # it is
    result = _order(environment, "restart", "reader.socket")
    assert (result.returncode, "reader.service is running, and reader.socket has to" in result.stderr) == (1, True)
    assert _talk(environment, "/run/reader/socket", "hello")[2] == pid
    environment.sh("systemctl stop reader; systemctl start needing; systemctl is-active reader.socket")
    assert _talk(environment, "/run/reader/socket", "hello")[2] != pid


@pytest.mark.modes("full", "single")
def test_each_connection_gets_an_instance(environment: Environment, port: str) -> None:
    environment.sh("systemctl start each.socket")
    for word in ("one", "two"):
        assert _talk(environment, port, word) == [word, "each", "127.0.0.1"]
    wait_for(lambda: environment.sh("systemctl list-units --no-legend 'each@*'") == "")
    assert environment.sh("ls /var/log/sysenv-ns | grep each@ | sort") in ("", "each@.service.log\n")


def test_who_breaks_off_ends_no_socket(environment: Environment, port: str) -> None:
    """A connection that is reset before it is looked at has no other end any more."""
    environment.sh("systemctl start each.socket")
    for _ in range(100):
        with socket.create_connection(("127.0.0.1", int(port))) as connection:
            connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, struct.pack("ii", 1, 0))
    assert _talk(environment, port, "hello")[0] == "hello"
    assert environment.sh("systemctl is-active each.socket") == "active\n"


def test_a_socket_whose_service_cannot_live_is_given_up(environment: Environment) -> None:
    environment.sh("systemctl start yearly.timer failing.socket")
    environment.exec("timeout", "20", "python3", "/etc/talk.py", "/run/link", "hello")
    wait_for(lambda: _order(environment, "is-failed", "failing.socket").returncode == 0)
    assert environment.sh("systemctl show -p Result --value failing.socket") == "service-start-limit-hit\n"
    assert environment.sh("journalctl -u failing | grep -c ': no$'") == "5\n"


def test_what_somebody_else_listens_on_is_not_taken(environment: Environment) -> None:
    environment.sh("systemctl start each.socket reader.socket")
    environment.sh(
        "sed 's/Accept=yes/Service=often.service/' /etc/systemd/system/each.socket > /etc/systemd/system/other.socket; "
        "printf '[Socket]\\nListenStream=/run/reader/socket\\nService=often.service\\n' "
        "> /etc/systemd/system/same.socket"
    )
    for name in ("other.socket", "same.socket"):
        result = _order(environment, "start", name)
        assert (result.returncode, "cannot listen on" in result.stderr) == (1, True)
        assert "something else listens there" in result.stderr
    _talk(environment, "/run/reader/socket", "hello")
    environment.sh("rm /etc/systemd/system/other.socket /etc/systemd/system/same.socket")
