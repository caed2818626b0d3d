"""The plan of a rebase, from trees in a temporary directory; whiteouts are files as fuse-overlayfs makes them."""

from __future__ import annotations

import contextlib
import hashlib
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import pytest

from sysenv_ns.files import view
from sysenv_ns.files.marks import OF_FUSE
from sysenv_ns.files.upper import Own, Upper
from sysenv_ns.files.view import View
from sysenv_ns.packages.old import Old
from sysenv_ns.rebase import execution, planner
from sysenv_ns.rebase.plan import Copy, RebasePlan

_INFO = "/var/lib/dpkg/info"


def _write(root: Path, files: Mapping[str, str]) -> None:
    for path, text in files.items():
        place = root / path[1:]
        place.parent.mkdir(parents=True, exist_ok=True)
        place.write_text(text)


def _status(**versions: str) -> str:
    form = "Package: {}\nStatus: install ok installed\nArchitecture: all\nVersion: {}\n{}\n"
    conffile = "Conffiles:\n /etc/{}.conf {}\n"
    return "".join(
        form.format(name, version, conffile.format(name, _sum(f"conf {version}"))) for name, version in versions.items()
    )


def _sum(text: str) -> str:
    return hashlib.md5(text.encode()).hexdigest()


def _package(name: str, version: str, *paths: str) -> dict[str, str]:
    """The files of a package, and its info files."""
    found = {path: f"{path} {version}" for path in paths}
    sums = "".join(f"{_sum(text)}  {path[1:]}\n" for path, text in found.items())
    conf = f"/etc/{name}.conf"
    listing = "".join(f"{path}\n" for path in ("/.", "/usr", *paths, conf))
    return {**found, conf: f"conf {version}", f"{_INFO}/{name}.list": listing, f"{_INFO}/{name}.md5sums": sums}


class _Case:
    """The three sides of one test."""

    def __init__(self, path: Path) -> None:
        self.path = path
        for name in ("old", "new", "upper"):
            (path / name).mkdir()

    def plan(self) -> RebasePlan:
        old = Old(self.path / "old", self.path / "old")
        return planner.plan(old, View(str(self.path / "new")), Upper([("", str(self.path / "upper"))], OF_FUSE))

    def write(self, old: Mapping[str, str], new: Mapping[str, str], upper: Mapping[str, str]) -> None:
        for name, files in (("old", old), ("new", new), ("upper", upper)):
            _write(self.path / name, files)


@pytest.fixture
def case(tmp_path: Path) -> _Case:
    """Three empty sides."""
    return _Case(tmp_path)


_STATUS = "/var/lib/dpkg/status"


def test_an_environment_without_changes(case: _Case) -> None:
    case.write({_STATUS: _status(a="1")}, {_STATUS: _status(a="2"), **_package("a", "2", "/usr/a")}, {})
    assert case.plan().empty


def test_databases_in_another_order_say_the_same(case: _Case) -> None:
    states = "Package: {}\nArchitecture: all\nAuto-Installed: 1\n\n"
    gone = "Package: z\nStatus: purge ok not-installed\nArchitecture: all\n\n"
    host = {_STATUS: _status(c="1", a="1"), "/var/lib/apt/extended_states": states.format("c") + states.format("a")}
    own = {"/var/lib/apt/extended_states": "".join(map(states.format, "abc"))}
    own |= {_STATUS: _status(a="1", b="1", c="1") + gone, **_package("b", "1", "/usr/b")}
    case.write(host, {**host, **_package("a", "1", "/usr/a"), **_package("c", "1", "/usr/c")}, own)
    plan = case.plan()
    assert plan.empty, plan


def test_copies_of_an_untouched_package_go_and_edited_ones_stay(case: _Case) -> None:
    old = {_STATUS: _status(a="1"), "/md5sums": f"{_sum('/usr/same 1')}  usr/same\n"}
    new = {_STATUS: _status(a="2"), **_package("a", "2", "/usr/a", "/usr/same", "/usr/edited")}
    upper = {_STATUS: _status(a="1", b="1"), "/usr/a": "/usr/a 2", "/usr/same": "/usr/same 1", "/usr/edited": "mine"}
    case.write(old, new, {**upper, **_package("b", "1", "/usr/b")})
    plan = case.plan()
    assert plan.dropped == {"/usr/a"}
    assert plan.copies == [Copy("/usr/same", "/usr/same", keep=True)]
    assert any("/usr/edited stays" in note for note in plan.notes)
    assert plan.written[_STATUS].decode() == _status(a="2", b="1")


