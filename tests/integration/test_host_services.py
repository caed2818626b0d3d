"""Nothing inside orders the host's services about: its D-Bus is there, and hears of no unit and no authorisation."""

from __future__ import annotations

import subprocess
import tempfile
from collections.abc import Iterator, Sequence
from pathlib import Path

import pytest

from .debs import Deb, change
from .machines import Machine
from .support import ROOT_RUN, Environment, describe, succeeded

# A host with a system bus on which somebody listens, in a mount namespace of its own: this machine may have none.
_HOST = """
directory=$1; shift
mount -t tmpfs -o mode=755 tmpfs /run
mkdir /run/dbus /run/systemd /run/lock
dbus-daemon --config-file="$directory/bus.conf" --fork --print-pid=3 3> "$directory/pid"
dbus-monitor --address unix:path=/run/dbus/system_bus_socket > "$directory/heard" &
monitor=$!
until grep -q NameAcquired "$directory/heard"; do sleep 0.05; done
status=0
"$@" || status=$?
dbus-send --bus=unix:path=/run/dbus/system_bus_socket --type=signal /end host.test.End
until grep -q member=End "$directory/heard"; do sleep 0.05; done
kill $monitor $(cat "$directory/pid")
exit $status
"""
_BUS = """
<!DOCTYPE busconfig PUBLIC "-//freedesktop//DTD D-Bus Bus Configuration 1.0//EN"
 "http://www.freedesktop.org/standards/dbus/1.0/busconfig.dtd">
<busconfig>
  <type>system</type>
  <listen>unix:path=/run/dbus/system_bus_socket</listen>
  <auth>EXTERNAL</auth>
  <policy context="default">
    <allow user="*"/> <allow own="*"/> <allow send_destination="*" eavesdrop="true"/> <allow eavesdrop="true"/>
  </policy>
</busconfig>
"""
_MANAGERS = ("org.freedesktop.systemd1", "org.freedesktop.login1", "org.freedesktop.PolicyKit1", "PackageKit")
_ORDERS = "systemctl daemon-reload; systemctl restart ssh.service; systemctl stop cron; systemctl reload ssh"
_STOP_UNIT = ("org.freedesktop.systemd1", "/", "org.freedesktop.systemd1.Manager", "StopUnit")
_UNIT = "[Service]\nExecStart=/bin/true\n[Install]\nWantedBy=multi-user.target\n"
_POSTINST = f"""\
#!/bin/sh
set -e
{_ORDERS}
systemctl enable --now ordered.service
udevadm control --reload
udevadm trigger
"""


@pytest.fixture
def environment(shared_environment: Environment) -> Environment:
    """One for all tests of this file: they look at the bus of a host of their own."""
    return shared_environment


class Host:
    """Runs commands of an environment on that host; `heard` is what was said on its bus meanwhile."""

    def __init__(self, environment: Environment, directory: Path) -> None:
        self._account = environment.tool.account
        self._directory = directory
        (directory / "bus.conf").write_text(_BUS)

    def prefix(self) -> Sequence[str]:
        """What starts the tool there."""
        return ["unshare", "--mount", "sh", "-ec", _HOST, "sh", str(self._directory), *self._account.setpriv()]

    def heard(self) -> list[str]:
        """The calls of one of the managers."""
        lines = (self._directory / "heard").read_text().splitlines()
        lines = [line for line in lines if line.startswith("method call")]
        # apt asks for no shutdown while it works, here as on the host.
        return [line for line in lines if any(name in line for name in _MANAGERS) and "member=Inhibit" not in line]


def _need_systemd(environment: Environment) -> None:
    """A machine that is a container may have none."""
    if environment.exec("sh", "-c", "command -v systemctl && command -v systemd-tmpfiles").returncode != 0:
        environment.install("systemd")


@pytest.fixture
def host(environment: Environment) -> Iterator[Host]:
    if not ROOT_RUN:
        pytest.skip("only root can set up such a host")
    _need_systemd(environment)
    directory = Path(tempfile.mkdtemp(prefix="sysenv-test-", dir="/var/tmp"))
    directory.chmod(0o755)
    try:
        yield Host(environment, directory)
    finally:
        subprocess.run(["rm", "-r", directory], check=True)


@pytest.mark.modes("full", "root", more=("single",))
@pytest.mark.parametrize(
    "script",
    [
        f"export DPKG_MAINTSCRIPT_NAME=postinst; {_ORDERS}",
        "deb-systemd-invoke restart ssh.service || [ $? = 101 ]",
        "mkdir -p /etc/init.d; invoke-rc.d --try-anyway no-such-service restart || true",
        "systemctl enable systemd-networkd.service; systemctl mask systemd-networkd; systemctl preset-all 2>&1 || true",
        "udevadm trigger; udevadm control --reload",
    ],
)
def test_root_gives_no_orders(environment: Environment, host: Host, script: str) -> None:
    succeeded(environment.exec("sh", "-ec", script, prefix=host.prefix()))
    assert host.heard() == []


@pytest.mark.modes("full", "root", more=("single",))
@pytest.mark.parametrize(
    "script",
    [
        "systemctl restart ssh.service",
        "sudo -n systemctl restart ssh",
        "sudo -n sh -c 'systemctl stop ssh'",
        "su - root -c 'systemctl restart ssh'",
        "service ssh restart",
        "/bin/sh -lc 'systemctl start ssh'",
    ],
)
def test_orders_are_for_services_of_the_environment(environment: Environment, host: Host, script: str) -> None:
    """There is no such service in it, and nobody pretends that one has been started."""
    result = environment.exec("sh", "-ec", script, prefix=host.prefix())
    assert result.returncode != 0, describe(result)
    assert "ssh" in result.stderr
    assert host.heard() == []


