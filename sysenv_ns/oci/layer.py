"""Writes files as a layer, which is a tar archive, to a stream; knows nothing of images and namespaces."""

from __future__ import annotations

import hashlib
import os
import stat
from collections.abc import Iterable, Mapping
from typing import BinaryIO, NamedTuple

from sysenv_ns.archive import tarball
from sysenv_ns.archive.tarball import Kind
from sysenv_ns.basics import opened
from sysenv_ns.errors import SysenvError
from sysenv_ns.files import reader
from sysenv_ns.oci import contents
from sysenv_ns.oci.members import ImageMember

Links = dict[tuple[int, int], str]  # the first name of each file with several

_CHUNK = 1 << 20  # bytes
_NO_ATTRIBUTES: Mapping[bytes, bytes] = {}  # one for all: an image has hundreds of thousands of files
_KINDS: Mapping[int, Kind] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
}


class Item(NamedTuple):
    """A file of a layer: what is told of it, and where its content is or, if not None, what that is."""

    header: tarball.Member
    place: str
    content: bytes | None = None
    changed_ns: int = 0  # when anything of the file was changed last, also what can be set back


def item(member: ImageMember, links: Links) -> Item:
    """What a layer has of something; of another name of a file in `links`, which is added to, a hard link."""
    path, status, place, content, owner = member
    uid, gid = owner or (status.st_uid, status.st_gid)
    kind, mode = _KINDS[stat.S_IFMT(status.st_mode)], stat.S_IMODE(status.st_mode)
    size = _size(status) if content is None else len(content)
    header = tarball.Member(
        os.fsencode(path[1:]), kind, mode, uid, gid, status.st_mtime_ns, size, attributes=_NO_ATTRIBUTES
    )
    if content is not None:
        return Item(_instead(header), place, content)
    changed = status.st_ctime_ns
    if kind == "file" and status.st_nlink > 1:
        first = links.setdefault((status.st_dev, status.st_ino), path)
        if first != path:
            return Item(header._replace(kind="link", size=0, target=os.fsencode(first[1:])), place, None, changed)
    if kind == "symlink":
        header = header._replace(target=os.fsencode(os.readlink(place)))
    if attributes := _attributes(place):
        header = header._replace(attributes=attributes)
    return Item(header, place, None, changed)


def whiteout(path: str) -> Item:
    """What hides a path of the layers below."""
    directory, _, name = path.rpartition("/")
    header = tarball.Member(os.fsencode(f"{directory}/{contents.WHITEOUT}{name}"[1:]), "file", 0o644)
    return Item(header, path, b"")


def key(items: Iterable[Item]) -> str:
    """What is the same only for the same layer, from all that can be known without reading files."""
    digest = hashlib.sha256()
    for item in items:
        digest.update(_encoded(item))
        digest.update(b"%d %b\n" % (item.changed_ns, item.content or b""))
    return digest.hexdigest()


def size(items: Iterable[Item]) -> int:
    """About how many bytes a layer will have."""
    return sum(tarball.BLOCK + item.header.size for item in items)


def write(items: Iterable[Item], stream: BinaryIO) -> None:
    """Write the whole layer. Raises OSError, SysenvError."""
    for item in items:
        stream.write(_encoded(item))
        if item.header.size:
            copy(item, stream)
            stream.write(tarball.padding(item.header.size))
    stream.write(tarball.END)


def _encoded(item: Item) -> bytes:
    try:
        return tarball.encode(item.header)
    except tarball.TooLarge as error:
        raise SysenvError(f"{error} has more attributes than a layer can hold", "remove some of them") from None


def _size(status: os.stat_result) -> int:
    return status.st_size if stat.S_ISREG(status.st_mode) else 0


def _instead(header: tarball.Member) -> tarball.Member:
    """Of what has another content in the image."""
    if header.kind == "directory":
        return header._replace(mtime_ns=0)  # its own is that of what it holds on the host
    return header if header.kind == "file" else header._replace(kind="file", mode=0o644)


def _attributes(place: str) -> dict[bytes, bytes]:
    names = filter(contents.is_wanted, os.listxattr(place, follow_symlinks=False))
    return {os.fsencode(name): os.getxattr(place, name, follow_symlinks=False) for name in names}


def copy(item: Item, stream: BinaryIO) -> None:
    """Write the content, of which the length has been written already. Raises OSError, SysenvError."""
    if item.content is not None:
        stream.write(item.content)
        return
    with opened(reader.open_file(item.place)) as descriptor:
        left = item.header.size
        while left and (data := os.read(descriptor, min(left, _CHUNK))):
            stream.write(data)
            left -= len(data)
        if left or os.read(descriptor, 1):
            path = f"/{os.fsdecode(item.header.name)}"
            raise SysenvError(f"{path} has changed on the host in the meantime", "try again")
