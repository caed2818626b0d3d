"""The data of a rebase: the three sides, and the plan of what is done. Decides nothing."""

from __future__ import annotations

from sysenv_ns.basics import cached_property
from sysenv_ns.files.upper import Own, Upper, UpperEntry
from sysenv_ns.files.view import View
from sysenv_ns.packages import dpkg
from sysenv_ns.packages.merge import Decision
from sysenv_ns.packages.old import Old
from sysenv_ns.records import dataclass

DIST_SUFFIX = ".dpkg-dist"


@dataclass(frozen=True)
class Copy:
    """A file to copy from the host's side; `keep`: with the mode and owner that the environment gave it."""

    source: str
    target: str
    keep: bool = False


class RebasePlan:
    """The changes to the copy of an environment, in this order; all paths are absolute, in the environment."""

    def __init__(self) -> None:
        self.packages: list[Decision] = []  # those about which there is something to say
        self.notes: list[str] = []  # what the user should know
        self.dropped: set[str] = set()  # entries of the upper directory: what lies below shows again
        self.opened: set[str] = set()  # opaque directories that shall be merged with what lies below
        self.hidden: set[str] = set()
        self.copies: list[Copy] = []
        self.written: dict[str, bytes] = {}
        self.owned: dict[str, tuple[int, int]] = {}  # paths that get another owner
        self.alternatives: dict[str, str] = {}  # groups to be set up; to what, or "" for automatic
        self.triggers: set[str] = set()
        self.unsound: list[str] = []  # packages with which something is wrong on either side before
        self.libraries: bool = False  # whether the loader's cache is the environment's own

    @property
    def empty(self) -> bool:
        """Whether there is nothing to do."""
        done = (self.dropped, self.opened, self.hidden, self.copies, self.written, self.owned, self.alternatives)
        return not any(done)


class MergeSides:
    """The three sides of the merge."""

    def __init__(self, old: Old, below: View, upper: Upper) -> None:
        self.old, self.new, self.upper = old, below, upper
        self.own = Own(upper, below)

    @cached_property
    def unpacked(self) -> frozenset[str]:
        """The stems of the packages that the environment's dpkg has unpacked itself."""
        prefix = f"{self.new.real(dpkg.INFO)}/"
        names = (path[len(prefix) :] for path, e in self.upper.entries.items() if path.startswith(prefix))
        return frozenset(n.removesuffix(".list") for n in names if n.endswith(".list") and self._is_file(prefix + n))

    def _is_file(self, path: str) -> bool:
        entry = self.upper.get(path)
        return entry is not None and entry.kind == "file"

    def entry(self, path: str) -> UpperEntry | None:
        """What the upper directory has at a path."""
        return self.upper.get(self.new.real(path))
