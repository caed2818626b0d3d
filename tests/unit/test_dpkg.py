"""dpkg's files, parsed and written back."""

from __future__ import annotations

from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysenv_ns.packages import dpkg
from sysenv_ns.packages.dpkg import Alternatives, Diversion

STATUS = b"""\
Package: dpkg
Status: install ok installed
Architecture: amd64
Version: 1.21
Conffiles:
 /etc/dpkg/dpkg.cfg f4413ffb515f8f753624ae3bb365b81b
 /etc/old 00000000000000000000000000000000 obsolete
Description: package management
 of Debian
 .
 and more

Package: libfoo
Status: hold ok half-configured
Architecture: i386
Multi-Arch: same
Version: 2:1-3

Package: libfoo
Status: deinstall ok config-files
Architecture: amd64
Multi-Arch: same
Version: 2:1-3

Package: data
Status: install ok installed
Architecture: all
Version: 1

"""
ALTERNATIVES = b"""\
auto
/usr/bin/awk
awk.1.gz
/usr/share/man/man1/awk.1.gz
nawk
/usr/bin/nawk

/usr/bin/gawk
10
/usr/share/man/man1/gawk.1.gz

/usr/bin/mawk
5
/usr/share/man/man1/mawk.1.gz
/usr/bin/mawk

"""


def test_packages_of_a_status_file() -> None:
    found = dpkg.parse_status(STATUS)
    assert list(found) == ["dpkg", "libfoo:i386", "libfoo", "data"]
    assert [p.stem for p in found.values()] == ["dpkg", "libfoo:i386", "libfoo:amd64", "data"]
    assert [p.sound for p in found.values()] == [True, False, True, True]
    assert [p.has_files for p in found.values()] == [True, True, False, True]
    assert found["dpkg"].conffiles == {"/etc/dpkg/dpkg.cfg": "f4413ffb515f8f753624ae3bb365b81b"}
    assert found["libfoo"].version == "2:1-3"
    assert found["libfoo"].field("Description") == ""
    assert dpkg.join(p.paragraph for p in found.values()) == STATUS


_PARAGRAPHS = st.sampled_from(dpkg.paragraphs(STATUS.replace(b"Version: 1", b"Version: 2") + STATUS))


@given(st.lists(_PARAGRAPHS, unique_by=lambda text: text.split(b"Version")[0]), st.data())
def test_what_differs_is_what_two_whole_files_say(first: list[bytes], data: st.DataObject) -> None:
    second = data.draw(st.lists(_PARAGRAPHS, unique_by=lambda text: text.split(b"Version")[0]))
    files = dpkg.join(first), dpkg.join(second)
    wholes, parts = [dpkg.parse_status(file) for file in files], dpkg.parse_differing(*files)
    keys = {*wholes[0], *wholes[1]}
    different = {key for key in keys if wholes[0].get(key) != wholes[1].get(key)}
    assert [{key: part.get(key) for key in different} for part in parts] == [
        {key: whole.get(key) for key in different} for whole in wholes
    ]


def test_the_same_paragraph_is_another_package_where_the_machine_is_another() -> None:
    foreign = STATUS.replace(b"Architecture: amd64\nVersion: 1.21", b"Architecture: i386\nVersion: 1.21")
    first, second = dpkg.parse_differing(STATUS, foreign)
    assert "libfoo:amd64" not in first
    assert "libfoo:amd64" in second


def test_configuration_files_of_all_packages() -> None:
    assert dpkg.conffiles(STATUS) == {"/etc/dpkg/dpkg.cfg"}
    assert dpkg.conffiles(b"") == set()


@pytest.mark.parametrize("blank", [b"\n\n", b"\n \t\n", b"\n\n\n\n"])
def test_what_is_between_paragraphs(blank: bytes) -> None:
    assert dpkg.paragraphs(b"A: 1\n B" + blank + b"C: \xff\n") == [b"A: 1\n B\n", b"C: \xff\n"]


def test_an_entry_of_a_package_that_is_not_there() -> None:
    assert dpkg.parse_status(b"Package: a\nStatus: purge ok not-installed\nArchitecture: all\n") == {}


@pytest.mark.parametrize("entry", ["Package: ../a\nArchitecture: all", "Package: a\nArchitecture: ../../b"])
def test_a_package_whose_files_would_lie_elsewhere_is_none(entry: str) -> None:
    assert dpkg.parse_status(f"{entry}\nStatus: install ok installed\nVersion: 1\n".encode()) == {}


_LEADING_OUT = ["/usr/../../.bashrc", "/..", "/usr/./a", "//a", "/a/", "a", "../a", "", "/a\0"]


