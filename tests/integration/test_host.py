"""Inside everything looks like the host, and the host does not see what is written inside."""

from __future__ import annotations

import random
import subprocess
from pathlib import Path

import pytest

from .machines import Machine
from .support import BASE_LIMIT, Environment, Tool, succeeded

_DIGESTS = r"""
paths=$(cat)
printf '%s\n' "$paths" | xargs -d '\n' sha256sum
printf '%s\n' "$paths" | xargs -d '\n' stat -c '%n %f %s %Y'
"""
_LARGE = 4
_SAMPLE = 300


@pytest.fixture
def environment(shared_environment: Environment) -> Environment:
    """One for all tests of this file: most only read."""
    return shared_environment


@pytest.mark.modes("full", "fuse", more=("single", "disk", "sudo"))
def test_files_read_as_on_the_host(environment: Environment) -> None:
    """Each file of /usr/bin, the largest and a sample of /usr/lib: content, mode, size and time."""
    libraries = _readable(environment.tool, "/usr/lib")
    sample = random.Random(1).sample(libraries, min(_SAMPLE, len(libraries)))
    paths = [*_readable(environment.tool, "/usr/bin"), *libraries[:_LARGE], *sample]
    listing = "".join(f"{path}\n" for path in paths)
    outside = subprocess.run(["sh", "-c", _DIGESTS], input=listing, capture_output=True, text=True, check=True)
    inside = succeeded(environment.exec("sh", "-c", _DIGESTS, stdin=listing, limit=300))
    assert inside.stdout == outside.stdout
    assert inside.stdout.count("\n") == 2 * len(paths)


def _readable(tool: Tool, directory: str) -> list[str]:
    """The regular files that the user can read, largest first."""
    command = ["find", directory, "-xdev", "-type", "f", "-readable", "-printf", "%s %p\n"]
    become = tool.account.become()
    result = subprocess.run(command, capture_output=True, text=True, check=False, **become)
    pairs = (line.split(" ", 1) for line in result.stdout.splitlines())
    return [path for _, path in sorted(((int(size), path) for size, path in pairs), reverse=True)]


@pytest.mark.modes("full", "root", "fuse", more=("single", "sudo"))
@pytest.mark.parametrize("directory", ["/", "/usr", "/usr/bin", "/usr/lib", "/usr/share", "/var/lib", "/etc"])
def test_directories_list_as_on_the_host(environment: Environment, directory: str) -> None:
    added = {"policy-rc.d", "debian_chroot", "sysenv-ns", "sudo"}
    inside = set(environment.sh('ls -A "$1"', directory).splitlines())
    outside = {path.name for path in Path(directory).iterdir()}
    assert outside - inside == set() or directory == "/"  # a socket in / would be left out
    assert inside - outside <= added


@pytest.mark.modes("full", "root", "fuse", more=("single", "sudo"))
@pytest.mark.parametrize("path", ["/etc/resolv.conf", "/etc/hosts", "/etc/passwd", "/etc/os-release"])
def test_configuration_is_the_hosts(environment: Environment, path: str) -> None:
    expected = Path(path).read_text()
    if path == "/etc/passwd" and environment.tool.mode == "single":
        expected = expected.replace(":root:/root:", f":root:{environment.tool.account.home}:")
    assert environment.sh('cat "$1"', path) == expected


@pytest.mark.modes("full", "root", more=("single", "fuse", "sudo"))
def test_run_is_private(environment: Environment) -> None:
    environment.sh("touch /run/sysenv-test /run/lock/sysenv-test; mkdir /run/sysenv-test.d")
    assert not list(Path("/run").glob("sysenv-test*"))
    assert not Path("/run/lock/sysenv-test").exists()
    environment.sh("test ! -e /run/systemd/system && test ! -e /run/systemd/private")


