"""The text of a sysenv.toml: what is written is read back, and mistakes are told."""

from __future__ import annotations

import dataclasses
import os
from pathlib import Path

import pytest
from hypothesis import given
from hypothesis import strategies as st

from sysenv_ns.errors import SysenvError
from sysenv_ns.manifest import location, parser, plans, writer
from sysenv_ns.manifest.document import KEY_SUFFIXES, KEYS, SOURCES, AddedFile, Manifest, Script
from sysenv_ns.manifest.plans import Action, PulledBase
from sysenv_ns.manifest.selection import TEXT_LIMIT
from sysenv_ns.manifest.sync import SyncResult
from sysenv_ns.verbs import sync

_TEXTS = st.text(st.characters(exclude_categories=["Cs"]), max_size=40) | st.text("ab'\"\\\n\r\t\x00#[]=", max_size=20)
_NAMES = st.from_regex(r"[a-z0-9][a-z0-9+.]{0,8}[a-z0-9]", fullmatch=True)
_VERSIONED = st.builds("{}={}".format, _NAMES, st.from_regex(r"[0-9][0-9.:~+-]{0,5}", fullmatch=True))
_PARTS = st.text(st.characters(exclude_categories=["Cs"], exclude_characters="/\0"), min_size=1, max_size=8)


@st.composite
def _paths(draw: st.DrawFn) -> str:
    parts = draw(st.lists(_PARTS.filter(lambda part: part not in (".", "..")), min_size=1, max_size=3))
    return f"/{'/'.join(parts)}"


_OWNERS = st.sampled_from(["root:root", "www-data:adm", "1000:0"])
_FILES = (
    st.builds(AddedFile, content=st.binary(max_size=200), mode=st.integers(0, 0o7777), owner=_OWNERS)
    | st.builds(AddedFile, content=_TEXTS.map(str.encode))
    | st.builds(AddedFile, link=st.text("ab/.'\n", min_size=1), owner=_OWNERS)
    | st.builds(AddedFile, source=st.sampled_from(["x", "files/y z"]), mode=st.sampled_from([0o644, 0o755]))
)
_KEY_FILES = st.builds("{}/{}{}".format, st.sampled_from(KEYS), _PARTS, st.sampled_from(KEY_SUFFIXES))
_SOURCE_FILES = st.from_regex(r"[a-z]{1,8}\.(list|sources)", fullmatch=True).map(f"{SOURCES}/{{}}".format)
MANIFESTS = st.builds(
    Manifest,
    name=st.sampled_from(["", "proj"]),
    base=st.sampled_from(["", "localhost/a/b:1", f"registry.example.org/a@sha256:{'0' * 64}"]),
    release=st.sampled_from(["", "debian/bookworm", "arch"]),
    architectures=st.lists(st.sampled_from(["i386", "arm64"]), unique=True).map(tuple),
    packages=st.lists(_NAMES | _VERSIONED, max_size=4).map(tuple),
    versions=st.lists(_VERSIONED, max_size=4).map(tuple),
    held=st.lists(_NAMES, max_size=2).map(tuple),
    debconf=st.sampled_from([(), ("a a/b select x y", 'c c/d string "q\\"')]),
    env=st.dictionaries(
        st.from_regex(r"[A-Z_][a-z0-9_]{0,8}", fullmatch=True), _TEXTS.filter(lambda t: "\0" not in t), max_size=2
    ),
    repositories=st.dictionaries(_SOURCE_FILES, st.none() | _TEXTS, max_size=2),
    keys=st.dictionaries(_KEY_FILES, st.binary(max_size=100) | st.just(b"-----BEGIN PGP PUBLIC KEY BLOCK-----\nx\n")),
    files=st.dictionaries(_paths(), _FILES, max_size=4),
    scripts=st.lists(st.builds(Script, _TEXTS.filter(lambda t: t.strip() and "\0" not in t), _TEXTS), max_size=2).map(
        tuple
    ),
)


@given(MANIFESTS)
def test_what_is_written_is_read_back(manifest: Manifest) -> None:
    text = writer.render(manifest, ["a comment"])
    found = parser.parse(text.encode(), "x")
    assert found == manifest
    assert writer.render(found) == writer.render(manifest)


@given(MANIFESTS)
def test_a_record_is_read_back(manifest: Manifest) -> None:
    record = plans.decode(plans.encode("/a/sysenv.toml", manifest, ["b", "a"]))
    assert record is not None
    assert (record.file, sorted(record.known)) == ("/a/sysenv.toml", ["a", "b"])
    assert record.says(manifest)


