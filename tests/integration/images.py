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
    """What is in an archive: what its layers have together, members and contents of files by path, and the rest."""

    name: str
    digest: str
    members: dict[str, tarfile.TarInfo]
    sums: dict[str, str]
    config: dict[str, Any]
    layers: dict[str, dict[str, tarfile.TarInfo]]  # what each has, by the digest of the blob, the lowest first
    sizes: dict[str, int]  # of the blobs

    def sum(self, path: str) -> str:
        """The sum of a file's content, by any of its names."""
        return self.sums[path]


def read(path: Path) -> Image:
    """All digests and sizes are checked on the way."""
    with tarfile.open(path, "r:") as archive:
        assert _json(archive, "oci-layout") == {"imageLayoutVersion": "1.0.0"}
        (described,) = _json(archive, "index.json")["manifests"]
        name = described["annotations"]["org.opencontainers.image.ref.name"]
        manifest = json.loads(_blob(archive, described))
        layers = manifest["layers"]
        config = json.loads(_blob(archive, manifest["config"]))
        (for_docker,) = _json(archive, "manifest.json")
        files = [_name(manifest["config"]), *map(_name, layers)]
        assert for_docker == {"Config": files[0], "RepoTags": [name], "Layers": files[1:]}
        assert {member.name for member in archive.getmembers() if member.isfile()} == {
            *("oci-layout", "index.json", "manifest.json", _name(described), *files)
        }
        members: dict[str, tarfile.TarInfo] = {}
        sums: dict[str, str] = {}
        found = {}
        for layer, digest in zip(layers, config["rootfs"]["diff_ids"], strict=True):
            own, own_sums = _layer(_blob(archive, layer), digest)
            _put(members, sums, own, own_sums)
            found[layer["digest"]] = own
    assert described["platform"] == {key: config[key] for key in ("architecture", "os", "variant") if key in config}
    assert len(config["history"]) == len(layers)
    sizes = {layer["digest"]: layer["size"] for layer in layers}
    return Image(name, described["digest"], members, sums, config, found, sizes)


def _put(
    members: dict[str, tarfile.TarInfo], sums: dict[str, str], own: dict[str, tarfile.TarInfo], own_sums: dict[str, str]
) -> None:
    """Apply a layer to what is below it, as the image specification says."""
    hidden = set()
    for path, member in own.items():
        directory, _, name = path.rpartition("/")
        if name.startswith(".wh."):
            assert f"{directory}/{name[4:]}" in members
            assert f"{directory}/{name[4:]}" not in own
            hidden.add(f"{directory}/{name[4:]}")
        elif path in members and not (member.isdir() and members[path].isdir()):
            hidden.add(path)
    for path in [path for path in members if _is_hidden(path, hidden)]:
        del members[path]
        sums.pop(path, None)
    members |= {path: member for path, member in own.items() if "/.wh." not in path}
    sums |= own_sums


def _is_hidden(path: str, hidden: set[str]) -> bool:
    parts = path.split("/")
    return any("/".join(parts[:end]) in hidden for end in range(2, len(parts) + 1))


def _layer(compressed: bytes, digest: str) -> tuple[dict[str, tarfile.TarInfo], dict[str, str]]:
    inflater = zlib.decompressobj(wbits=16 + zlib.MAX_WBITS)
    data = inflater.decompress(compressed)
    assert inflater.eof
    assert not inflater.unused_data
    assert digest == _digest(data)
    members: dict[str, tarfile.TarInfo] = {}
    sums: dict[str, str] = {}
    with tarfile.open(fileobj=io.BytesIO(data), mode="r:") as layer:
        for member in layer:
            path = f"/{member.name}"
            assert path not in members
            members[path] = member
            if member.islnk():
                sums[path] = sums[f"/{member.linkname}"]
            elif member.isfile():
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
