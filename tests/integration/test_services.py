"""Orders for services do what they say: units of a small package, started, watched, restarted and ended inside."""

from __future__ import annotations

from collections.abc import Iterator

import pytest

from .support import Environment, Result, describe, succeeded, wait_for

pytestmark = pytest.mark.modes("full", more=("single",))

_UNITS = {
    "simple": """
        [Unit]
        Description=A simple one
        [Service]
        User=daemon
        Environment="GREETING=hello you" OTHER=%p
        EnvironmentFile=-/etc/absent
        EnvironmentFile=/etc/test.env
        RuntimeDirectory=simple
        StateDirectory=simple
        ExecStartPre=/bin/sh -c 'echo before; id -un > /run/simple/who'
        ExecStart=/bin/sh -c 'echo "$GREETING/$OTHER/$FROM_FILE/$RUNTIME_DIRECTORY/$0"; exec sleep 1000' $WORDS
        ExecStop=/bin/sh -c 'echo ends $MAINPID'
        [Install]
        WantedBy=multi-user.target
        """,
    "forking": """
        [Service]
        Type=forking
        ExecStart=/bin/sh -c 'sleep 1000 & echo forked'
        """,
    "pidfile": """
        [Service]
        Type=forking
        PIDFile=/run/pidfile.pid
        ExecStart=/bin/sh -c 'sleep 1000 & echo $$! > /run/pidfile.pid; sleep 1000 &'
        ExecReload=/bin/sh -c 'echo reloaded > /run/reloaded-$MAINPID'
        """,
    "notify": """
        [Service]
        Type=notify
        ExecStart=/usr/bin/python3 -c "import os, socket, time; time.sleep(0.3); \\
            s = socket.socket(socket.AF_UNIX, socket.SOCK_DGRAM); \\
            open('/run/ready', 'w'); \\
            s.sendto(b'READY=1\\\\nSTATUS=at your service', os.environ['NOTIFY_SOCKET']); time.sleep(1000)"
        """,
    "oneshot": """
        [Service]
        Type=oneshot
        RemainAfterExit=yes
        ExecStart=/bin/sh -c 'echo one'
        ExecStart=/bin/sh -c 'echo two'
        ExecStop=/bin/sh -c 'echo undone'
        """,
    "broken": """
        [Service]
        Type=notify
        ExecStart=/bin/sh -c 'echo a mistake >&2; exit 7'
        """,
    "mistaken": """
        [Service]
        ExecStart=/bin/sh -c 'exit 6'
        """,
    "late": """
        [Service]
        Type=notify
        TimeoutStartSec=1
        ExecStart=/bin/sleep 1000
        """,
    "stubborn": """
        [Service]
        TimeoutStopSec=1
        ExecStart=/bin/sh -c 'trap "" TERM; while :; do sleep 1; done'
        """,
    "again": """
        [Service]
        Restart=on-failure
        RestartSec=100ms
        StartLimitBurst=50
        ExecStart=/bin/sh -c 'echo started; exec sleep 1000'
        """,
    "hopeless": """
        [Unit]
        StartLimitIntervalSec=100
        StartLimitBurst=3
        [Service]
        Restart=always
        RestartSec=50ms
        ExecStart=/bin/sh -c 'sleep 0.3; exit 1'
        """,
    "needing": """
        [Unit]
        Requires=simple.service
        Wants=forking.service absent.service broken.service
        After=simple.service forking.service
        [Service]
        ExecStart=/bin/sleep 1000
        """,
    "needing-broken": """
        [Unit]
        Requires=broken.service
        After=broken.service
        [Service]
        ExecStart=/bin/sleep 1000
        """,
    "part": """
        [Unit]
        PartOf=simple.service
        [Service]
        ExecStart=/bin/sleep 1000
        """,
    "template@": """
        [Service]
        ExecStart=/bin/sh -c 'echo instance %i is %I; exec sleep 1000'
        """,
    "dynamic": """
        [Service]
        DynamicUser=yes
        StateDirectory=dynamic
        ExecStart=/bin/sh -c 'id -u > $STATE_DIRECTORY/uid; exec sleep 1000'
        """,
    "conditional": """
        [Unit]
        ConditionPathExists=/etc/absent
        [Service]
        ExecStart=/bin/sleep 1000
        """,
    "bus": """
        [Service]
        Type=dbus
        BusName=org.example.Test
        ExecStart=/bin/sleep 1000
        """,
    "unknown-user": """
        [Service]
        User=nobody-of-this-name
        ExecStart=/bin/sleep 1000
        """,
    "unmet": """
        [Service]
        ExecCondition=/bin/false
        ExecStart=/bin/sleep 1000
        """,
    "chrooted": """
        [Service]
        RootDirectory=/srv
        ExecStart=/bin/sleep 1000
        """,
    "requisite": """
        [Unit]
        Requisite=simple.service
        [Service]
        ExecStart=/bin/sleep 1000
        """,
    "brief": """
        [Unit]
        OnFailure=note@%N.service
        [Service]
        RuntimeMaxSec=200ms
        ExecStart=/bin/sleep 1000
        """,
    "note@": """
        [Service]
        Type=oneshot
        ExecStart=/bin/sh -c 'echo noted %i'
        """,
    "low-port": """
        [Service]
        Type=oneshot
        ExecStart=/usr/bin/python3 -c "import socket; socket.create_server(('127.0.0.1', 81))"
        """,
}
_OTHERS = {
    "test.path": "[Path]\nPathExists=/run/test\nUnit=simple.service\n[Install]\nWantedBy=multi-user.target\n",
    "test.mount": "[Mount]\nWhat=/dev/null\nWhere=/test\n",
    "fraction.timer": "[Timer]\nOnCalendar=0:0:0.5\nUnit=simple.service\n",
    "clock.timer": "[Timer]\nOnClockChange=yes\nUnit=simple.service\n",
    "alone.timer": "[Timer]\nOnCalendar=daily\n",
    "kernel.socket": "[Socket]\nListenNetlink=kobject-uevent 1\nService=simple.service\n",
    "low.socket": "[Socket]\nListenStream=127.0.0.1:81\nService=simple.service\n",
    "hooked.socket": "[Socket]\nListenStream=/run/x\nExecStartPre=/bin/true\nService=simple.service\n",
}


