"""import refuses what export has not written, before anything of it is visible, and writes nothing elsewhere."""

from __future__ import annotations

import gzip
import os
import subprocess
from pathlib import Path

import pytest

from sysenv_ns.archive import manifest
from sysenv_ns.archive.manifest import ArchivedLayer, Machine
from sysenv_ns.archive.tarball import Member

from .archives import compress, description, export, forged
from .support import Environment, Tool, refused, succeeded

_MANY = Member(b"layers/0/a", "file", size=3), b"abc"
_DIRECTORY = Member(b"layers/0/d", "directory", 0o755), b""
_LINK = Member(b"layers/0/l", "symlink", target=b"/"), b""


def _file(name: bytes) -> tuple[Member, bytes]:
    return Member(name, "file", size=3), b"abc"


def _hard_link(target: bytes) -> tuple[Member, bytes]:
    return Member(b"layers/0/h", "link", target=target), b""


# What is refused, and a word of why.
_WRONG = [
    ([_file(b"/etc/passwd")], "is outside the archive's directories"),
    ([_file(b"layers/0/../../../x")], "is outside the archive's directories"),
    ([_file(b"layers/0/./x")], "is outside the archive's directories"),
    ([_file(b"layers/0//x")], "is outside the archive's directories"),
    ([_file(b"layers/0/x/..")], "is outside the archive's directories"),
    ([_file(b"..")], "is outside the archive's directories"),
    ([_file(b"x")], "belongs to no layer"),
    ([_file(b"layers/1/x")], "belongs to no layer"),
    ([_file(b"layers/00/x")], "belongs to no layer"),
    ([_file(b"origins/0/x")], "belongs to no layer"),
    ([_file(b"layers/0/none/x")], "the directory of layers/0/none/x is missing"),
    ([_LINK, _file(b"layers/0/l/x")], "is missing"),
    ([_MANY, _file(b"layers/0/a/x")], "is missing"),
    ([_DIRECTORY, _DIRECTORY], "duplicate member"),
    ([_DIRECTORY, _file(b"layers/0/d")], "duplicate member"),
    ([_LINK, _file(b"layers/0/l")], "duplicate member"),
    ([(Member(b"layers/0", "directory"), b"")], "duplicate member"),
    ([_hard_link(b"/etc/passwd")], "not an earlier file in it"),
    ([_hard_link(b"layers/0/../../x")], "not an earlier file in it"),
    ([_hard_link(b"layers/0/none")], "not an earlier file in it"),
    ([_DIRECTORY, _hard_link(b"layers/0/d")], "not an earlier file in it"),
    ([(Member(b"layers/0/w", "whiteout"), b""), _hard_link(b"layers/0/w")], "not an earlier file in it"),
    ([_hard_link(b"layers/0/h")], "not an earlier file in it"),
    ([(Member(b"layers/0/a", "file", attributes={b"user.overlay.redirect": b"/etc/x"}), b"")], "unknown attribute"),
    ([(Member(b"layers/0/a", "file", attributes={b"security.ima": b"x"}), b"")], "unknown attribute"),
    ([(Member(b"layers/0/a", "file", 0o10644), b"")], "invalid number"),
]


def _refused(tool: Tool, file: Path, *words: str, options: tuple[str, ...] = ()) -> None:
    refused(tool.run("import", *options, str(file), "forged"), 1, str(file), *words)
    assert not (tool.store / "envs/forged").exists()
    assert os.listdir(tool.store / "trash") == []
    assert os.listdir(tool.store / "layers") in ([], ["lock"])


@pytest.mark.modes("full", more=("single",))
def test_what_no_export_has(environment: Environment, file: Path) -> None:
    """Names, links and attributes that lead elsewhere; then the same way of making it with nothing wrong."""
    tool = environment.tool
    for members, word in _WRONG:
        forged(file, members)
        _refused(tool, file, "cannot be imported", word)
    forged(file, [_MANY, _DIRECTORY, _LINK, _hard_link(b"layers/0/a"), _file(b"layers/0/d/x")])
    succeeded(tool.run("import", str(file)))
    forged_ = tool.environment("forged")
    assert forged_.sh("cat /a /d/x; readlink /l; stat -c %h /h") == "abcabc/\n2\n"
    tool.end("forged")


