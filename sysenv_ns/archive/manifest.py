"""The first member of an archive, its description: reads and writes it, and checks whether it fits this host.

sysenv-ns.json    this
layers/0/...      the changes since the last snapshot, shaped like /
layers/N/...      frozen layers
origins/N/...     the host as it was when these began: see origin.py
end.json          the checksum of all before it: without it the archive is incomplete
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sysenv_ns import documents, policy
from sysenv_ns.archive.tarball import Damaged, Member, Reader
from sysenv_ns.environment.description import Snapshot
from sysenv_ns.environment.store import check_name
from sysenv_ns.errors import SysenvError
from sysenv_ns.host import release

VERSION = 1
NAME, END = "sysenv-ns.json", "end.json"
LAYERS, ORIGINS = "layers", "origins"
_FORMAT = "sysenv-ns environment"
_LIMIT = 4 << 20  # bytes: some tens of times as many when they are read
_END_LIMIT = 1024
_SETTINGS_LIMIT = 8 << 10  # characters: what reads TOML takes memory by the square of a key that has many dots
_MANY = 10_000  # layers, or states of a host: a number that an archive claims is not believed
_WORD = re.compile(r"[A-Za-z0-9._+~-]{0,100}")
_CHECKSUM = re.compile(r"[0-9a-f]{64}")
_WRONG = (ValueError, KeyError, TypeError, RecursionError)  # what reading another form than ours raises
_LATEST = 1e11  # seconds: the year 5138


@dataclass(frozen=True)
class Machine:
    """The properties of a system on which its programs depend."""

    system: str  # ID and VERSION_ID of os-release(5); a rolling one has no version
    version: str
    architecture: str

    @property
    def release(self) -> str:
        """The system in words."""
        return f"{self.system or 'an unknown system'} {self.version}".strip()


@dataclass(frozen=True)
class ArchivedLayer:
    """A layer; the numbers of the states of the host that its packages and its accounts come from."""

    packages: int | None
    accounts: int | None


@dataclass(frozen=True)
class ArchiveManifest:
    """An environment without its files. Layers have numbers: 0 is the changes since the last snapshot."""

    name: str
    driver: str
    id_map: str | None
    created: float
    machine: Machine
    layers: tuple[ArchivedLayer, ...]
    current: tuple[int, ...]  # uppermost first
    snapshots: tuple[tuple[Snapshot, tuple[int, ...]], ...]  # with the numbers of their layers
    origins: int  # how many
    settings: str | None = None  # its config.toml


def encode(manifest: ArchiveManifest) -> bytes:
    """The content of the first member. Raises SysenvError for what `read` would refuse."""
    snapshots = [asdict(snapshot) | {"layers": numbers} for snapshot, numbers in manifest.snapshots]
    data = {"format": _FORMAT, "version": VERSION, **asdict(manifest), "snapshots": snapshots}
    encoded = json.dumps(data, indent=1).encode()
    if len(encoded) > _LIMIT or len(manifest.layers) >= _MANY:
        raise SysenvError(f"{manifest.name} has too many snapshots for an archive", "delete some of them")
    try:
        _settings(manifest.settings)
    except ValueError:
        raise SysenvError(
            f"the settings of {manifest.name} cannot be exported: they are not text, or too long",
            f"its config.toml may have at most {_SETTINGS_LIMIT} characters of UTF-8",
        ) from None
    return encoded


def read(reader: Reader, file: str) -> ArchiveManifest:
    """The first member. Raises SysenvError if the file is not from export, Damaged if the member is incomplete."""
    try:
        member = reader.next()
    except Damaged:
        raise foreign(file) from None
    if member is None or (member.name, member.kind) != (os.fsencode(NAME), "file") or member.size > _LIMIT:
        raise foreign(file)
    try:
        data = documents.parse_json(_content(reader, member, _LIMIT))
        if not isinstance(data, dict) or data.get("format") != _FORMAT:
            raise foreign(file)
        version = _whole(data["version"], _MANY)
        if version != VERSION:
            raise SysenvError(
                f"{file} has format {version}, this sysenv-ns reads {VERSION}",
                "use the version of sysenv-ns that made it, or a later one",
            )
        return _decode(data)
    except _WRONG as error:
        raise Damaged(f"invalid description: {error}") from error


def read_end(reader: Reader, member: Member) -> str:
    """The checksum in the last member. Raises Damaged."""
    try:
        checksum = _text(documents.parse_json(_content(reader, member, _END_LIMIT))["sha256"])
    except _WRONG:
        checksum = ""
    if member.kind != "file" or not _CHECKSUM.fullmatch(checksum):
        raise Damaged("invalid end record")
    return checksum


def foreign(file: str) -> SysenvError:
    """The error for a file that is not an archive of this kind."""
    return SysenvError(f"{file} was not made by sysenv-ns export", "make one with: sysenv-ns export NAME FILE")


def _content(reader: Reader, member: Member, limit: int) -> bytes:
    """A small file of the archive's own. Raises Damaged."""
    if member.size > limit or member.extents is not None:
        raise Damaged("its description is too large")
    return b"".join(data for _, data in reader.data())