@pytest.fixture(scope="module")
def equipped(shared_environment: Environment) -> Environment:
    """An environment with these units."""
    texts = {f"{name}.service": "\n".join(line.strip() for line in text.splitlines()) for name, text in _UNITS.items()}
    for name, text in {**texts, **_OTHERS}.items():
        # A line that goes on does so without the spaces that begin the next one.
        shared_environment.sh('mkdir -p /etc/systemd/system; cat > "/etc/systemd/system/$1"', name, stdin=text)
    shared_environment.sh("printf 'FROM_FILE=\"from a file\"\\nWORDS=a b\\n' > /etc/test.env")
    if shared_environment.exec("sh", "-c", "command -v systemctl").returncode != 0:
        pytest.skip("this host has no systemctl")
    return shared_environment


@pytest.fixture
def environment(equipped: Environment) -> Iterator[Environment]:
    """The same, in which nothing runs before and after the test."""
    yield equipped
    succeeded(equipped.tool.run("stop", equipped.name))


def _order(environment: Environment, *words: str) -> Result:
    return environment.exec("systemctl", *words)


def _show(environment: Environment, name: str, key: str) -> str:
    return environment.sh('systemctl show -p "$2" --value "$1"', name, key).strip()


@pytest.mark.modes("full", "single")
def test_a_service_runs_as_its_unit_says(environment: Environment) -> None:
    environment.sh("systemctl start simple")
    assert environment.sh("systemctl is-active simple") == "active\n"
    # It lives on when the one who has started it is gone, and is one of the environment's processes.
    pid = _show(environment, "simple", "MainPID")
    processes = {
        process["pid"]: process["command"] for process in environment.tool.status(environment.name)["processes"]
    }
    assert processes[int(pid)] == "sleep 1000"
    who = "daemon" if environment.tool.mode == "full" else "root"
    assert environment.sh('ps -o user:32= -p "$1"; cat /run/simple/who', pid).split() == [who, who]
    assert environment.sh("stat -c %U /run/simple /var/lib/simple").split() == [who, who]
    said = environment.sh("journalctl -u simple")
    assert "before" in said
    assert "hello you/simple/from a file//run/simple/a" in said
    # At the next start of the environment the directory would be there again, for who starts the program by hand.
    environment.sh("systemctl stop simple; test ! -e /run/simple; test -d /var/lib/simple")
    assert _order(environment, "is-active", "simple").returncode == 3
    assert f"ends {pid}" in environment.sh("journalctl -u simple -n 1")
    assert environment.exec("kill", "-0", pid).returncode != 0


