"""PURE but for the clock's variable: an image's configuration and manifest, by the OCI image specification.

See https://github.com/opencontainers/image-spec.
"""

from __future__ import annotations

import os
import re
import struct
import time
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any

from sysenv_ns import __version__
from sysenv_ns.files import reader
from sysenv_ns.host import standins
from sysenv_ns.oci.archive import Blob

_LATEST = 253402300799  # the last second that RFC 3339 can name
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
_LAYER, _CONFIG, _MANIFEST = "layer.v1.tar+gzip", "config.v1+json", "manifest.v1+json"


@dataclass(frozen=True)
class PackedLayer:
    """A layer that has been written."""

    title: str
    blob: Blob
    content: str  # the digest of what is compressed in it


def configuration(name: str, layers: Sequence[PackedLayer], shell: str, created: str) -> dict[str, Any]:
    """What runs, and which layers there are, the lowest first."""
    return {
        "created": created,
        **current_platform(),
        "config": {
            "Env": [f"PATH={standins.ROOT_PATH}"],
            **({"Cmd": [shell]} if shell else {}),
            "WorkingDir": "/",
            "Labels": {"org.opencontainers.image.title": name},
        },
        "rootfs": {"type": "layers", "diff_ids": [layer.content for layer in layers]},
        "history": [
            {"created": created, "created_by": f"sysenv-ns {__version__}", "comment": layer.title} for layer in layers
        ],
    }


def manifest(config: Blob, layers: Sequence[PackedLayer]) -> dict[str, Any]:
    """What the image consists of."""
    return {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config.described(_CONFIG),
        "layers": [layer.blob.described(_LAYER) for layer in layers],
    }


def index(name: str, manifest: Blob) -> dict[str, Any]:
    """The list of all images of an archive: this one."""
    # The first one is read by podman and skopeo, the second one by containerd and new dockers.
    names = {"org.opencontainers.image.ref.name": name, "io.containerd.image.name": name}
    described = {**manifest.described(_MANIFEST), "platform": current_platform(), "annotations": names}
    media_type = "application/vnd.oci.image.index.v1+json"
    return {"schemaVersion": 2, "mediaType": media_type, "manifests": [described]}


def reference(name: str) -> str:
    """The name of an environment's image: on this machine, not in a registry that others could put something into."""
    separated = re.sub(r"[._-]+", _separator, name.lower()).strip("._-")
    return f"localhost/{separated or 'environment'}:latest"


def _separator(match: re.Match[str]) -> str:
    """What may be between the words of a name (distribution's reference package)."""
    return match[0] if re.fullmatch(r"\.|__?|-+", match[0]) else "-"


def timestamp(newest: int) -> str:
    """When the image was made: not now, so that the same state gives the same image."""
    wanted = os.environ.get("SOURCE_DATE_EPOCH", "")
    seconds = int(wanted) if re.fullmatch("[0-9]{1,10}", wanted) else newest
    return time.strftime("%Y-%m-%dT%H:%M:%SZ", time.gmtime(min(seconds, _LATEST)))


def current_platform() -> dict[str, str]:
    """The processor and system of this machine's programs, which may be another one than its kernel's."""
    with reader.stream("/proc/self/exe", follow=True) as stream:
        return platform_of(stream.read(20))


def platform_of(header: bytes) -> dict[str, str]:
    """That of a program in the format ELF, of which `header` is the beginning."""
    order = header[5]
    (machine,) = struct.unpack_from("<H" if order == 1 else ">H", header, 18)
    architecture, variant = _ARCHITECTURES.get((machine, order), (os.uname().machine, ""))
    found = {"architecture": architecture, "os": "linux", "variant": variant}
    return {key: value for key, value in found.items() if value}
