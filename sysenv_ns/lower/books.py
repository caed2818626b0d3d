"""The books of a layer, two files for each of its trees, stored beside them: reads, writes and validates them.

    usr.json          what the tree was made from, and what shows whether that has changed; read at every start
    usr.index.json    the signature of every directory and file, which a refresh starts from

Without the first one a tree counts as missing: it is deleted before a tree is changed, and written last.
"""

from __future__ import annotations

import os
import stat

from sysenv_ns import TYPE_CHECKING, documents
from sysenv_ns.files import reader
from sysenv_ns.files.replacement import sync_directory, write_json
from sysenv_ns.paths import Path

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Iterator
    from typing import Any

    from sysenv_ns.host.index import Index
    from sysenv_ns.host.layout import Tree
    from sysenv_ns.host.signs import Signature

FORMAT_VERSION = 5
_LIMIT = 512 << 20  # bytes of an index: of 140,000 files it has 13 MB
_PATHS = 10_000_000


def slug(tree: Tree) -> str:
    """The name of a tree's files."""
    return tree.path.strip("/").replace("/", "-") or "root"


def plan(tree: Tree) -> dict[str, Any]:
    """The part of the plan that a mirror depends on, as JSON gives it back."""
    return {
        "path": tree.path,
        "stops": sorted(tree.stops),
        "blocked": sorted(tree.blocked),
        "copied": sorted(tree.copied),
    }


def write(layer: Path, tree: Tree, index: Index, surplus: Iterable[str]) -> None:
    """Describe a finished tree. Raises OSError."""
    contents = {"directories": index.directories, "stubs": index.stubs, "copied": index.copied}
    lists = {"clashing": sorted(index.clashing), "left_out": index.left_out}
    write_json(layer / f"{slug(tree)}.index.json", {**contents, **lists})
    watched = {**index.watched, **(index.stubs if tree.policy.watch_stubs else {})}
    # One text: as JSON of as many lists it would take as long to read as all else that a start does with the base.
    text = "".join(f"{path}\0{_told(known)}\0" for path, known in watched.items())
    made_from = {"plan": plan(tree), "roots": index.roots, "surplus": sorted(surplus), "watched": text}
    write_json(layer / f"{slug(tree)}.json", {"version": FORMAT_VERSION, **made_from})


def forget(layer: Path, trees: Iterable[str]) -> None:
    """Make trees, given by their slugs, count as missing. Raises OSError."""
    for name in trees:
        (layer / f"{name}.json").unlink(missing_ok=True)
    sync_directory(layer)


def names(layer: Path) -> set[str]:
    """The slugs of all trees with a description, intact or damaged."""
    found = (name for name in os.listdir(layer) if name.endswith(".json") and not name.endswith(".index.json"))
    return {name.removesuffix(".json") for name in found}


def described(layer: Path) -> dict[str, str]:
    """The paths of all trees with a readable description, by their slugs."""
    found = {name: read(layer, f"{name}.json").get("plan") for name in names(layer)}
    return {name: made_from["path"] for name, made_from in found.items() if isinstance(made_from, dict)}


def read(layer: Path, name: str) -> dict[str, Any]:
    """A description; empty if it is absent or damaged."""
    try:
        data = documents.mapping(reader.read_json(layer / name, _LIMIT), "it")
        for key in data.keys() & _CHECKS.keys():
            _CHECKS[key](data[key], key)
    except (OSError, ValueError):
        return {}
    return data


def _plan(value: object, what: str) -> dict[str, Any]:
    found = documents.mapping(value, what)
    documents.field(found, "path", documents.name)
    return found


def _paths(value: object, what: str) -> list[str]:
    return [documents.name(path, what) for path in documents.sequence(value, what, _PATHS)]


def _signatures(value: object, what: str) -> dict[str, Any]:
    found = documents.mapping(value, what)
    if not all(signature is None or isinstance(signature, list) for signature in found.values()):
        raise ValueError(f"{what} has an invalid signature")
    return found


def _watched(value: object, what: str) -> str:
    if not isinstance(value, str) or value.count("\0") % 2 or value[-1:] not in ("\0", ""):
        raise ValueError(f"{what} is not a text of pairs")
    return value


_CHECKS: dict[str, Callable[[object, str], object]] = {
    "plan": _plan,
    **dict.fromkeys(("roots", "surplus", "clashing", "left_out"), _paths),
    **dict.fromkeys(("directories", "stubs", "copied"), _signatures),
    "watched": _watched,
}


def is_of(tree: Tree, data: dict[str, Any]) -> bool:
    """Whether a description matches this tree as it is planned now."""
    return data.get("version") == FORMAT_VERSION and data.get("plan") == plan(tree)


def holds(layer: Path, tree: Tree) -> bool:
    """Whether a tree has a mirror, and nothing that is watched has changed on the host."""
    return roots(layer, tree, watching=True) is not None


def roots(layer: Path, tree: Tree, watching: bool) -> list[str] | None:
    """The data-only lowers that the stubs of a tree's mirror need, in the order of search; None when there is no mirror
    or, when `watching`, something that is watched has changed on the host.
    """
    data = read(layer, f"{slug(tree)}.json")
    if not is_of(tree, data) or "watched" not in data:
        return None
    if watching and not _holds_still(data["watched"]):
        return None
    found: list[str] | None = data.get("roots")
    return found


def _holds_still(watched: str) -> bool:
    """Whether the host is as these pairs tell. A loop without calls of its own: it is the longest part of a start."""
    lstat, kind, directory = os.lstat, stat.S_IFMT(0xFFFF), stat.S_IFDIR
    for path, known in _pairs(watched):
        try:
            found = lstat(path)
        except OSError:
            if known:
                return False
            continue
        # As `signature` and `_told` tell it.
        size = 0 if found.st_mode & kind == directory else found.st_size
        if known != f"{found.st_ctime_ns} {size} {found.st_ino}":
            return False
    return True


def _pairs(watched: str) -> Iterator[tuple[str, str]]:
    parts = iter(watched.split("\0")[:-1])
    return zip(parts, parts, strict=True)


def _told(signature: Signature | None) -> str:
    return "" if signature is None else f"{signature[0]} {signature[1]} {signature[2]}"


def _signature(told: str) -> Signature | None:
    return [int(number) for number in told.split()] if told else None


def load(layer: Path, tree: Tree) -> Index | None:
    """The index of the last walk over a tree; None if it must be mirrored as a whole."""
    from sysenv_ns.host.index import Index  # most starts find nothing to be mirrored

    data = read(layer, f"{slug(tree)}.json")
    seen = read(layer, f"{slug(tree)}.index.json")
    if not is_of(tree, data) or data.get("surplus"):
        return None
    index = Index()
    try:
        index.watched = {path: _signature(told) for path, told in _pairs(data["watched"])}
        index.roots = data["roots"]
        index.directories, index.stubs, index.copied = seen["directories"], seen["stubs"], seen["copied"]
        index.clashing, index.left_out = set(seen["clashing"]), seen["left_out"]
    except (KeyError, TypeError, ValueError):
        return None
    return index
