"""The layers of images that were made for a push, and where they are, so that they are not made again.

STORE/blobs/layers.json    by the key of a layer (oci/layer.py)

It is a cache as the blobs are, and holds a bounded number of layers, those used last.
"""

from __future__ import annotations

import contextlib
import json
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, replace

from sysenv_ns import decoding, documents
from sysenv_ns.environment import directory
from sysenv_ns.environment.store import Store
from sysenv_ns.files import reader
from sysenv_ns.files.locks import file_lock
from sysenv_ns.files.replacement import write_whole
from sysenv_ns.oci.description import PackedLayer
from sysenv_ns.registry import blobs
from sysenv_ns.registry.reference import Reference

_KEPT = 500  # layers
_PLACES = 20  # repositories of each


@dataclass(frozen=True)
class PushedLayer:
    """A layer that was made, and the repositories that it was pushed to."""

    layer: PackedLayer
    places: tuple[str, ...]


class LayerIndex:
    """That of a store, accessed as its user."""

    def __init__(self, store: Store) -> None:
        self._path = store.named / directory.BLOBS / blobs.LAYERS
        self._as_user = store.as_user

    def layers(self) -> dict[str, PushedLayer]:
        """All that are known, by their keys; none if what was noted is damaged."""
        with self._as_user(), contextlib.suppress(OSError, ValueError):
            known = decoding.from_data(dict[str, PushedLayer], reader.read_json(self._path))
            for row in known.values():
                blobs.Descriptor(row.layer.blob.digest, row.layer.blob.size)
            return known
        return {}

    def note(self, layers: Mapping[str, PackedLayer], reference: Reference | None = None) -> None:
        """Record that these were made, and that a repository has them. Raises OSError."""
        with self._changed() as noted:
            for key, layer in layers.items():
                before = noted.pop(key, None)
                places = before.places if before else ()
                if reference is not None:
                    places = (*_without(places, reference), reference.place)[-_PLACES:]
                noted[key] = PushedLayer(layer, places)

    def forget(self, reference: Reference) -> None:
        """Record that a repository may have lost what it had. Raises OSError."""
        with self._changed() as noted:
            for key, pushed in noted.items():
                noted[key] = replace(pushed, places=_without(pushed.places, reference))

    @contextlib.contextmanager
    def _changed(self) -> Iterator[dict[str, PushedLayer]]:
        """What is recorded, to be changed within the context; others wait."""
        with self._as_user(), file_lock(self._path.with_name(f"{self._path.name}.lock")):
            noted = self.layers()
            yield noted
            kept = dict([*noted.items()][-_KEPT:])
            write_whole(self._path, json.dumps(kept, default=documents.as_data).encode(), durable=False)


def _without(places: tuple[str, ...], reference: Reference) -> tuple[str, ...]:
    return tuple(place for place in places if place != reference.place)
