"""create --init: the real systemd as process 1 of an environment, in control groups that root gives the user."""

from __future__ import annotations

import os
import signal
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from .managers import given_group, running_manager
from .mirror import Mirror
from .support import Environment, Tool, end, finish, line, refused, sleeper, succeeded, wait_for
from .terminals import close, spawn

pytestmark = [pytest.mark.modes("full"), pytest.mark.slow]

_TOPS = ("/sys/fs/cgroup/unified", "/sys/fs/cgroup")
# It says that it is up, who it is and what its group is, and takes a while to end well.
_UNIT = """\
[Service]
Type=notify
NotifyAccess=all
User=games
RuntimeDirectory=steady
PrivateDevices=yes
RemoveIPC=yes
ExecStart=/bin/sh -c 'id -un; cat /proc/self/cgroup; stat -c %%F /dev/null; systemd-notify --ready; exec sleep 1000'
ExecStopPost=+/bin/sh -c 'sleep 0.3; echo stopped >> /srv/said'
[Install]
WantedBy=multi-user.target
"""


@pytest.fixture
def group(tool: Tool) -> Iterator[Path]:
    """A control group of the user's."""
    top = next((Path(top) for top in _TOPS if Path(top, "cgroup.controllers").exists()), None)
    if top is None:
        pytest.skip("there are no control groups of version 2 here")
    with given_group(tool.account, top) as path:
        yield path
        assert [entry.name for entry in path.iterdir() if entry.is_dir()] == []


def _within(tool: Tool, group: Path) -> Tool:
    """The tool in a control group."""
    script = 'echo $$ > "$1/cgroup.procs"; shift; exec "$@"'
    return replace(tool, prefix=("sh", "-c", script, "sh", str(group), *tool.account.setpriv()))


@pytest.fixture
def booted(tool: Tool, group: Path) -> Iterator[Environment]:
    """An environment that boots when it is entered."""
    inside = _within(tool, group)
    succeeded(inside.run("create", "--init", "booted", *tool.options))
    yield inside.environment("booted")
    inside.run("stop", "booted")
    inside.end("booted")


def _with_unit(environment: Environment) -> None:
    environment.sh("mkdir -p /srv; cat > /etc/systemd/system/steady.service; systemctl daemon-reload", stdin=_UNIT)


def test_it_boots_and_runs_services(booted: Environment) -> None:
    assert booted.sh("systemctl is-system-running --wait") == "running\n"
    assert booted.sh("cat /proc/1/comm") == "systemd\n"
    _with_unit(booted)
    booted.sh("systemctl enable --now steady")
    assert booted.sh("systemctl is-active steady") == "active\n"
    assert booted.sh("stat -c %U /run/steady") == "games\n"
    said = booted.sh("journalctl -u steady -o cat")
    assert "games\n" in said
    assert "0::/system.slice/steady.service\ncharacter special file\n" in said
    assert "Main PID" in booted.sh("systemctl status --no-pager steady")
    # The user sees it too, and root by sudo, where variables come from elsewhere.
    assert booted.me("systemctl is-active steady") == "active\n"
    assert booted.me("sudo systemctl restart steady; sudo -i systemctl is-active steady") == "active\n"
    assert booted.sh("su - -c 'systemctl is-active steady'") == "active\n"
    refusal = booted.exec("systemctl", "--user", "status", identity="--me")
    assert (refusal.returncode, refusal.stdout) == (1, "")
    # From the host.
    tool = booted.tool
    [service] = tool.status(booted.name)["services"]
    assert (service["name"], service["active"], service["sub"]) == ("steady.service", "active", "running")
    assert Path(f"/proc/{service['main']}/comm").read_text() == "sleep\n"
    assert service["memory"] > 0
    assert "games" in succeeded(tool.run("logs", booted.name, "steady")).stdout
    assert "service:" in succeeded(tool.run("status", booted.name)).stdout
    # It ends cleanly, and comes back.
    said = succeeded(tool.run("stop", booted.name)).stderr
    assert "stopped steady.service" in said
    assert f"powered off {booted.name}" in said
    assert tool.status(booted.name)["processes"] == []
    assert booted.sh("cat /srv/said; systemctl is-active steady") == "stopped\nstopped\nactive\n"
    booted.sh("systemctl disable steady")
    succeeded(tool.run("stop", booted.name))
    assert booted.exec("systemctl", "is-active", "steady").stdout == "inactive\n"
    succeeded(tool.run("start", booted.name, "steady"))
    assert booted.sh("systemctl is-active steady") == "active\n"


