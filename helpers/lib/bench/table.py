"""The lines of the table; measures by calling what it is given."""

from __future__ import annotations

import statistics
from collections.abc import Callable, Sequence
from dataclasses import dataclass

Timer = Callable[[], float]


@dataclass(frozen=True)
class Row:
    """A line of the table: what is compared, both sides with median and range, their ratio and what it aims at."""

    name: str
    first: str
    second: str = "-"
    ratio: float | None = None
    target: float | None = None

    def __str__(self) -> str:
        numbers = ["-" if number is None else f"{number:.2f}" for number in (self.ratio, self.target)]
        mark = "!" if (self.ratio or 0) > (self.target or 1e9) else " "
        return f"{self.name:42} {self.first:>26} {self.second:>26} {numbers[0]:>6}{mark} {numbers[1]:>6}"


def figure(seconds: Sequence[float]) -> str:
    """Median and range for people."""
    median = statistics.median(seconds)
    scale, unit = (1000, "ms") if median < 1 else (1, "s")
    return f"{median * scale:.3g} {unit} ({min(seconds) * scale:.3g}..{max(seconds) * scale:.3g})"


def compare(name: str, first: Timer, second: Timer, runs: int, target: float | None, warm_up: int = 1) -> Row:
    """Run both sides alternately."""
    samples = [(first(), second()) for _ in range(runs + warm_up)][warm_up:]
    a, b = ([sample[side] for sample in samples] for side in (0, 1))
    return Row(name, figure(a), figure(b), statistics.median(a) / statistics.median(b), target)
