"""A registry for tests: Debian's docker-registry on the loopback address, with TLS and a password file.

Its program comes from a package that is unpacked into a directory; skopeo is this system's.
"""

from __future__ import annotations

import base64
import contextlib
import json
import os
import shutil
import socket
import subprocess
from collections.abc import Iterator
from dataclasses import dataclass
from pathlib import Path

from .machines import Machine
from .mirror import Mirror
from .support import Account, Tool, ended, wait_for

_USER, _PASSWORD = "me", "secret"
# bcrypt, the one form that docker-registry reads: perl -e 'print crypt("secret", q($2b$05$abcdefghijklmnopqrstuu))'
_HASH = "$2b$05$abcdefghijklmnopqrstuuOQiyCxlgf/oeuTqixKmWdcYUh4Hjl0a"
_CONFIG = """
version: 0.1
log: {{level: error}}
storage: {{filesystem: {{rootdirectory: {place}/data}}}}
http: {{addr: "{address}", secret: none, tls: {{certificate: {place}/ca.crt, key: {place}/key.pem}}}}
auth: {{htpasswd: {{realm: test, path: {place}/htpasswd}}}}
"""
_CERTIFICATE = ["openssl", "req", "-x509", "-newkey", "ec", "-pkeyopt", "ec_paramgen_curve:prime256v1", "-nodes"]
_NAMES = ["-days", "2", "-subj", "/CN=127.0.0.1", "-addext", "subjectAltName=IP:127.0.0.1"]


@dataclass(frozen=True)
class Registry:
    """A running registry, and where its files are."""

    address: str
    place: Path

    def repository(self, name: str) -> str:
        """A repository of this registry."""
        return f"{self.address}/test/{name}"

    def blob(self, digest: str) -> Path:
        """Where it keeps a blob."""
        digits = digest.removeprefix("sha256:")
        return self.place / "data/docker/registry/v2/blobs/sha256" / digits[:2] / digits / "data"

    def lose(self, name: str, digest: str) -> None:
        """Delete a blob, also from the repository of that name."""
        digits = digest.removeprefix("sha256:")
        shutil.rmtree(self.place / f"data/docker/registry/v2/repositories/test/{name}/_layers/sha256" / digits)
        shutil.rmtree(self.blob(digest).parent)

    def size(self) -> int:
        """Bytes of all blobs."""
        return sum(path.stat().st_size for path in (self.place / "data").rglob("data") if path.is_file())

    @contextlib.contextmanager
    def known_to(self, account: Account, password: str = _PASSWORD) -> Iterator[None]:
        """What a user has who is logged in: credentials, the certificate, and a policy."""
        settings = account.home / ".config/containers"
        certificates = settings / "certs.d" / self.address
        certificates.mkdir(parents=True)
        (certificates / "ca.crt").write_bytes((self.place / "ca.crt").read_bytes())
        token = base64.b64encode(f"{_USER}:{password}".encode()).decode()
        (settings / "auth.json").write_text(json.dumps({"auths": {self.address: {"auth": token}}}))
        (settings / "policy.json").write_text('{"default": [{"type": "insecureAcceptAnything"}]}')
        for path in (account.home / ".config", *(account.home / ".config").rglob("*")):
            os.chown(path, account.uid, account.gid)
        try:
            yield
        finally:
            shutil.rmtree(settings)

    def skopeo(self, tool: Tool, *arguments: str) -> bytes:
        """What skopeo says to a tool's user."""
        result = subprocess.run(
            ["skopeo", *arguments], check=True, capture_output=True, env=tool.variables(), **tool.account.become()
        )
        return bytes(result.stdout)


def put_skopeo(machine: Machine) -> None:
    """Put this system's skopeo with its libraries into a small host: in /mnt, which is in no image."""
    place = machine.root / "mnt/skopeo"
    place.mkdir()
    program = shutil.which("skopeo")
    assert program is not None
    listed = subprocess.run(["ldd", program], check=True, capture_output=True, text=True).stdout
    libraries = [word for word in listed.split() if word.startswith("/")]
    for path in (program, *libraries):
        shutil.copy(path, place)
    (loader,) = (Path(path).name for path in libraries if Path(path).name.startswith("ld"))
    wrapper = machine.root / "usr/local/bin/skopeo"
    wrapper.write_text(f'#!/bin/sh\nexec /mnt/skopeo/{loader} --library-path /mnt/skopeo /mnt/skopeo/skopeo "$@"\n')
    wrapper.chmod(0o755)


@contextlib.contextmanager
def running(place: Path, mirror: Mirror) -> Iterator[Registry]:
    """A registry with nothing in it, until the end of the context."""
    place.mkdir(mode=0o755)
    root = place / "root"
    mirror.unpack(root, "docker-registry")
    with socket.socket() as free:
        free.bind(("127.0.0.1", 0))
        address = f"127.0.0.1:{free.getsockname()[1]}"
    key, certificate = place / "key.pem", place / "ca.crt"
    subprocess.run([*_CERTIFICATE, "-keyout", key, "-out", certificate, *_NAMES], check=True, capture_output=True)
    (place / "htpasswd").write_text(f"{_USER}:{_HASH}\n")
    (place / "config.yml").write_text(_CONFIG.format(place=place, address=address))
    with (place / "log").open("wb") as log:
        process = subprocess.Popen(
            [root / "usr/bin/docker-registry", "serve", place / "config.yml"], stdout=log, stderr=log
        )
    try:
        wait_for(lambda: _answers(address))
        yield Registry(address, place)
    finally:
        process.terminate()
        ended(process)


def _answers(address: str) -> bool:
    host, port = address.split(":")
    with socket.socket() as found:
        return found.connect_ex((host, int(port))) == 0