def test_a_package_of_its_own_version_hides_what_only_the_hosts_has(case: _Case) -> None:
    new = _package("a", "3", "/usr/a", "/usr/a3") | {f"{_INFO}/a.triggers": "interest x\n"}
    own = _package("a", "2", "/usr/a")
    del own["/etc/a.conf"]  # dpkg leaves it where it is when it has not changed
    old = {_STATUS: _status(a="1"), "/etc/a.conf": "conf 1"}
    case.write(old, {_STATUS: _status(a="3"), **new}, {_STATUS: _status(a="2"), **own})
    plan = case.plan()
    assert plan.hidden == {"/usr/a3", f"{_INFO}/a.triggers"}
    assert plan.written == {"/etc/a.conf": b"conf 1"}
    assert not plan.dropped


def test_a_removed_package_stays_hidden(case: _Case) -> None:
    new = {_STATUS: _status(a="2", b="1"), **_package("a", "2", "/usr/a", "/usr/a2"), **_package("b", "1", "/usr/b")}
    upper = {_STATUS: _status(b="1"), "/usr/.wh.a": "", f"{_INFO}/.wh.a.list": "", "/etc/.wh.a.conf": ""}
    case.write({_STATUS: _status(a="1", b="1")}, new, upper)
    plan = case.plan()
    assert plan.hidden == {"/usr/a2", f"{_INFO}/a.md5sums"}
    assert not plan.dropped


def test_a_file_that_moved_to_another_package_is_shown(case: _Case) -> None:
    new = {_STATUS: _status(a="2", c="2"), **_package("a", "2", "/usr/x"), **_package("c", "2", "/usr/a")}
    upper = {_STATUS: "", "/usr/.wh.a": "", f"{_INFO}/.wh.a.list": ""}
    case.write({_STATUS: _status(a="1")}, new, upper)
    plan = case.plan()
    assert "/usr/a" in plan.dropped
    assert "/usr/x" in plan.hidden


def test_a_package_that_was_installed_again(case: _Case) -> None:
    """Its directory was removed and made anew: it hides what lies below it."""
    new = {_STATUS: _status(a="2"), **_package("a", "2", "/usr/d/a", "/usr/d/new"), "/usr/d/foreign": ""}
    upper = {_STATUS: _status(a="1"), **_package("a", "1", "/usr/d/a", "/usr/d/gone"), "/usr/d/.wh..wh..opq": ""}
    case.write({_STATUS: _status(a="1")}, new, upper)
    plan = case.plan()
    assert plan.dropped == {
        *("/usr/d/a", "/usr/d/gone", "/etc/a.conf", _STATUS),
        *(f"{_INFO}/a.list", f"{_INFO}/a.md5sums"),
    }
    assert plan.opened == {"/usr/d"}
    assert plan.hidden == {"/usr/d/foreign"}


@pytest.mark.parametrize(
    ("old", "new", "own", "dropped", "beside"),
    [
        ("conf 1", "conf 2", "conf 1", True, False),
        ("conf 1", "conf 2", "conf 2", True, False),
        ("conf 1", "conf 2", "mine", False, True),
        ("conf 1", "conf 1", "mine", False, False),
        ("theirs", "theirs", "mine", False, False),
    ],
)
def test_configuration_files(case: _Case, old: str, new: str, own: str, dropped: bool, beside: bool) -> None:
    case.write(
        {_STATUS: _status(a="1"), "/etc/a.conf": old},
        {_STATUS: _status(a="2"), **_package("a", "2", "/usr/a"), "/etc/a.conf": new},
        {_STATUS: _status(a="1"), "/etc/a.conf": own},
    )
    plan = case.plan()
    assert ("/etc/a.conf" in plan.dropped) is dropped
    assert (Copy("/etc/a.conf", "/etc/a.conf.dpkg-dist") in plan.copies) is beside


def test_a_diverted_file_follows_the_host(case: _Case) -> None:
    diversions = "/var/lib/dpkg/diversions"
    new = {_STATUS: _status(a="2"), **_package("a", "2", "/usr/a"), diversions: ""}
    upper = {
        **{_STATUS: _status(a="1", b="1"), diversions: "/usr/a\n/usr/a.distrib\nb\n"},
        **{**_package("b", "1", "/usr/a"), "/usr/a.distrib": "/usr/a 1"},
    }
    case.write({_STATUS: _status(a="1"), diversions: ""}, new, upper)
    plan = case.plan()
    assert plan.copies == [Copy("/usr/a", "/usr/a.distrib")]
    assert "/usr/a" not in plan.dropped


