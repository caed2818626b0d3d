"""Judges what the guests report, and writes the tables."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from typing import Any

from .archive import Kernel

# The drivers with the ways to map ids: "root" is root itself, "sudo" a user who becomes root by sudo.
CELLS: Mapping[str, tuple[str, ...]] = {
    "stub": ("full", "single"),
    "reflink": ("full", "single"),
    "idmap": ("full",),
    "copy": ("full", "single"),
    "fuse": ("single",),
    "root": ("root", "sudo"),
}


_EARLIER = "\n## Earlier series\n"
OLDEST = (5, 12)  # that can do it with any driver


def has_to_work(driver: str, kernel: Kernel, file_system: str) -> bool:
    """What a refusal is accepted for, written down once."""
    if driver == "stub":
        return kernel.version >= (6, 16)
    if driver == "idmap":
        return kernel.version >= (5, 19)
    if driver == "reflink" and file_system not in ("btrfs", "xfs"):
        return False
    return kernel.version >= OLDEST


@dataclass(frozen=True)
class Cell:
    """One driver with one id map; `note` says why it does not work, `failure` why that is not as it should be."""

    driver: str
    identity: str
    tests: int
    note: str
    failure: str


@dataclass(frozen=True)
class Policy:
    """One setting that forbids environments; `failure` as in Cell."""

    setting: str
    remedy: str  # that the doctor printed; empty where the kernel has no such setting
    needed: bool  # or environments run in spite of it
    failure: str


@dataclass(frozen=True)
class Cost:
    """What a driver does in how many times the time that it takes without."""

    driver: str
    what: str
    ratio: float


@dataclass(frozen=True)
class Row:
    """One boot."""

    kernel: Kernel
    file_system: str
    cells: tuple[Cell, ...]
    policies: tuple[Policy, ...]
    costs: tuple[Cost, ...]
    failure: str

    def summary(self) -> str:
        """One line."""
        if self.failure:
            return self.failure.splitlines()[-1]
        if self.policies:
            failed = sum(bool(policy.failure) for policy in self.policies)
            return f"{len(self.policies)} settings, {failed} failed"
        if self.costs:
            return f"{len(self.costs)} ratios"
        works = sum(not cell.note and not cell.failure for cell in self.cells)
        failed = sum(bool(cell.failure) for cell in self.cells)
        return f"{works} of {len(self.cells)} work, {failed} failed"


def row(kernel: Kernel, file_system: str, contents: Sequence[Mapping[str, Any]]) -> Row:
    """What the guests' reports of a kernel with a file system mean."""
    cells = tuple(_cell(kernel, file_system, cell) for content in contents for cell in content.get("cells", ()))
    policies = tuple(_policy(policy) for content in contents for policy in content.get("policies", ()))
    measured = [cost for content in contents for cost in content.get("costs", ())]
    costs = tuple(Cost(cost["driver"], cost["what"], cost["ratio"]) for cost in measured if "ratio" in cost)
    errors = [str(found["error"]) for found in (*contents, *measured) if "error" in found]
    return Row(kernel, file_system, cells, policies, costs, "; ".join(errors))


def _cell(kernel: Kernel, file_system: str, cell: Mapping[str, Any]) -> Cell:
    driver, status, detail = str(cell["driver"]), cell["status"], str(cell["detail"])
    note = detail if status == "refused" else ""
    failure = detail if status == "failed" else ""
    if note and has_to_work(driver, kernel, file_system):
        failure = f"refused, but it has to work: {note}"
    return Cell(driver, str(cell["identity"]), int(cell.get("tests", 0)), note, failure)


def _policy(policy: Mapping[str, Any]) -> Policy:
    status, detail = policy["status"], str(policy["detail"])
    return Policy(str(policy["policy"]), detail, status != "needless", detail if status == "failed" else "")


def failures(rows: Sequence[Row]) -> Iterator[str]:
    """One line for each."""
    for row in rows:
        where = f"{row.kernel.release} {row.file_system}"
        if row.failure:
            yield f"{where}: {row.failure}"
        for cell in row.cells:
            if cell.failure:
                yield f"{where}, driver {cell.driver}, {cell.identity}: {cell.failure}"
        for policy in row.policies:
            if policy.failure:
                yield f"{where}, {policy.setting}: {policy.failure}"


def tables(rows: Sequence[Row], drivers: Sequence[str]) -> str:
    """All tables in Markdown, with their notes."""
    return "\n\n".join(part for part in (_matrix(rows, drivers), _settings(rows), _costs(rows)) if part)


