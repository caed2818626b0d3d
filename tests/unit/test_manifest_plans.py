"""In what an environment differs from a manifest, and which of its files a manifest carries."""

from __future__ import annotations

import dataclasses

import pytest

from sysenv_ns.diff.changes import Change, Facts, FileType, Kind
from sysenv_ns.errors import SysenvError
from sysenv_ns.host import release as host_release
from sysenv_ns.manifest import plans, selection, steps
from sysenv_ns.manifest.document import SOURCES, AddedFile, Manifest, Script, digest
from sysenv_ns.manifest.installed import InstalledState, Look, Side
from sysenv_ns.manifest.plans import Action, Record
from sysenv_ns.manifest.selection import Left
from sysenv_ns.manifest.steps import Delete, Put, Run

_LIST = f"{SOURCES}/local.list"


def _status(*packages: str) -> bytes:
    """NAME VERSION [FIELD: VALUE; ...]; a + before the name: on hold."""
    text = ""
    for package in ("dpkg 1", *packages):
        name, version, *fields = package.split(" ", 2)
        want = "hold" if name.startswith("+") else "install"
        more = "".join(f"{field}\n" for field in "".join(fields).split(";") if field)
        text += f"Package: {name.lstrip('+')}\nStatus: {want} ok installed\nArchitecture: amd64\n"
        text += f"{more}Version: {version}\n\n"
    return text.encode()


def _auto(*names: str) -> bytes:
    return "".join(f"Package: {name}\nArchitecture: amd64\nAuto-Installed: 1\n\n" for name in names).encode()


def _side(*packages: str, auto: tuple[str, ...] = (), **others: str) -> Side:
    paths = {"arch": "/var/lib/dpkg/arch", "config": "/var/cache/debconf/config.dat"}
    databases = {paths[key]: text.encode() for key, text in others.items()}
    accounts = {"/etc/passwd": b"root:x:0:0\nme:x:7:7\n", "/etc/group": b"root:x:0:\nme:x:7:\n"}
    states = {"/var/lib/dpkg/status": _status(*packages), "/var/lib/apt/extended_states": _auto(*auto)}
    return Side({**databases, **accounts, **states})


HOST = _side("nano 1", "sh 1")


def _plan(
    manifest: Manifest, own: Side = HOST, record: Record | None = None, host: Side = HOST
) -> list[tuple[str, str]]:
    return [(action.kind, action.subject) for action in plans.make(manifest, InstalledState(host, own), record)]


def _record(manifest: Manifest, *known: str) -> Record:
    return Record("/x/sysenv.toml", manifest, manifest.digests(), frozenset(known))


def test_an_empty_manifest_is_the_host() -> None:
    assert _plan(Manifest()) == []


def test_packages() -> None:
    own = _side("nano 1", "sh 1", "a 1", "lib 2", auto=("lib",))
    assert _plan(Manifest(packages=("a", "b", "nano")), own) == [("install", "b")]
    assert _plan(Manifest(packages=("a=1", "lib")), own) == [("install", "lib")]  # to be marked as asked for
    assert _plan(Manifest(packages=("a=2",)), own) == [("install", "a=2")]
    assert _plan(Manifest(), own) == [("drop", "a")]  # what it needed goes with it
    assert _plan(Manifest(removed=("nano",)), HOST) == [("remove", "nano")]


def test_what_was_pulled_stays() -> None:
    """A manifest above a base names what it wants besides; without the base, all is said by the manifest again."""
    lists = f"{SOURCES}/base.list"
    own = dataclasses.replace(_side("sh 1", "+a 1", "lib 2", auto=("lib",), arch="i386\n"), sources={lists: b"deb x"})
    record = plans.pulled("localhost/a:1", InstalledState(HOST, own))
    above = Manifest(base="localhost/a:1")
    assert _plan(above, own, record) == []
    assert _plan(dataclasses.replace(above, packages=("b",)), own, record) == [("install", "b")]
    assert _plan(dataclasses.replace(above, packages=("nano",)), own, record) == [("install", "nano")]
    assert _plan(dataclasses.replace(above, removed=("a",)), own, record) == [("remove", "a")]
    assert _plan(dataclasses.replace(above, repositories={lists: "deb y"}), own, record) == [("repository", lists)]
    later = _side("sh 1", "+a 1", "+c 1", "lib 2", auto=("lib",), arch="i386\n")
    assert _plan(above, later, record) == [("drop", "c"), ("unhold", "c")]
    assert _plan(Manifest(), own, record) == [
        ("no-architecture", "i386"),
        ("repository", lists),
        ("install", "nano"),
        ("drop", "a"),
        ("unhold", "a"),
    ]


