"""push --image: sends an environment's whole root as an image; the host's layers once for all its environments.

Layers that a repository got from this store are neither read nor compressed again: they are known by their files'
metadata. Should the registry have lost one of them since, they are made once more, and what is missing is sent.
"""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass

from sysenv_ns.environment import rest
from sysenv_ns.oci import image
from sysenv_ns.oci.archive import Blob
from sysenv_ns.oci.image import ImageWish, PackedImage
from sysenv_ns.registry import artifact, known
from sysenv_ns.registry.blobs import BlobCache, Descriptor
from sysenv_ns.registry.layer_index import LayerIndex
from sysenv_ns.registry.push import Push, Pushed, check_tag
from sysenv_ns.registry.skopeo import BlobMissing


@dataclass(frozen=True)
class ImagePush(Push):
    """Of an environment, as an image."""

    wish: ImageWish

    def run(self, force: bool) -> Pushed:
        """Make and send it. Raises SysenvError; then the tag is unchanged.

        `force`: replace what somebody else has put there.
        """
        environment = self.environment()
        if not force:
            tagged = self.skopeo.manifest(self.reference)
            earlier = known.digests(environment, self.reference)
            check_tag(self.name, self.reference, tagged, earlier, as_image=True)
        cache, index = BlobCache(self.store), LayerIndex(self.store)
        with self.failing():
            cache.prepare()
            try:
                made, new = self._sent(cache, index)
            except BlobMissing:
                index.forget(self.reference)
                made, new = self._sent(cache, index)
            index.note(made.layers, self.reference)
            cache.remove(_descriptor(layer.blob) for layer in made.layers.values())  # they are as large as the system
            known.note_digest(environment, self.reference, made.manifest.digest)
        told = image.told(made, str(self.reference))
        for path in told.withheld:
            self.reporter.operation(f"empty in the image, as it is not world-readable here: {path}")
        size, sent = (sum(blob.size for blob in blobs) for blobs in ({p.blob for p in made.layers.values()}, new))
        notes = told.notes(self.name)
        return Pushed(self.name, str(self.reference), made.manifest.digest, size, sent, len(new), notes)

    def _sent(self, cache: BlobCache, index: LayerIndex) -> tuple[PackedImage, set[Blob]]:
        """Make and send it; returns what the repository had not, as far as was known."""
        pushed = index.layers()
        there = {key: row.layer for key, row in pushed.items() if self.reference.place in row.places}
        here = {key: row.layer for key, row in pushed.items() if cache.has(_descriptor(row.layer.blob))}
        with rest.held(self.store, self.name, "the push") as environment:
            into = CachedBlobs(cache)
            made = image.make(
                self.store,
                environment,
                into,
                self.wish,
                self.reporter,
                self.bar,
                here | there,
                lambda key, layer: index.note({key: layer}),  # should this be interrupted, the next push has it
            )
        # One that was made anew, as a file was touched, can be the same.
        new = {layer.blob for layer in made.layers.values()} - {layer.blob for layer in there.values()}
        self.announce(map(_descriptor, new))
        with cache.layout() as layout:
            artifact.write_layout(layout, _descriptor(made.manifest), self.skopeo.tag)
            self.skopeo.send(layout, cache.path, self.reference)
        return made, new


@dataclass(frozen=True)
class CachedBlobs:
    """Blobs of an image in the store's cache, for skopeo to send."""

    cache: BlobCache

    def add(self, data: bytes) -> Blob:
        """See oci.image.Blobs."""
        return _blob(self.cache.add(data))

    def write(self, fill: Callable[[Callable[[bytes], object]], None]) -> Blob:
        """See oci.image.Blobs."""
        return _blob(self.cache.write(lambda stream: fill(stream.write)))


def _blob(descriptor: Descriptor) -> Blob:
    return Blob(descriptor.digest, descriptor.size)


def _descriptor(blob: Blob) -> Descriptor:
    return Descriptor(blob.digest, blob.size)
