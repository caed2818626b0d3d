"""Runs skopeo, which talks to registries with the user's credentials, certificates, mirrors, proxies and policies.

It copies an environment from and to a directory (OCI layout) beside a directory of blobs; existing blobs
are neither sent nor fetched. Errors are given in its own words.
"""

from __future__ import annotations

import os
import re
import subprocess
from collections.abc import Sequence
from dataclasses import dataclass
from pathlib import Path

from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.kernel import children
from sysenv_ns.kernel.idmap import find_program
from sysenv_ns.registry.reference import Reference
from sysenv_ns.sudo import Caller
from sysenv_ns.text import line

_PROGRAM = "skopeo"
_TAG = "environment"  # of what is in a layout
_MESSAGE = re.compile(r'level=(?:fatal|error) msg="((?:[^"\\]|\\.)*)"')
# What registries answer where there is nothing of that name: the distribution specification's codes, and bare HTTP.
_MISSING = re.compile(r"manifest unknown|name unknown|repository name not known|StatusCode: 404|status code 404")
_HINTS = (
    (r"unauthorized|authentication required|denied|forbidden", "log in with: skopeo login {registry}"),
    (r"x509|certificate", "put its certificate into ~/.config/containers/certs.d/{registry}/ca.crt"),
    (
        r"policy\.json|Source image rejected|signature|[Rr]equired .*key",
        "your policy.json decides what is accepted: see containers-policy.json(5)",
    ),
    (r"no space left on device", "free some space and run it again: it continues where it stopped"),
    (r"manifest unknown|name unknown", "list what is there: skopeo list-tags docker://{registry}/{repository}"),
    (r"[Dd]igest did not match", "it is damaged in the registry, or was tampered with: push it again"),
    (
        r"50[0-9] [A-Z]|connection reset|broken pipe|unexpected EOF",
        "run it again, it continues; should it fail again, ask whoever runs the registry: its disk may be full",
    ),
    (r"connection refused|no such host|timeout|lookup", "check the name and the network; then run it again"),
)
# Of a blob that is in the layout's manifest but not on this disk, as the registry was believed to have it.
_NO_BLOB = re.compile(r"/blobs/sha256/[0-9a-f]{64}: no such file or directory")
_HINT = "skopeo inspect docker://{registry}/{repository} shows whether skopeo can reach it"


class BlobMissing(SysenvError):
    """A blob that is to be sent is neither here nor in the registry."""


@dataclass(frozen=True)
class Skopeo:
    """The program, and the user for whom root runs it."""

    path: str
    caller: Caller | None

    def manifest(self, reference: Reference) -> bytes | None:
        """The manifest of a reference; None if nothing has that name. Raises SysenvError."""
        status, output, said = self._run(["inspect", "--raw", f"docker://{reference}"])
        if status == 0:
            return output
        if _MISSING.search(said):
            return None
        raise _failed(f"{reference} cannot be inspected", said, reference)

    def send(self, layout: Path, blobs: Path, reference: Reference) -> None:
        """Send what a layout has under the name `tag`. Raises SysenvError."""
        source = ["--src-shared-blob-dir", str(blobs), f"oci:{layout}:{_TAG}"]
        # Its policy says what may come from where: this is the user's own, and comes from nowhere.
        self._copy([*source, f"docker://{reference}"], f"{reference} cannot be pushed", reference, "--insecure-policy")

    def fetch(self, reference: Reference, layout: Path, blobs: Path) -> None:
        """Fetch it into an empty layout. Raises SysenvError."""
        # Signatures have been checked by then, and a layout cannot have any.
        options = ["--remove-signatures", "--dest-shared-blob-dir", str(blobs)]
        target = [f"docker://{reference}", f"oci:{layout}:{_TAG}"]
        self._copy([*options, *target], f"{reference} cannot be pulled", reference)

    @property
    def tag(self) -> str:
        """The name of the content within a layout."""
        return _TAG

    def _copy(self, arguments: Sequence[str], failed: str, reference: Reference, *general: str) -> None:
        status, _, said = self._run([*general, "copy", "--quiet", "--preserve-digests", *arguments])
        if status != 0:
            raise _failed(failed, said, reference)

    def _run(self, arguments: Sequence[str]) -> tuple[int, bytes, str]:
        """Its status, its output, and its messages."""
        parent = os.getpid()

        def prepare() -> None:
            if self.caller is not None:
                self.caller.become()
            children.end_with(parent)

        variables = None if self.caller is None else dict(self.caller.variables)
        try:
            result = subprocess.run(
                [self.path, *arguments],
                check=False,
                stdin=subprocess.DEVNULL,
                capture_output=True,
                env=variables,
                preexec_fn=prepare,  # there are no threads
            )
        except OSError as error:
            raise SysenvError(f"running {self.path} failed: {reason(error)}") from error
        return result.returncode, result.stdout, result.stderr.decode(errors="replace").strip()


def find(caller: Caller | None) -> Skopeo:
    """The installed skopeo. Raises SysenvError."""
    path = find_program(_PROGRAM)
    if path is None:
        raise SysenvError(
            "skopeo, which is needed for registries, is not installed",
            "install it (package skopeo), or move the environment in a file: sysenv-ns export NAME FILE",
        )
    return Skopeo(path, caller)


def _failed(what: str, said: str, reference: Reference) -> SysenvError:
    """The error in skopeo's words; the last ones matter most."""
    messages = _MESSAGE.findall(said)
    kind = BlobMissing if _NO_BLOB.search(said) else SysenvError
    words = line(messages[-1].replace('\\"', '"') if messages else said[-500:] or "skopeo gave no reason")
    hint = next((hint for pattern, hint in _HINTS if re.search(pattern, words)), _HINT)
    return kind(f"{what}: {words}", hint.format(registry=reference.registry, repository=reference.repository))