def test_another_base() -> None:
    """Nothing is done to an environment that began with something else."""
    record = plans.pulled("localhost/a:1", InstalledState(HOST, HOST))
    plans.check_base("proj", Manifest(base="localhost/a:1"), record)
    plans.check_base("proj", Manifest(), record)
    with pytest.raises(SysenvError, match="was not made from localhost/b:1, but from localhost/a:1"):
        plans.check_base("proj", Manifest(base="localhost/b:1"), record)
    with pytest.raises(SysenvError, match=r"was not made from localhost/a:1$"):
        plans.check_base("proj", Manifest(base="localhost/a:1"), None)


def test_what_the_host_has_comes_back() -> None:
    own = _side("sh 1")
    assert _plan(Manifest(), own) == [("install", "nano")]
    assert _plan(Manifest(removed=("nano",)), own) == []


@pytest.mark.parametrize("field", ["Conflicts: x, nano", "Breaks: nano (<< 9)", "Conflicts: editor"])
def test_what_excludes_it_is_a_reason_to_be_missing(field: str) -> None:
    host = _side("nano 1 Provides: editor", "sh 1")
    assert _plan(Manifest(packages=("vi",)), _side("sh 1", f"vi 1 {field}"), host=host) == []
    assert _plan(Manifest(packages=("vi",)), _side("sh 1", "vi 1"), host=host) == [("install", "nano")]


def test_a_virtual_package_is_there_by_another_one() -> None:
    own = _side("nano 1", "sh 1", "mta-1 1 Provides: mta (= 3), other")
    assert _plan(Manifest(packages=("mta",)), own) == []
    assert _plan(Manifest(packages=("mta=3",)), own) == [("install", "mta=3")]


def test_versions_of_what_others_need() -> None:
    manifest = Manifest(packages=("a",), versions=("lib=2", "sh=3"))
    found = plans.make(manifest, InstalledState(HOST, _side("nano 1", "sh 1", "a 1", "lib 1", auto=("lib",))), None)
    assert found == (Action("install", "lib=2", b"automatic"), Action("install", "sh=3", b""))
    assert _plan(manifest, _side("nano 1", "sh 3", "a 1", "lib 2", auto=("lib",))) == []


def test_holds_and_architectures() -> None:
    host = _side("+nano 1", "sh 1", arch="amd64\narmhf\n")
    own = _side("+nano 1", "+sh 1", arch="amd64\narmhf\narm64\n")
    manifest = Manifest(held=("dpkg",), architectures=("i386",))
    expected = [("architecture", "i386"), ("no-architecture", "arm64"), ("hold", "dpkg"), ("unhold", "sh")]
    assert _plan(manifest, own, host=host) == expected


def test_repositories_and_keys() -> None:
    host = dataclasses.replace(HOST, sources={_LIST: b"1", f"{SOURCES}/b.list": b"b"}, keys={"/k": b"k"})
    own = dataclasses.replace(HOST, sources={_LIST: b"2", f"{SOURCES}/c.list": b"c"}, keys={"/k": b"x", "/other": b""})
    assert _plan(Manifest(), own, host=host) == [
        ("repository", f"{SOURCES}/b.list"),
        ("repository", f"{SOURCES}/c.list"),
        ("repository", _LIST),
    ]
    manifest = Manifest(repositories={_LIST: "2", f"{SOURCES}/b.list": None}, keys={"/k": b"x", "/n": b"n"})
    assert _plan(manifest, own, host=host) == [("repository", f"{SOURCES}/c.list"), ("key", "/n")]
    (restored,) = plans.make(
        Manifest(), InstalledState(host, dataclasses.replace(host, keys={"/k": b"x"})), _record(manifest)
    )
    assert restored == Action("key", "/k", b"k")


def test_answers() -> None:
    own = _side("nano 1", "sh 1", config="Name: q/a\nValue: x y\nOwners: sh\n\n")
    assert _plan(Manifest(debconf=("sh q/a string x y",)), own) == []
    assert _plan(Manifest(debconf=("sh q/a string x", "sh q/b string")), own) == [
        ("answer", "sh q/a"),
        ("answer", "sh q/b"),
    ]


def _with_files(manifest: Manifest, record: Record | None = None, single: bool = False, **looks: Look) -> list[str]:
    files = {f"/{name}": look for name, look in looks.items()}
    return [
        a.subject
        for a in plans.make(manifest, InstalledState(HOST, HOST, files, single=single), record)
        if a.kind == "file"
    ]


