"""What is known of registries without a query: the blobs of frozen layers, and what was pushed or pulled where.

STORE/layers/ID/blob.json       a layer never changes, so neither does its blob
STORE/envs/NAME/registry.json   by repository, the digests that this environment had there, the last one last
"""

from __future__ import annotations

import contextlib
from dataclasses import asdict, dataclass
from pathlib import Path

from sysenv_ns import decoding, documents
from sysenv_ns.environment import directory
from sysenv_ns.environment.description import Environment
from sysenv_ns.files import reader
from sysenv_ns.files.replacement import write_json
from sysenv_ns.registry.blobs import Descriptor
from sysenv_ns.registry.reference import Reference

_KEPT = 100  # digests of a repository


@dataclass(frozen=True)
class LayerBlob:
    """The blob of a frozen layer, and the layers below it that its dictionary comes from, uppermost first."""

    blob: Descriptor
    below: tuple[str, ...] = ()


def blob_of(layer: Path) -> LayerBlob | None:
    """The blob of a frozen layer, if known."""
    with contextlib.suppress(OSError, ValueError):  # it is made again
        data = documents.mapping(reader.read_json(layer / directory.BLOB), "it")
        # Earlier versions knew no `below`. What they noted is read; this they cannot read, and make the blob again.
        return decoding.from_data(LayerBlob, data if "blob" in data else {"blob": data})
    return None


def note_blob(layer: Path, blob: LayerBlob) -> None:
    """Record it. Raises OSError."""
    write_json(layer / directory.BLOB, asdict(blob), durable=False)


def digests(environment: Environment, reference: Reference) -> list[str]:
    """The digests with which this environment was pushed to, or pulled from, that repository; the last one last."""
    return _noted(environment).get(reference.place, [])


def note_digest(environment: Environment, reference: Reference, digest: str) -> None:
    """Record one more, unless the environment has been removed meanwhile. Raises OSError."""
    noted = _noted(environment)
    earlier = [other for other in noted.get(reference.place, []) if other != digest]
    noted[reference.place] = [*earlier, digest][-_KEPT:]
    with contextlib.suppress(FileNotFoundError):
        write_json(environment.path / directory.REGISTRY, noted, durable=False)


def _noted(environment: Environment) -> dict[str, list[str]]:
    with contextlib.suppress(OSError, ValueError):
        data = documents.mapping(reader.read_json(environment.path / directory.REGISTRY), "it")
        return {
            place: [documents.text(digest, place) for digest in documents.sequence(found, place)]
            for place, found in data.items()
        }
    return {}