def test_a_question_stays_with_the_package_that_asks_it(case: _Case) -> None:
    config, form = "/var/cache/debconf/config.dat", "Name: {0}\nTemplate: {0}\nValue: {1}\nOwners: {2}\n\n"
    asked, gone = form.format("asked", "1", "a, b, c"), form.format("gone", "1", "c")
    kept, before = form.format("kept", "1", "b"), form.format("z", "1", "later")
    case.write(
        {_STATUS: _status(a="1", b="1", c="1"), config: asked + gone + kept},
        {_STATUS: _status(a="2"), **_package("a", "2", "/usr/a"), config: form.format("asked", "2", "a, new")},
        {_STATUS: _status(a="1", b="2", c="1"), **_package("b", "2", "/usr/b"), config: asked + gone + kept + before},
    )
    assert case.plan().written[config].decode() == form.format("asked", "2", "a, b, new") + kept + before


def test_accounts(case: _Case) -> None:
    root = "root:x:0:0::/root:/bin/sh\n"
    case.write(
        {"/etc/passwd": root},
        {"/etc/passwd": f"{root}host:x:999:999::/:\n", "/var/lib/host/file": ""},
        {"/etc/passwd": f"{root}own:x:999:999::/:\n"},
    )
    plan = case.plan()
    assert plan.written["/etc/passwd"].decode() == f"{root}host:x:998:999::/:\nown:x:999:999::/:\n"
    assert any("host gets the number 998" in note for note in plan.notes)


def test_a_whiteout_over_nothing_goes(case: _Case) -> None:
    case.write({}, {"/usr/there": ""}, {"/usr/.wh.gone": "", "/usr/.wh.there": ""})
    assert case.plan().dropped == {"/usr/gone"}


def test_links_are_followed_inside(tmp_path: Path) -> None:
    below = tmp_path / "new"
    _write(below, {"/usr/lib/a": "inside", "/etc/x": ""})
    (below / "lib").symlink_to("usr/lib")
    (below / "absolute").symlink_to("/usr/lib")
    (below / "loop").symlink_to("loop")
    view = View(str(below))
    assert view.real("/lib/a") == view.real("/absolute/a") == "/usr/lib/a"
    assert view.real("/lib") == "/lib"
    assert view.read("/absolute/a") == b"inside"
    assert view.link("/lib") == "usr/lib"
    assert view.status("/loop/a") is None
    assert view.names("/lib") == ["a"]
    assert view.names("/nothing") == []


@pytest.mark.parametrize(
    "changes",
    [
        {"written": {"/var/lib/dpkg/status": b"new"}},
        {"copies": [Copy("/source", "/var/lib/dpkg/status")]},
        {"hidden": {"/var/lib/dpkg/status"}},
        {"written": {"/usr/../../outside/status": b"new"}},
    ],
)
def test_nothing_is_changed_outside_whatever_the_links_are(tmp_path: Path, changes: dict[str, Any]) -> None:
    plan = RebasePlan()
    vars(plan).update(changes)
    root, below, outside = tmp_path / "root", tmp_path / "below", tmp_path / "outside"
    _write(outside, {"/status": "mine"})
    _write(below, {"/source": "the host's", "/var/lib/dpkg/status": ""})
    (root / "var/lib").mkdir(parents=True)
    (root / "usr").mkdir()
    # More of them than are followed by path.
    for number in range(view.LINKS):
        (root / f"link{number}").symlink_to(f"link{number + 1}")
    (root / f"link{view.LINKS}").symlink_to(outside)
    (root / "var/lib/dpkg").symlink_to("/link0")
    with contextlib.suppress(OSError):
        execution.change(plan, View(str(below)), View(str(root)))
    assert {path.name: path.read_text() for path in outside.iterdir()} == {"status": "mine"}


def test_what_an_environment_has(tmp_path: Path) -> None:
    _write(tmp_path / "new", {"/a/x": "below", "/b/x": "below", "/c/x": "below", "/d": "below"})
    _write(tmp_path / "upper", {"/.wh.a": "", "/b/.wh..wh..opq": "", "/b/y": "own", "/c/y": "own", "/d": "own"})
    upper = Upper([("", str(tmp_path / "upper"))], OF_FUSE)
    own = Own(upper, View(str(tmp_path / "new")))
    assert [own.read(path) for path in ("/a/x", "/b/x", "/b/y", "/c/x", "/c/y", "/d")] == [
        *(None, None, b"own", b"below", b"own", b"own")
    ]
    assert sorted(upper.below("/b")) == ["y"]