def test_files() -> None:
    manifest = Manifest(files={"/a": AddedFile(b"text", mode=0o600, owner="me:me"), "/l": AddedFile(link="a")})
    there = Look("file", digest(b"text"), "", 0o600, 7, 7)
    link = Look("symlink", "", "a", 0o777, 0, 0)
    assert _with_files(manifest, a=there, l=link) == []
    assert _with_files(manifest) == ["/a", "/l"]
    for other in ({"digest": ""}, {"mode": 0o644}, {"uid": 0}, {"type": "fifo"}):
        assert _with_files(manifest, a=dataclasses.replace(there, **other), l=link) == ["/a"]
    assert _with_files(manifest, single=True, a=dataclasses.replace(there, uid=0, gid=0), l=link) == []
    assert _with_files(manifest, a=there, l=dataclasses.replace(link, link="b")) == ["/l"]
    assert _with_files(Manifest(), _record(manifest), l=link) == ["/l"]  # of the last manifest
    assert _with_files(Manifest(), None, l=link) == []


def test_what_a_package_has_put_below_a_file_cannot_be_brought_back() -> None:
    own = _side("nano 1", "sh 1", "a 1 Conffiles:; /x 0123")
    look = Look("file")
    record = _record(Manifest(files={"/x": AddedFile(b"1"), "/y": AddedFile(b"1")}))
    found = plans.make(Manifest(packages=("a",)), InstalledState(HOST, own, {"/x": look, "/y": look}), record)
    assert [action.subject for action in found] == ["/y"]


def test_scripts_run_when_they_or_anything_else_changed() -> None:
    manifest = Manifest(scripts=(Script("one\n"), Script("\n two", "second")))
    scripts = [("script", "one"), ("script", "second")]
    assert _plan(manifest) == scripts
    assert _plan(manifest, record=_record(manifest)) == []
    assert _plan(manifest, record=_record(Manifest(scripts=(Script("one"),)))) == scripts
    changed = dataclasses.replace(manifest, packages=("a",))
    assert _plan(changed, record=_record(manifest)) == [("install", "a"), *scripts]


def test_known_differences_are_none() -> None:
    manifest = Manifest(packages=("a",), files={"/x": AddedFile(b"1")})
    own = _side("nano 1", "sh 1", "a 1", "b 1")
    left = plans.remaining(manifest, InstalledState(HOST, own))
    assert [action.subject for action in left] == ["b", "/x"]
    record = _record(manifest, *(action.ident for action in left))
    assert _plan(manifest, own, record) == []
    edited = dataclasses.replace(manifest, files={"/x": AddedFile(b"2")})
    assert _plan(edited, own, record) == [("file", "/x")]


def test_another_system() -> None:
    manifest = Manifest(release="debian/bookworm", architecture="amd64")
    plans.check_system(manifest, "debian/bookworm", "amd64", force=False)
    plans.check_system(manifest, "debian/trixie", "arm64", force=True)
    with pytest.raises(SysenvError, match="for the release debian/bookworm, this system is ubuntu/noble"):
        plans.check_system(manifest, "ubuntu/noble", "amd64", force=False)
    with pytest.raises(SysenvError, match="for the architecture amd64, this system is another one"):
        plans.check_system(manifest, "debian/bookworm", "", force=False)


@pytest.mark.parametrize(
    ("text", "release"),
    [
        ('ID=debian\nVERSION_ID="12"\nVERSION_CODENAME=bookworm\n', "debian/bookworm"),
        ('ID="rocky"\nVERSION_ID="9.3"\n', "rocky/9.3"),
        ("ID=arch\n", "arch"),
        ('# ID=none\n\nID=\'a\'"b"\\c\nVERSION_ID="1\n', "abc/1"),
        ("", "linux"),
    ],
)
def test_release(text: str, release: str) -> None:
    assert host_release.codename(host_release.parsed(text)) == release


def test_steps_come_in_an_order_that_works() -> None:
    files = {"/etc/a": AddedFile(b"", owner="me:me"), "/etc/apt/preferences.d/x": AddedFile(b"")}
    manifest = Manifest(scripts=(Script("x"),), files=files)
    actions = [
        *(Action("file", path, file) for path, file in files.items()),
        Action("file", "/gone"),
        Action("script", "x", b"x"),
        Action("install", "a=1", b""),
        Action("install", "lib", b"automatic"),
        Action("remove", "nano"),
        Action("drop", "old"),
        Action("hold", "a"),
        Action("answer", "sh q/a", b"sh q/a string x"),
        Action("architecture", "i386"),
        Action("repository", _LIST, b"deb"),
        Action("key", "/k", b"k"),
    ]
    found = list(steps.compiled(actions, manifest, ["sh"], {"sh q/a": "sh"}, "/proj"))
    assert [step.title for step in found] == [
        "write /k",
        f"write {_LIST}",
        "write /etc/apt/preferences.d/x",
        "delete /gone",
        "dpkg --add-architecture i386",
        "answer debconf's questions",
        "apt-get update",
        "look for the versions",
        "fetch packages",
        "install and remove packages",
        "configure sh",
        "apt-mark auto lib old",
        "apt-mark hold a",
        "remove packages that are no longer needed",
        "write /etc/a",
        "chown me:me /etc/a",
        "script: x",
    ]
    assert found[0] == Put("/k", AddedFile(b"k"))
    assert found[3] == Delete("/gone")
    install = next(step for step in found if step.title.startswith("install"))
    assert isinstance(install, Run)
    assert install.arguments[-3:] == ("a=1", "lib", "nano-")


