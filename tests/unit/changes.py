"""Random changes of a tree, as packages, administrators and the devil make them."""

from __future__ import annotations

import os
import random
import shutil
from collections.abc import Callable
from pathlib import Path

_NAMES = ("a", "b", "c", "d")
_SIZES = (0, 10, 4096, 9999)


class Changes:
    """Carries out changes below one directory; the same seed makes the same ones."""

    def __init__(
        self, root: Path, seed: int, in_place: bool, rename: Callable[[Path, Path], object] = os.rename
    ) -> None:
        """`in_place`: also such that the times of no directory tell of."""
        self._root, self._move = root, rename
        self._random = random.Random(seed)
        self._possible: list[Callable[[], None]] = [
            *(self._write, self._write, self._directory, self._delete, self._rename, self._rename, self._link),
            *(self._symlink, self._exchange, self._directory_mode, self._replace, self._replace, self._fifo),
            *((self._edit, self._file_mode) if in_place else ()),
        ]

    def make(self, count: int) -> None:
        """That many changes; those that are not possible count too."""
        for _ in range(count):
            self._random.choice(self._possible)()

    def _place(self) -> Path:
        """Somewhere below the root, where there may be something or nothing; its parent is a directory."""
        path = self._root
        while self._random.random() < 0.6:
            inner = path / self._random.choice(_NAMES)
            if inner.is_symlink() or not inner.is_dir():
                break
            path = inner
        return path / self._random.choice(_NAMES)

    def _existing(self, is_kind: Callable[[Path], bool]) -> Path | None:
        found = sorted(path for path in self._root.rglob("*") if not path.is_symlink() and is_kind(path))
        return self._random.choice(found) if found else None

    def _content(self) -> bytes:
        return self._random.randbytes(self._random.choice(_SIZES))

    def _free(self) -> Path | None:
        place = self._place()
        return None if os.path.lexists(place) else place

    def _write(self) -> None:
        if place := self._free():
            place.write_bytes(self._content())

    def _directory(self) -> None:
        if place := self._free():
            (place / self._random.choice(_NAMES)).mkdir(parents=True)
            (place / "file").write_bytes(self._content())

    def _delete(self) -> None:
        place = self._place()
        if place.is_dir() and not place.is_symlink():
            shutil.rmtree(place)
        else:
            place.unlink(missing_ok=True)

    def _rename(self) -> None:
        source, target = self._place(), self._free()
        if target and os.path.lexists(source) and source not in (target, *target.parents):
            self._move(source, target)

    def _link(self) -> None:
        source, target = self._existing(Path.is_file), self._free()
        if source and target:
            os.link(source, target)

    def _symlink(self) -> None:
        if place := self._free():
            place.symlink_to(self._random.choice((".", "..", "nowhere", "/", str(self._place()))))

    def _exchange(self) -> None:
        """Whatever it was, it becomes something else."""
        place = self._place()
        old = place.with_name("old")
        if os.path.lexists(place) and not os.path.lexists(old):  # where it may have been left in its place
            self._move(place, old)
            self._random.choice((lambda: place.symlink_to("old"), place.mkdir, place.touch))()
            if place.is_dir() and not place.is_symlink() and self._random.random() < 0.5:
                self._move(old, place / "old")
            elif old.is_dir() and not old.is_symlink():
                shutil.rmtree(old)
            else:
                old.unlink()

    def _replace(self) -> None:
        """As dpkg does it."""
        if path := self._existing(Path.is_file):
            new = path.with_name(f"{path.name}.dpkg-new")
            new.write_bytes(self._content())
            new.rename(path)

    def _fifo(self) -> None:
        if place := self._free():
            os.mkfifo(place)

    def _directory_mode(self) -> None:
        if path := self._existing(Path.is_dir):
            path.chmod(self._random.choice((0o755, 0o700, 0o2755, 0o1777)))

    def _edit(self) -> None:
        if path := self._existing(Path.is_file):
            with path.open("ab") as stream:
                stream.write(self._content())

    def _file_mode(self) -> None:
        if path := self._existing(Path.is_file):
            path.chmod(self._random.choice((0o644, 0o4755, 0o600)))
