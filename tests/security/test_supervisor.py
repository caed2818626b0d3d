"""What the supervisor does for a caller, it does with nothing that the caller does not have."""

from __future__ import annotations

import grp
import os
from pathlib import Path

import pytest
from integration.support import Environment

_CAN_MAKE_NODES = "--inh-caps +mknod --ambient-caps +mknod"


@pytest.fixture
def of_group(shared: Path, group: str) -> Path:
    """A directory of the host's where a supplementary group of the user may write."""
    path = shared / "of-group"
    path.mkdir(exist_ok=True)
    os.chown(path, 0, grp.getgrnam(group).gr_gid)
    path.chmod(0o770)
    return path


@pytest.mark.modes("full")
@pytest.mark.parametrize("groups", ["--clear-groups", "--groups 33,44", "--init-groups"])
def test_a_daemon_makes_no_node_with_groups_of_the_user(environment: Environment, of_group: Path, groups: str) -> None:
    script = f"""
        cd "$1"
        mknod ours-$$ c 1 3  # root of the environment has kept the user's groups
        ! setpriv --reuid 33 --regid 33 {groups} {_CAN_MAKE_NODES} mknod theirs c 1 3
        test ! -e theirs
    """
    environment.sh(script, str(of_group))


@pytest.mark.modes("full")
def test_a_daemon_makes_nodes_with_groups_of_its_own(environment: Environment) -> None:
    script = f"""
        mkdir -m 770 /opt/of-44
        chgrp 44 /opt/of-44
        setpriv --reuid 33 --regid 33 --groups 44 {_CAN_MAKE_NODES} mknod /opt/of-44/node c 1 3
        ! setpriv --reuid 33 --regid 33 --groups 45 {_CAN_MAKE_NODES} mknod /opt/of-44/other c 1 3
        stat -c %u:%g /opt/of-44/node
    """
    assert environment.sh(script) == "33:33\n"


@pytest.mark.modes("full", "single")
def test_nothing_is_made_for_who_has_confined_itself(environment: Environment) -> None:
    """What forbids it to make files, Landlock for example, would not bind the supervisor."""
    environment.sh("! setpriv --no-new-privs mknod /opt/node c 1 3; test ! -e /opt/node; mknod /opt/node c 1 3")
