"""Which processor and system an image is for, in the words of OCI."""

from __future__ import annotations

import os
import struct
from pathlib import Path

# elf.h: machine and byte order (1: the least significant byte first). The names are those of Go, GOARCH.
_ARCHITECTURES = {
    (3, 1): ("386", ""),
    (20, 2): ("ppc", ""),
    (21, 1): ("ppc64le", ""),
    (21, 2): ("ppc64", ""),
    (22, 2): ("s390x", ""),
    (40, 1): ("arm", "v7"),
    (62, 1): ("amd64", ""),
    (183, 1): ("arm64", "v8"),
    (243, 1): ("riscv64", ""),
    (258, 1): ("loong64", ""),
}


def current() -> dict[str, str]:
    """That of this machine's programs, which may be another one than its kernel's."""
    with Path("/proc/self/exe").open("rb") as stream:
        return of_program(stream.read(20))


def of_program(header: bytes) -> dict[str, str]:
    """That of a program in the format ELF, of which `header` is the beginning."""
    order = header[5]
    (machine,) = struct.unpack_from("<H" if order == 1 else ">H", header, 18)
    architecture, variant = _ARCHITECTURES.get((machine, order), (os.uname().machine, ""))
    return {"architecture": architecture, "os": "linux", **({"variant": variant} if variant else {})}