def test_status_says_what_there_is(environment: Environment) -> None:
    environment.sh("systemctl start simple")
    lines = [line.strip() for line in environment.sh("systemctl status simple").splitlines()]
    assert lines[0] == "● simple.service - A simple one"
    assert lines[1] == "Loaded: loaded (/etc/systemd/system/simple.service; disabled)"
    assert lines[2].startswith("Active: active (running) since ")
    assert f"Main PID: {_show(environment, 'simple', 'MainPID')} (sleep)" in lines
    environment.sh("systemctl stop simple")
    result = _order(environment, "status", "simple")
    assert (result.returncode, "inactive (dead)" in result.stdout) == (3, True)
    assert _order(environment, "status", "absent").returncode == 4


@pytest.mark.parametrize("name", ["forking", "pidfile"])
def test_a_daemon_is_found(environment: Environment, name: str) -> None:
    environment.sh(f"systemctl start template@other {name}")
    pid = _show(environment, name, "MainPID")
    assert environment.sh('ps -o args= -p "$1"', pid) == "sleep 1000\n"
    # Its end is noticed, whoever ends it.
    environment.sh('kill -9 "$1"', pid)
    wait_for(lambda: _order(environment, "is-failed", name).returncode == 0)
    environment.sh(f"systemctl start {name}; systemctl is-active {name}")


def test_a_service_that_tells_when_it_is_ready(environment: Environment) -> None:
    environment.sh("systemctl start notify; test -e /run/ready")
    assert 'Status: "at your service"' in environment.sh("systemctl status notify")


def test_a_oneshot_service_stays_active(environment: Environment) -> None:
    said = """
        systemctl start oneshot; systemctl start oneshot
        systemctl is-active oneshot
        journalctl -u oneshot -n 2
        systemctl stop oneshot
        journalctl -u oneshot -n 1
        systemctl is-active oneshot || :
    """
    lines = [line.rpartition(": ")[2] for line in environment.sh(said).splitlines()]
    assert lines == ["active", "one", "two", "undone", "inactive"]


def test_reload(environment: Environment) -> None:
    environment.sh("systemctl start pidfile simple; systemctl reload pidfile")
    environment.sh('test -e "/run/reloaded-$1"', _show(environment, "pidfile", "MainPID"))
    result = _order(environment, "reload", "simple")
    assert (result.returncode, "cannot be reloaded" in result.stderr) == (1, True)
    before = _show(environment, "simple", "MainPID")
    environment.sh("systemctl reload-or-restart simple")
    assert _show(environment, "simple", "MainPID") != before


@pytest.mark.parametrize(
    ("order", "status", "said"),
    [
        ("start broken", 1, "Job for broken.service failed: status 7."),
        ("start late", 1, "Job for late.service failed: timeout"),
        ("start needing-broken", 1, "Dependency failed for needing-broken.service: broken.service."),
        ("start absent", 5, "Unit absent.service not found."),
        ("start template@", 5, "not found"),
        ("start conditional", 1, "ConditionPathExists=/etc/absent is not met"),
        ("start unmet", 1, "ExecCondition=/bin/false does not hold"),
        ("start chrooted", 1, "RootDirectory= is not supported"),
        ("start requisite", 1, "it requires simple.service to be active"),
        ("start bus", 1, "services of Type=dbus are not supported"),
        ("start unknown-user", 1, "nobody-of-this-name"),
        ("start test.path", 1, "units of the type path are not supported"),
        ("start test.mount", 1, "units of the type mount are not supported"),
        ("enable --now test.path", 1, "units of the type path are not supported"),
        ("start fraction.timer", 1, "fractions of seconds are not supported"),
        ("start clock.timer", 1, "OnClockChange= is not supported"),
        ("start alone.timer", 5, "Unit alone.service not found, which alone.timer is for."),
        ("start kernel.socket", 1, "ListenNetlink=kobject-uevent 1 is not supported"),
        ("start low.socket", 1, "ip_unprivileged_port_start"),
        ("start hooked.socket", 1, "ExecStartPre= of a socket is not supported"),
        ("stop absent", 5, "not loaded"),
        ("restart absent", 5, "not found"),
        ("reload simple", 1, "not active"),
        ("is-active absent", 4, ""),
        ("isolate rescue.target", 1, "isolate is not supported"),
        ("reboot", 1, "the machine is the host's"),
        ("edit simple", 1, "edit is not supported"),
        ("list-jobs", 1, "list-jobs is not supported"),
        ("start --no-such-option simple", 1, "--no-such-option is not supported"),
        ("--user start simple", 1, "the host's own manager"),
        ("start low-port", 1, "ip_unprivileged_port_start"),
        ("start", 1, "which unit?"),
    ],
)
def test_what_is_not_done_is_not_said_to_be(environment: Environment, order: str, status: int, said: str) -> None:
    result = _order(environment, *order.split())
    assert (result.returncode, said in result.stderr) == (status, True), describe(result)
    assert environment.tool.status(environment.name)["running"] is False


