"""Writes members as a layer, which is a tar archive, to a stream; knows nothing of images and namespaces."""

from __future__ import annotations

import os
import stat
from collections.abc import Mapping
from dataclasses import replace
from typing import BinaryIO

from sysenv_ns.archive import tarball
from sysenv_ns.archive.tarball import Kind
from sysenv_ns.errors import SysenvError
from sysenv_ns.files import reader
from sysenv_ns.oci import contents
from sysenv_ns.oci.members import ImageMember, ImageWalk

_CHUNK = 1 << 20  # bytes
_SECOND = 10**9  # nanoseconds
_KINDS: Mapping[int, Kind] = {
    stat.S_IFREG: "file",
    stat.S_IFDIR: "directory",
    stat.S_IFLNK: "symlink",
    stat.S_IFIFO: "fifo",
}


def size(walk: ImageWalk) -> int:
    """About how many bytes the layer will have."""
    return sum(tarball.BLOCK + _size(member) for member in walk.members())


def write(walk: ImageWalk, stream: BinaryIO) -> int:
    """Write the whole layer; returns the time of the newest member. Raises OSError, SysenvError."""
    links: dict[tuple[int, int], str] = {}
    newest = 0
    for member in walk.members():
        header = _header(member, links)
        newest = max(newest, header.mtime_ns // _SECOND)
        try:
            stream.write(tarball.encode(header))
        except tarball.TooLarge as error:
            raise SysenvError(f"{error} has more attributes than a layer can hold", "remove some of them") from None
        if header.size:
            copy(member, header.size, stream)
            stream.write(tarball.padding(header.size))
    stream.write(tarball.END)
    return newest


def _size(member: ImageMember) -> int:
    if member.content is not None:
        return len(member.content)
    return member.status.st_size if stat.S_ISREG(member.status.st_mode) else 0


def _header(member: ImageMember, links: dict[tuple[int, int], str]) -> tarball.Member:
    """`links`: the first name of each file with several, which is added to."""
    path, status, place, content, owner = member
    uid, gid = owner or (status.st_uid, status.st_gid)
    kind, mode = _KINDS[stat.S_IFMT(status.st_mode)], stat.S_IMODE(status.st_mode)
    header = tarball.Member(os.fsencode(path[1:]), kind, mode, uid, gid, status.st_mtime_ns, _size(member))
    if content is not None:
        return _instead(header)
    if kind == "file" and status.st_nlink > 1:
        first = links.setdefault((status.st_dev, status.st_ino), path)
        if first != path:
            return replace(header, kind="link", size=0, target=os.fsencode(first[1:]))
    target = os.fsencode(os.readlink(place)) if kind == "symlink" else b""
    return replace(header, target=target, attributes=_attributes(place))


def _instead(header: tarball.Member) -> tarball.Member:
    """Of what has another content in the image."""
    if header.kind == "directory":
        return replace(header, mtime_ns=0)  # its own is that of what it holds on the host
    return header if header.kind == "file" else replace(header, kind="file", mode=0o644)


def _attributes(place: str) -> dict[bytes, bytes]:
    names = filter(contents.is_wanted, os.listxattr(place, follow_symlinks=False))
    return {os.fsencode(name): os.getxattr(place, name, follow_symlinks=False) for name in names}


def copy(member: ImageMember, length: int, stream: BinaryIO) -> None:
    """Write the content, of which the length has been written already. Raises OSError, SysenvError."""
    if member.content is not None:
        stream.write(member.content)
        return
    descriptor = reader.open_file(member.place)
    try:
        left = length
        while left and (data := os.read(descriptor, min(left, _CHUNK))):
            stream.write(data)
            left -= len(data)
        if left or os.read(descriptor, 1):
            raise SysenvError(f"{member.path} has changed on the host in the meantime", "try again")
    finally:
        os.close(descriptor)