def test_it_starts_nothing_of_the_host(booted: Environment) -> None:
    """Neither what the host has enabled nor what looks after a machine; all of it can be started by name."""
    units = booted.sh(
        "systemctl list-units --plain --no-legend --all --type=service,timer,mount,automount | cut -d' ' -f1"
    )
    started = booted.sh(
        "systemctl list-units --plain --no-legend --type=service,timer,automount | cut -d' ' -f1"
    ).split()
    assert [name for name in started if not name.startswith(("systemd-", "dbus"))] == []
    assert not {"systemd-logind.service", "systemd-udevd.service", "getty@tty1.service"} & set(started)
    assert "cron.service" not in units.split() or booted.exec("systemctl", "is-active", "cron").stdout == "inactive\n"
    assert booted.sh("systemctl --failed --no-legend") == ""


def test_shared_memory_of_the_host_is_out_of_reach(booted: Environment) -> None:
    """With RemoveIPC= a manager deletes what the user of a service has there."""
    account = booted.tool.account
    kept = Path(f"/dev/shm/sysenv-test-{os.getpid()}-kept")
    _with_unit(booted)
    booted.sh('sed -i "s/^User=.*/User=$1/" /etc/systemd/system/steady.service; systemctl daemon-reload', account.name)
    kept.touch()
    try:
        os.chown(kept, account.uid, account.gid)
        booted.sh("systemctl start steady; systemctl stop steady")
        assert kept.exists()
    finally:
        kept.unlink()


def test_sessions_are_processes_like_others(booted: Environment) -> None:
    assert booted.exec("sh", "-c", "exit 7").returncode == 7
    assert booted.exec("sh", "-c", "kill -9 $$").returncode in (-9, 137)
    assert booted.exec("cat", stdin="text").stdout == "text"
    assert booted.me("id -un").strip() == booted.tool.account.name
    assert booted.me("echo $0; readlink /proc/self/ns/pid; readlink /proc/1/ns/pid || true").startswith("sh\n")
    # A signal to the process that was started reaches the command.
    process = booted.tool.start(
        "exec", booted.name, "--", "sh", "-c", "trap 'echo got; exit 3' TERM; echo ready; while :; do sleep 0.1; done"
    )
    assert line(process) == "ready\n"
    tops = [entry["pid"] for entry in booted.tool.status(booted.name)["processes"] if "while :" in entry["command"]]
    assert len(tops) == 2  # the command, and what waits for it outside
    os.kill(min(tops), signal.SIGTERM)
    assert line(process) == "got\n"
    assert finish(process).returncode == 3
    # What stays in the way is ended with it.
    session = sleeper(booted)
    succeeded(booted.tool.run("stop", "--time", "1", booted.name))
    end(session)
    assert booted.tool.status(booted.name)["processes"] == []


def test_a_shell_has_its_terminal(booted: Environment) -> None:
    shell = spawn(booted, str(booted.tool.launcher), "shell", booted.name)
    shell.expect(r"\$ ")
    shell.sendline("cat")
    shell.sendline("typed")
    shell.expect("typed\r\ntyped")
    shell.sendcontrol("z")
    shell.expect(r"Stopped.*\$ ")
    shell.sendline("fg")
    shell.expect("fg.*cat\r\n")
    shell.sendcontrol("c")
    shell.expect(r"\^C.*\$ ")
    shell.sendline("exit 5")
    close(shell)
    assert shell.exitstatus == 5


def test_commands_of_the_host_can_be_run_from_there(booted: Environment) -> None:
    """They are outside of its namespaces."""
    command = [str(booted.tool.launcher), "host", "run", "--", "readlink", "/proc/self/ns/pid"]
    assert succeeded(booted.exec(*command, identity="--me")).stdout.strip() == os.readlink("/proc/self/ns/pid")
    refused(booted.exec(*command), 125, "only programs that run as you")


