"""Reads the archive of an image and checks that it is sound; runs nothing."""

from __future__ import annotations

import hashlib
import io
import json
import tarfile
import zlib
from dataclasses import dataclass
from pathlib import Path
from typing import IO, Any


@dataclass(frozen=True)
class Image:
    """What is in an archive: the members of its only layer by path, the contents of files by path, and the rest."""

    name: str
    digest: str
    members: dict[str, tarfile.TarInfo]
    sums: dict[str, str]
    config: dict[str, Any]

    def sum(self, path: str) -> str:
        """The sum of a file's content, by any of its names."""
        member = self.members[path]
        return self.sums[f"/{member.linkname}" if member.islnk() else path]


def read(path: Path) -> Image:
    """All digests and sizes are checked on the way."""
    with tarfile.open(path, "r:") as archive:
        assert _json(archive, "oci-layout") == {"imageLayoutVersion": "1.0.0"}
        (described,) = _json(archive, "index.json")["manifests"]
        name = described["annotations"]["org.opencontainers.image.ref.name"]
        manifest = json.loads(_blob(archive, described))
        (layer,) = manifest["layers"]
        config = json.loads(_blob(archive, manifest["config"]))
        (for_docker,) = _json(archive, "manifest.json")
        files = [_name(manifest["config"]), _name(layer)]
        assert for_docker == {"Config": files[0], "RepoTags": [name], "Layers": files[1:]}
        assert {member.name for member in archive.getmembers() if member.isfile()} == {
            *("oci-layout", "index.json", "manifest.json", _name(described), *files)
        }
        members, sums = _layer(_blob(archive, layer), config["rootfs"]["diff_ids"])
    assert described["platform"] == {key: config[key] for key in ("architecture", "os", "variant") if key in config}
    assert len(config["history"]) == 1
    return Image(name, described["digest"], members, sums, config)


def _layer(compressed: bytes, digests: list[str]) -> tuple[dict[str, tarfile.TarInfo], dict[str, str]]:
    inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    data = inflater.decompress(compressed)
    assert inflater.eof
    assert not inflater.unused_data
    assert digests == [_digest(data)]
    members, sums = {}, {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as layer:
        for member in layer:
            path = f"/{member.name}"
            assert path not in members
            members[path] = member
            if member.isfile():
                sums[path] = hashlib.sha256(_content(layer.extractfile(member))).hexdigest()
    return members, sums


def _json(archive: tarfile.TarFile, name: str) -> Any:
    return json.loads(_content(archive.extractfile(name)))


def _blob(archive: tarfile.TarFile, descriptor: dict[str, Any]) -> bytes:
    content = _content(archive.extractfile(_name(descriptor)))
    assert (len(content), _digest(content)) == (descriptor["size"], descriptor["digest"])
    return content


def _name(descriptor: dict[str, Any]) -> str:
    return "blobs/sha256/" + str(descriptor["digest"]).removeprefix("sha256:")


def _content(stream: IO[bytes] | None) -> bytes:
    assert stream is not None
    return stream.read()


def _digest(data: bytes) -> str:
    return f"sha256:{hashlib.sha256(data).hexdigest()}"