def test_a_mistake_that_shows_at_once_is_told(environment: Environment) -> None:
    """Though systemd would not wait for it; a busy machine may take longer than it is waited for."""
    answers = (_order(environment, "start", "mistaken") for _ in range(5))
    assert any("Job for mistaken.service failed: status 6." in answer.stderr for answer in answers)


def test_low_ports_are_explained_where_people_look(environment: Environment) -> None:
    environment.sh("systemctl start forking; ! systemctl start low-port low.socket")
    for name in ("low-port", "low.socket"):
        assert "sudo sysctl -w net.ipv4.ip_unprivileged_port_start" in _order(environment, "status", name).stdout
    services = {service["name"]: service for service in environment.tool.status(environment.name)["services"]}
    for name in ("low-port.service", "low.socket"):
        assert any("ip_unprivileged_port_start" in line for line in services[name]["log"])


def test_a_masked_unit_does_not_start(environment: Environment) -> None:
    environment.sh("ln -s /dev/null /etc/systemd/system/masked.service")
    result = _order(environment, "start", "masked")
    assert (result.returncode, "Unit masked.service is masked." in result.stderr) == (1, True)


def test_what_does_not_end_is_killed(environment: Environment) -> None:
    environment.sh("systemctl start stubborn")
    environment.sh("systemctl stop stubborn; journalctl -u stubborn | grep -q 'took too long'")
    assert environment.tool.status(environment.name)["running"] is False


def test_a_service_is_restarted_when_it_fails(environment: Environment) -> None:
    environment.sh("systemctl start again")
    before = _show(environment, "again", "MainPID")
    environment.sh('kill -9 "$1"', before)
    wait_for(lambda: _show(environment, "again", "MainPID") not in ("0", before))
    assert _show(environment, "again", "NRestarts") == "1"
    # Not when it is stopped, and not when it ends well.
    environment.sh("systemctl stop again")
    assert environment.tool.status(environment.name)["running"] is False


def test_a_service_that_cannot_live_is_given_up(environment: Environment) -> None:
    environment.sh("systemctl start template@other hopeless")
    wait_for(lambda: _order(environment, "is-failed", "hopeless").returncode == 0)
    assert environment.sh("journalctl -u hopeless | grep -c 'status 1'") == "3\n"
    environment.sh("systemctl reset-failed hopeless")
    assert _order(environment, "is-failed", "hopeless").stdout == "inactive\n"


def test_another_unit_is_started_when_one_fails(environment: Environment) -> None:
    environment.sh("systemctl start template@other brief")
    wait_for(lambda: "noted brief" in environment.exec("journalctl", "-u", "note@brief").stdout)
    assert _show(environment, "brief", "Result") == "timeout"
    assert _order(environment, "is-failed", "unmet").returncode == 1


def test_what_a_unit_needs_is_started_before_it(environment: Environment) -> None:
    environment.sh("systemctl start needing")
    assert environment.sh("systemctl is-active needing simple forking").split() == ["active"] * 3
    started = {name: _show(environment, name, "ActiveEnterTimestamp") for name in ("simple", "forking", "needing")}
    assert max(started.values()) == started["needing"]
    # What requires another one ends with it.
    environment.sh("systemctl start part; systemctl restart simple")
    assert environment.sh("systemctl is-active part needing simple").split() == ["active"] * 3
    environment.sh("systemctl stop simple")
    assert _order(environment, "is-active", "part", "needing", "simple").stdout.split() == ["inactive"] * 3


