"""The format of an environment in a registry: an OCI artifact, and the OCI layout directory that skopeo copies.

    config     the description of an environment that export writes into an archive too (archive/manifest.py)
    layers     a blob for each tree of such an archive, compressed; its annotations tell which one it is, and which
               trees before it in this list its dictionary comes from, if it has one (dictionary.py)

A blob is a tar archive of one directory, tree/, whatever number the tree has in the environment: so a frozen layer is
the same blob in all environments and after each snapshot. Runs nothing, and knows no registry.
"""

from __future__ import annotations

import json
import re
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from sysenv_ns import documents, policy
from sysenv_ns.files import reader
from sysenv_ns.registry.blobs import BlobCache, Descriptor
from sysenv_ns.text import line

MANIFEST_LIMIT = 4 << 20  # bytes: what registries take, by the OCI distribution specification
TREE = "tree"  # the directory that is in a blob
_MANIFEST_TYPE = "application/vnd.oci.image.manifest.v1+json"
_CONFIG_TYPE = "application/vnd.sysenv-ns.environment.v1+json"
_TREE_TYPE = "application/vnd.sysenv-ns.tree.v1.tar+zstd"
_DEPENDENT_TYPE = "application/vnd.sysenv-ns.tree.v2.tar+zstd"
_OURS = "application/vnd.sysenv-ns."
_ANNOTATION, _BELOW = "sysenv-ns.tree", "sysenv-ns.below"
_NAME = "org.opencontainers.image.ref.name"  # of what is in a layout
_TREE_NAME = re.compile(r"(layers|origins)/(0|[1-9][0-9]{0,3})")
_INDEX, _LAYOUT = "index.json", "oci-layout"


class NoArtifact(Exception):
    """The data is not an environment; the text says what is wrong."""


class LaterForm(NoArtifact):
    """It is one, in a form that this version does not know; the text is its type."""


@dataclass(frozen=True)
class NamedTree:
    """A tree of an environment, by its name in an archive, and its blob.

    `below`: if that has a dictionary, the names of the trees which that comes from, uppermost first.
    """

    name: str
    blob: Descriptor
    below: tuple[str, ...] = ()

    def row(self) -> dict[str, Any]:
        """Its form in the manifest."""
        annotations = {_ANNOTATION: self.name} | ({_BELOW: " ".join(self.below)} if self.below else {})
        kind = _DEPENDENT_TYPE if self.below else _TREE_TYPE
        return _descriptor(kind, self.blob) | {"annotations": annotations}


@dataclass(frozen=True)
class Artifact:
    """The blobs of an environment in a registry; its description is the blob `config`."""

    config: Descriptor
    trees: tuple[NamedTree, ...]

    def encode(self) -> bytes:
        """The OCI manifest; its digest identifies the environment."""
        config = _descriptor(_CONFIG_TYPE, self.config)
        layers = [tree.row() for tree in self.trees]
        content = {"schemaVersion": 2, "mediaType": _MANIFEST_TYPE, "config": config, "layers": layers}
        return json.dumps(content).encode()


def decode(manifest: bytes) -> Artifact:
    """The artifact that an OCI manifest describes. Raises NoArtifact."""
    try:
        data = documents.mapping(documents.parse_json(manifest), "it")
        if "manifests" in data or "config" not in data:
            raise NoArtifact("it is not an OCI artifact but a list of images, or an older format")
        config, layers = documents.mapping(data["config"], "config"), documents.sequence(data.get("layers"), "layers")
        _type(config, _CONFIG_TYPE)
        return Artifact(_blob(config), tuple(map(_tree, layers)))
    except ValueError as error:
        raise NoArtifact(f"its manifest is damaged: {error}") from error


def _tree(value: object) -> NamedTree:
    data = documents.mapping(value, "a layer")
    annotations = documents.field(data, "annotations", documents.mapping)
    name = documents.field(annotations, _ANNOTATION, documents.text)
    below: tuple[str, ...] = ()
    if _type(data, _TREE_TYPE, _DEPENDENT_TYPE) == _DEPENDENT_TYPE:
        below = tuple(documents.field(annotations, _BELOW, documents.text).split(" "))
    if not all(map(_TREE_NAME.fullmatch, (name, *below))) or len(below) > policy.LAYERS:
        raise ValueError("a layer has an unknown name")
    return NamedTree(name, _blob(data), below)


def _type(data: dict[str, Any], *known: str) -> str:
    """The type of a content, which is one of these. Raises NoArtifact."""
    kind = documents.field(data, "mediaType", documents.text)
    if kind not in known:
        if kind.startswith(_OURS):
            raise LaterForm(line(kind[:100]))
        raise NoArtifact("it is an image, or another kind of artifact")
    return kind


def _descriptor(kind: str, blob: Descriptor) -> dict[str, Any]:
    return {"mediaType": kind, "digest": blob.digest, "size": blob.size}


def _blob(data: dict[str, Any]) -> Descriptor:
    return Descriptor(documents.field(data, "digest", documents.text), documents.field(data, "size", documents.integer))


def write_layout(directory: Path, manifest: Descriptor, tag: str) -> None:
    """Write an OCI layout that names a manifest, which is with all other blobs elsewhere. Raises OSError."""
    described = _descriptor(_MANIFEST_TYPE, manifest) | {"annotations": {_NAME: tag}}
    (directory / _INDEX).write_text(json.dumps({"schemaVersion": 2, "manifests": [described]}))
    (directory / _LAYOUT).write_text(json.dumps({"imageLayoutVersion": "1.0.0"}))


def read_layout(directory: Path, cache: BlobCache) -> tuple[Descriptor, Artifact]:
    """The manifest in such a layout, and its artifact. Raises OSError, NoArtifact, tarball.Damaged."""
    try:
        index = documents.mapping(reader.read_json(directory / _INDEX, MANIFEST_LIMIT), "it")
        (described,) = documents.field(index, "manifests", documents.sequence)
        manifest = _blob(documents.mapping(described, "manifests"))
    except ValueError as error:
        raise NoArtifact(f"its index is damaged: {error}") from error
    return manifest, decode(cache.read(manifest, MANIFEST_LIMIT))