def test_services_are_not_started(environment: Environment) -> None:
    result = environment.exec("/usr/sbin/policy-rc.d", "anything", "start")
    assert result.returncode == 101
    assert environment.exec("sh", "-c", "invoke-rc.d --help >/dev/null 2>&1; exit 0").returncode == 0


_CHANGES = (
    ("touch /newfile", "test -f /newfile"),
    ("mkdir /data2 && echo x > /data2/file", 'test "$(cat /data2/file)" = x'),
    ("mv /usr/bin/tac /opt/", "test ! -e /usr/bin/tac && printf 'a\\nb\\n' | /opt/tac | grep -q b"),
    ("ln /usr/bin/tsort /etc/tsort", "cmp /usr/bin/tsort /etc/tsort"),
    ("echo more >> /usr/share/common-licenses/GPL-3", "tail -1 /usr/share/common-licenses/GPL-3 | grep -qx more"),
    ("chmod 700 /usr/bin/wc", 'test "$(stat -c %a /usr/bin/wc)" = 700 && echo a | wc -l'),
    ("rm -r /usr/share/doc", "test ! -e /usr/share/doc"),
    ("mv /usr/share/base-files /usr/share/bf", "test ! -e /usr/share/base-files && test -s /usr/share/bf/profile"),
    ("ln -s /etc /usr/etc-link", "test -e /usr/etc-link/passwd"),
    ("echo 127.1.1.1 changed >> /etc/hosts", "grep -q changed /etc/hosts"),
    ("truncate -s 10 /usr/bin/sort", 'test "$(stat -c %s /usr/bin/sort)" = 10'),
    ("cp -p /usr/bin/sum /usr/bin/sum2 && mv /usr/bin/sum2 /usr/bin/sum", "echo | sum"),
    ("setfattr -n user.test -v 1 /usr/bin/cut || true", "echo a:b | cut -d: -f2"),
    ("mkdir -m 1777 /var/cache/scratch", 'test "$(stat -c %a /var/cache/scratch)" = 1777'),
)


@pytest.mark.modes("full", more=("root", "fuse", "single", "disk", "sudo"))
def test_changes_stay_and_stay_inside(new_environment: Environment) -> None:
    """Each change is there in the next session, which mounts everything anew; the fingerprint watches the host."""
    for change, _ in _CHANGES:
        new_environment.sh(change)
    assert new_environment.tool.status(new_environment.name)["running"] is False
    for _, check in _CHANGES:
        new_environment.sh(check)
    assert not Path("/newfile").exists()
    assert not Path("/data2").exists()
    assert Path("/usr/bin/tac").exists()
    assert Path("/usr/share/doc").exists()


def test_environments_do_not_see_each_other(new_environment: Environment) -> None:
    tool = new_environment.tool
    new_environment.sh("touch /usr/mine")
    result = tool.run("exec", *tool.options, "other", "--", "test", "-e", "/usr/mine")
    assert result.returncode == 1
    tool.end("other")


_MOUNTS = """
for directory in /usr/local/share /var/opt; do
    mount -t tmpfs sysenv-test $directory
    echo "$directory" > $directory/file
done
exec "$@"
"""


def test_host_mounts_below_system_directories(machine: Machine) -> None:
    """A mount that appears below a data root must not stop an environment, and its content shows."""
    machine.sh("mkdir -p /usr/local/share /var/opt")
    environment = machine.create()
    prefix = [*machine.prefix, "unshare", "--mount", "sh", "-ec", _MOUNTS, "sh", *machine.tool.account.setpriv()]
    files = ("/usr/local/share/file", "/var/opt/file")
    command = ("sh", "-ec", 'cat "$@"; sort --version', "sh", *files)
    result = environment.exec(*command, prefix=prefix, limit=BASE_LIMIT)
    assert succeeded(result).stdout.startswith("/usr/local/share\n/var/opt\nsort")
    environment.sh("test ! -e /usr/local/share/file && test ! -e /var/opt/file", limit=BASE_LIMIT)
