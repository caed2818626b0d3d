"""The tool inside of what others isolate: as root of a user namespace, and on a root that is an overlay itself."""

from __future__ import annotations

import os
import shutil
import tempfile
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from .machines import Machine
from .support import BASE_LIMIT, Tool, refused, succeeded

# A root as a container has it: an overlay over the host's, entered by pivot_root; the store lies in memory.
_CONTAINER = """
mount -t tmpfs -o mode=755 tmpfs "$1"
mkdir "$1/upper" "$1/work" "$1/root"
mount -t overlay -o "lowerdir=/,upperdir=$1/upper,workdir=$1/work" overlay "$1/root"
for path in /dev /proc /sys /dev/shm; do mount --rbind "$path" "$1/root$path"; done
mount --bind /tmp "$1/root/tmp"
cd "$1/root"
shift
pivot_root . .
umount -l .
cd /
exec "$@"
"""


@pytest.fixture
def nested(small_tool: Tool) -> Iterator[Tool]:
    """The tool as root of a user namespace that somebody else has made."""
    inner = replace(
        small_tool,
        prefix=(*small_tool.beginning, "unshare", "--map-root-user", "--mount"),
        store=small_tool.store.with_name(f"{small_tool.store.name}-nested"),
        options=(),
    )
    yield inner
    succeeded(
        inner.run("remove", "--purge", "--base", *(["inner"] if (inner.store / "envs" / "inner").exists() else []))
    )
    succeeded(inner.run("remove", "--base"))
    shutil.rmtree(inner.store)


@pytest.mark.modes("single")
def test_root_of_a_user_namespace(nested: Tool) -> None:
    """Host root is nobody there: the driver root is found not to work, and the tool makes its own namespace inside."""
    succeeded(nested.run("create", "inner", limit=BASE_LIMIT))
    environment = nested.environment("inner")
    assert (nested.status("inner")["driver"], nested.status("inner")["id_map"]) == ("stub", "single")
    environment.sh(
        "touch /usr/x; ln /usr/bin/sort /opt/sort; chown 33 /usr/x; rm -r /usr/share/doc; mkdir /usr/share/doc"
    )
    assert environment.sh("ls -A /usr/share/doc; cat /etc/shadow | head -c 5") == "root:"
    refused(nested.run("create", "--driver", "root", "other"), 1, "overlay", "use another driver")


@pytest.fixture
def contained(new_machine: Machine, shared: Path) -> Iterator[Tool]:
    """The tool on a root that is an overlay above a small host's, with a store in memory."""
    tool, place = new_machine.tool, Path(tempfile.mkdtemp(dir=shared))
    script = f"export PATH=$PATH:/usr/sbin:/sbin\n{_CONTAINER}"
    container = (*new_machine.prefix, "unshare", "--mount", "sh", "-ec", script, "sh", str(place))
    store = Path(tempfile.mkdtemp(prefix="sysenv-test-", dir="/dev/shm"))
    os.chown(store, tool.account.uid, tool.account.gid)
    yield replace(tool, prefix=(*container, *tool.account.setpriv()), store=store)
    shutil.rmtree(store)


@pytest.mark.modes("single", "root")
def test_root_that_is_an_overlay(contained: Tool) -> None:
    """One more level of stacking is allowed, so the drivers work; only the store must lie elsewhere."""
    environment = contained.environment("in-a-container")
    succeeded(contained.run("create", *contained.options, environment.name, limit=BASE_LIMIT))
    environment.sh("touch /usr/x; ln /usr/bin/sort /opt/sort; echo more >> /usr/bin/wc", limit=BASE_LIMIT)
    environment.sh('test -e /usr/x; /opt/sort --version; test "$(tail -c 5 /usr/bin/wc)" = more', limit=BASE_LIMIT)
    contained.end(environment.name)
    elsewhere = replace(contained, store=Path("/var/tmp/sysenv-test-store"))
    result = elsewhere.run("create", "--driver", "stub", "--id-map", "single", "x", limit=BASE_LIMIT)
    refused(result, 1, "overlay", "SYSENV_NS_HOME")
    assert not elsewhere.store.exists()


@pytest.mark.modes("root")
def test_fuse_on_a_root_that_is_an_overlay(contained: Tool) -> None:
    """Its upper may lie on an overlay."""
    elsewhere = replace(contained, store=Path("/var/tmp/sysenv-test-store"))
    script = 'touch /usr/x; ln /usr/bin/sort /opt/sort; grep " / / " /proc/self/mountinfo'
    result = elsewhere.run("exec", "--driver", "fuse", "x", "--", "sh", "-ec", script, limit=BASE_LIMIT)
    assert "fuse-overlayfs" in succeeded(result).stdout
