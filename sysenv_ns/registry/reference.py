"""PURE: the name of an environment in a registry, REGISTRY/REPOSITORY[:TAG][@DIGEST]; queries no registry."""

from __future__ import annotations

import re
from dataclasses import dataclass, replace

from sysenv_ns.errors import SysenvError

# As the reference grammar of the OCI distribution specification has them. The registry is always named, so that nothing
# goes to one that a default means; by this its name is told from the first part of a repository.
_HOST = r"(?:localhost|(?=[^/]*[.:])[A-Za-z0-9](?:[A-Za-z0-9.-]*[A-Za-z0-9])?|\[[0-9A-Fa-f:.]+\])(?::[0-9]{1,5})?"
_PART = r"[a-z0-9]+(?:(?:[._]|__|-+)[a-z0-9]+)*"
_REFERENCE = re.compile(
    rf"(?P<registry>{_HOST})/(?P<repository>{_PART}(?:/{_PART})*)"
    r"(?::(?P<tag>[A-Za-z0-9_][A-Za-z0-9._-]{0,127}))?(?:@(?P<digest>sha256:[0-9a-f]{64}))?"
)
_LIMIT = 1000  # characters
_DEFAULT_TAG = "latest"


@dataclass(frozen=True)
class Reference:
    """A tag of a repository, or with `digest` the content with that digest, whatever tags say."""

    registry: str
    repository: str
    tag: str
    digest: str | None = None

    @property
    def place(self) -> str:
        """The repository with its registry."""
        return f"{self.registry}/{self.repository}"

    def at(self, digest: str) -> Reference:
        """The reference to this digest in the same repository."""
        return replace(self, digest=digest)

    def __str__(self) -> str:
        return f"{self.place}@{self.digest}" if self.digest else f"{self.place}:{self.tag}"


def parse(text: str) -> Reference:
    """Parse a reference. A digest takes precedence over a tag. Raises SysenvError."""
    found = _REFERENCE.fullmatch(text) if len(text) <= _LIMIT else None
    if found is None:
        raise SysenvError(
            f"{text!r} is not the name of anything in a registry",
            "write it as REGISTRY/REPOSITORY:TAG, for example registry.example.org/team/proj:1",
            exit_status=2,
        )
    return Reference(found["registry"], found["repository"], found["tag"] or _DEFAULT_TAG, found["digest"])
