"""Archives that somebody has made to do harm: each is refused in a sentence, or makes an environment and nothing else.

Whatever it is, nothing outside of the store changes, a refusal leaves nothing in it, and both end soon and take little
memory.
"""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Iterator
from pathlib import Path

import pytest
from integration.archives import compress, description, forged
from integration.support import Tool

from sysenv_ns.archive import manifest
from sysenv_ns.archive.manifest import ArchivedLayer
from sysenv_ns.archive.tarball import Member

from . import archive_mutations as mutations
from .importing import Outcome, Worker, contents, state, worker

_MUTATIONS = 150
_ALL_MUTATIONS = 5000  # with --all
_SECONDS = 15.0  # of processor time, for the most laborious; most take a twentieth of one
_LINEAR = 4.0  # seconds, where by the square it was 6 and more
_MEMORY = 256 << 20  # bytes
_SAID = 10_000  # characters
_WORKS = "imported "


class Importer:
    """Imports archives in one store beside a directory that none of them may change."""

    def __init__(self, tool: Tool, runner: Worker, file: Path, canary: Path) -> None:
        self._tool, self._runner, self._file, self._canary = tool, runner, file, canary
        self._before = state(canary)
        self._beside = sorted(os.listdir(file.parent))
        self._count = 0

    def of(self, data: bytes, what: object, compressed: bool = True) -> Outcome:
        """Import that, and judge what it did."""
        if compressed:
            compress(self._file, data)
        else:
            self._file.write_bytes(data)
            self._file.chmod(0o644)
        return self.now(what)

    def now(self, what: object) -> Outcome:
        """Import what is in the file."""
        self._count += 1
        name = f"import-{self._count}"
        before = contents(self._tool.store)
        found = self._runner.run("import", *self._tool.options, str(self._file), name)
        said = f"{what!r}: {found}"[:3000]
        assert "Traceback" not in found.said, said
        assert "a helper process died" not in found.said, said
        assert len(found.said) < _SAID, said
        assert found.seconds < _SECONDS, said
        assert found.memory < _MEMORY, said
        after = contents(self._tool.store)
        if found.status == 0:
            assert _WORKS in found.said, said
            assert after["envs"] == sorted([*before["envs"], name]), said
            assert (after[""], after["trash"]) == (sorted({*before[""], "origins"} & {*after[""]}), []), said
        else:
            assert found.status in (1, 2), said
            assert "hint: " in found.said, said
            assert after == before, said
        assert state(self._canary) == self._before, said
        assert sorted(os.listdir(self._file.parent)) == self._beside, said
        return found

    def end(self) -> None:
        """Remove all that was made."""
        made = [name for name in contents(self._tool.store)["envs"] if name.startswith("import-")]
        for start in range(0, len(made), 100):
            result = self._runner.run("remove", "--purge", *made[start : start + 100])
            assert result.status == 0, result
        assert contents(self._tool.store)["trash"] == []


@pytest.fixture
def importer(tool: Tool, file: Path) -> Iterator[Importer]:
    """One for the user of the test. The file lies beside the canary, which this user may write to."""
    canary = file.parent / "canary"
    (canary / "directory").mkdir(parents=True)
    (canary / "file").write_text("as it was\n")
    (canary / "link").symlink_to("file")
    for path in (canary, canary / "directory", canary / "file"):
        os.chown(path, tool.account.uid, tool.account.gid)
    file.touch()
    with worker(tool) as runner:
        found = Importer(tool, runner, file, canary)
        yield found
        found.end()
    shutil.rmtree(canary)


def _one(name: bytes, **more: object) -> Member:
    return Member(name, "file", 0o644)._replace(**more)  # type: ignore[arg-type]


def _with(*members: mutations.Raw, place: int = -1) -> bytes:
    whole = mutations.sample()
    number = len(whole) + place if place < 0 else place
    return mutations.written([*whole[:number], *members, *whole[number:]])


