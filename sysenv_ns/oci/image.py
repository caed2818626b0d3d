"""Writes an environment as an OCI image: a process inside its root yields the layer, this one compresses and packs it.

See https://github.com/opencontainers/image-spec.
"""

from __future__ import annotations

import errno
import hashlib
import os
import re
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import BinaryIO

from sysenv_ns import __version__
from sysenv_ns.drivers import driver
from sysenv_ns.environment import config, rest, state
from sysenv_ns.environment.store import Environment, Store
from sysenv_ns.errors import SysenvError, located
from sysenv_ns.files import reader
from sysenv_ns.files.view import Upper, View
from sysenv_ns.host import refresh, standins
from sysenv_ns.kernel import children, namespace, operations
from sysenv_ns.kernel.overlay import UnionMount
from sysenv_ns.oci import archive, contents, layer
from sysenv_ns.oci.archive import Archive, Blob
from sysenv_ns.oci.deflate import BLOCK, Gzip
from sysenv_ns.oci.members import ImageWalk
from sysenv_ns.reporter import Progress, ProgressBar, Reporter

_LATEST = 253402300799  # the last second that RFC 3339 can name
_TOTAL = struct.Struct("=Q")
_FALLBACK_SHELLS = ("/bin/bash", "/bin/sh")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
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
class Image:
    """What has been written."""

    image: str  # its name for podman and docker
    digest: str  # of its manifest
    created: str
    size: int  # bytes of all that is in it
    withheld: tuple[str, ...]  # private files of the host, which are empty, and directories
    left_out: tuple[str, ...]  # what no image can hold
    revealed: tuple[str, ...]  # private files of the host that the environment has changed: they are in it


def write(store: Store, name: str, file: BinaryIO, shell: str, reporter: Reporter, progress: ProgressBar) -> Image:
    """Write an environment, which must not run, into a seekable file. Raises SysenvError, OSError.

    `shell` is what the image runs, if there is one in it.
    """
    with rest.held(store, name, "the image") as environment:
        try:
            return _write(store, environment, Archive(file), shell, reporter, progress)
        except OSError as error:
            hint = "write it where there is more space" if error.errno in _NO_ROOM else "try again"
            raise SysenvError(f"the image of {name} cannot be made: {located(error)}", hint) from error


def _write(
    store: Store, environment: Environment, into: Archive, shell: str, reporter: Reporter, progress: ProgressBar
) -> Image:
    stream = into.stream()
    checksum = hashlib.sha256()

    def compress(pipe: BinaryIO) -> int:
        with progress() as report:
            return _compress(pipe, stream.write, checksum.update, report)

    found, size = children.drained(
        lambda pipe: _read(store, environment, shell, reporter, pipe), _LayerFacts, "sysenv-ns-image", compress
    )
    created = timestamp(found.newest)
    blob = stream.finish()
    manifest = _describe(environment, into, blob, archive.digest(checksum), found.shell, created)
    image = reference(environment.name)
    return Image(image, manifest.digest, created, size, found.withheld, found.left_out, found.revealed)


@dataclass(frozen=True)
class _LayerFacts:
    """What is known of a layer when it is written: the lists are those of Image."""

    newest: int  # time of what was changed last, in seconds
    shell: str  # the one that there is; "" for none
    withheld: tuple[str, ...]
    left_out: tuple[str, ...]
    revealed: tuple[str, ...]


def _read(store: Store, environment: Environment, shell: str, reporter: Reporter, pipe: BinaryIO) -> _LayerFacts:
    """In the child: the layer, after its approximate size, to the pipe; what else is to be known as the result."""
    walk = _mount(store, environment, reporter)
    pipe.write(_TOTAL.pack(layer.size(walk)))
    newest = layer.write(walk, pipe)
    pipe.flush()
    root = View(str(environment.root))
    shells = (path for path in (shell, *_FALLBACK_SHELLS) if path.startswith("/") and root.status(path) is not None)
    report = walk.report
    withheld, left_out, revealed = (
        tuple(dict.fromkeys(paths)) for paths in (report.withheld, report.left_out, report.revealed)
    )
    return _LayerFacts(newest, next(shells, ""), withheld, left_out, revealed)


def _mount(store: Store, environment: Environment, reporter: Reporter) -> ImageWalk:
    """Mount its root in new namespaces of this process, which ends with it. Raises SysenvError, OSError.

    Until then the environment counts as running, so that nothing of its layers is deleted.
    """
    for directory in (environment.work, environment.root):  # nothing is kept in them
        directory.mkdir(mode=0o755, exist_ok=True)
    own = driver.of(environment)
    own.agree(store, reporter.ask, by_name=True)
    signs = refresh.signs()  # before the base is compared with the host
    host = config.host(store, environment)
    with own.prepare(store, environment, host, reporter) as prepared:
        namespace.enter(environment.id_map)
        overlays = [operation for operation in prepared.plan if isinstance(operation, UnionMount)]
        os.close(operations.execute(overlays, str(environment.root), reporter.operation))
        state.record(environment, prepared.layers, signs)
    added = (*own.additions(environment.id_map, host), standins.prompt(environment.name))
    upper = Upper(environment.changes(own.points(host)), own.marks)
    return ImageWalk(str(environment.root), upper, contents.of_environment(host, added))


def _compress(
    pipe: BinaryIO, write: Callable[[bytes], object], see: Callable[[bytes], object], report: Progress
) -> int:
    """Compress what comes out of the pipe, of which `see` gets all as it is; returns how much it was."""
    total = _TOTAL.unpack(pipe.read(_TOTAL.size).rjust(_TOTAL.size, b"\0"))[0]
    size = 0
    gzip = Gzip(write)
    try:
        while block := pipe.read(BLOCK):
            see(block)
            gzip.add(block)
            size += len(block)
            report(min(1.0, size / max(total, 1)))
        gzip.finish()
    finally:
        gzip.close()
    return size


def _describe(environment: Environment, into: Archive, layer_: Blob, contents: str, shell: str, created: str) -> Blob:
    """Add all that tells what the layer is; returns the manifest."""
    name = reference(environment.name)
    own = current_platform()
    config = {
        "created": created,
        **own,
        "config": {
            "Env": [f"PATH={standins.ROOT_PATH}"],
            **({"Cmd": [shell]} if shell else {}),
            "WorkingDir": "/",
            "Labels": {"org.opencontainers.image.title": environment.name},
        },
        "rootfs": {"type": "layers", "diff_ids": [contents]},
        "history": [{"created": created, "created_by": f"sysenv-ns {__version__}"}],
    }
    config_blob = into.blob(config)
    manifest = {
        "schemaVersion": 2,
        "mediaType": "application/vnd.oci.image.manifest.v1+json",
        "config": config_blob.described(_CONFIG),
        "layers": [layer_.described(_LAYER)],
    }
    manifest_blob = into.blob(manifest)
    # The first one is read by podman and skopeo, the second one by containerd and new dockers.
    names = {"org.opencontainers.image.ref.name": name, "io.containerd.image.name": name}
    described = {**manifest_blob.described(_MANIFEST), "platform": own, "annotations": names}
    media_type = "application/vnd.oci.image.index.v1+json"
    into.add("index.json", {"schemaVersion": 2, "mediaType": media_type, "manifests": [described]})
    # What dockers read that know of no layout.
    into.add("manifest.json", [{"Config": config_blob.name, "RepoTags": [name], "Layers": [layer_.name]}])
    into.finish()
    return manifest_blob


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
