"""The archive of an image: an OCI image layout in a tar file, with the list that older dockers read.

What is in it is named by its digest, which a layer has only when it is written: so the file must be seekable.
"""

from __future__ import annotations

import hashlib
import json
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from typing import Any, BinaryIO

from sysenv_ns.archive import tarball
from sysenv_ns.archive.tarball import Member

_BLOBS = "blobs/sha256"


@dataclass(frozen=True)
class Blob:
    """Something in the archive."""

    digest: str
    size: int

    @property
    def name(self) -> str:
        """Where it is."""
        return f"{_BLOBS}/{self.digest.removeprefix('sha256:')}"

    def described(self, media_type: str) -> dict[str, Any]:
        """A descriptor of it (image-spec, descriptor.md)."""
        return {"mediaType": f"application/vnd.oci.image.{media_type}", "digest": self.digest, "size": self.size}


class Stream:
    """A blob that is written piece by piece, with room before it for what is known at its end."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        self._begin = file.tell()
        self._seen = hashlib.sha256()
        self._size = 0
        file.write(reserved(Blob("", 0)))

    def write(self, data: bytes) -> None:
        """Add a piece."""
        self._seen.update(data)
        self._size += len(data)
        self._file.write(data)

    def finish(self) -> Blob:
        """Write the end, and what it is at its beginning."""
        blob = Blob(digest(self._seen), self._size)
        self._file.write(tarball.padding(self._size))
        end = self._file.tell()
        self._file.seek(self._begin)
        self._file.write(reserved(blob))
        self._file.seek(end)
        return blob


class Archive:
    """Written from its beginning to its end into a file."""

    def __init__(self, file: BinaryIO) -> None:
        self._file = file
        for path in ("blobs", _BLOBS):
            file.write(tarball.encode(Member(path.encode(), "directory", 0o755)))
        self._write("oci-layout", encode({"imageLayoutVersion": "1.0.0"}))

    def add(self, data: bytes) -> Blob:
        """Add a small blob."""
        blob = Blob(digest(hashlib.sha256(data)), len(data))
        self._write(blob.name, data)
        return blob

    def write(self, fill: Callable[[Callable[[bytes], object]], None]) -> Blob:
        """Add a blob, which `fill` hands over in pieces; it must add nothing else meanwhile."""
        stream = Stream(self._file)
        fill(stream.write)
        return stream.finish()

    def finish(self, index: object, name: str, config: Blob, layers: Sequence[Blob]) -> None:
        """Write which image is there, and the end."""
        self._write("index.json", encode(index))
        # What dockers read that know of no layout.
        listed = {"Config": config.name, "RepoTags": [name], "Layers": [layer.name for layer in layers]}
        self._write("manifest.json", encode([listed]))
        self._file.write(tarball.END)
        self._file.flush()

    def _write(self, name: str, data: bytes) -> None:
        self._file.write(tarball.encode(Member(name.encode(), "file", 0o644, size=len(data))))
        self._file.write(data + tarball.padding(len(data)))


def digest(seen: Any) -> str:
    """As OCI writes it."""
    return f"sha256:{seen.hexdigest()}"


def reserved(blob: Blob) -> bytes:
    """As long for every size and digest: both are in a block of records that has room for more."""
    return tarball.encode(Member(blob.name.encode(), "file", 0o644, size=blob.size))


def encode(data: object) -> bytes:
    """As JSON."""
    return json.dumps(data, separators=(",", ":")).encode()