def _matrix(rows: Sequence[Row], drivers: Sequence[str]) -> str:
    columns = [(driver, identity) for driver in drivers for identity in CELLS[driver]]
    names = [f"{driver}, {identity}" if identity != driver else driver for driver, identity in columns]
    lines = [f"| Linux | file system | {' | '.join(names)} |", "|---|---|" + "---|" * len(columns)]
    notes: dict[str, int] = {}
    for row in rows:
        if (row.policies or row.costs) and not row.cells:
            continue
        found = {(cell.driver, cell.identity): cell for cell in row.cells}
        texts = [_text(found.get(column), bool(row.failure), notes) for column in columns]
        lines.append(f"| {row.kernel.release} | {row.file_system} | {' | '.join(texts)} |")
    footnotes = "\n".join(f"{number}. {note}" for note, number in notes.items())
    return "\n".join(lines) + (f"\n\n{footnotes}" if footnotes else "")


def _text(cell: Cell | None, has_failed: bool, notes: dict[str, int]) -> str:
    if cell is None and not has_failed:
        return "not run"
    if cell is None or cell.failure:
        return "**failed**"
    if cell.note:
        return f"- ({notes.setdefault(cell.note, len(notes) + 1)})"
    return "works"


def _settings(rows: Sequence[Row]) -> str:
    asked = [row for row in rows if row.policies]
    lines = ["| Linux | setting | the doctor's remedy |", "|---|---|---|"]
    for row in asked:
        for policy in row.policies:
            remedy = f"`{policy.remedy}`" if policy.remedy else "this kernel does not have the setting"
            remedy += "" if policy.needed else "; with the full id map environments ran without it"
            text = "**failed**" if policy.failure else remedy
            lines.append(f"| {row.kernel.release} | `{policy.setting}` | {text} |")
    return "\n".join(lines) if asked else ""


def _costs(rows: Sequence[Row]) -> str:
    measured = [row for row in rows if row.costs]
    drivers = list(dict.fromkeys(cost.driver for row in measured for cost in row.costs))
    lines = [f"| Linux | what | {' | '.join(drivers)} |", "|---|---|" + "---|" * len(drivers)]
    for row in measured:
        found = {(cost.what, cost.driver): f"{cost.ratio:.2f}" for cost in row.costs}
        for what in dict.fromkeys(cost.what for cost in row.costs):
            numbers = " | ".join(found.get((what, driver), "-") for driver in drivers)
            lines.append(f"| {row.kernel.release} | {what} | {numbers} |")
    return "\n".join(lines) if measured else ""


def earlier(page: str) -> str:
    """What the page that is being replaced keeps of series before it; somebody has moved it there."""
    start = page.find(_EARLIER)
    return "" if start < 0 else page[start:]


def document(rows: Sequence[Row], drivers: Sequence[str], accelerator: Sequence[str]) -> str:
    """The page of the documentation."""
    tested = [cell.tests for row in rows for cell in row.cells if cell.tests]
    how = "software emulation" if "tcg" in accelerator[1] else "KVM"
    date = time.strftime("%Y-%m-%d")
    span = " to ".join(map(str, sorted({min(tested), max(tested)}))) if tested else "no"
    page = f"""# Which kernels: every driver on every file system

Made by `helpers/kernel-matrix` on {date}: kernels of Debian and Ubuntu in virtual machines ({how}) with a
small Debian 13, the store and `/usr` on the same file system. A cell *works* when an ordinary user (in the columns
*root*: root itself, or a user by way of sudo) makes an environment there and the core of the integration tests passes
({span} tests in a cell). Where it does not work, the note is the tool's own first sentence. *Not run* is what was no
part of this series.

    ./helpers/kernel-matrix --costs --write docs/kernels.md

{_matrix(rows, drivers)}

## What the doctor says

Each setting was made on a running system without sudo, which would be a way around it. `sysenv-ns doctor`, run by an
ordinary user, ended with status 1 and printed the remedy; or with status 0 where environments can be had in spite of
the setting, and then one ran. The remedy was carried out as it is (as root), and then the doctor ended with status 0.
Where the remedy is [the launcher](idmap.md#ubuntu), it was also tried that environments of the driver `idmap` can be
had by it, that other programs and other users stay restricted, that its user cannot change it, and that `host
release` takes it away, the last one with the profile.

{_settings(rows)}
"""
    if measured := _costs(rows):
        page += f"""
## What it costs

Ratios of times, medians of pairs that ran alternately in one boot, for a user with `sudo`, system and store on
{next(row.file_system for row in rows if row.costs)}. In the first line is all that a new user waits for: `host
prepare`, the building of the base, and the package.

{measured}
"""
    return page