def test_it_can_end_by_itself(booted: Environment, group: Path) -> None:
    booted.sh("true")
    booted.exec("systemctl", "poweroff")
    wait_for(lambda: booted.tool.status(booted.name)["processes"] == [])
    wait_for(lambda: not [entry for entry in group.iterdir() if entry.is_dir()])
    assert booted.sh("systemctl is-system-running --wait") == "running\n"
    succeeded(booted.tool.run("stop", "--time", "0", booted.name))
    assert booted.tool.status(booted.name)["processes"] == []
    wait_for(lambda: not [entry for entry in group.iterdir() if entry.is_dir()])


def test_it_ends_where_a_disk_is_mounted_below_var_tmp(tool: Tool, group: Path) -> None:
    """What the host has mounted stays: systemd waited for ever for what it could not take down."""
    inside = _within(tool, group)
    with tempfile.TemporaryDirectory(prefix="sysenv-test-", dir="/var/tmp") as place:
        script = 'mount -t tmpfs tmpfs "$0"; exec "$@"'
        with_disk = replace(inside, prefix=("unshare", "--mount", "sh", "-ec", script, place, *inside.prefix))
        succeeded(with_disk.run("create", "--init", "disks", *tool.options))
        try:
            assert "tmpfs" in with_disk.environment("disks").sh(f"stat -f -c %T {place}")
            assert "powered off disks" in succeeded(with_disk.run("stop", "disks")).stderr
        finally:
            with_disk.end("disks")


def test_sessions_that_begin_together(booted: Environment) -> None:
    processes = [booted.tool.start("exec", booted.name, "--", "readlink", "/proc/self/ns/pid") for _ in range(4)]
    assert len({line(process) for process in processes}) == 1
    assert [finish(process).returncode for process in processes] == [0] * 4


def test_it_rests_for_a_snapshot(booted: Environment) -> None:
    tool = booted.tool
    _with_unit(booted)
    booted.sh("systemctl enable --now steady")
    said = succeeded(tool.run("snapshot", booted.name, "before")).stderr
    assert "powering off" in said
    assert "booting" in said
    assert booted.sh("systemctl is-active steady") == "active\n"
    session = sleeper(booted)
    refused(tool.run("snapshot", booted.name, "again"), 1, "is running")
    end(session)
    # A copy has one too, and a throwaway one none.
    succeeded(tool.run("clone", booted.name, "copy"))
    try:
        assert tool.environment("copy").sh("cat /proc/1/comm") == "systemd\n"
    finally:
        succeeded(tool.run("stop", "copy"))
        tool.end("copy")
    succeeded(tool.run("stop", booted.name))
    throwaway = succeeded(tool.run("exec", "--ephemeral", booted.name, "--", "cat", "/proc/1/comm"))
    assert throwaway.stdout == Path("/proc/1/comm").read_text()


def test_packages_are_started_by_hand(booted: Environment, mirror: Mirror) -> None:
    mirror.install(booted, "redis-server", "nginx-light")
    booted.sh("rm -f /etc/nginx/sites-enabled/default")
    assert booted.exec("systemctl", "is-active", "redis-server").stdout == "inactive\n"
    booted.sh("sed -i 's/^port .*/port 0/; s/^# unixsocket /unixsocket /' /etc/redis/redis.conf")
    booted.sh("systemctl start redis-server nginx")
    assert booted.sh("redis-cli -s $(sed -n 's/^unixsocket //p' /etc/redis/redis.conf) ping") == "PONG\n"
    assert booted.sh("ps -o user:20= -C redis-server") == "redis\n"
    names = {service["name"] for service in booted.tool.status(booted.name)["services"]}
    assert {"redis-server.service", "nginx.service"} <= names
    succeeded(booted.tool.run("stop", booted.name))
    assert booted.sh("systemctl is-system-running --wait; systemctl is-active redis-server nginx").split() == [
        *("running", "active", "active")
    ]