def _decode(data: Mapping[str, Any]) -> ArchiveManifest:
    layers = tuple(map(_layer, _list(data["layers"])))
    origins = _whole(data["origins"], _MANY)
    named = (number for layer in layers for number in (layer.packages, layer.accounts) if number is not None)
    if not 0 < len(layers) < _MANY or not all(number < origins for number in named):
        raise ValueError("a layer refers to something that is missing")
    snapshots = tuple(_snapshot(snapshot, len(layers)) for snapshot in _list(data["snapshots"]))
    if len({snapshot.label for snapshot, _ in snapshots}) != len(snapshots):
        raise ValueError("duplicate snapshot label")
    id_map = data["id_map"]
    return ArchiveManifest(
        name=check_name(_text(data["name"])),
        driver=_word(data["driver"]),
        id_map=None if id_map is None else _word(id_map),
        created=_time(data["created"]),
        machine=Machine(*(_word(data["machine"][key]) for key in ("system", "version", "architecture"))),
        layers=layers,
        current=_numbers(data["current"], len(layers)),
        snapshots=snapshots,
        origins=origins,
        settings=_settings(data["settings"]),
    )


def _text(data: object, limit: int = 100) -> str:
    """Text that can be written anywhere: valid UTF-8 without NUL."""
    if not isinstance(data, str) or len(data) > limit or "\0" in data:
        raise ValueError("invalid text")
    data.encode()
    return data


def _word(data: object) -> str:
    word = _text(data)
    if not _WORD.fullmatch(word):
        raise ValueError("invalid word")
    return word


def _settings(data: object) -> str | None:
    return None if data is None else _text(data, _SETTINGS_LIMIT)


def _whole(data: object, end: int, first: int = 0) -> int:
    """An integer below `end`; not true, "1" or 1.0, which Python would accept."""
    if type(data) is not int or not first <= data < end:
        raise ValueError("invalid number")
    return data


def _list(data: object) -> list[Any]:
    if not isinstance(data, list):
        raise ValueError("not a list")
    return data


def _time(data: object) -> float:
    if isinstance(data, bool) or not isinstance(data, int | float) or not 0 <= data < _LATEST:
        raise ValueError("invalid time")
    return float(data)


def _layer(data: Mapping[str, Any]) -> ArchivedLayer:
    return ArchivedLayer(*(None if data[key] is None else _whole(data[key], _MANY) for key in ("packages", "accounts")))


def _snapshot(data: Mapping[str, Any], count: int) -> tuple[Snapshot, tuple[int, ...]]:
    automatic = data["automatic"]
    if not isinstance(automatic, bool):
        raise ValueError("invalid snapshot")
    label, environment = check_name(_text(data["label"]), "a snapshot"), check_name(_text(data["environment"]))
    return Snapshot(label, _time(data["created"]), (), environment, automatic), _numbers(data["layers"], count, first=1)


def _numbers(data: object, count: int, first: int = 0) -> tuple[int, ...]:
    """The layers of a state; only the present one begins with 0."""
    numbers = tuple(_whole(number, count, first) for number in _list(data))
    if len({*numbers}) != len(numbers) or len(numbers) > policy.LAYERS + 1:
        raise ValueError("invalid list of layers")
    if first == 0 and (not numbers or numbers[0] != 0):
        raise ValueError("the current state has no layer of its own")
    return numbers


def machine() -> Machine:
    """This system."""
    fields = release.fields()
    return Machine(fields.get("ID", ""), fields.get("VERSION_ID", ""), os.uname().machine)


def check_machine(theirs: Machine, file: str, force: bool) -> None:
    """Raise SysenvError if an environment of another machine cannot, or might not, work on this one."""
    ours = machine()
    if theirs.architecture != ours.architecture:
        raise SysenvError(
            f"{file} is for {theirs.architecture}, this machine is {ours.architecture}",
            "it can only be used on machines of that architecture",
        )
    if theirs.release != ours.release and not force:
        raise SysenvError(
            f"{file} was made on {theirs.release}, this system is {ours.release}",
            "its packages may not work here; --force takes it nevertheless",
        )
