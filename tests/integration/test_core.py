"""The main promises with few sessions, for slow machines: helpers/kernel-matrix runs it with every kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from .debs import Deb, change, program, states
from .support import Environment, Tool, refused, succeeded, wait_for

pytestmark = pytest.mark.modes("full", "single", "root", "idmap", "fuse", "sudo")

_CHANGES = """
    touch /newfile
    echo more >> /usr/share/common-licenses/GPL-3
    ln /usr/bin/tsort "$1"
    chmod 700 /usr/bin/wc
    chown 0:0 /usr/bin/sum
    rm -r /usr/share/doc
    mv /usr/bin/tac /opt/
    echo 127.1.1.1 changed >> /etc/hosts
    cp -p /usr/bin/cut /usr/bin/cut2
    mv /usr/bin/cut2 /usr/bin/cut
    echo private > /run/file
"""
_CHECKS = """
    test -f /newfile
    tail -1 /usr/share/common-licenses/GPL-3 | grep -qx more
    cmp /usr/bin/tsort "$1"
    test "$(stat -c %a /usr/bin/wc)" = 700
    echo | sum
    test ! -e /usr/share/doc
    test ! -e /usr/bin/tac
    test "$(printf 'a\\nb\\n' | /opt/tac | head -1)" = b
    grep -q changed /etc/hosts
    test "$(echo a:b | cut -d: -f2)" = b
    test ! -e /run/file
"""


def test_changes_stay_and_stay_inside(shared_environment: Environment) -> None:
    """In the next session, which mounts everything anew; the fingerprint watches the host."""
    # With the driver idmap /usr is a file system of its own.
    linked = "/usr/lib/tsort" if shared_environment.tool.driver == "idmap" else "/etc/tsort"
    shared_environment.sh(_CHANGES, linked)
    shared_environment.sh(_CHECKS, linked)
    assert not Path("/newfile").exists()
    assert Path("/usr/bin/tac").exists()


def test_packages(shared_environment: Environment, shared: Path) -> None:
    """One is installed and upgraded, and one of the host's replaced, whose files the environment has not written."""
    directory = shared / f"core-{shared_environment.name}"
    directory.mkdir()
    first, second = (program("trip", version).build(directory) for version in ("1", "2"))
    replaced = Deb("diffutils", "999", {"Essential": "yes"}, {"/usr/bin/diff": "#!/bin/sh\necho rebuilt\n"})
    script = 'dpkg -i "$1"; trip; dpkg -i "$2"; trip; dpkg -i "$3"; diff; dpkg --audit'
    packages = (str(first), str(second), str(replaced.build(directory)))
    lines = change(shared_environment, script, *packages).splitlines()
    assert [line for line in lines if line in ("trip 1", "trip 2", "rebuilt")] == ["trip 1", "trip 2", "rebuilt"]
    assert states(shared_environment, "trip", "diffutils") == {"trip": "ii 2", "diffutils": "ii 999"}


def test_sessions_join_and_a_daemon_lives_on(environment: Environment) -> None:
    tool = environment.tool
    environment.sh("setsid sleep 300 >/dev/null 2>&1 </dev/null & echo kept > /run/kept")
    assert environment.sh("cat /run/kept") == "kept\n"
    refused(tool.run("remove", environment.name), 1, "running")
    succeeded(tool.run("stop", environment.name))
    wait_for(lambda: tool.status(environment.name)["running"] is False)


def test_remove_leaves_nothing(tool: Tool) -> None:
    environment = tool.environment("core")
    succeeded(tool.run("create", *tool.options, environment.name))
    environment.sh(
        "mkdir -p /srv/a/b; touch /srv/a/b/c; chown -R 33:33 /srv/a; chmod 000 /srv/a/b; rm -r /usr/share/doc"
    )
    succeeded(tool.run("remove", "--purge", environment.name))
    assert environment.name not in [path.name for path in (tool.store / "envs").iterdir()]
    assert list((tool.store / "trash").iterdir()) == []
