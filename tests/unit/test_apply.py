"""Carrying files over and taking that back, in trees of the test's own, whatever interrupts it."""

from __future__ import annotations

import json
import os
import shutil
import stat
import tempfile
from collections.abc import Callable, Iterator
from dataclasses import replace
from pathlib import Path

import pytest

from sysenv_ns.apply import apt, entries, execution, inventory, journal, plan, undo
from sysenv_ns.apply.execution import Done
from sysenv_ns.apply.plan import PackageStep, Plan, Step
from sysenv_ns.apply.tree import TargetTree
from sysenv_ns.diff.changes import Change, Facts
from sysenv_ns.errors import SysenvError
from sysenv_ns.host import accounts
from sysenv_ns.packages import dpkg

from .forks import in_a_child

_ME = (os.geteuid(), os.getegid())


class Host:
    """A tree that stands for a system, and one that is what it shall become."""

    def __init__(self, directory: Path) -> None:
        self.root, self.wanted, self.backups = directory / "root", directory / "wanted", directory / "backups"
        for tree in (self.root, self.wanted):
            (tree / "etc").mkdir(parents=True)
            (tree / "etc/passwd").write_text(f"me:x:{_ME[0]}:{_ME[1]}::/:/bin/sh\n")
            (tree / "etc/group").write_text(f"me:x:{_ME[1]}:\n")
            for path in (tree / "etc").iterdir():
                os.utime(path, ns=(3, 3))
        self._contents = directory / "contents"
        self._root = os.open(self.root, os.O_PATH)
        self.tree = TargetTree(self._root)

    def close(self) -> None:
        os.close(self._root)

    def plan(self) -> Plan:
        """What makes the one what the other is."""
        both = {path for tree in (self.root, self.wanted) for path in _paths(tree)}
        steps = (self._step(path) for path in both)
        return Plan("proj", (), plan.ordered(step for step in steps if not entries.same(step.old, step.new)))

    def _step(self, path: str) -> Step:
        old, new = (entries.read_path(f"{tree}{path}") for tree in (self.root, self.wanted))
        content = [(entry.type, entry.digest, entry.target) for entry in (old, new) if entry]
        only_metadata = len(content) == 2 and content[0] == content[1]
        action: plan.Action = "delete" if new is None else "metadata" if only_metadata else "put"
        return Step(path, action, old, new, "me", "me")

    def apply(self, agreed: Plan) -> Done:
        """Carry it out; contents come from the other tree."""
        contents = b"".join(Path(f"{self.wanted}{s.path}").read_bytes() for s in agreed.steps if s.has_content)
        self._contents.write_bytes(contents)
        with self._contents.open("rb") as stream:
            return execution.carry_out(self.tree, self.backups, agreed, stream.fileno())

    def undo(self, force: bool = False) -> tuple[str, ...]:
        """Take the last one back."""
        own = journal.find(self.backups, "")
        return undo.take_back(self.tree, own, undo.plan(self.tree, own), force)


def _paths(tree: Path) -> list[str]:
    return [f"/{path.relative_to(tree)}" for path in tree.rglob("*")]


def _state(tree: Path) -> dict[str, object]:
    found = {path: entries.read_path(f"{tree}{path}") for path in _paths(tree)}
    # The time of a directory is that of the last change in it.
    return {path: replace(e, time=0) if e and e.type != "file" else e for path, e in found.items()}


@pytest.fixture
def host() -> Iterator[Host]:
    """In memory where possible: each step waits for the disk."""
    memory = "/dev/shm" if os.access("/dev/shm", os.W_OK) else None
    with tempfile.TemporaryDirectory(dir=memory) as directory:
        host = Host(Path(directory))
        yield host
        host.close()


