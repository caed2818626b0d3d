"""The blobs of pushes and pulls in the store, by their digests: fetched or made once, and verified.

STORE/blobs/sha256/DIGEST    a shared blob directory of skopeo

It is a cache: missing blobs are fetched or made again, and those unused for a month are deleted.
"""

from __future__ import annotations

import contextlib
import fcntl
import hashlib
import io
import os
import re
import tempfile
import time
from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, BinaryIO, cast

from sysenv_ns.archive.tarball import Damaged
from sysenv_ns.basics import opened
from sysenv_ns.environment import directory
from sysenv_ns.environment.store import Store
from sysenv_ns.files import reader, removal

if TYPE_CHECKING:
    from _typeshed import ReadableBuffer

_DIGEST = re.compile(r"sha256:[0-9a-f]{64}")
_ALGORITHM = "sha256"
LAYERS = "layers.json"  # which layers of images are known (layer_index.py)
_KEPT = 30 * 24 * 3600  # seconds since its last use
_LEFT = 24 * 3600  # seconds after which what a killed command was writing is deleted


@dataclass(frozen=True)
class Descriptor:
    """A content, by its digest and size in bytes. Raises ValueError for an invalid digest."""

    digest: str
    size: int

    def __post_init__(self) -> None:
        if not _DIGEST.fullmatch(self.digest):
            raise ValueError("a digest is invalid")

    @property
    def checksum(self) -> str:
        """The digest without the name of its algorithm."""
        return self.digest.partition(":")[2]


def of_bytes(data: bytes) -> Descriptor:
    """The blob with this content."""
    return Descriptor(f"{_ALGORITHM}:{hashlib.sha256(data).hexdigest()}", len(data))


class BlobCache:
    """A cache in the user's own store, always accessed as that user, even by root on the user's behalf."""

    def __init__(self, store: Store) -> None:
        self.path = store.named / directory.BLOBS
        self._blobs = self.path / _ALGORITHM
        self._as_user = store.as_user

    def prepare(self) -> None:
        """Create missing directories, and delete blobs that were not used for long. Raises OSError."""
        with self._as_user():
            self._blobs.mkdir(mode=0o700, parents=True, exist_ok=True)
            self._delete_old()

    @contextlib.contextmanager
    def alone(self) -> Iterator[None]:
        """Wait until nobody else is in such a context of this cache. Raises OSError."""
        with self._as_user():
            descriptor = os.open(self.path, os.O_RDONLY | os.O_DIRECTORY | os.O_NOFOLLOW | os.O_CLOEXEC)
        with opened(descriptor):
            fcntl.flock(descriptor, fcntl.LOCK_EX)
            yield

    @contextlib.contextmanager
    def layout(self) -> Iterator[Path]:
        """An empty directory for one call of skopeo, deleted afterwards. Raises OSError."""
        with self._as_user():
            path = Path(tempfile.mkdtemp(prefix="layout-", dir=self.path))
        try:
            yield path
        finally:
            with self._as_user():
                removal.delete(path)

    def file(self) -> BinaryIO:
        """An empty file without a name, to write to and to read. Raises OSError."""
        with self._as_user():
            return tempfile.TemporaryFile(dir=self.path)

    def has(self, blob: Descriptor) -> bool:
        """Whether a blob is here, judged by its size; if so, it counts as used now."""
        with self._as_user(), contextlib.suppress(OSError):
            os.utime(self._path(blob), follow_symlinks=False)
            return self._path(blob).lstat().st_size == blob.size
        return False

    def add(self, data: bytes) -> Descriptor:
        """Store this content. Raises OSError."""
        return self.write(lambda stream: cast(None, stream.write(data)))

    def write(self, fill: Callable[[BinaryIO], None]) -> Descriptor:
        """Store what `fill` writes; it appears when it is complete. Raises OSError, and what `fill` raises."""
        with self._as_user():
            descriptor, name = tempfile.mkstemp(prefix="new-", dir=self.path)
        try:
            with os.fdopen(descriptor, "wb") as stream:
                hashing = _Hashing(stream)
                fill(cast(BinaryIO, hashing))
                stream.flush()
                blob = Descriptor(f"{_ALGORITHM}:{hashing.digest.hexdigest()}", stream.tell())
            with self._as_user():
                os.rename(name, self._path(blob))
        except BaseException:
            with self._as_user(), contextlib.suppress(FileNotFoundError):
                os.unlink(name)
            raise
        return blob

    def read(self, blob: Descriptor, limit: int) -> bytes:
        """A small content. Raises OSError; Damaged if it does not match, or is too long."""
        with self.opened(blob) as stream:
            data = stream.read(limit + 1)
            if len(data) > limit:
                raise Damaged("its description is too long")
            return data

    def opened(self, blob: Descriptor) -> BinaryIO:
        """The verified content. Raises OSError; Damaged if it does not match, and then deletes it."""
        with self._as_user():
            stream = reader.stream(self._path(blob))
        try:
            size = os.fstat(stream.fileno()).st_size
            if size != blob.size or hashlib.file_digest(stream, _ALGORITHM).hexdigest() != blob.checksum:
                self.remove([blob])  # the next pull shall fetch it again
                raise Damaged(f"the content of the blob {blob.digest} does not match its digest")
            stream.seek(0)
        except BaseException:
            stream.close()
            raise
        return stream

    def remove(self, blobs: Iterable[Descriptor]) -> None:
        """Delete these blobs, if they are here."""
        with self._as_user():
            for blob in blobs:
                with contextlib.suppress(OSError):
                    self._path(blob).unlink()

    def _path(self, blob: Descriptor) -> Path:
        return self._blobs / blob.checksum

    def _delete_old(self) -> None:
        now = time.time()
        for place, age in ((self._blobs, _KEPT), (self.path, _LEFT)):
            for path in place.iterdir():
                if path.name in (_ALGORITHM, LAYERS) or path.lstat().st_mtime > now - age:
                    continue
                removal.delete(path) if path.is_dir() else path.unlink()


class _Hashing(io.RawIOBase):
    """Passes on what is written, and computes the digest."""

    def __init__(self, stream: BinaryIO) -> None:
        self._stream = stream
        self.digest = hashlib.sha256()

    def writable(self) -> bool:
        return True

    def write(self, data: ReadableBuffer) -> int:
        self.digest.update(data)
        return self._stream.write(data)
