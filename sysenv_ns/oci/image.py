"""Writes an environment as an OCI image: a process inside its root yields the layer, this one compresses and packs it.

See https://github.com/opencontainers/image-spec.
"""

from __future__ import annotations

import contextlib
import errno
import hashlib
import os
import re
import struct
import time
from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, BinaryIO

from sysenv_ns import __version__, resting
from sysenv_ns.errors import SysenvError, located
from sysenv_ns.host.standins import ROOT_PATH
from sysenv_ns.kernel import children
from sysenv_ns.lower.base import ProgressBar
from sysenv_ns.lower.upkeep import Progress
from sysenv_ns.oci import archive, layer, platform, tree
from sysenv_ns.oci.archive import Archive, Blob
from sysenv_ns.oci.deflate import BLOCK, Gzip
from sysenv_ns.session import Reporter
from sysenv_ns.store import Environment, Store
from sysenv_ns.upper.view import View

_LATEST = 253402300799  # the last second that RFC 3339 can name
_TOTAL = struct.Struct("=Q")
_FALLBACK_SHELLS = ("/bin/bash", "/bin/sh")
_NO_ROOM = (errno.ENOSPC, errno.EDQUOT, errno.EFBIG)
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
    with resting.held(store, name, "the image") as environment:
        try:
            return _write(store, environment, Archive(file), shell, reporter, progress)
        except OSError as error:
            hint = "write it where there is more room" if error.errno in _NO_ROOM else "try it again"
            raise SysenvError(f"the image of {name} cannot be made: {located(error)}", hint) from error


def _write(
    store: Store, environment: Environment, into: Archive, shell: str, reporter: Reporter, progress: ProgressBar
) -> Image:
    read_end, write_end = os.pipe()

    def inside() -> dict[str, Any]:
        os.close(read_end)
        with os.fdopen(write_end, "wb", buffering=BLOCK) as pipe:
            return _read(store, environment, shell, reporter, pipe)

    child = children.Child(inside, "sysenv-ns-image")
    os.close(write_end)
    stream = into.stream()
    contents = hashlib.sha256()
    try:
        with os.fdopen(read_end, "rb", buffering=BLOCK) as pipe, progress() as report:
            size = _compress(pipe, stream.write, contents.update, report)
    except BaseException:
        with contextlib.suppress(OSError, SysenvError):  # it ends with its pipe
            child.wait()
        raise
    found = child.wait()
    assert isinstance(found, dict)
    created = timestamp(found["newest"])
    blob = stream.finish()
    manifest = _describe(environment, into, blob, archive.digest(contents), found["shell"], created)
    lists = (tuple(found[key]) for key in ("withheld", "left_out", "revealed"))
    return Image(reference(environment.name), manifest.digest, created, size, *lists)


def _read(store: Store, environment: Environment, shell: str, reporter: Reporter, pipe: BinaryIO) -> dict[str, Any]:
    """In the child: the layer, after its approximate size, to the pipe; what else is to be known as the result."""
    walk = tree.mount(store, environment, reporter)
    pipe.write(_TOTAL.pack(layer.size(walk)))
    newest = layer.write(walk, pipe)
    pipe.flush()
    root = View(str(environment.root))
    shells = (path for path in (shell, *_FALLBACK_SHELLS) if path.startswith("/") and root.status(path) is not None)
    lists = {key: list(dict.fromkeys(paths)) for key, paths in vars(walk.report).items()}
    return {"newest": newest, "shell": next(shells, ""), **lists}


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
    own = platform.current()
    config = {
        "created": created,
        **own,
        "config": {
            "Env": [f"PATH={ROOT_PATH}"],
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
