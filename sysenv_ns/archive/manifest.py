"""What an archive says of itself in its first member; reads and writes that, and tells whether it fits this host.

sysenv-ns.json    this
layers/0/...      what has changed since the last snapshot, shaped like /
layers/N/...      frozen layers
origins/N/...     what the host was when these began: see origin.py
end.json          the checksum of all before it: without it the archive is not whole
"""

from __future__ import annotations

import json
import os
import re
from collections.abc import Iterable, Mapping
from dataclasses import asdict, dataclass
from typing import Any

from sysenv_ns.archive.tarball import Damaged, Member, Reader
from sysenv_ns.errors import SysenvError
from sysenv_ns.store import Snapshot, check_name

VERSION = 1
NAME, END = "sysenv-ns.json", "end.json"
LAYERS, ORIGINS = "layers", "origins"
_FORMAT = "sysenv-ns environment"
_LIMIT = 16 << 20  # bytes
_MANY = 10_000  # layers, or states of a host: a number that an archive claims is not believed
_WORD = re.compile(r"[A-Za-z0-9._+~-]*")
_LATEST = 1e11  # seconds: the year 5138
_RELEASES = ("/etc/os-release", "/usr/lib/os-release")


@dataclass(frozen=True)
class Machine:
    """What a system's programs depend on."""

    system: str  # ID and VERSION_ID of os-release(5); a rolling one has no version
    version: str
    architecture: str

    @property
    def release(self) -> str:
        """For people."""
        return f"{self.system or 'an unknown system'} {self.version}".strip()


@dataclass(frozen=True)
class Layer:
    """A layer; the numbers of the states of the host that its packages and its accounts are of."""

    packages: int | None
    accounts: int | None


@dataclass(frozen=True)
class Manifest:
    """An environment without its files. Layers have numbers: 0 is what is frozen in no snapshot."""

    name: str
    driver: str
    id_map: str | None
    created: float
    machine: Machine
    layers: tuple[Layer, ...]
    current: tuple[int, ...]  # uppermost first
    snapshots: tuple[tuple[Snapshot, tuple[int, ...]], ...]  # with the numbers of their layers
    origins: int  # how many
    settings: str | None = None  # its config.toml


def encode(manifest: Manifest) -> bytes:
    """The content of the first member."""
    snapshots = [asdict(snapshot) | {"layers": numbers} for snapshot, numbers in manifest.snapshots]
    data = {"format": _FORMAT, "version": VERSION, **asdict(manifest), "snapshots": snapshots}
    return json.dumps(data, indent=1).encode()


def read(reader: Reader, file: str) -> Manifest:
    """The first member. Raises SysenvError when it is none of an export, Damaged when it is not whole."""
    try:
        member = reader.next()
    except Damaged:
        raise foreign(file) from None
    if member is None or (member.name, member.kind) != (os.fsencode(NAME), "file") or member.size > _LIMIT:
        raise foreign(file)
    try:
        data = json.loads(content(reader, member))
        if not isinstance(data, dict) or data.get("format") != _FORMAT:
            raise foreign(file)
        if data["version"] != VERSION:
            raise SysenvError(
                f"{file} has format {data['version']}, this sysenv-ns reads {VERSION}",
                "use the version of sysenv-ns that made it, or a later one",
            )
        return _decode(data)
    except (ValueError, KeyError, TypeError, AttributeError, OverflowError, RecursionError) as error:
        raise Damaged(f"its description is wrong: {error}") from error


def foreign(file: str) -> SysenvError:
    """The error for a file that is something else."""
    return SysenvError(f"{file} is no export of sysenv-ns", "make one with: sysenv-ns export NAME FILE")


def content(reader: Reader, member: Member) -> bytes:
    """A small file of the archive's own. Raises Damaged."""
    if member.size > _LIMIT or member.extents is not None:
        raise Damaged("its description is too large")
    return b"".join(data for _, data in reader.data())


def _decode(data: Mapping[str, Any]) -> Manifest:
    layers = tuple(map(_layer, data["layers"]))
    origins = int(data["origins"])
    named = (number for layer in layers for number in (layer.packages, layer.accounts) if number is not None)
    if not 0 < len(layers) < _MANY or not 0 <= origins < _MANY or not all(0 <= number < origins for number in named):
        raise ValueError("wrong numbers")
    machine = Machine(*(str(data["machine"][key]) for key in ("system", "version", "architecture")))
    if not all(_WORD.fullmatch(word) for word in (machine.system, machine.version, machine.architecture)):
        raise ValueError("a wrong machine")
    snapshots = tuple(_snapshot(snapshot, len(layers)) for snapshot in data["snapshots"])
    if len({snapshot.label for snapshot, _ in snapshots}) != len(snapshots):
        raise ValueError("two snapshots of one label")
    driver, id_map, settings = (data[key] for key in ("driver", "id_map", "settings"))
    return Manifest(
        check_name(str(data["name"])),
        str(driver),
        None if id_map is None else str(id_map),
        _time(data["created"]),
        machine,
        layers,
        _numbers(data["current"], len(layers)),
        snapshots,
        origins,
        None if settings is None else str(settings),
    )


def _time(data: Any) -> float:
    seconds = float(data)
    if not 0 <= seconds < _LATEST:
        raise ValueError("a wrong time")
    return seconds


def _layer(data: Mapping[str, Any]) -> Layer:
    return Layer(*(None if data[key] is None else int(data[key]) for key in ("packages", "accounts")))


def _snapshot(data: Mapping[str, Any], count: int) -> tuple[Snapshot, tuple[int, ...]]:
    label, environment = check_name(str(data["label"]), "a snapshot"), check_name(str(data["environment"]))
    snapshot = Snapshot(label, _time(data["created"]), (), environment, bool(data["automatic"]))
    return snapshot, _numbers(data["layers"], count, first=1)


def _numbers(data: Iterable[Any], count: int, first: int = 0) -> tuple[int, ...]:
    """The layers of a state; only the present one begins with 0."""
    numbers = tuple(map(int, data))
    if len({*numbers}) != len(numbers) or not all(first <= number < count for number in numbers):
        raise ValueError("wrong layers")
    if first == 0 and (not numbers or numbers[0] != 0 or 0 in numbers[1:]):
        raise ValueError("the present state has no changes")
    return numbers


def machine() -> Machine:
    """This one."""
    fields = {}
    for path in reversed(_RELEASES):
        try:
            with open(path, encoding="utf-8", errors="replace") as stream:
                fields = dict(line.rstrip("\n").split("=", 1) for line in stream if "=" in line)
        except OSError:  # there are systems without
            continue
    system, version = (fields.get(key, "").strip("\"'") for key in ("ID", "VERSION_ID"))
    return Machine(system, version, os.uname().machine)


def check_machine(theirs: Machine, file: str, force: bool) -> None:
    """Raise SysenvError when an environment of another machine cannot work on this one, or may not."""
    ours = machine()
    if theirs.architecture != ours.architecture:
        raise SysenvError(
            f"{file} is of an environment for {theirs.architecture}, this machine is {ours.architecture}",
            "import it on a machine of its architecture",
        )
    if theirs.release != ours.release and not force:
        raise SysenvError(
            f"{file} is of an environment on {theirs.release}, this system is {ours.release}",
            "its packages may not work here; --force imports it nevertheless",
        )
