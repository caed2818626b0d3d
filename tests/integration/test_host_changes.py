"""What a session sees of host files that change while it runs: the rows of docs/host-changes.md, one by one."""

from __future__ import annotations

import json
import subprocess
from collections.abc import Mapping
from collections.abc import Set as AbstractSet
from dataclasses import dataclass
from pathlib import Path

import pytest

from .machines import Machine
from .support import Environment, end, finish, keeps_files_of_the_host, line, sleeper, succeeded, wait_for

pytestmark = [pytest.mark.modes("full", more=("single",)), pytest.mark.together]  # they drop caches

_DOCUMENT = Path(__file__).resolve().parents[2] / "docs" / "host-changes.md"
# What had happened to the file before; the last two are one column.
_STATES = ("open", "read", "unread", "forgotten")
_COLUMNS = {"open": 0, "read": 1, "unread": 2, "forgotten": 2}
_OLD, _SMALL_OLD = "o" * 9999, "o" * 99


@dataclass(frozen=True)
class Row:
    """What happens to a host file, the script that does it to $1, and what is seen: open, read before, neither."""

    change: str
    script: str
    seen: tuple[str, str, str]


_CHANGES = {
    "replaced": 'head -c 7777 /dev/zero | tr "\\0" n > "$1.new"; mv "$1.new" "$1"',
    "deleted": 'rm "$1"',
    "cut": 'truncate -s 5000 "$1"',
    "grown": 'head -c 2000 /dev/zero | tr "\\0" n >> "$1"',
    "overwritten": 'head -c 9999 /dev/zero | tr "\\0" n > "$1.in"; dd if="$1.in" of="$1" conv=notrunc status=none',
}
ROWS = (
    Row("replaced by another file, as dpkg does it", _CHANGES["replaced"], ("old", "old", "mixed")),
    Row("deleted", _CHANGES["deleted"], ("old", "old", "error")),
    Row("cut in place", _CHANGES["cut"], ("mixed", "mixed", "mixed")),
    Row("grown in place", _CHANGES["grown"], ("mixed", "mixed", "mixed")),
    Row("overwritten in place, of the same size", _CHANGES["overwritten"], ("new", "new", "new")),
)
# With the driver idmap.
ROWS_WITHOUT_BASE = (
    Row("replaced by another file, as dpkg does it", _CHANGES["replaced"], ("old", "old", "new")),
    Row("deleted", _CHANGES["deleted"], ("old", "old", "error")),
    Row("cut in place", _CHANGES["cut"], ("new", "new", "new")),
    Row("grown in place", _CHANGES["grown"], ("new", "new", "new")),
    Row("overwritten in place, of the same size", _CHANGES["overwritten"], ("new", "new", "new")),
)
COPIED = ("any of these, of a copied file", "old", "old", "old")
_COPYING = ("copy", "reflink")  # drivers with which every file is a copied one

# Opens or reads files; at each line of its input, tells of those with the endings that stand there what is seen now.
_SESSION = """
import json, os, sys
os.chdir("/opt/changes")
names = os.listdir()
opened = {name: open(name, "rb", buffering=0) for name in names if name.endswith("-open")}
for name in names:
    if name.endswith(("-read", "-forgotten")):
        open(name, "rb").read()
print("ready", flush=True)
for line in sys.stdin:
    found = {"listed": os.listdir()}
    for name in (name for name in sorted(names) if name.endswith(tuple(line.split()))):
        try:
            stream = opened.get(name) or open(name, "rb", buffering=0)
            found[name] = [os.fstat(stream.fileno()).st_size, stream.read().decode()]
        except OSError as error:
            found[name] = type(error).__name__
    print(json.dumps(found), flush=True)
"""