@pytest.mark.modes("single")
def test_mutations(importer: Importer, whole: bool) -> None:
    assert importer.of(mutations.written(mutations.sample()), "the sample").status == 0
    count = _ALL_MUTATIONS if whole else _MUTATIONS
    refused = sum(importer.of(mutations.mutated(seed), seed).status != 0 for seed in range(count))
    assert count // 2 < refused < count  # they hit, and not all at once


@pytest.mark.modes("single")
def test_truncations(importer: Importer, file: Path) -> None:
    """At the end of each member and header, and elsewhere; of what is compressed too."""
    source = random.Random(1)
    members = mutations.sample()
    whole = mutations.written(members)
    ends = [*mutations.pieces(members)]
    assert ends[-1] == len(whole) - 1024
    for cut in [0, *ends, len(whole) - 512, *(source.randrange(len(whole)) for _ in range(15))]:
        assert importer.of(whole[:cut], cut).status == 1
    compress(file, whole)
    data = file.read_bytes()
    for cut in [*range(20), *(source.randrange(len(data)) for _ in range(15)), len(data) - 4, len(data) - 1]:
        assert importer.of(data[:cut], ("compressed", cut), compressed=False).status == 1
    for more in (b"x", data, bytes(1000)):
        assert importer.of(data + more, ("followed by", more[:9]), compressed=False).status == 1


@pytest.mark.modes("single")
def test_kinds(importer: Importer) -> None:
    """Letters of members: all in a layer, and in turn that of the description, in the state of a host, and the last."""
    places = (0, 3, 9, len(mutations.sample()) - 1)
    for count, letter in enumerate(mutations.LETTERS):
        for number in (9, places[count % 4]):
            members = mutations.sample()
            members[number].header[156:157] = letter
            importer.of(mutations.written(members), (letter, number))
    for letter in (*mutations.LETTERS, b""):
        members = mutations.sample()
        members[9].letter = letter
        assert (importer.of(mutations.written(members), ("records", letter)).status == 0) == (letter == b"x")
    for kind in ("fifo", "socket", "whiteout", "symlink", "link"):
        for tree in (b"layers/0", b"layers/9", b"origins/0", b"origins/0/x", b"end.json", b"sysenv-ns.json"):
            target = b"layers/0/file" if kind in ("symlink", "link") else b""
            raw = mutations.member(_one(tree, kind=kind, target=target))
            assert importer.of(_with(raw), (kind, tree)).status == 1


@pytest.mark.modes("single")
def test_names(importer: Importer, file: Path) -> None:
    """As the name of a file and of a directory, and as the targets of both sorts of links."""
    canary = os.fsencode(file.parent / "canary")
    up = b"layers/0/" + b"../" * 40
    names = (*mutations.NAMES, canary + b"/new", canary + b"/file", up + canary[1:] + b"/new")
    for name in names:
        importer.of(_with(mutations.member(_one(name, size=3), b"new")), name)
        importer.of(_with(mutations.member(_one(b"layers/0/x", kind="link", target=name))), ("link", name))
    for name in (canary, *(name for name in names if b"\0" in name or not 0 < len(name) < 5000)):
        importer.of(_with(mutations.member(_one(b"layers/0/x", kind="symlink", target=name))), ("symlink", name))
    out = mutations.member(_one(b"layers/0/out", kind="symlink", target=canary))
    through = [
        mutations.member(_one(b"layers/0/out/new")),
        mutations.member(_one(b"layers/0/out/directory", kind="directory")),
        mutations.member(_one(b"layers/0/out", kind="directory")),
        mutations.member(_one(b"layers/0/x", kind="link", target=b"layers/0/out/file")),
    ]
    for raw in through:
        assert importer.of(_with(out, raw), ("through a link", raw.records)).status == 1
    to_link = mutations.member(_one(b"layers/0/x", kind="link", target=b"layers/0/out"))
    assert importer.of(_with(out, to_link), "a second name of a link").status == 0
    hidden = mutations.member(_one(b"layers/0/x", kind="link", target=b"layers/0/white"))
    assert importer.of(_with(hidden), "a second name of a whiteout").status == 1