def _fill(host: Host) -> None:
    """Every kind of change."""
    old, new = host.root, host.wanted
    for tree in (old, new):
        for name in ("kept", "modified", "mode"):
            (tree / name).write_text("as it was")
            os.utime(tree / name, ns=(7, 7))
        (tree / "link").symlink_to("old")
        for name in ("directory-mode", "becomes"):
            (tree / name).mkdir()
    (new / "modified").write_text("new")
    (new / "mode").chmod(0o4750)
    (new / "directory-mode").chmod(0o2700)
    (new / "link").unlink()
    (new / "link").symlink_to("new")
    (new / "becomes").rmdir()
    (new / "becomes").write_text("a file")
    (old / "becomes/inner").mkdir()
    (old / "becomes/inner/file").write_text("gone")
    os.utime(old / "becomes/inner/file", ns=(5, 5))
    (old / "file").write_text("a file")
    (new / "file/in").mkdir(parents=True)
    (new / "file/in/new\nline").write_text("x" * 100_000)
    os.mkfifo(new / "fifo", 0o640)
    (old / "gone").write_text("gone")
    (new / "added").write_text("")
    (new / "\udcff").write_text("no text")


def test_all_kinds_of_changes_come_and_go(host: Host) -> None:
    _fill(host)
    before, wanted = _state(host.root), _state(host.wanted)
    host.apply(host.plan())
    assert _state(host.root) == wanted
    assert host.plan().steps == ()
    assert host.undo() == ()
    assert _state(host.root) == before
    with pytest.raises(SysenvError, match="nothing to undo"):
        host.undo()


def _dies_at(number: int, function: Callable[[], object], monkeypatch: pytest.MonkeyPatch) -> bool:
    """Whether a child dies at the call of that number that changes something, as if it were killed there."""
    left = [number]

    def counted(original: Callable[..., object]) -> Callable[..., object]:
        def call(*arguments: object, **keywords: object) -> object:
            if left[0] == 0:
                os._exit(9)
            left[0] -= 1
            return original(*arguments, **keywords)

        return call

    def dying() -> None:
        for name in _CHANGING:
            monkeypatch.setattr(os, name, counted(getattr(os, name)))
        function()

    code = in_a_child(dying)
    assert code in (0, 9)
    return code == 9


_CHANGING = ("fsync", "rename", "unlink", "rmdir", "mkdir", "mkfifo", "symlink", "fchown", "fchmod", "utime", "write")