def test_without_packages_there_is_no_network() -> None:
    file = AddedFile(b"")
    manifest = Manifest(files={"/etc/a": file})
    titles = [s.title for s in steps.compiled([Action("file", "/etc/a", file)], manifest, [], {}, "/")]
    assert titles == ["write /etc/a"]


def _change(path: str, kind: Kind = "added", type_: FileType = "file", package: str = "", fold: str = "") -> Change:
    facts = Facts(type_, 0o644, 0, 0, 10)
    old, new = (None if kind == "added" else facts), (None if kind == "deleted" else facts)
    return Change(path, kind, old, new, package=package, fold=fold)  # type: ignore[arg-type]


def test_which_files_are_carried() -> None:
    carried = ["/etc/a", "/etc/conf", "/etc/new/x", "/opt/l", "/usr/local/bin/t", "/etc/hostconf"]
    changes = [
        *map(_change, ["/etc/a", "/etc/new/x", "/usr/local/bin/t"]),
        _change("/etc/new", type_="directory"),
        _change("/opt/l", type_="symlink"),
        _change("/etc/conf", package="added"),
        _change("/etc/hostconf", "modified", package="sh"),
        _change("/usr/bin/added", package="added"),
        _change("/usr/bin/sh", "modified", package="sh"),
        _change("/etc/sh", "deleted", package="sh"),
        _change("/etc/passwd", "modified"),
        _change("/etc/gone", "deleted"),
        _change("/etc/motd", "metadata"),
        _change("/opt/fifo", type_="fifo"),
        _change("/opt/empty", type_="directory"),
        *(_change(f"/var/lib/db/{name}") for name in "abc"),
        _change("/var/cache/x", fold="cache"),
        _change("/etc/apt/sources.list"),
    ]
    found = selection.select(changes, {"added"}, {"/etc/apt/sources.list"})
    assert sorted(change.path for change in found.wanted) == sorted(carried)
    assert set(found.left) == {
        Left("/usr/bin/sh", "modified, of the package sh"),
        Left("/etc/sh", "deleted, of the package sh"),
        Left("/etc/passwd", selection.MADE_BY_PACKAGES),
        Left("/etc/gone", "deleted"),
        Left("/etc/motd", "metadata"),
        Left("/opt/fifo", "a fifo"),
        Left("/opt/empty", "a directory"),
        Left("/var/lib/db/", "data, or made by a package"),
    }


def test_what_packages_scripts_name_is_theirs() -> None:
    changes = [
        _change("/etc/mta", type_="directory", package="mta"),
        *map(_change, ["/etc/mta/main.cf", "/etc/aliases", "/etc/aliases.mine", "/etc/default/mine"]),
    ]
    scripts = "rm -rf /etc/mta\n[ -e /etc/aliases ] || . /etc/default/mta\n"
    found = selection.select(changes, {"mta"}, (), scripts)
    assert [change.path for change in found.wanted] == ["/etc/aliases.mine", "/etc/default/mine"]
    assert {row.what for row in found.left} == {"/etc/mta/main.cf", "/etc/aliases"}


def test_large_new_directories_are_left_as_a_whole() -> None:
    changes = [_change("/opt/tool", type_="directory"), *(_change(f"/opt/tool/{number}") for number in range(21))]
    assert selection.select(changes, (), ()) == selection.Selection((), (Left("/opt/tool/", "21 files, 210 bytes"),))


@pytest.mark.parametrize(
    ("path", "content", "mode", "word"),
    [
        ("/a", b"x" * 16384, 0o644, ""),
        ("/a", b"x" * 16385, 0o644, "16385 bytes"),
        ("/a", b"\0" * 4096, 0o644, ""),
        ("/a", b"\0" * 4097, 0o644, "4097 bytes"),
        ("/a", b"\xff" * 4097, 0o644, "beside the manifest"),
        ("/a", b"x", 0o640, "secret"),
        ("/\udcff", b"x", 0o644, "not text"),
    ],
)
def test_what_cannot_be_carried(path: str, content: bytes, mode: int, word: str) -> None:
    found = selection.unfit(path, content, mode, len(content))
    assert word in found
    assert bool(found) is bool(word)


def test_another_package_manager() -> None:
    with pytest.raises(SysenvError, match="work with dpkg and apt only"):
        Side({}).require_dpkg()
