"""Looks at upper directories as they are stored, and at what they make of the trees below; changes nothing.

Others control their contents, even meanwhile: no link is followed out of them (reader.py).
"""

from __future__ import annotations

import contextlib
import itertools
import os
import stat
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence
from io import BufferedReader
from operator import itemgetter
from typing import Literal, NamedTuple, TypeAlias

from sysenv_ns.basics import opened
from sysenv_ns.files import reader
from sysenv_ns.files.marks import Marks
from sysenv_ns.files.reader import Root
from sysenv_ns.files.view import View, attributes, same_content

_HELD = 500  # descriptors, or a quarter of the limit: of more directories that are in each other none is held open

EntryKind = Literal["file", "directory", "whiteout"]


class UpperEntry(NamedTuple):
    """Something in an upper directory; `below` is its path in that, `layer` the upper directory itself.

    `is_ours`: its name is in the share of all that is looked at.
    """

    kind: EntryKind
    below: str
    status: os.stat_result
    layer: Root
    opaque: bool = False
    is_ours: bool = True

    @property
    def place(self) -> str:
        """Its path for this process."""
        return f"{self.layer.path}{self.below}"

    def get(self, limit: int = reader.LIMIT) -> bytes | None:
        """The content of a regular file; None if it is not one. Raises OSError."""
        return self.layer.get(self.below, limit)

    def stream(self) -> BufferedReader:
        """The same, to read piece by piece. Raises OSError, also if it is not a regular file."""
        return self.layer.stream(self.below)

    def checksum(self) -> str:
        """Of its content, as dpkg has it: MD5. Raises OSError, also if it is not a regular file."""
        import hashlib  # mostly no file is compared

        with self.stream() as stream:
            return hashlib.file_digest(stream, lambda: hashlib.md5(usedforsecurity=False)).hexdigest()

    def link(self) -> str:
        """The target of a symbolic link. Raises OSError."""
        return self.layer.link(self.below)


class Share(NamedTuple):
    """A part of all names, for one of several processes that are forked from one: hash() is the same in them."""

    number: int = 0
    of: int = 1

    def has(self, name: str) -> bool:
        """Whether a name is in it, whatever directory that is in."""
        return hash(name) % self.of == self.number


WHOLE = Share()

# A directory of the merged changes: its real path, and what is in it by real paths, in their order.
Listing: TypeAlias = tuple[str, dict[str, UpperEntry]]


class Upper:
    """The changes of an environment, by their real paths, parents first; all are read at once."""

    def __init__(self, layers: Iterable[tuple[str, str]], marks: Marks, only: Collection[str] | None = None) -> None:
        """`layers`: see `walk`; `only`: no other directories than these are read, whose parents are among them."""
        layers = tuple(layers)
        self.entries: dict[str, UpperEntry] = {}
        self._points = {"", *(point for point, _ in layers)}
        self._alone: set[str] = set()
        for _, here in walk(layers, marks, only):
            self.entries |= here

    def get(self, path: str) -> UpperEntry | None:
        """The entry at a real path."""
        return self.entries.get(path)

    def covers(self, path: str) -> list[tuple[str, UpperEntry]]:
        """The entries above a real path that hide the layers below: whiteouts, files, opaque directories."""
        found = []
        parts = path.split("/")
        for end in range(2, len(parts)):
            ancestor = "/".join(parts[:end])
            entry = self.entries.get(ancestor)
            if entry is None:
                break
            if entry.kind != "directory" or entry.opaque:
                found.append((ancestor, entry))
        return found

    def leaves_alone(self, directory: str) -> bool:
        """Whether a real directory and all that is below it are as in the layers below, unless a mount point is."""
        if directory in self._points or directory in self.entries:
            return False
        if directory.rpartition("/")[0] not in self._alone and self.covers(f"{directory}/"):
            return False
        self._alone.add(directory)
        return True

    def below(self, directory: str) -> list[str]:
        """The names directly in a directory."""
        prefix = f"{directory}/"
        return [
            path[len(prefix) :] for path in self.entries if path.startswith(prefix) and "/" not in path[len(prefix) :]
        ]


