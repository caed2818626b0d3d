"""Queries and runs this system's apt and dpkg; the plan says for which packages."""

from __future__ import annotations

import contextlib
import re
import signal
import subprocess
from collections.abc import Collection, Iterable, Iterator, Mapping, Sequence

from sysenv_ns.apply.plan import PackageStep
from sysenv_ns.errors import SysenvError
from sysenv_ns.packages import dpkg, origin
from sysenv_ns.packages.dpkg import Package as Known

PackageState = tuple[str, bool]  # its version, "" where it is not there, and whether it is an automatic one
Operation = tuple[str, str, str]  # Inst, Remv or Purg, the package, its version

_VARIABLES = {
    "PATH": "/usr/sbin:/usr/bin:/sbin:/bin",
    "HOME": "/root",
    "LC_ALL": "C",
    "DEBIAN_FRONTEND": "noninteractive",
}
_INSTALL = (
    *("/usr/bin/apt-get", "--quiet", "--yes", "--no-install-recommends", "--allow-downgrades", "--no-auto-remove"),
    *("-o", "APT::Get::Purge=false", "-o", "Dpkg::Use-Pty=0"),
    *("-o", "Dpkg::Options::=--force-confdef", "-o", "Dpkg::Options::=--force-confold"),
    "install",
)
UPDATE = ("/usr/bin/apt-get", "--quiet", "update", "--error-on=any")
_LINE = re.compile(r"(Inst|Remv|Purg) (\S+)(?: \[([^]]*)\])?(?: \((\S+))?")


def known() -> dict[str, Known]:
    """The installed packages of this system."""
    return dpkg.parse_status(origin.content(dpkg.STATUS) or b"")


def states(names: Collection[str]) -> dict[str, PackageState]:
    """The versions of packages, "" if not installed, and whether they were installed automatically."""
    packages = known()
    wanted = {name: packages[name] for name in names if dpkg.version_of(packages.get(name))}
    automatic = dpkg.automatic(origin.content(dpkg.EXTENDED_STATES) or b"", wanted)
    return {name: (dpkg.version_of(wanted.get(name)), name in automatic) for name in names}


def available(names: Iterable[str]) -> set[tuple[str, str]]:
    """The available packages of these names, with their versions in this system's sources."""
    output = _output("/usr/bin/apt-cache", "madison", *names)
    rows = ([part.strip() for part in line.split("|")] for line in output.splitlines())
    return {(row[0], row[1]) for row in rows if len(row) == 3}


def arguments(packages: Iterable[PackageStep], places: Mapping[str, str]) -> list[str]:
    """The words for `apt-get install`. `places`: paths of package files, by package; apt rejects some file names."""
    return [_argument(package, places) for package in packages]


def _argument(package: PackageStep, places: Mapping[str, str]) -> str:
    if not package.new:
        return f"{package.name}-"
    return places[package.name] if package.file else f"{package.name}={package.new}"


def operations(packages: Iterable[PackageStep]) -> frozenset[Operation]:
    """The operations that apt has to do for these packages, and no others."""
    return frozenset(("Inst", p.name, p.new) if p.new else ("Remv", p.name, p.old) for p in packages)


def parse(output: str) -> frozenset[Operation]:
    """The operations in the output of apt's simulation."""
    matches = filter(None, map(_LINE.match, output.splitlines()))
    return frozenset((m[1], m[2], m[4] if m[1] == "Inst" else m[3]) for m in matches)


def check(packages: Sequence[PackageStep], places: Mapping[str, str]) -> None:
    """Let apt simulate the plan. Raises SysenvError if apt would not do exactly that."""
    if not packages:
        return
    command = [*_INSTALL, "--simulate", *arguments(packages, places)]
    result = subprocess.run(command, check=False, capture_output=True, text=True, env=_VARIABLES)
    if result.returncode != 0:
        raise SysenvError(f"apt cannot do this on this system: {_complaint(result)}", "nothing was changed")
    wanted, found = operations(packages), parse(result.stdout)
    if further := sorted(found - wanted):
        names = ", ".join(f"{'install' if kind == 'Inst' else 'remove'} {name} {v}" for kind, name, v in further)
        hint = "do the same in the environment first: apt-get upgrade there, or sysenv-ns rebase"
        raise SysenvError(f"apt would also {names}", hint)
    if missing := sorted(wanted - found):
        names = ", ".join(f"{name} {version}" for _, name, version in missing)
        raise SysenvError(f"apt would not install or remove {names}", "nothing was changed; run it again")


def commands(packages: Sequence[PackageStep], places: Mapping[str, str]) -> list[tuple[str, ...]]:
    """The commands that install and remove these packages."""
    found: list[tuple[str, ...]] = []
    if packages:
        found.append((*_INSTALL, *arguments(packages, places)))
    if marked := [package.name for package in packages if package.new and package.automatic]:
        found.append(("/usr/bin/apt-mark", "auto", *marked))
    return found


def install(packages: Sequence[PackageStep], places: Mapping[str, str]) -> None:
    """Run them, with output to stderr. Raises SysenvError."""
    for command in commands(packages, places):
        _run(*command)


def update() -> None:
    """Run apt-get update. Raises SysenvError."""
    _run(*UPDATE)


def repair() -> None:
    """Finish what an interrupted dpkg has begun, as far as possible; `unsound` returns the rest."""
    _status("/usr/bin/dpkg", "--configure", "--pending", "--force-confdef", "--force-confold")


def unsound() -> list[str]:
    """The packages that dpkg has not finished with."""
    return sorted(name for name, package in known().items() if not package.sound)


def _run(*command: str) -> None:
    if status := _status(*command):
        raise SysenvError(f"{command[0]} failed with status {status}", "see its output above")


def _status(*command: str) -> int:
    with _patient():
        return subprocess.run(command, check=False, stdin=subprocess.DEVNULL, stdout=2, env=_VARIABLES).returncode


@contextlib.contextmanager
def _patient() -> Iterator[None]:
    """Run a command and ignore interrupts: apt gets them from the terminal too, and ends cleanly; Python would kill it.

    Raises KeyboardInterrupt when apt has ended.
    """
    interrupts: list[int] = []
    before = signal.signal(signal.SIGINT, lambda number, _: interrupts.append(number))
    try:
        yield
    finally:
        signal.signal(signal.SIGINT, before)
    if interrupts:
        raise KeyboardInterrupt


def _output(*command: str) -> str:
    try:
        result = subprocess.run(command, check=False, capture_output=True, text=True, env=_VARIABLES)
    except FileNotFoundError:
        raise SysenvError("this system has no apt", "apply files only: --files") from None
    if result.returncode != 0:
        raise SysenvError(f"{command[0]} failed: {_complaint(result)}")
    return result.stdout


def _complaint(result: subprocess.CompletedProcess[str]) -> str:
    """The errors in apt's output, in one line."""
    said = [line for line in result.stderr.splitlines() if line.startswith("E: ")] or result.stderr.splitlines()
    unmet = [line.strip() for line in result.stdout.splitlines() if "Depends:" in line or "Breaks:" in line]
    return "; ".join([*unmet, *(line.removeprefix("E: ") for line in said)]) or f"status {result.returncode}"