def test_instances_of_a_template(environment: Environment) -> None:
    environment.sh("systemctl start template@one-two template@3")
    assert "instance one-two is one/two" in environment.sh("journalctl -u template@one-two")
    listed = [line.split()[:4] for line in environment.sh("systemctl list-units --no-legend").splitlines()]
    assert listed == [[f"template@{name}.service", "loaded", "active", "running"] for name in ("3", "one-two")]
    environment.sh("systemctl stop 'template@*'")
    assert environment.tool.status(environment.name)["running"] is False


def test_a_drop_in_changes_a_unit(environment: Environment) -> None:
    drop_in = "[Service]\nEnvironment=GREETING=changed\nExecStop=\n"
    environment.sh(
        "mkdir -p /etc/systemd/system/simple.service.d; cat > /etc/systemd/system/simple.service.d/own.conf",
        stdin=drop_in,
    )
    environment.sh("systemctl daemon-reload; systemctl restart simple; systemctl stop simple")
    assert [line.rpartition(": ")[2] for line in environment.sh("journalctl -u simple -n 1").splitlines()] == [
        "changed/simple/from a file//run/simple/a"
    ]
    environment.sh("rm -r /etc/systemd/system/simple.service.d")


def test_a_dynamic_user_is_nobody_else(environment: Environment) -> None:
    environment.sh("systemctl start dynamic")
    wait_for(lambda: environment.exec("test", "-s", "/var/lib/dynamic/uid").returncode == 0)
    uid = int(environment.sh("cat /var/lib/dynamic/uid"))
    # Everybody is root in the single map, and has a name all the same.
    if environment.tool.mode == "full":
        assert environment.sh('getent passwd "$1" | cut -d: -f1,6,7', str(uid)) == "dynamic:/:/usr/sbin/nologin\n"
    else:
        assert (uid, environment.sh("id -un dynamic")) == (0, "dynamic\n")


def test_enable_now(environment: Environment) -> None:
    environment.sh("systemctl enable --now simple; systemctl is-enabled simple; systemctl is-active simple")
    environment.sh("systemctl disable --now simple")
    assert _order(environment, "is-active", "simple").returncode == 3
    assert _order(environment, "is-enabled", "simple").stdout == "disabled\n"


_INIT_SCRIPT = """\
#!/bin/sh
# Short-Description: old
case $1 in
    start) sleep 1000 & echo $! > /run/old ;;
    stop) kill $(cat /run/old) ;;
    own) echo own order ;;
esac
"""


def test_an_init_script_without_a_unit(environment: Environment) -> None:
    environment.sh("mkdir -p /etc/init.d; cat > /etc/init.d/old; chmod +x /etc/init.d/old", stdin=_INIT_SCRIPT)
    environment.sh("service old start; systemctl is-active old; service old status | grep -q 'LSB: old'")
    assert environment.sh("service old own") == "own order\n"
    environment.sh("service old stop")
    assert environment.tool.status(environment.name)["running"] is False


@pytest.mark.modes("full")
def test_you_give_orders_by_sudo(environment: Environment) -> None:
    result = environment.exec("systemctl", "start", "simple", identity="--me")
    assert (result.returncode, "hint: sudo systemctl start simple" in result.stderr) == (1, True)
    environment.me(
        "sudo -n systemctl start simple; systemctl is-active simple; systemctl status simple; journalctl -u simple"
    )
    environment.me("sh -lc 'systemctl is-active simple'")
    environment.me("sudo -n systemctl stop simple")


def test_a_package_starts_nothing(environment: Environment) -> None:
    script = (
        "DPKG_MAINTSCRIPT_NAME=postinst; export DPKG_MAINTSCRIPT_NAME; systemctl start simple; systemctl restart simple"
    )
    environment.sh(script)
    assert _order(environment, "is-active", "simple").returncode == 3


def test_the_environment_is_stopped_with_its_services(environment: Environment) -> None:
    environment.sh("systemctl start simple part")
    pid = _show(environment, "simple", "MainPID")
    services = {service["name"]: service for service in environment.tool.status(environment.name)["services"]}
    assert list(services) == ["part.service", "simple.service"]
    simple = services["simple.service"]
    assert (simple["active"], simple["sub"], simple["main"]) == ("active", "running", int(pid))
    assert simple["memory"] > 0
    assert simple["log"][-1].endswith("hello you/simple/from a file//run/simple/a")
    stopped = succeeded(environment.tool.run("stop", environment.name)).stderr
    assert "stopped simple.service" in stopped
    assert environment.tool.status(environment.name)["running"] is False
    said = succeeded(environment.tool.run("logs", environment.name, "simple", "-n", "1")).stdout
    assert f"ends {pid}" in said
    assert f"ends {pid}" in succeeded(environment.tool.run("logs", environment.name)).stdout