@pytest.mark.modes("single")
@pytest.mark.parametrize(
    "text",
    ["\ud800", "a\0b", "#" * 20_000, "a = " + "[" * 8_000, "a." * 4000 + "a = 1", "bind = [" + '"/x",' * 1500 + "]"],
    ids=["surrogate", "nul", "long", "brackets", "dots", "paths"],
)
def test_settings(importer: Importer, file: Path, text: str, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(manifest, "_SETTINGS_LIMIT", 1 << 20)
    monkeypatch.setattr(manifest, "_text", lambda data, limit=0: data)
    forged(file, [], description(settings=text))
    importer.now(text[:20])


def _directories(levels: int, first: bytes = b"layers/0") -> list[tuple[Member, bytes]]:
    return [(Member(first + b"/d" * level, "directory", 0o755), b"") for level in range(1, levels + 1)]


def _layers(count: int) -> tuple[ArchivedLayer, ...]:
    return (ArchivedLayer(None, None),) * count


def _many(count: int, **more: object) -> list[tuple[Member, bytes]]:
    return [(_one(b"layers/0/%d" % number, **more), b"") for number in range(count)]


@pytest.mark.modes("single")
def test_what_is_much(importer: Importer, file: Path) -> None:
    """Few bytes that stand for much: refused at once, or as much work as there is, and memory for none of it."""
    forged(file, [], description(layers=_layers(9999)))
    assert importer.now("layers that are not there").status == 1
    forged(
        file, [(Member(b"layers/%d" % n, "directory"), b"") for n in range(1, 800)], description(layers=_layers(800))
    )
    found = importer.now("layers")
    assert (found.status, found.seconds < _LINEAR) == (0, True), found
    forged(file, _directories(1990))
    found = importer.now("levels")
    assert (found.status, found.seconds < 2 * _LINEAR) == (0, True), found
    forged(file, _directories(3000))
    assert importer.now("levels beyond what a path can tell").status == 1
    forged(file, [(_one(b"layers/0/" + b"x" * 3_000_000), b"")])
    assert importer.now("a long name").status == 1
    forged(file, _many(2000, kind="directory", attributes={b"user.a": bytes(60_000)}))
    assert importer.now("attributes").status == 1
    forged(file, _many(9, attributes={b"trusted.%d" % n: b"" for n in range(9000)}))
    assert importer.now("attributes that are lost").status == 0
    huge = 10**18 - 1
    raw = mutations.member(_one(b"layers/0/huge"))
    raw.records.append((b"size", b"%d" % huge))
    assert importer.of(_with(raw), "a size").status == 1
    forged(file, [(_one(b"layers/0/sparse", size=huge, extents=()), b"")])
    importer.now("a sparse size")
    raw = mutations.member(_one(b"layers/0/sparse", size=9, extents=()))
    for text in (
        b"%d\n" % huge,
        b"9" * 4000,
        b"1\n" * 100_000,
        b"100000\n" + b"0\n" * 200_000,
        b"-1\n0\n",
        b"\n" * 512,
    ):
        raw.data = text
        raw.header[124:136] = b"%011o\0" % len(text)
        assert importer.of(_with(raw), ("a map", text[:9])).status == 1


@pytest.mark.modes("single")
def test_compressions(importer: Importer, file: Path) -> None:
    """Windows that a reader would have to keep, and much that comes of little."""
    for window in (b"\xa0", b"\xb0", b"\xf8", b"\xff"):  # Window_Descriptor of RFC 8878: 1 GB and more
        frame = b"\x28\xb5\x2f\xfd\x00" + window + b"\x01\x00\x00"
        assert importer.of(frame, ("a window", window), compressed=False).status == 1
    compress(file, bytes(300 << 20))
    assert importer.now("zeros").status == 1
    raw = mutations.member(_one(b"sysenv-ns.json", size=300 << 20))
    raw.data = bytes(300 << 20)
    assert importer.of(mutations.written([raw]), "a large description").status == 1
    empty = b"\x28\xb5\x2f\xfd\x20\x00\x01\x00\x00"
    assert importer.of(empty * 20_000, "empty frames", compressed=False).status == 1
