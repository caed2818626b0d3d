"""Writes members as a layer, which is a tar archive, into a stream; knows nothing of images and namespaces."""

from __future__ import annotations

import os
import stat
from dataclasses import replace
from typing import BinaryIO

from sysenv_ns.errors import SysenvError
from sysenv_ns.oci import contents, tar
from sysenv_ns.oci.members import Member, Walk
from sysenv_ns.oci.tar import Header

_CHUNK = 1 << 20  # bytes
_TYPES = {
    stat.S_IFREG: tar.FILE,
    stat.S_IFDIR: tar.DIRECTORY,
    stat.S_IFLNK: tar.SYMLINK,
    stat.S_IFIFO: tar.FIFO,
}


def size(walk: Walk) -> int:
    """About how many bytes the layer will have."""
    return sum(tar.BLOCK + _size(member) for member in walk.members())


def write(walk: Walk, stream: BinaryIO) -> int:
    """Write the whole layer; returns the time of the newest member. Raises OSError, SysenvError."""
    links: dict[tuple[int, int], str] = {}
    newest = 0
    for member in walk.members():
        header = _header(member, links)
        newest = max(newest, header.mtime)
        stream.write(tar.encode(header))
        if header.size:
            copy(member, header.size, stream)
            stream.write(tar.padding(header.size))
    stream.write(tar.END)
    return newest


def _size(member: Member) -> int:
    if member.content is not None:
        return len(member.content)
    return member.status.st_size if stat.S_ISREG(member.status.st_mode) else 0


def _header(member: Member, links: dict[tuple[int, int], str]) -> Header:
    """`links`: the first name of each file with several, which is added to."""
    path, status, place, content, owner = member
    uid, gid = owner or (status.st_uid, status.st_gid)
    kind, mode, mtime = stat.S_IFMT(status.st_mode), stat.S_IMODE(status.st_mode), status.st_mtime_ns // 10**9
    header = Header(os.fsencode(path[1:]), _TYPES[kind], mode, uid, gid, _size(member), mtime)
    if content is not None:
        return _instead(header)
    if kind == stat.S_IFREG and status.st_nlink > 1:
        first = links.setdefault((status.st_dev, status.st_ino), path)
        if first != path:
            return replace(header, type=tar.LINK, size=0, link=os.fsencode(first[1:]))
    link = os.fsencode(os.readlink(place)) if kind == stat.S_IFLNK else b""
    return replace(header, link=link, attributes=_attributes(place))


def _instead(header: Header) -> Header:
    """Of what has another content in the image."""
    if header.type == tar.DIRECTORY:
        return replace(header, mtime=0)  # its own is that of what it holds on the host
    return header if header.type == tar.FILE else replace(header, type=tar.FILE, mode=0o644)


def _attributes(place: str) -> dict[bytes, bytes]:
    names = filter(contents.is_wanted, os.listxattr(place, follow_symlinks=False))
    return {os.fsencode(name): os.getxattr(place, name, follow_symlinks=False) for name in names}


def copy(member: Member, length: int, stream: BinaryIO) -> None:
    """Write the content, of which the length has been written already. Raises OSError, SysenvError."""
    if member.content is not None:
        stream.write(member.content)
        return
    descriptor = os.open(member.place, os.O_RDONLY | os.O_NOFOLLOW | os.O_CLOEXEC)
    try:
        left = length
        while left and (data := os.read(descriptor, min(left, _CHUNK))):
            stream.write(data)
            left -= len(data)
        if left or os.read(descriptor, 1):
            raise SysenvError(f"the host has changed {member.path} meanwhile", "try it again")
    finally:
        os.close(descriptor)