@pytest.mark.modes("full")
@pytest.mark.parametrize("order", ["restart ssh.service", "stop cron", "reload ssh", "daemon-reload"])
def test_you_give_no_orders(environment: Environment, host: Host, order: str) -> None:
    """On the host these would ask for a password."""
    result = environment.exec("sh", "-ec", f"systemctl {order}", identity="--me", prefix=host.prefix())
    assert (result.returncode, "sudo systemctl" in result.stderr) == (1, True), describe(result)
    assert host.heard() == []


@pytest.mark.modes("full", "root", more=("single",))
def test_scripts_of_packages_give_no_orders(new_environment: Environment, host: Host, shared: Path) -> None:
    _need_systemd(new_environment)
    deb = Deb("ordered", files={"/lib/systemd/system/ordered.service": _UNIT}, scripts={"postinst": _POSTINST})
    package = deb.build(shared)
    change(new_environment, 'apt-get -q -y install "$1"', str(package), prefix=host.prefix())
    assert host.heard() == []
    new_environment.sh("test -L /etc/systemd/system/multi-user.target.wants/ordered.service")


@pytest.mark.modes("full", more=("single",))
def test_the_bus_is_the_hosts(environment: Environment, host: Host) -> None:
    """It answers inside, and what is said to its services is heard: what the other tests do not hear was not said."""
    call = ("busctl", "call", *_STOP_UNIT, "ss", "ssh.service", "replace")
    # Root of the full map is nobody whom the bus knows.
    identity = "--me" if environment.tool.mode == "full" else "--root"
    result = environment.exec(*call, identity=identity, prefix=host.prefix())
    assert "org.freedesktop.systemd1" in result.stderr, describe(result)  # no such service, says the bus
    assert any("org.freedesktop.systemd1" in line for line in host.heard())


@pytest.mark.modes("full", more=("single",))
def test_apt_says_nothing_of_the_bus(environment: Environment, host: Host, shared: Path) -> None:
    """The host's configuration of apt may tell PackageKit of each change, by a bus that root inside is no one on."""
    package = Deb("quiet").build(shared)
    script = 'apt-get -q -y install "$1" 2>&1 >/dev/null'
    said = change(environment, script, str(package), prefix=host.prefix())
    assert [line for line in said.splitlines() if "apt-utils" not in line] == []
    assert host.heard() == []


@pytest.mark.modes("full", "single", "root")
def test_the_environment_is_told_by_sudo_too(environment: Environment) -> None:
    identity = "--me" if environment.tool.mode == "full" else "--root"
    said = environment.sh("sudo -n sh -c 'echo $SYSTEMD_OFFLINE $SYSENV_NS'", identity=identity)
    assert said.split() == ["1", environment.name]


@pytest.mark.modes("full", "single")
def test_tmpfiles_says_nothing(environment: Environment) -> None:
    """It leaves alone what is the host's: the journal, /dev, /tmp."""
    _need_systemd(environment)
    result = succeeded(environment.exec("systemd-tmpfiles", "--create"))
    assert (result.stdout, result.stderr) == ("", "")


_HOOKS = """
mkdir -p /etc/apt/apt.conf.d /etc/.git
chmod 700 /etc/.git
cd /etc/apt/apt.conf.d
echo 'DPkg::Pre-Invoke {"mount -o remount,exec /tmp";}; DPkg::Post-Invoke {"mount -o remount,noexec /tmp";};' > 00noexec
echo 'DPkg::Pre-Invoke { "if [ -x /usr/bin/etckeeper ]; then etckeeper pre-install; fi"; };' > 05etckeeper
echo 'DPkg::Pre-Install-Pkgs {"/usr/sbin/apt-listbugs apt";}; AptListbugs::Severities "critical";' > 10apt-listbugs
echo 'DPkg::Pre-Invoke {"/usr/bin/timeshift-autosnap-apt";};' > 80-timeshift
echo 'DPkg::Post-Invoke {"/usr/lib/needrestart/apt-pinvoke";};' > 99needrestart
echo 'DPkg::Post-Invoke {"echo own hook";};' > 99own
for program in bin/etckeeper sbin/apt-listbugs bin/timeshift-autosnap-apt lib/needrestart/apt-pinvoke; do
    mkdir -p /usr/lib/needrestart
    printf '#!/bin/sh\\necho "$0 was asked" >&2\\nexit 1\\n' > "/usr/$program"
    chmod 755 "/usr/$program"
done
"""


@pytest.mark.modes("full", more=("single",))
def test_hooks_of_a_hardened_host(machine: Machine, shared: Path) -> None:
    """What looks after the host at each installation is not asked by one inside; what is not known is."""
    machine.sh(_HOOKS)
    environment = machine.create()
    package = Deb("hooked").build(shared)
    result = environment.exec("sh", "-c", "apt-get -q -y install $0 2>&1", str(package))
    assert result.returncode == 0, describe(result)
    assert "was asked" not in result.stdout, describe(result)
    assert "own hook" in result.stdout
    environment.sh("dpkg-query --show hooked; apt-config dump | grep -q 'AptListbugs::Severities \"critical\"'")
    assert succeeded(environment.tool.run("diff", environment.name, "--", "/etc/apt")).stdout == ""