def test_what_a_session_sees(machine: Machine) -> None:
    keeps_files_of_the_host(machine.tool)
    directory = machine.root / "opt/changes"
    directory.mkdir()
    names = {f"{number}-{size}-{state}" for number in range(len(ROWS)) for size in ("l", "s") for state in _STATES}
    for name in names:
        (directory / name).write_text(_OLD if "-l-" in name else _SMALL_OLD)
    environment = machine.create()
    listed, found = _seen(machine, environment, names)
    machine.sh("rm /opt/changes/added")
    assert listed == found.keys() == names
    for name in sorted(names):
        number, size, state = name.split("-")
        path = directory / name
        seen = _classify(found[name], path.read_text() if path.exists() else "", _OLD if size == "l" else _SMALL_OLD)
        copied = size == "s" or machine.tool.driver in _COPYING
        assert seen == (COPIED[1] if copied else ROWS[int(number)].seen[_COLUMNS[state]]), name
    # Whoever starts it again sees the host as it is.
    listing = "cd /opt/changes; wc -c * | sort; sha256sum * | sort"
    assert environment.sh(listing) == machine.sh(listing)


@pytest.mark.modes("idmap")
def test_what_a_session_sees_without_a_base(machine: Machine) -> None:
    """Where the host's own directories lie below: of large and small files alike."""
    directory = machine.root / "opt/changes"
    directory.mkdir()
    names = {f"{number}-l-{state}" for number in range(len(ROWS_WITHOUT_BASE)) for state in _STATES}
    for name in names:
        (directory / name).write_text(_OLD)
    environment = machine.create()
    listed, found = _seen(machine, environment, names)
    machine.sh("rm /opt/changes/added")
    assert found.keys() == names
    assert listed == {name for name in names if ROWS_WITHOUT_BASE[int(name[0])].change != "deleted"} | {"added"}
    for name in sorted(names):
        number, _, state = name.split("-")
        path = directory / name
        seen = _classify(found[name], path.read_text() if path.exists() else "", _OLD)
        assert seen == ROWS_WITHOUT_BASE[int(number)].seen[_COLUMNS[state]], name
    listing = "cd /opt/changes; wc -c * | sort; sha256sum * | sort"
    assert environment.sh(listing) == machine.sh(listing)


def _seen(
    machine: Machine, environment: Environment, names: AbstractSet[str]
) -> tuple[AbstractSet[object], dict[str, object]]:
    """The listing, and what is seen of files, after each has been changed as its number says and one has been added."""
    session = environment.tool.start("exec", environment.name, "--", "python3", "-c", _SESSION)
    assert line(session) == "ready\n"
    for name in sorted(names):
        machine.sh(ROWS[int(name[0])].script, f"/opt/changes/{name}")
    machine.sh("echo > /opt/changes/added")
    found = _ask(session, "-open -read -unread")
    # As under memory pressure; only what nobody has open goes.
    Path("/proc/sys/vm/drop_caches").write_text("2\n")
    found |= _ask(session, "-forgotten")
    succeeded(finish(session))
    listed = found.pop("listed")
    assert isinstance(listed, list)
    return {name for name in listed if not name.endswith(".in")}, found


def _ask(session: subprocess.Popen[str], endings: str) -> dict[str, object]:
    assert session.stdin is not None
    assert session.stdout is not None
    session.stdin.write(f"{endings}\n")
    session.stdin.flush()
    answer = json.loads(line(session))
    assert isinstance(answer, dict)
    return answer


def _classify(found: object, new: str, old: str) -> str:
    """old and new: size and content are; mixed: the old size and the whole new content."""
    known: Mapping[tuple[object, ...], str] = {
        (len(old), new): "mixed",
        (len(new), new): "new",
        (len(old), old): "old",
    }
    return known[tuple(found)] if isinstance(found, list) else {"FileNotFoundError": "error"}[str(found)]


def test_the_document_has_these_rows() -> None:
    lines = _DOCUMENT.read_text().splitlines()
    documented = [tuple(cell.strip() for cell in line.split("|")[1:5]) for line in lines if line.startswith("| ")]
    without_base = [(row.change, *row.seen) for row in ROWS_WITHOUT_BASE]
    assert documented[1:] == [*((row.change, *row.seen) for row in ROWS), COPIED, documented[0], *without_base]


