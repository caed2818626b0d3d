"""The main promises with few sessions, for slow machines: helpers/kernel-matrix runs it with every kernel."""

from __future__ import annotations

from pathlib import Path

import pytest

from .debs import Deb, change, program, states
from .support import Environment, Tool, refused, succeeded, wait_for

pytestmark = pytest.mark.modes("full", "single", "root", "idmap", "fuse", "sudo")

# Programs that are files of their own: coreutils may be links to one program for all of them (Ubuntu 26.04).
_CHANGES = """
    touch /newfile
    echo more >> /usr/share/common-licenses/GPL-3
    ln /usr/bin/sdiff "$1"
    chmod 700 /usr/bin/diff3
    chown 0:0 /usr/bin/xargs
    rm -r /usr/share/doc
    mv /usr/bin/namei /opt/
    echo 127.1.1.1 changed >> /etc/hosts
    cp -p /usr/bin/sed /usr/bin/sed2
    mv /usr/bin/sed2 /usr/bin/sed
    echo private > /run/file
"""
_CHECKS = """
    test -f /newfile
    tail -1 /usr/share/common-licenses/GPL-3 | grep -qx more
    cmp /usr/bin/sdiff "$1"
    test "$(stat -c %a /usr/bin/diff3)" = 700
    test "$(echo a | xargs echo)" = a
    test ! -e /usr/share/doc
    test ! -e /usr/bin/namei
    test "$(/opt/namei / | head -1)" = 'f: /'
    grep -q changed /etc/hosts
    test "$(echo a:b | sed s/.*://)" = b
    test ! -e /run/file
"""


def test_changes_stay_and_stay_inside(shared_environment: Environment) -> None:
    """In the next session, which mounts everything anew; the fingerprint watches the host."""
    # With the driver idmap /usr is a file system of its own.
    linked = "/usr/lib/sdiff" if shared_environment.tool.driver == "idmap" else "/etc/sdiff"
    shared_environment.sh(_CHANGES, linked)
    shared_environment.sh(_CHECKS, linked)
    assert not Path("/newfile").exists()
    assert Path("/usr/bin/namei").exists()


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
    """Neither of files with many owners nor of directories that nobody may enter."""
    environment = tool.environment("core")
    succeeded(tool.run("create", *tool.options, environment.name))
    environment.sh(
        """
        for id in 1 33 100 1000 65534; do
            mkdir -p /srv/$id/inner; touch /srv/$id/inner/file; chown -R $id:$id /srv/$id; chmod 000 /srv/$id/inner
        done
        rm -r /usr/share/doc; chmod 4755 /usr/bin/sdiff; mkfifo /srv/fifo; chmod 000 /srv
        """
    )
    succeeded(tool.run("remove", "--purge", environment.name))
    assert environment.name not in [path.name for path in (tool.store / "envs").iterdir()]
    assert list((tool.store / "trash").iterdir()) == []