def walk(
    layers: Iterable[tuple[str, str]], marks: Marks, only: Collection[str] | None = None, share: Share = WHOLE
) -> Iterator[Listing]:
    """All directories of the merged changes of an environment, parents first; `only`: see Upper.

    `layers`: mount points ("" for /) with the upper directories over them, the uppermost of several first. `share`:
    what is not in it may be left out, except directories. What disappears meanwhile, in a running environment, is left
    out. Raises OSError.
    """
    stacks: dict[str, list[tuple[Root, str]]] = {}
    for point, directory in layers:
        with contextlib.suppress(FileNotFoundError):
            stacks.setdefault(point, []).append((Root(directory), ""))
    for point, directories in stacks.items():
        yield from _UpperWalk(marks, only, share).below(point, directories, {})


class _UpperWalk:
    def __init__(self, marks: Marks, only: Collection[str] | None, share: Share) -> None:
        self._marks, self._only, self._share = marks, only, share
        self._held = 0  # descriptors of directories
        self._limit = min(_HELD, os.sysconf("SC_OPEN_MAX") // 4)

    def below(self, path: str, directories: Sequence[tuple[Root, str]], above: Mapping[Root, int]) -> Iterator[Listing]:
        """The merged content of directories, by upper directory and path in it, as they lie above each other.

        `above`: the open directories that these are in, by upper directory; not all have to be open.
        """
        opened: dict[Root, int] = {}
        # In several above each other, a file hides what is below it.
        skips = len(directories) == 1 and not self._marks.by_name
        try:
            found = []
            for layer, directory in directories:
                if (descriptor := _opened(layer, directory, above.get(layer))) is not None:
                    opened[layer] = descriptor
                    self._held += 1
                    found.append(_entries(descriptor, layer, directory, self._marks, self._share, skips))
            if len(found) == 1:
                here = {f"{path}/{name}": entry for name, entry in sorted(found[0], key=itemgetter(0))}
                inner: list[tuple[str, Sequence[UpperEntry]]]
                inner = [(place, (entry,)) for place, entry in here.items() if entry.kind == "directory"]
            else:
                stacks = {f"{path}/{name}": stack for name, stack in sorted(_stacks(found).items())}
                here = {place: stack[0] for place, stack in stacks.items()}
                inner = [(place, stack) for place, stack in stacks.items() if stack[0].kind == "directory"]
            yield path, here
            if self._held > self._limit:
                self._let_go(opened)
            del found, here  # what is not needed any more while all that is below is looked at
            for place, stack in inner:
                if self._only is None or place in self._only:
                    yield from self.below(place, [(entry.layer, entry.below) for entry in stack], opened)
        finally:
            self._let_go(opened)

    def _let_go(self, opened: dict[Root, int]) -> None:
        self._held -= len(opened)
        while opened:
            os.close(opened.popitem()[1])


def entries(layer: Root, directory: str, marks: Marks) -> Iterator[tuple[str, UpperEntry]]:
    """The entries of a directory in an upper directory, by the names that they affect: a whiteout may have another.

    What disappears meanwhile is left out. Raises OSError.
    """
    if (descriptor := _opened(layer, directory)) is not None:
        with opened(descriptor):
            yield from _entries(descriptor, layer, directory, marks)


def _opened(layer: Root, directory: str, holder: int | None = None) -> int | None:
    """A descriptor of a directory, which is in `holder`; None if it is gone."""
    try:
        return layer.directory(directory, holder)
    except OSError as error:
        if reader.is_missing(error):
            return None
        raise


def _entries(
    descriptor: int, layer: Root, directory: str, marks: Marks, share: Share = WHOLE, skips: bool = False
) -> list[tuple[str, UpperEntry]]:
    """The same of an open directory, whatever has its name now; `skips`: without files that are not in the share.

    One loop: of 100,000 files calls count.
    """
    holder, by_name, new = f"/proc/self/fd/{descriptor}", marks.by_name, tuple.__new__
    is_directory, is_device = stat.S_ISDIR, stat.S_ISCHR
    number, of = share
    entries = []
    with os.scandir(descriptor) as found:
        for entry in found:
            name = entry.name
            is_ours = hash(name) % of == number
            if skips and not is_ours and not entry.is_dir(follow_symlinks=False):
                continue
            try:
                status = entry.stat(follow_symlinks=False)
                mode = status.st_mode
                if is_directory(mode):
                    kind: EntryKind = "directory"
                    opaque = marks.is_opaque(f"{holder}/{name}")
                else:
                    kind, opaque = "file", False
            except FileNotFoundError:
                continue
            if by_name or is_device(mode):
                if marks.is_mark(name):
                    continue
                if (hidden := marks.hidden_name(entry)) is not None:
                    whiteout = UpperEntry("whiteout", f"{directory}/{name}", status, layer, False, share.has(hidden))
                    entries.append((hidden, whiteout))
                    continue
            entries.append((name, new(UpperEntry, (kind, f"{directory}/{name}", status, layer, opaque, is_ours))))
    return entries


def _stacks(found: Iterable[Iterable[tuple[str, UpperEntry]]]) -> dict[str, Sequence[UpperEntry]]:
    """What is visible of entries of several directories, uppermost first, by their names; see `shown`."""
    named: dict[str, list[UpperEntry]] = {}
    for name, entry in itertools.chain.from_iterable(found):
        named.setdefault(name, []).append(entry)
    stacks: dict[str, Sequence[UpperEntry]] = {}
    for name, entries in named.items():
        stack, hides = shown(entries)
        stacks[name] = stack if stack[0].opaque == hides else [stack[0]._replace(opaque=True), *stack[1:]]
    return stacks


def shown(entries: Sequence[UpperEntry]) -> tuple[Sequence[UpperEntry], bool]:
    """Of entries with one name, uppermost first: those that are visible, and whether directories hide all below."""
    stack: list[UpperEntry] = []
    for entry in entries:
        if entry.kind != "directory":
            return stack or [entry], bool(stack)
        stack.append(entry)
        if entry.opaque:
            return stack, True
    return stack, False


class Own:
    """The root of an environment: its changes over the layers below."""

    def __init__(self, upper: Upper, below: View) -> None:
        self._upper, self._below = upper, below

    def _of_upper(self, path: str) -> tuple[bool, UpperEntry | None]:
        """Whether the environment has changed a path, and the file that it has there."""
        real = self._below.real(path)
        entry = self._upper.get(real)
        if entry is not None:
            return True, entry if entry.kind == "file" else None
        return bool(self._upper.covers(real)), None

    def read(self, path: str) -> bytes | None:
        """The content of a regular file; None if there is none."""
        decides, entry = self._of_upper(path)
        return (entry.get() if entry else None) if decides else self._below.read(path)

    def leaves_alone(self, directory: str) -> bool:
        """Whether the environment has changed nothing in a directory and below it."""
        return self._upper.leaves_alone(self._below.real_directory(directory))

    def read_above(self, path: str) -> bytes | None:
        """The content of a regular file of the environment's own."""
        _, entry = self._of_upper(path)
        return entry.get() if entry else None

    def link(self, path: str) -> str | None:
        """The target of a symbolic link; None if it is not one."""
        decides, entry = self._of_upper(path)
        if not decides:
            return self._below.link(path)
        with contextlib.suppress(OSError):
            return entry.link() if entry else None
        return None

    def status(self, path: str) -> os.stat_result | None:
        """lstat(2), or None if nothing is there."""
        real = self._below.real(path)
        entry = self._upper.get(real)
        if entry is not None:
            return entry.status if entry.kind != "whiteout" else None
        return None if self._upper.covers(real) else self._below.status(path)

    def has(self, path: str) -> bool:
        """Whether anything is there."""
        decides, entry = self._of_upper(path)
        return entry is not None if decides else self._below.status(path) is not None


def is_like(one: UpperEntry, tree: View, path: str) -> bool:
    """Whether something of an environment and what is in a tree are files or symbolic links that have the same type,
    mode, owner, attributes and content.
    """
    first, second = one.status, tree.status(path)
    if second is None or (first.st_mode, first.st_uid, first.st_gid) != (second.st_mode, second.st_uid, second.st_gid):
        return False
    if stat.S_ISLNK(first.st_mode):
        return one.link() == tree.link(path)
    if not stat.S_ISREG(first.st_mode) or first.st_size != second.st_size:
        return False
    return attributes(one.place) == attributes(tree.place(path)) and same_content(one.stream(), tree.stream(path))