@pytest.mark.parametrize("path", _LEADING_OUT)
def test_paths_that_lead_elsewhere_are_left_out(path: str) -> None:
    status = f"Package: a\nStatus: install ok installed\nConffiles:\n {path} 1\n /etc/a 2\n"
    assert dpkg.parse_status(status.encode())["a"].conffiles == {"/etc/a": "2"}
    assert list(dpkg.parse_diversions(f"{path}\n/b\na\n/c\n{path}\na\n/d\n/e\na\n".encode())) == ["/d"]
    assert dpkg.parse_list(f"/.\n{path}\n/etc/a\n".encode()) == ["/etc/a"]


def test_a_trigger_that_is_named_like_a_path_has_no_file() -> None:
    assert dpkg.trigger_files({"a": "interest ../../../.bashrc\ninterest b\n"}) == {"File": b"", "b": b"a\n"}


def test_a_selection_changes_nothing_else() -> None:
    package = dpkg.parse_status(STATUS)["data"]
    held = package.wanted("hold")
    assert held.status == ("hold", "ok", "installed")
    assert held.wanted("install") == package


@pytest.mark.skipif(not Path(dpkg.STATUS).exists(), reason="no dpkg here")
def test_the_systems_own_files_come_back_byte_by_byte() -> None:
    data = Path(dpkg.STATUS).read_bytes()
    assert dpkg.join(dpkg.paragraphs(data)) == data
    data = Path(dpkg.DIVERSIONS).read_bytes()
    assert sorted(dpkg.format_diversions(dpkg.parse_diversions(data).values()).splitlines()) == sorted(
        data.splitlines()
    )
    for path in Path(dpkg.ALTERNATIVES).iterdir():
        assert dpkg.format_alternatives(dpkg.parse_alternatives(path.read_bytes())) == path.read_bytes()


def test_alternatives() -> None:
    group = dpkg.parse_alternatives(ALTERNATIVES)
    assert group.status == "auto"
    assert group.choices["/usr/bin/gawk"] == ("10", {"awk.1.gz": "/usr/share/man/man1/gawk.1.gz"})
    assert group.choices["/usr/bin/mawk"][1]["nawk"] == "/usr/bin/mawk"


@pytest.mark.parametrize("data", [b"", b"auto\n", b"auto\n/usr/bin/x\n\n/usr/bin/a\n"])
def test_a_damaged_group(data: bytes) -> None:
    with pytest.raises(ValueError, match="too early"):
        dpkg.parse_alternatives(data)


_WORDS = st.text(st.characters(codec="utf-8", exclude_categories=["C", "Z"]), min_size=1, max_size=8)
_PATHS = _WORDS.map(lambda word: f"/{word}").filter(dpkg.is_path)


@st.composite
def _groups(draw: st.DrawFn) -> Alternatives:
    slaves = draw(st.dictionaries(_WORDS, _PATHS, max_size=3))
    of_slaves = st.dictionaries(st.sampled_from(sorted(slaves)), _PATHS) if slaves else st.just({})
    choices = draw(st.dictionaries(_PATHS, st.tuples(st.integers().map(str), of_slaves), max_size=3))
    return Alternatives(draw(st.sampled_from(["auto", "manual"])), draw(_PATHS), slaves, choices)


@given(_groups())
def test_alternatives_come_back(group: Alternatives) -> None:
    assert dpkg.parse_alternatives(dpkg.format_alternatives(group)) == group


@given(st.lists(st.builds(Diversion, _PATHS, _PATHS, _WORDS), unique_by=lambda d: d.path))
def test_diversions_come_back(diversions: list[Diversion]) -> None:
    assert list(dpkg.parse_diversions(dpkg.format_diversions(diversions)).values()) == diversions


def test_who_finds_a_diverted_file_where() -> None:
    diversions = {"/bin/sh": Diversion("/bin/sh", "/bin/sh.distrib", "dash")}
    assert dpkg.diverted("/bin/sh", "dash", diversions) == "/bin/sh"
    assert dpkg.diverted("/bin/sh", "bash", diversions) == "/bin/sh.distrib"
    assert dpkg.diverted("/bin/ls", "bash", diversions) == "/bin/ls"


def test_lists_and_checksums() -> None:
    assert dpkg.parse_list(b"/.\n/usr\n/usr/a b\n") == ["/usr", "/usr/a b"]
    text = b"d41d8cd98f00b204e9800998ecf8427e  usr/a b\n"
    assert dpkg.parse_checksums(text) == {"/usr/a b": "d41d8cd98f00b204e9800998ecf8427e"}


def test_triggers() -> None:
    texts = {"libc-bin": "interest-noawait ldconfig\n", "man-db": "# why\ninterest /usr/share/man # x\nactivate y\n"}
    assert dpkg.trigger_files(texts) == {"File": b"/usr/share/man man-db\n", "ldconfig": b"libc-bin/noawait\n"}