@pytest.mark.slow
def test_killed_at_any_moment_all_is_as_before(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """At every call that changes something, of the apply and of what takes it back."""
    _fill(host)
    before = _state(host.root)
    agreed = host.plan()
    moment = 0
    while _dies_at(moment, lambda: host.apply(agreed), monkeypatch):
        again = moment % 7  # of the undo as well, at one of its first moments
        if _begun(host):
            _dies_at(again * 3, host.undo, monkeypatch)
            if _begun(host):
                assert host.undo() == (), moment
        assert _state(host.root) == before, moment
        _forget(host)
        moment += 1
    assert moment > 60


def _begun(host: Host) -> bool:
    """Whether there is something to be taken back: it may have died before."""
    found = list(host.backups.glob("2*")) if host.backups.is_dir() else []
    return any((path / "plan.json").exists() and not journal.is_undone(journal.Journal(path)) for path in found)


def _forget(host: Host) -> None:
    shutil.rmtree(host.backups, ignore_errors=True)


def test_what_was_agreed_to_alone_is_done(host: Host) -> None:
    _fill(host)
    agreed = host.plan()
    (host.root / "modified").write_text("somebody else's")
    before = _state(host.root)
    with pytest.raises(SysenvError, match="/modified has changed on this system in the meantime"):
        host.apply(agreed)
    (host.root / "modified").write_text("as it was")
    (host.wanted / "modified").write_text("two")  # as long as what it was
    with pytest.raises(SysenvError, match="the environment has changed in the meantime"):
        host.apply(agreed)
    (host.root / "modified").write_text("somebody else's")
    assert {path: e for path, e in _state(host.root).items() if path != "/modified"} == {
        path: e for path, e in before.items() if path != "/modified"
    }
    assert list(host.backups.glob("2*")) == []


def test_what_somebody_has_changed_since_stays(host: Host) -> None:
    _fill(host)
    before = _state(host.root)
    host.apply(host.plan())
    (host.root / "modified").write_text("later")
    (host.root / "file/in/later").write_text("later")
    assert sorted(host.undo()) == ["/file", "/file/in", "/modified"]
    assert (host.root / "modified").read_text() == "later"
    (host.root / "file/in/later").unlink()
    assert host.undo(force=True) == ()
    assert _state(host.root) == before
    assert [path.read_text() for path in host.backups.glob("*/forced/*")] == ["later"]


def test_a_mode_is_taken_back_of_what_somebody_has_edited_since(host: Host) -> None:
    """By force: there is no content of before, and none is needed."""
    for tree in (host.root, host.wanted):
        for name in ("edited", "gone"):
            (tree / name).write_text("as it was")
            (tree / name).chmod(0o644)  # whatever the umask
    for name in ("edited", "gone"):
        (host.wanted / name).chmod(0o600)
    host.apply(host.plan())
    (host.root / "edited").write_text("later")
    (host.root / "gone").unlink()
    assert sorted(host.undo()) == ["/edited", "/gone"]
    assert host.undo(force=True) == ()
    assert (host.root / "edited").read_text() == "later"
    assert stat.S_IMODE((host.root / "edited").stat().st_mode) == 0o644
    with pytest.raises(SysenvError, match="nothing to undo"):
        host.undo()


def test_what_a_new_package_had_put_there_comes_back(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    """And not when dpkg has removed it with the package."""
    (host.wanted / "conffile").write_text("edited")
    (host.wanted / "data").write_text("edited")
    package = PackageStep("new", "added", "", "1")
    monkeypatch.setattr(apt, "check", lambda *_: None)
    monkeypatch.setattr(apt, "states", lambda names: dict.fromkeys(names, ("", False)))
    monkeypatch.setattr(
        apt, "install", lambda *_: [(host.root / n).write_text("shipped") for n in ("conffile", "data")]
    )
    host.apply(replace(host.plan(), packages=(package,)))
    own = journal.find(host.backups, "")
    assert (host.root / "data").read_text() == "edited"
    (host.root / "data").unlink()
    (left,) = undo.plan(host.tree, own).files
    assert (left.path, left.state, left.backup) == ("/conffile", "undo", "made")
    assert host.undo() == ()
    assert (host.root / "conffile").read_text() == "shipped"
    assert not (host.root / "data").exists()


def test_what_a_packages_old_version_overwrites_comes_back_too(host: Host, monkeypatch: pytest.MonkeyPatch) -> None:
    for tree, text in ((host.root, "somebody's"), (host.wanted, "the environment's")):
        (tree / "data").write_text(text)
    versions = {"pack": ("1", False)}
    monkeypatch.setattr(apt, "check", lambda *_: None)
    monkeypatch.setattr(apt, "available", lambda names: {(name, "1") for name in names})
    monkeypatch.setattr(apt, "states", lambda _: dict(versions))
    monkeypatch.setattr(apt, "install", lambda *_: (host.root / "data").write_text("shipped"))
    host.apply(replace(host.plan(), packages=(PackageStep("pack", "upgraded", "1", "2"),)))
    versions["pack"] = ("2", False)
    assert host.undo() == ()
    assert (host.root / "data").read_text() == "somebody's"


def test_a_link_on_the_way_leads_nowhere(host: Host, tmp_path: Path) -> None:
    (tmp_path / "secret").mkdir()
    (host.wanted / "opt/a").mkdir(parents=True)
    (host.wanted / "opt/a/file").write_text("x")
    (host.root / "opt").symlink_to(tmp_path / "secret")
    agreed = Plan("proj", (), tuple(step for step in host.plan().steps if step.path != "/opt"))
    with pytest.raises(SysenvError, match="/opt is not a directory of this system"):
        host.apply(agreed)
    assert list((tmp_path / "secret").iterdir()) == []


def test_backups_are_for_root_alone(host: Host) -> None:
    (host.wanted / "file").write_text("x")
    agreed = host.plan()
    host.apply(agreed)
    assert stat.S_IMODE(host.backups.stat().st_mode) == 0o700
    host.backups.chmod(0o755)
    with pytest.raises(SysenvError, match="is not private to root"):
        host.apply(agreed)


def test_a_torn_line_of_a_journal_was_not_written(host: Host) -> None:
    """As a full disk or a cut of the power leaves it, again and again."""
    _fill(host)
    before = _state(host.root)
    host.apply(host.plan())
    own = journal.find(host.backups, "")
    records = own.records()
    for rest in (b'{"restore": 1', b"\0"):
        with (own.directory / "journal").open("ab") as stream:
            stream.write(rest)
        assert own.records() == records
    own.note(journal.Note(end=True))
    assert own.records() == [*records, journal.Note(end=True)]
    assert host.undo() == ()
    assert _state(host.root) == before


def test_a_damaged_journal_is_in_nobody_elses_way(host: Host) -> None:
    (host.wanted / "one").write_text("x")
    host.apply(host.plan())
    first = journal.find(host.backups, "")
    (host.wanted / "two").write_text("x")
    host.apply(host.plan())
    second = journal.find(host.backups, "")
    (second.directory / "journal").write_text("no JSON\n")
    with pytest.raises(SysenvError, match="journal is damaged"):
        host.undo()
    assert journal.find(host.backups, first.ident) == first
    (second.directory / "journal").write_text('{"undone": true}\n')
    (first.directory / "journal").write_text("no JSON\n")
    (host.wanted / "three").write_text("x")
    host.apply(host.plan())
    assert host.undo() == ()
    assert not (host.root / "three").exists()


# What setfacl -m g:4711:rw makes of a file with the mode 640: version, then tag, permissions and whose each.
_ACL = bytes.fromhex("0200000001000600ffffffff04000400ffffffff080006006712000010000600ffffffff20000000ffffffff")


def test_what_has_an_access_control_list_is_not_touched(host: Host) -> None:
    """Nobody's rights are lost, nor given to others."""
    for tree in (host.root, host.wanted):
        (tree / "file").write_text("old")
    (host.wanted / "file").write_text("new")
    agreed = host.plan()
    os.setxattr(host.root / "file", "system.posix_acl_access", _ACL)
    (step,) = host.plan().steps
    with pytest.raises(ValueError, match="access control list"):
        plan.from_data(plan.as_data(Plan("proj", (), (step,))))
    with pytest.raises(SysenvError, match="/file has changed on this system"):
        host.apply(agreed)
    assert os.getxattr(host.root / "file", "system.posix_acl_access") == _ACL
    os.removexattr(host.root / "file", "system.posix_acl_access")
    host.apply(host.plan())
    os.setxattr(host.root / "file", "system.posix_acl_access", _ACL)
    assert host.undo() == ("/file",)
    assert (host.root / "file").read_text() == "new"


def test_a_directorys_default_list_gives_nobody_more_than_was_shown(host: Host) -> None:
    for tree in (host.root, host.wanted):
        (tree / "shared").mkdir()
    os.setxattr(host.root / "shared", "system.posix_acl_default", _ACL)
    (host.wanted / "shared/in").mkdir()
    (host.wanted / "shared/in/file").write_text("x")
    agreed = Plan("proj", (), tuple(step for step in host.plan().steps if step.path != "/shared"))
    host.apply(agreed)
    for name in ("in", "in/file"):
        assert not [part for part in os.listxattr(host.root / "shared" / name) if "acl" in part]
    assert host.undo() == ()
    assert os.listdir(host.root / "shared") == []


@pytest.mark.parametrize("path", ["etc", "/", "/a/../b", "//a", "/a/", "/a\0b", "/a/./b"])
def test_wrong_paths_are_refused(path: str) -> None:
    data = plan.as_data(Plan("proj", (), (Step(path, "delete", None, None),)))
    with pytest.raises(ValueError, match="wrong path"):
        plan.from_data(data)


@pytest.mark.parametrize(
    ("name", "version"), [("-o", "1"), ("a b", "1"), ("", "1"), ("a", "1 2"), ("a:", "1"), ("A", "")]
)
def test_wrong_packages_are_refused(name: str, version: str) -> None:
    data = plan.as_data(Plan("proj", (PackageStep(name, "added", "", version),), ()))
    with pytest.raises(ValueError, match="wrong package"):
        plan.from_data(data)


@pytest.mark.parametrize("name", ["a b", "\x1b[2K", "a:b", "-a", "a\nb"])
def test_wrong_owners_are_refused_and_not_read(name: str) -> None:
    data = plan.as_data(Plan("proj", (), (Step("/a", "delete", None, None, "root", name),)))
    with pytest.raises(ValueError, match="wrong name of an owner"):
        plan.from_data(data)
    found = accounts.parse(f"{name}:x:7:7::/:/bin/sh\nme:x:8:8::/:/bin/sh\n".encode(), b"")
    assert "me" in found.users
    assert name not in found.users


def test_a_plan_survives_json(host: Host) -> None:
    _fill(host)
    agreed = replace(host.plan(), packages=(PackageStep("libc++-dev:i386", "added", "", "1:2~rc1+b-1"),))
    assert plan.from_data(json.loads(json.dumps(plan.as_data(agreed)))) == agreed


def test_files_of_nobody_are_skipped_with_what_is_in_them(host: Host) -> None:
    (host.wanted / "own/in").mkdir(parents=True)
    (host.wanted / "own/in/file").write_text("x")
    (host.wanted / "other").write_text("y")
    steps = tuple(replace(s, user="nobody-here", group="me") if s.path == "/own" else s for s in host.plan().steps)
    done = host.apply(replace(host.plan(), steps=steps))
    reason = "there is no nobody-here:me on this system"
    assert done.skipped[0] == f"/own: {reason}"
    assert [line.partition(":")[0] for line in done.skipped] == ["/own", "/own/in", "/own/in/file"]
    assert (host.root / "other").read_text() == "y"
    assert not (host.root / "own").exists()


def test_owners_go_by_name(host: Host) -> None:
    (host.wanted / "file").write_text("x")
    (step,) = host.plan().steps
    assert step.new is not None
    step = replace(step, new=replace(step.new, uid=4711, gid=4711), user="me", group="me")
    host.apply(Plan("proj", (), (step,)))
    status = (host.root / "file").stat()
    assert (status.st_uid, status.st_gid) == _ME


def test_a_capability_comes_after_the_owner_and_goes_again(host: Host) -> None:
    if os.geteuid() != 0:
        pytest.skip("only root gives capabilities")
    capability = "0100000200200000000000000000000000000000"
    (host.wanted / "file").write_text("x")
    (step,) = host.plan().steps
    assert step.new is not None
    step = replace(step, new=replace(step.new, attributes=(("security.capability", capability),)))
    host.apply(Plan("proj", (), (step,)))
    assert os.getxattr(host.root / "file", "security.capability").hex() == capability
    (host.wanted / "file").chmod(0o700)
    host.apply(host.plan())
    assert os.listxattr(host.root / "file") == []


_SIMULATED = """\
NOTE: This is only a simulation!
Remv gone [1:2-3]
Inst old [1] (2~rc1 local-deb [all]) [other:amd64 ]
Inst lib:i386 (1.2 Debian:12/stable [i386])
Conf old (2~rc1 local-deb [all])
"""


def test_what_apt_would_do() -> None:
    packages = (
        PackageStep("gone", "removed", "1:2-3", ""),
        PackageStep("old", "upgraded", "1", "2~rc1"),
        PackageStep("lib:i386", "added", "", "1.2", True, "lib.deb"),
    )
    assert apt.parse(_SIMULATED) == apt.operations(packages)
    assert apt.arguments(packages, {"lib:i386": "/0.deb"}) == ["gone-", "old=2~rc1", "/0.deb"]
    assert apt.parse(_SIMULATED.replace("Remv", "Purg")) != apt.operations(packages)
    (_, marked) = apt.commands(packages, {"lib:i386": "/0.deb"})
    assert marked[1:] == ("auto", "lib:i386")


def test_an_interrupt_lets_apt_end_by_itself(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It takes longer for it than Python gives to what it runs."""
    script = "trap 'sleep 1; touch \"$1/ended\"; exit 0' INT; kill -INT $PPID $$; touch $1/not; exit 1"
    monkeypatch.setattr(apt, "UPDATE", ("/bin/sh", "-c", script, "sh", str(tmp_path)))
    with pytest.raises(KeyboardInterrupt):
        apt.update()
    assert os.listdir(tmp_path) == ["ended"]


def test_automatic_packages() -> None:
    states = b"Package: lib\nArchitecture: amd64\nAuto-Installed: 1\n\nPackage: app\nArchitecture: amd64\n"
    states += b"Auto-Installed: 0\n"
    for name, architecture, expected in (
        ("lib", "amd64", True),
        ("lib", "all", True),
        ("lib", "i386", False),
        ("app", "amd64", False),
        ("none", "all", False),
    ):
        known = dpkg.Package(name, f"Package: {name}\nArchitecture: {architecture}\n".encode())
        assert (name in dpkg.automatic(states, {name: known})) is expected


@pytest.mark.parametrize(
    ("path", "named", "why"),
    [
        ("/etc/passwd", True, "accounts"),
        ("/etc/fstab", True, "this machine"),
        ("/etc/ssh/ssh_host_rsa_key", False, "this machine"),
        ("/etc/alternatives/editor", False, "update-alternatives"),
        ("/var/lib/new\nline/x", False, "programs keep"),
        ("/var/lib/x/y", True, ""),
        ("/boot/grub/grub.cfg", False, "scripts"),
        ("/etc/fstab.d", False, ""),
        ("/var/www/index.html", False, ""),
        ("/usr/local/bin/x", False, ""),
    ],
)
def test_what_is_left_alone(path: str, named: bool, why: str) -> None:
    said = plan.left_alone(Change(path, "added", None, Facts("file", 0o644, 0, 0)), named)
    assert (why in said) if why else (said == "")


@pytest.mark.parametrize("path", ["/boot", "/var/mail", "/var/log", "/var/lib", "/etc/alternatives", "/etc/ssl/certs"])
def test_a_directory_that_goes_is_left_alone_with_what_is_in_it(path: str) -> None:
    directory, link = Facts("directory", 0o755, 0, 0), Facts("symlink", 0o777, 0, 0)
    assert plan.left_alone(Change(path, "deleted", directory, None), False)
    assert plan.left_alone(Change(path, "type", directory, link), False)
    assert plan.of_machine(path, False, goes=True)


@pytest.mark.parametrize(
    ("content", "inode", "created", "expected"),
    [(5, 5, 1, 5), (5, 9, 1, 5), (0, 9, 1, 1), (9, 5, 1, 5), (0, 0, 1, 0)],
)
def test_when_an_environment_changed_something(content: int, inode: int, created: int, expected: int) -> None:
    """It is not later than a merge, a link or a clock that was wrong let it seem."""
    status = os.stat_result([0] * 10, {"st_mtime_ns": content * 10**9, "st_ctime_ns": inode * 10**9})
    assert inventory.time_of(status, created) == expected * 10**9


def test_devices_and_sockets_are_left_alone() -> None:
    assert plan.left_alone(Change("/opt/x", "added", None, Facts("device", 0o644, 0, 0)), True)
    assert plan.left_alone(Change("/opt/x", "deleted", Facts("socket", 0o644, 0, 0), None), False)


@pytest.mark.parametrize(
    ("path", "target", "whose", "made"),
    [
        ("/usr/bin/editor", "/etc/alternatives/editor", "", True),
        ("/etc/rc2.d/S01x", "/etc/init.d/x", "x", True),
        ("/etc/rc2.d/S01y", "/etc/init.d/y", "y", False),
        ("/usr/local/bin/x", "/usr/bin/x", "x", False),
    ],
)
def test_links_that_scripts_make(path: str, target: str, whose: str, made: bool) -> None:
    assert plan.of_scripts(path, target, whose, {"x": None}) is made


def test_where_apt_gets_packages_from() -> None:
    of_sources = ("/etc/apt/sources.list.d/x.sources", "/etc/apt/keyrings", "/usr/share/keyrings/x.gpg", "/etc/apt")
    assert all(map(plan.is_of_sources, of_sources))
    assert not any(map(plan.is_of_sources, ("/etc/apt/other", "/etc/aptx", "/usr/share/keyrings")))