def test_a_record_knows_what_was_pulled() -> None:
    base = PulledBase("localhost/a:1", frozenset({"a"}), frozenset({"nano"}), repositories=frozenset({"/x"}))
    record = plans.decode(plans.encode("/a/sysenv.toml", Manifest(), base=base))
    assert record is not None
    assert record.base == base


@pytest.mark.parametrize("data", [None, b"", b"{}", b"[]", b'{"file": 1}', b"\xff"])
def test_a_damaged_record_is_none(data: bytes | None) -> None:
    assert plans.decode(data) is None


def test_scripts_are_written_as_people_write_them() -> None:
    script = Script("sed 's/\\//x/' \"$file\"\necho done\n", "edit")
    assert writer.render(Manifest(scripts=(script,))) == (
        "[[scripts]]\nname = \"edit\"\nrun = '''\nsed 's/\\//x/' \"$file\"\necho done\n'''\n"
    )


def test_files_with_more_than_a_text_are_tables() -> None:
    files = {"/a": AddedFile(b"#!/bin/sh\n", mode=0o755), "/b": AddedFile(b"one\n"), "/c": AddedFile(b"\xff")}
    assert writer.render(Manifest(files=files)) == (
        "[files]\n\"/b\" = '''\none\n'''\n\n[files.\"/a\"]\nmode = \"0755\"\ntext = '''\n#!/bin/sh\n'''\n"
        '\n[files."/c"]\nbase64 = "/w=="\n'
    )


@pytest.mark.parametrize(
    ("text", "message", "hint"),
    [
        ("packages = [", "is not TOML: Invalid value (at end of document)", "toml.io"),
        ("packages = " + "[" * 5000, "is not TOML: ", "toml.io"),
        ("a = 1\n= 2", "(at line 2, column 1)", "toml.io"),
        ("name = 'x'\n\npackges = ['hello']", "unknown key 'packges' (line 3)", "did you mean packages?"),
        ("zzz = 1", "unknown key 'zzz'", "known keys: name, from, release"),
        ("packages = 'hello'", "packages is not a list of strings (line 1)", "docs/sync.md"),
        ("packages = [1]", "packages is not a list of strings", "docs/sync.md"),
        ("packages = ['-y']", "'-y' in packages is not a package", "hello=2.10-3"),
        ("packages = ['nano-']", "'nano-' in packages is not a package", "hello=2.10-3"),
        ("packages = ['a/b']", "'a/b' in packages is not a package", "hello=2.10-3"),
        ("packages = ['hello=']", "'hello=' in packages is not a package", "hello=2.10-3"),
        ("removed = ['nano=1']", "'nano=1' in removed has a version", "name alone"),
        ("versions = ['nano']", "'nano' in versions has no version", "nano=1.0-1"),
        ("packages = ['nano']\nremoved = ['nano']", "nano is both in packages and in removed (line 2)", "one of them"),
        ("from = 'proj:1'", "'proj:1' names nothing in a registry (line 1)", "registry.example.org/team/proj:1"),
        ("name = 1", "name is not a string (line 1)", "docs"),
        ("name = '../x'", "'../x' is not a valid name for an environment", "letters"),
        ("release = 'Debian 12'", "release cannot be 'Debian 12'", "debian/bookworm"),
        ("architectures = ['i 386']", "'i 386' is not an architecture", "i386"),
        ("debconf = ['a b']", "'a b' in debconf is not an answer", "locales"),
        ("debconf = ['a a/b password x']", "debconf has an answer of the type password", "passwords do not belong"),
        ("debconf = ['a a/b note x']", "'note' in debconf is not a type", "string, boolean"),
        ("[repositories]\n'x.txt' = ''", "'x.txt' is not the name of a repository (line 2)", "nodesource.sources"),
        ("[repositories]\n'../x.list' = ''", "'../x.list' is not the name of a repository", "nodesource.sources"),
        ("[repositories]\n'x.list' = true", "the repository x.list is neither a string nor false (line 2)", "docs"),
        ("[keys]\n'a.gpg' = 'YQ=='", "'a.gpg' in keys is not an absolute path", "in full, from /"),
        ("[keys]\n'/etc/apt/keyrings/a.gpg' = 'Y'", "a.gpg is not base64", "docs"),
        ("[keys]\n'/etc/apt/apt.conf.d/00x' = 'YQ=='", "00x in keys is not a path for a key (line 2)", "keyrings"),
        ("[keys]\n'/etc/apt/keyrings/00x' = 'YQ=='", "00x in keys is not a path for a key (line 2)", ".asc, .gpg"),
        ("[keys]\n'/etc/apt/apt.conf.d/x.asc' = 'YQ=='", "x.asc in keys is not a path for a key", "[files]"),
        ("[keys]\n'/etc/apt/keyrings/../a.gpg' = 'YQ=='", "is not an absolute path", "in full, from /"),
        ("files = []", "files is not a table", "docs"),
        ("[files]\n'/etc/../x' = ''", "'/etc/../x' in files is not an absolute path", "in full, from /"),
        ("[files]\n'/' = ''", "/ in files is a directory", "docs"),
        ("[files]\n'/x' = 1", "/x is neither a string nor a table (line 2)", "text, base64, source, link"),
        ("[files.'/x']\ntext = ''\nlink = 'y'", "/x has text and link (line 1)", "one of"),
        ("[files.'/x']\nmode = '0644'", "/x has no content (line 1)", "one of"),
        ("[files.'/x']\ntxet = ''", "unknown key 'txet' of /x (line 2)", "did you mean text?"),
        ("[files.'/x']\ntext = ''\nmode = '9'", "the mode of /x cannot be '9'", "0755"),
        ("[files.'/x']\ntext = ''\nmode = 0o644", "mode of /x is not a string", "docs"),
        ("[files.'/x']\ntext = ''\nowner = 'root'", "the owner of /x cannot be 'root'", "www-data:www-data"),
        ("[files.'/x']\nsource = '../x'", "is not a path below the directory of the file", "files/x"),
        ("[files.'/x']\nsource = '/etc/shadow'", "is not a path below the directory of the file", "files/x"),
        ("[files.'/x']\nlink = 'y'\nmode = '0644'", "has a mode", "only an owner"),
        ("scripts = ['x']", "scripts is not an array of tables", "[[scripts]]"),
        ("[[scripts]]\nname = 'x'", "a script has nothing to run", "run = "),
        ("[[scripts]]\nrun = 'x'\nwhen = 'y'", "unknown key 'when' of a script (line 3)", "name"),
    ],
)
def test_mistakes_are_told(text: str, message: str, hint: str) -> None:
    with pytest.raises(SysenvError) as caught:
        parser.parse(text.encode(), "sysenv.toml")
    assert message in caught.value.message
    assert hint in caught.value.hint


