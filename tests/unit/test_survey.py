"""The survey: clashes of data roots, what cannot be read, and the real host as far as every user may look."""

from __future__ import annotations

import os
import tempfile
from collections.abc import Iterator
from pathlib import Path

import pytest

from sysenv_ns.host import run_directory, survey
from sysenv_ns.host.base_files import COPY
from sysenv_ns.host.index import Index
from sysenv_ns.host.layout import Tree
from sysenv_ns.host.walk import Batch, Walk
from sysenv_ns.policy import OTHER_TREES

from .samples import FULL, SINGLE
from .trees import Mirror, as_ordinary_user, tree


@pytest.fixture
def public() -> Iterator[Path]:
    """A directory that every user can reach, unlike tmp_path."""
    with tempfile.TemporaryDirectory() as directory:
        path = Path(os.path.realpath(directory))
        path.chmod(0o755)
        yield path


@pytest.fixture
def roots(tmp_path: Path) -> tuple[str, str]:
    """Two data roots; the first has a file, a symbolic link and a directory that may be in the second one too."""
    for name in ("usr/share", "opt"):
        (tmp_path / name).mkdir(parents=True)
    (tmp_path / "usr" / "share" / "file").touch()
    (tmp_path / "usr" / "share" / "link").symlink_to("file")
    (tmp_path / "usr" / "share" / "directory").mkdir()
    return str(tmp_path / "usr"), str(tmp_path / "opt")


@pytest.mark.parametrize(
    ("relative", "expected"),
    [
        ("share/file", True),
        ("share/link", False),
        ("share/directory", False),
        ("share/absent", False),
        ("absent/file", False),
        ("share/file/x", False),
    ],
)
def test_only_a_file_of_an_earlier_root_clashes(roots: tuple[str, str], relative: str, expected: bool) -> None:
    index = Index(roots[:1])
    index.use(roots[1])
    assert index.clashes(roots[1], relative) is expected
    assert not index.clashes(roots[0], relative)


def test_the_first_root_used_is_searched_first(roots: tuple[str, str]) -> None:
    index = Index(())
    for root in (roots[1], roots[0], roots[1]):
        index.use(root)
    assert index.roots == [roots[1], roots[0]]
    assert not index.clashes(roots[1], "share/file")


def test_a_clashing_file_is_copied(tmp_path: Path) -> None:
    earlier, source = tmp_path / "usr", tmp_path / "opt"
    for path in (earlier, source):
        path.mkdir()
        (path / "same").write_bytes(str(path).encode() * 1000)
    (source / "different").write_bytes(b"x" * 5000)
    index = Index([str(earlier)])
    batches = list(Walk(tree(source), SINGLE, "stub", index, lambda fraction: None).batches())
    kinds = {entry[1]: entry[0] for entry in batches[-1].entries}
    assert kinds == {"same": COPY, "different": "s"}
    assert list(index.stubs) == [str(source / "different")]


def test_owners_are_those_of_the_id_map(tmp_path: Path) -> None:
    (tmp_path / "file").touch()
    status = os.lstat(tmp_path / "file")
    for id_map in (SINGLE, FULL):
        (record,) = Mirror(tree(tmp_path), id_map).batches[-1].entries
        assert record[3:5] == (id_map.uid_inside(status.st_uid), id_map.gid_inside(status.st_gid))


def test_what_cannot_be_read_is_empty_and_noted(public: Path) -> None:
    for name, mode in (("closed", 0o000), ("listed", 0o644), ("passed", 0o711)):
        (public / name).mkdir()
        (public / name / "inner").write_bytes(b"inner")
        (public / name).chmod(mode)
    (public / "secret").write_bytes(b"secret" * 1000)
    (public / "secret").chmod(0o000)

    def look() -> object:
        mirror = Mirror(tree(public))
        below = [batch for batch in mirror.batches if f"/{batch.directory}".startswith(str(public))]
        found = {os.path.basename(batch.directory): (batch.record[2], len(batch.entries)) for batch in below}
        (secret,) = [entry for batch in below for entry in batch.entries if entry[1] == "secret"]
        assert secret[6] == b""
        return [found, secret[2], sorted(mirror.index.unreadable)]

    unreadable = ["closed", "listed", "secret"]
    if as_ordinary_user(os.getuid) == os.getuid():
        entries = {"closed": 0, "listed": 0, "passed": 1}
    else:  # somebody else's now
        entries = {"closed": 0, "listed": 0, "passed": 0}
        unreadable = ["closed", "listed", "passed", "secret"]
    modes = {"closed": 0o000, "listed": 0o644, "passed": 0o711}
    expected = {name: [mode, entries[name]] for name, mode in modes.items()} | {public.name: [0o755, 1]}
    assert as_ordinary_user(look) == [expected, 0, [str(public / name) for name in unreadable]]
    for name in modes:
        (public / name).chmod(0o755)


def test_a_shadow_file_that_cannot_be_read_gets_a_stand_in() -> None:
    def look() -> object:
        batches = Mirror(Tree("/etc", OTHER_TREES, frozenset(), frozenset({"/"}))).batches
        entries = next(batch.entries for batch in batches if batch.directory == "etc")
        return [str(entry[6]) for entry in entries if entry[1] == "shadow"]

    if not os.path.exists("/etc/shadow"):
        pytest.skip("no /etc/shadow here")
    assert as_ordinary_user(look) == [str(b"".join(line + b":!:19000:0:99999:7:::\n" for line in local_users()))]


def local_users() -> list[bytes]:
    return [line.split(b":")[0] for line in Path("/etc/passwd").read_bytes().splitlines() if line[:1] not in b"+-#"]


def test_devices_are_left_out() -> None:
    (batch,) = [b for b in shallow_walk("/dev") if b.directory == "dev"]
    assert "null" not in [entry[1] for entry in batch.entries]


def shallow_walk(path: str) -> Iterator[Batch]:
    stops = frozenset(entry.path for entry in os.scandir(path) if entry.is_dir(follow_symlinks=False))
    source = Tree(path, OTHER_TREES, stops, frozenset({"/", path}))
    return Walk(source, SINGLE, "stub", Index(()), lambda fraction: None).batches()


@pytest.mark.parametrize("home", ["/no-such-home", "/nonexistent/you", "/", "/usr/share", "relative"])
def test_all_that_would_be_bound_exists(monkeypatch: pytest.MonkeyPatch, home: str) -> None:
    monkeypatch.setenv("HOME", home)
    bound = survey.host(SINGLE).bound_paths
    assert [path for path in bound if not os.path.lexists(path)] == []


def test_home_is_found_through_symbolic_links(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> None:
    (tmp_path / "home").symlink_to("real")
    (tmp_path / "real").mkdir()
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    assert survey.host(SINGLE).home == str(tmp_path / "real")


def test_this_hosts_run_comes_parents_first() -> None:
    seen = {""}
    for entry in survey.host(SINGLE).run:
        assert entry.path.rpartition("/")[0] in seen
        assert (entry.uid, entry.gid) == (0, 0)
        seen.add(entry.path)
    assert not seen & {"systemd/system", "systemd/private", "initctl"}


def test_a_file_in_run_that_cannot_be_read_is_left_out() -> None:
    """Files like those in /run/docker/netns can be opened, but not read; /proc/self/mem is such a file too."""
    below = "../proc/self"
    directories = {f"/run/{below}/{entry.name}" for entry in os.scandir("/proc/self") if entry.is_dir()}
    names = [entry.path.rpartition("/")[2] for entry in run_directory.entries(below, directories, SINGLE)]
    assert "status" in names
    assert "mem" not in names