def test_what_is_broken_inside_is_told_and_can_be_repaired(booted: Environment) -> None:
    tool = booted.tool
    path = booted.sh("readlink -f /lib/systemd/systemd").strip()
    succeeded(tool.run("stop", booted.name))
    succeeded(
        tool.run(
            "exec",
            "--no-init",
            booted.name,
            "--",
            "sh",
            "-c",
            "printf '#!/bin/sh\\nexit 3\\n' > $0.new; chmod 755 $0.new; mv $0 $0.old; mv $0.new $0",
            path,
        )
    )
    refused(booted.exec("true"), 125, "systemd has ended while it booted booted (status 3)", "--no-init")
    succeeded(tool.run("exec", "--no-init", booted.name, "--", "rm", path))
    refused(booted.exec("true"), 125, "has no systemd to be its process 1", "--no-init")
    succeeded(tool.run("exec", "--no-init", booted.name, "--", "mv", f"{path}.old", path))
    session = tool.start("exec", "--no-init", booted.name, "--", "sh", "-c", "echo ready; exec sleep 300")
    assert line(session) == "ready\n"
    refused(booted.exec("true"), 125, "was entered with --no-init")
    end(session)
    assert booted.sh("cat /proc/1/comm") == "systemd\n"
    refused(tool.run("exec", "--no-init", booted.name, "--", "true"), 125, "runs with systemd", "stop booted")


def test_where_it_cannot_be_had(tool: Tool) -> None:
    succeeded(tool.run("create", "--init", "unbooted", *tool.options))
    try:
        refused(tool.run("exec", "unbooted", "--", "true"), 125, "needs a control group", "loginctl enable-linger")
        assert tool.status("unbooted")["processes"] == []
        succeeded(tool.run("exec", "--no-init", "unbooted", "--", "true"))
    finally:
        tool.end("unbooted")
    succeeded(tool.run("create", "plain", *tool.options))
    try:
        refused(tool.run("exec", "--init", "plain", "--", "true"), 125, "already exists, without systemd")
        result = tool.run("start", "--foreground", "plain")
        assert (result.returncode, "was made with --init" in result.stderr) == (2, True)
    finally:
        tool.end("plain")


@pytest.mark.modes("single", more=("root",))
def test_it_needs_users(tool: Tool) -> None:
    refused(tool.run("create", "--init", "booted", *tool.options), 1, "needs the full id map", "leave out --init")
    assert "booted" not in succeeded(tool.run("list")).stdout


def test_by_the_users_manager(tool: Tool) -> None:
    """The manager gives it a group, shows its processes, and ends it cleanly when it ends itself."""
    with running_manager(tool) as manager:
        launcher = str(tool.launcher)
        succeeded(manager.run(launcher, "create", "--init", "managed", *tool.options))
        try:
            said = succeeded(manager.run(launcher, "exec", "managed", "--", "systemctl", "is-system-running", "--wait"))
            assert said.stdout == "running\n"
            [unit] = manager.systemctl(
                "list-units", "--plain", "--no-legend", "sysenv-ns-managed-*"
            ).stdout.splitlines()
            name = unit.split()[0]
            assert "systemd-journald" in manager.systemctl("status", name).stdout
            script = "cat > /etc/systemd/system/steady.service; mkdir -p /srv; systemctl daemon-reload"
            succeeded(manager.run(launcher, "exec", "managed", "--", "sh", "-ec", script, stdin=_UNIT))
            succeeded(manager.run(launcher, "exec", "managed", "--", "systemctl", "start", "steady"))
            succeeded(manager.systemctl("stop", name))
            assert tool.status("managed")["processes"] == []
            assert succeeded(tool.run("exec", "--no-init", "managed", "--", "cat", "/srv/said")).stdout == "stopped\n"
            # A unit of the user's can boot it, and says when it is up.
            command = [
                "/usr/bin/systemd-run",
                "--user",
                "--unit=own",
                "--service-type=notify",
                "--property=Delegate=yes",
            ]
            store = f"--setenv=SYSENV_NS_HOME={tool.store}"
            succeeded(manager.run(*command, store, launcher, "start", "--foreground", "managed"))
            assert (
                succeeded(manager.run(launcher, "exec", "managed", "--", "cat", "/proc/1/comm")).stdout == "systemd\n"
            )
            succeeded(manager.run(launcher, "stop", "managed"))
            wait_for(lambda: manager.systemctl("is-active", "own").stdout != "active\n")
            assert tool.status("managed")["processes"] == []
        finally:
            tool.run("stop", "managed")
            tool.end("managed")