def test_start_brings_back_what_is_enabled(environment: Environment) -> None:
    tool = environment.tool
    result = tool.run("start", environment.name)
    assert (result.returncode, "no service is enabled" in result.stderr) == (1, True), describe(result)
    environment.sh("systemctl enable simple part template@two 2>&1; systemctl disable template@two 2>&1 || :")
    for options in ((), ("--services",)):
        succeeded(tool.run("start", environment.name, *options))
        assert _order(environment, "is-active", "simple").stdout == "active\n"
        succeeded(tool.run("stop", environment.name))
    succeeded(tool.run("start", environment.name, "forking"))
    assert [service["name"] for service in tool.status(environment.name)["services"]] == ["forking.service"]
    environment.sh("systemctl disable simple 2>&1")
    assert tool.run("start", environment.name).returncode == 1


def test_what_has_no_file_any_more_is_ended_as_it_said(environment: Environment) -> None:
    environment.sh("sed 's/%p/gone/' /etc/systemd/system/simple.service > /etc/systemd/system/gone.service")
    environment.sh("systemctl start gone forking; rm /etc/systemd/system/gone.service; systemctl stop gone")
    assert "ends " in environment.sh("tail -n 1 /var/log/sysenv-ns/gone.service.log")
    environment.sh("cp /etc/systemd/system/simple.service /etc/systemd/system/gone.service; systemctl start gone")
    environment.sh("rm /etc/systemd/system/gone.service")
    stopped = succeeded(environment.tool.run("stop", environment.name)).stderr
    assert "not all services have stopped" not in stopped
    assert "ends " in environment.sh("tail -n 1 /var/log/sysenv-ns/gone.service.log")


def test_services_rest_while_a_snapshot_is_taken(environment: Environment) -> None:
    tool = environment.tool
    environment.sh("systemctl start simple broken forking || :")
    before = _show(environment, "simple", "MainPID")
    result = succeeded(tool.run("snapshot", environment.name, "state"))
    assert "stopping forking.service, simple.service" in result.stderr
    assert _order(environment, "is-active", "simple", "forking").stdout.split() == ["active", "active"]
    assert _show(environment, "simple", "MainPID") != before
    succeeded(tool.run("rollback", environment.name, "state"))
    assert _order(environment, "is-active", "simple", "forking").stdout.split() == ["active", "active"]
    # Not when something else keeps the environment running all the same.
    environment.sh("sleep 1000 > /dev/null 2>&1 &")
    before = _show(environment, "simple", "MainPID")
    result = tool.run("snapshot", environment.name, "other")
    assert (result.returncode, "is running" in result.stderr, "stopping" in result.stderr) == (1, True, False)
    assert _show(environment, "simple", "MainPID") == before


_FORGED = '{"name": "\\u001b[2Jx", "active": "active", "sub": "s", "since": 1, "main": 1, "supervisor": 1}'


def test_what_an_environment_says_of_its_services_is_checked(environment: Environment) -> None:
    script = """
        mkdir -p /run/sysenv-ns/units
        cd /run/sysenv-ns/units
        cat > a.json
        printf '{"name": [], "active": 7}' > b.json; printf '{' > c.json; ln -s /etc/passwd d.json; mkfifo e.json
        mkfifo 0.json; ln -s /etc/passwd 1.json; mkdir 2.json
        sleep 1000 > /dev/null 2>&1 &
    """
    environment.sh(script, stdin=_FORGED)
    [service] = environment.tool.status(environment.name)["services"]
    assert (service["name"], service["main"]) == ("\x1b[2Jx", 0)
    shown = succeeded(environment.tool.run("status", environment.name)).stdout
    assert '"\\x1b[2Jx" active (s), since 1970' in shown
    # And it ends all the same.
    succeeded(environment.tool.run("stop", environment.name))
    assert environment.tool.status(environment.name)["running"] is False