_LONG = b"x\n" * TEXT_LIMIT


@pytest.mark.parametrize(
    ("path", "file", "expected"),
    [
        (
            "/etc/a",
            AddedFile(b"one\n\x1b[2J\n", mode=0o4755, owner="a:b"),
            ["mode 4755, owner a:b", "| one", r"| \x1b[2J"],
        ),
        ("/etc/a", AddedFile(link="/x\ny"), [r'| -> "/x\ny"']),
        ("/etc/a", AddedFile(b"\xff\0"), ["| (2 bytes, not shown)"]),
        ("/etc/a", AddedFile(_LONG, source="files/a"), [f"| ({len(_LONG)} bytes of files/a, not shown)"]),
        ("/etc/apt/apt.conf.d/a", AddedFile(b"\0Update {}\xff"), [r"| \x00Update {}\xff"]),
        ("/etc/apt/apt.conf.d/a", AddedFile(_LONG + b"end"), ["| end"]),
        ("/etc/a\n  +  package", AddedFile(), [r"/etc/a\n  +  package"]),
    ],
)
def test_a_plan_shows_what_files_hold(path: str, file: AddedFile, expected: list[str]) -> None:
    text = sync.text(SyncResult("proj", "/sysenv.toml", (Action("file", path, file),), created=True))
    for part in expected:
        assert part in text
    assert "\x1b" not in text


def test_what_is_no_text_is_told() -> None:
    with pytest.raises(SysenvError, match=r"is not UTF-8 \(at line 2\)"):
        parser.parse(b"a = 1\n\xff", "x")


def test_sources_lie_beside_the_file(tmp_path: Path) -> None:
    file = tmp_path / "sysenv.toml"
    file.write_text('[files."/x"]\nsource = "files/x"\n')
    with pytest.raises(SysenvError, match=r"the source files/x cannot be read: .*ENOENT"):
        parser.load(file)
    (tmp_path / "files").mkdir()
    (tmp_path / "files/x").write_bytes(b"\xff")
    assert parser.load(file).files["/x"].content == b"\xff"
    with pytest.raises(SysenvError, match="cannot be read") as caught:
        parser.load(tmp_path / "none.toml")
    assert "sysenv-ns freeze" in caught.value.hint