@pytest.mark.modes("full", more=("root",))
def test_a_host_upgrade_is_noticed(machine: Machine) -> None:
    """By status and by whoever joins; not before, and not any more after a new start."""
    environment = machine.create()
    session = sleeper(environment)
    try:
        assert environment.tool.status(environment.name)["host_changed"] is False
        assert succeeded(environment.exec("true")).stderr == ""
        machine.sh("cd /var/lib/dpkg; cp -p status status-new; echo >> status-new; mv status-new status")
        expected = (
            f"sysenv-ns: the host has changed since {environment.name} was started; "
            f"stop it to see the new files: sysenv-ns stop {environment.name}\n"
        )
        for _ in range(2):
            assert succeeded(environment.exec("true")).stderr == expected
        assert environment.tool.status(environment.name)["host_changed"] is True
        assert "changed since it was started" in succeeded(environment.tool.run("status", environment.name)).stdout
    finally:
        end(session)
    assert environment.tool.status(environment.name)["host_changed"] is False
    assert succeeded(environment.exec("true")).stderr == ""


_LIVE = ("hosts", "hostname", "resolv.conf")
_OWN = "cd /etc; cat hosts resolv.conf localtime"


@pytest.mark.modes("full", "single", more=("fuse",))
def test_a_roaming_laptop(machine: Machine) -> None:
    """Names of hosts and of this one, and the time zone: live in what runs, until the environment has its own."""
    machine.sh(
        "cd /etc; rm -f resolv.conf hosts hostname localtime; ln -s ../usr/share/zoneinfo/Europe/Berlin localtime;"
        "for name in resolv.conf hosts hostname; do echo $name before > $name; done;"
        "mkdir -p /usr/share/zoneinfo/Asia; echo TZ-of-Tokyo > /usr/share/zoneinfo/Asia/Tokyo;"
        "mkdir -p /usr/share/zoneinfo/Europe; echo TZ-of-Berlin > /usr/share/zoneinfo/Europe/Berlin"
    )
    environment = machine.create()
    script = """cd /etc; while read -r line; do echo "$(tr -d '\\0' < $line)"; stat -c %s -L $line; done"""
    session = environment.tool.start("exec", environment.name, "--", "sh", "-c", script)
    try:
        for name in _LIVE:
            assert _shown(session, name) == (f"{name} before", len(f"{name} before\n"))
        assert _shown(session, "localtime") == ("TZ-of-Berlin", 13)
        # As NetworkManager does it, an editor, and a shell.
        machine.sh("cd /etc; echo resolv.conf of another network > r; mv r resolv.conf")
        machine.sh("cd /etc; echo hosts now > hosts; sed -i s/before/after/ hostname")
        machine.sh("cd /etc; ln -s ../usr/share/zoneinfo/Asia/Tokyo l; mv -T l localtime")
        wait_for(lambda: _shown(session, "localtime") == ("TZ-of-Tokyo", 12))
        expected = {"hosts": "hosts now", "hostname": "hostname after", "resolv.conf": "resolv.conf of another network"}
        for name, content in expected.items():
            whole = (content, len(content) + 1)
            wait_for(lambda name=name, whole=whole: _shown(session, name) == whole)  # type: ignore[misc]
        assert succeeded(environment.tool.run("diff", environment.name)).stdout == ""
        # What it has changed is its own: in place, by another file, and where it is a link.
        environment.sh("cd /etc; echo own >> hosts; echo own > r; mv r resolv.conf")
        environment.sh("ln -sf ../usr/share/zoneinfo/Europe/Berlin /etc/localtime")
        machine.sh(
            "cd /etc; echo lost > hosts; echo lost > resolv.conf; ln -sf /nowhere localtime; echo last > hostname"
        )
        wait_for(lambda: _shown(session, "hostname") == ("last", 5))
        assert environment.sh(_OWN) == "hosts now\nown\nown\nTZ-of-Berlin\n"
    finally:
        end(session)
    assert environment.sh(_OWN) == "hosts now\nown\nown\nTZ-of-Berlin\n"
    changed = json.loads(succeeded(environment.tool.run("diff", environment.name, "--json")).stdout)["changes"]
    assert sorted(change["path"] for change in changed) == ["/etc/hosts", "/etc/localtime", "/etc/resolv.conf"]


def _shown(session: subprocess.Popen[str], name: str) -> tuple[str, int]:
    assert session.stdin is not None
    assert session.stdout is not None
    session.stdin.write(f"{name}\n")
    session.stdin.flush()
    return line(session).rstrip("\n"), int(line(session))