@pytest.mark.modes("single")
def test_what_is_not_whole(environment: Environment, file: Path) -> None:
    """Cut off anywhere, with a wrong byte anywhere, with a wrong checksum, without a layer."""
    tool = environment.tool
    environment.sh("head -c 100000 /dev/urandom > /usr/local/file")
    export(environment, file)
    whole = file.read_bytes()
    for cut in (1, 100, len(whole) // 2, len(whole) - 1):
        file.write_bytes(whole[:cut])
        _refused(tool, file)
    for place in (len(whole) // 3, len(whole) - 100_000, len(whole) - 2):
        file.write_bytes(whole[:place] + bytes([whole[place] ^ 16]) + whole[place + 1 :])
        _refused(tool, file)
    file.write_bytes(whole + b"x")
    _refused(tool, file)
    forged(file, [_MANY], end="0" * 64)
    _refused(tool, file, "checksum mismatch")
    forged(file, [_MANY], description(layers=(ArchivedLayer(None, None), ArchivedLayer(None, None))))
    _refused(tool, file, "layers/1 is missing")


@pytest.mark.modes("single")
def test_what_is_no_archive(environment: Environment, file: Path) -> None:
    tool = environment.tool
    for data in (b"", b"text\n", gzip.compress(b"text")):
        file.write_bytes(data)
        _refused(tool, file, "was not made by sysenv-ns export", "sysenv-ns export")
    compress(file, b"text\n")
    _refused(tool, file, "was not made by sysenv-ns export")
    command = ["tar", "--zstd", "-cf", str(file), "-C", "/etc", "passwd"]
    subprocess.run(command, check=True)
    _refused(tool, file, "was not made by sysenv-ns export")


@pytest.mark.modes("single")
def test_what_is_of_another_machine(environment: Environment, file: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    tool, here = environment.tool, manifest.machine()
    forged(file, [_MANY], description(machine=Machine(here.system, here.version, "pdp11")))
    for options in ((), ("--force",)):
        _refused(tool, file, "for pdp11", options=options)
    forged(file, [_MANY], description(machine=Machine("other", "1", here.architecture)))
    _refused(tool, file, "on other 1", f"this system is {here.release}", "--force")
    succeeded(tool.run("import", "--force", str(file)))
    assert tool.environment("forged").sh("cat /a") == "abc"
    tool.end("forged")
    monkeypatch.setattr(manifest, "VERSION", 2)
    forged(file, [_MANY])
    _refused(tool, file, "has format 2, this sysenv-ns reads 1", "later")


@pytest.mark.modes("single")
def test_settings_that_are_not_possible_here(environment: Environment, file: Path) -> None:
    tool = environment.tool
    forged(file, [_MANY], description(settings='bind = ["/no/such/place"]\n'))
    result = succeeded(tool.run("import", str(file)))
    assert "its settings are left out: config.toml: /no/such/place in bind does not exist" in result.stderr
    assert tool.environment("forged").sh("cat /a") == "abc"
    tool.end("forged")


@pytest.mark.modes("full")
def test_what_cannot_be_kept_is_told(environment: Environment, file: Path) -> None:
    """Owners that no id is given for, and attributes that root of the host alone may set."""
    tool = environment.tool
    attributes = {b"trusted.x": b"1", b"user.y": b"2"}
    forged(file, [(Member(b"layers/0/a", "file", 0o644, 3_000_000, 33, size=3, attributes=attributes), b"abc")])
    told = succeeded(tool.run("import", str(file))).stderr
    assert "sysenv-ns: 1 file became owned by nobody: your subordinate ids do not cover their owners\n" in told
    assert "sysenv-ns: 1 file lost the attribute trusted.x, which is not possible here\n" in told
    assert tool.environment("forged").sh("stat -c %u:%g /a; getfattr --only-values -n user.y /a") == "65534:33\n2"
    tool.end("forged")


@pytest.mark.modes("single")
def test_a_store_that_is_full(memory_store: Tool, environment: Environment, file: Path) -> None:
    """Nothing is left then either."""
    tool = environment.tool
    environment.sh("head -c 30000000 /dev/urandom > /usr/local/file")
    export(environment, file)
    script = 'mount -t tmpfs -o size=10M,mode=700,uid=$1 none "$2"; shift 2; exec "$@"'
    place = memory_store.store
    before = ("unshare", "--mount", "sh", "-ec", script, "sh", str(tool.account.uid), str(place))
    look = f'"$@"; status=$?; ls {place}/trash {place}/envs >&2; exit $status'
    prefix = (*before, *tool.account.setpriv(), "sh", "-c", look, "sh")
    result = memory_store.run("import", str(file), "full", prefix=prefix)
    refused(result, 1, f"importing {file} failed", "ENOSPC", "free some space")
    assert result.stderr.endswith(f"{place}/envs:\n\n{place}/trash:\n")