def test_a_source_is_read_nowhere_else(tmp_path: Path) -> None:
    """The directory is somebody else's, and its links lead where they like."""
    directory = tmp_path / "proj"
    (directory / "files").mkdir(parents=True)
    file = directory / "sysenv.toml"
    file.write_text('[files."/x"]\nsource = "files/x"\n')
    (tmp_path / "secret").write_text("secret")
    source = directory / "files/x"
    for target in ("../../secret", str(tmp_path / "secret"), "/dev/zero", "x", str(directory / "sysenv.toml")):
        source.symlink_to(target)
        with pytest.raises(SysenvError, match="the source files/x cannot be read"):
            parser.load(file)
        source.unlink()
    os.mkfifo(source)
    with pytest.raises(SysenvError, match="not a regular file"):
        parser.load(file)
    source.unlink()
    (directory / "files/y").write_text("y")
    source.symlink_to("../files/y")
    assert parser.load(file).files["/x"].content == b"y"
    os.truncate(directory / "files/y", 1 << 40)
    with pytest.raises(SysenvError, match="more than 256 MiB"):
        parser.load(file)


@pytest.mark.parametrize(
    ("directory", "name"),
    [("/a/proj", "proj"), ("/a/My Project (2)", "My-Project-2"), ("/a/.x", "x"), ("/", ""), ("/ä", "")],
)
def test_the_name_of_a_directory(directory: str, name: str) -> None:
    assert plans.default_name(directory) == name
    if name:
        assert location.name_of(Manifest(), Path(directory, "sysenv.toml")) == name
    else:
        with pytest.raises(SysenvError, match="is not a valid name for an environment"):
            location.name_of(Manifest(), Path(directory, "sysenv.toml"))


def test_the_nearest_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path / "home"))
    inner = tmp_path / "home/a/b"
    inner.mkdir(parents=True)
    (tmp_path / "sysenv.toml").touch()  # above the home
    monkeypatch.chdir(inner)
    uid = tmp_path.stat().st_uid
    assert location.nearest(uid) is None
    for directory in (tmp_path / "home", tmp_path / "home/a", inner):
        (directory / "sysenv.toml").touch()
        assert location.nearest(uid) == directory / "sysenv.toml"


def test_where_nobody_may_look_is_no_file(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    inner = tmp_path / "closed/inner"
    inner.mkdir(parents=True)
    (inner / "sysenv.toml").touch()
    monkeypatch.chdir(inner)
    (tmp_path / "closed").chmod(0)
    user = os.geteuid()
    try:
        if user == 0:
            os.seteuid(65534)
        assert location.nearest(os.geteuid()) is None
    finally:
        os.seteuid(user)
        (tmp_path / "closed").chmod(0o700)


@pytest.mark.skipif(os.geteuid() != 0, reason="only root can give files to others")
@pytest.mark.parametrize("foreign", ["sysenv.toml", "link/sysenv.toml", "link"])
def test_a_file_of_somebody_else(tmp_path: Path, monkeypatch: pytest.MonkeyPatch, foreign: str) -> None:
    monkeypatch.setenv("HOME", str(tmp_path))
    (tmp_path / "sysenv.toml").touch()
    (tmp_path / "link").mkdir()
    (tmp_path / "link/sysenv.toml").symlink_to("../sysenv.toml")
    monkeypatch.chdir(tmp_path / "link")
    assert location.nearest(0) == tmp_path / "link/sysenv.toml"
    os.lchown(tmp_path / foreign, 12345, 12345)
    with pytest.raises(SysenvError, match="belongs to another user"):
        location.nearest(0)
    assert location.nearest(12345) is not None


def test_the_example_of_the_documentation() -> None:
    """It says what a file can have, so it has to be one."""
    text = (Path(__file__).parents[2] / "docs/sync.md").read_text()
    lines = text.partition("## The file")[2].partition("\n|")[0].splitlines()
    example = "".join(f"{line[4:]}\n" for line in lines if line.startswith("    ") or not line)
    manifest = parser.parse(example.encode(), "docs/sync.md")
    fields = (getattr(manifest, field.name) for field in dataclasses.fields(manifest))
    assert all(fields)
    assert manifest.files["/usr/local/bin/tool"] == AddedFile(source="files/tool", mode=0o755)
