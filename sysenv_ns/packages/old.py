"""What the host was when environments began to have their own, as origin.py has recorded it: reads it, file by file."""

from __future__ import annotations

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import cached_property, suppress
from sysenv_ns.files.reader import Root
from sysenv_ns.packages import origin
from sysenv_ns.paths import Path
from sysenv_ns.records import dataclass

if TYPE_CHECKING:
    from sysenv_ns.environment.store import Store
    from sysenv_ns.packages.origin import Origin


@dataclass(frozen=True)
class Old:
    """What the host was; accounts and packages may be of different days."""

    packages: Path
    accounts: Path

    @classmethod
    def of(cls, store: Store, known: Origin) -> Old:
        """What it was for an environment of this origin."""
        return cls(origin.path_of(store, known.packages), origin.path_of(store, known.accounts))

    def read(self, path: str) -> bytes | None:
        """A file as it was; None when there was none."""
        with suppress(FileNotFoundError, NotADirectoryError):  # all of it is lost
            return (self._accounts if path in origin.ACCOUNTS else self._packages).get(path)
        return None

    @cached_property
    def _packages(self) -> Root:
        return Root(self.packages)

    @cached_property
    def _accounts(self) -> Root:
        return Root(self.accounts)

    @cached_property
    def checksums(self) -> dict[str, str]:
        """Of all packages' files."""
        from sysenv_ns.packages import dpkg  # its import takes longer than all else that `list` does here

        return dpkg.parse_checksums(self.read(origin.CHECKSUMS) or b"")
