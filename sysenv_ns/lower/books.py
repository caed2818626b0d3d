"""The descriptions of a layer's trees, two files each beside the layer's tree: reads, writes and believes them or not.

    usr.json          what the tree was made from, and what tells whether that has changed; read at every start
    usr.index.json    the signature of every directory and file, from which a refresh goes on

Without the first one a tree counts as missing: whoever changes a tree takes it away before and writes it last.
"""

from __future__ import annotations

import json
import os
from collections.abc import Iterable
from pathlib import Path
from typing import Any

from sysenv_ns.host import refresh
from sysenv_ns.host.index import Index
from sysenv_ns.host.layout import LayerPlan, Tree
from sysenv_ns.store import sync_directory, write_json

FORMAT_VERSION = 2


def slug(tree: Tree) -> str:
    """The name of a tree's files."""
    return tree.path.strip("/").replace("/", "-") or "root"


def plan(tree: Tree) -> dict[str, Any]:
    """What of the plan goes into a mirror, as JSON gives it back."""
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
    made_from = {"plan": plan(tree), "roots": index.roots, "surplus": sorted(surplus), "watched": watched}
    write_json(layer / f"{slug(tree)}.json", {"version": FORMAT_VERSION, **made_from})


def forget(layer: Path, trees: Iterable[str]) -> None:
    """Make trees, given by their slugs, count as missing. Raises OSError."""
    for name in trees:
        (layer / f"{name}.json").unlink(missing_ok=True)
    sync_directory(layer)


def names(layer: Path) -> set[str]:
    """The slugs of all trees of which there is a description, whole or damaged."""
    found = (name for name in os.listdir(layer) if name.endswith(".json") and not name.endswith(".index.json"))
    return {name.removesuffix(".json") for name in found}


def described(layer: Path) -> dict[str, str]:
    """The paths of all trees of which there is a readable description, by their slugs."""
    found = {name: read(layer, f"{name}.json").get("plan") for name in names(layer)}
    return {name: made_from["path"] for name, made_from in found.items() if isinstance(made_from, dict)}


def read(layer: Path, name: str) -> dict[str, Any]:
    """A description; empty when it is absent or damaged."""
    try:
        data = json.loads((layer / name).read_bytes())
        return data if isinstance(data, dict) else {}
    except (OSError, ValueError):
        return {}


def is_of(tree: Tree, data: dict[str, Any]) -> bool:
    """Whether a description is one of this tree as it is planned now."""
    return data.get("version") == FORMAT_VERSION and data.get("plan") == plan(tree)


def holds(layer: Path, tree: Tree, watching: bool = True) -> bool:
    """Whether there is a mirror of a tree and, when `watching`, nothing that is watched has changed on the host."""
    data = read(layer, f"{slug(tree)}.json")
    watched = data.get("watched")
    if not is_of(tree, data) or not isinstance(watched, dict):
        return False
    return not watching or all(refresh.current(path) == signature for path, signature in watched.items())


def load(layer: Path, tree: Tree) -> Index | None:
    """What the last walk over a tree saw; None when it must be mirrored as a whole."""
    data = read(layer, f"{slug(tree)}.json")
    seen = read(layer, f"{slug(tree)}.index.json")
    if not is_of(tree, data) or data.get("surplus"):
        return None
    index = Index()
    try:
        index.roots, index.watched = data["roots"], data["watched"]
        index.directories, index.stubs, index.copied = seen["directories"], seen["stubs"], seen["copied"]
        index.clashing, index.left_out = set(seen["clashing"]), seen["left_out"]
    except (KeyError, TypeError):
        return None
    return index


def roots(plan_: LayerPlan, layer: Path) -> tuple[str, ...]:
    """The data-only lowers that the stubs of a layer need, in the order of search."""
    found = (root for tree in plan_.trees for root in read(layer, f"{slug(tree)}.json").get("roots", ()))
    return tuple(dict.fromkeys(found))
