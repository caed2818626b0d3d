"""An archive of this run's own: what tests install is fetched once, and environments know nothing else.

Each test that fetched an index of the whole distribution would read it for seconds. That the system's own archives can
be used is for tests of that: test_packages.py in each mode.
"""

from __future__ import annotations

import hashlib
import subprocess
from dataclasses import dataclass
from pathlib import Path

from dependencies import NO_HOOKS

from .debs import change
from .support import APT_LIMIT, Environment
from .workers import locked

# An index of all manuals takes mandb 4 s in each environment of this host; test_packages.py has it made.
_USE = """
rm -f /var/lib/man-db/auto-update
rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*
echo "deb [trusted=yes] file:$1 ./" > /etc/apt/sources.list.d/mirror.list
apt-get -q update
"""


@dataclass(frozen=True)
class Mirror:
    """A directory of packages with an index, from the archives that this system's apt knows; all users can read it."""

    directory: Path

    def install(self, environment: Environment, *arguments: str) -> None:
        """apt-get install with these options and packages, in an environment that knows only this archive."""
        self.provide(environment, *arguments)
        environment.apt("install", *arguments)

    def provide(self, environment: Environment, *arguments: str) -> None:
        """What is done before that."""
        self.directory.mkdir(exist_ok=True)
        with locked(self.directory):
            had = self.directory / f"had.{hashlib.sha256(' '.join(arguments).encode()).hexdigest()}"
            if not had.exists():
                self._apt("--download-only", "install", *arguments)
                self._write_index()
                had.touch()
        change(environment, _USE, str(self.directory))

    def unpack(self, target: Path, *packages: str) -> None:
        """Put the files of packages, and of all that they need and this system lacks, into a new directory."""
        debs = target.with_name(f"{target.name}.debs")
        (debs / "partial").mkdir(parents=True)
        self.directory.mkdir(exist_ok=True)
        with locked(self.directory):
            self._apt(
                "-o", f"Dir::Cache::archives={debs}", "--download-only", "--no-install-recommends", "install", *packages
            )
        for path in sorted(debs.glob("*.deb")):
            _run("dpkg-deb", "--extract", str(path), str(target))
        _run("chmod", "-R", "a+rX", str(target))

    def upgradable(self) -> list[str]:
        """The packages of this system that its archives have newer versions of."""
        return _exchanged(self._asked("apt-get", "--simulate", "upgrade"))

    def versions(self, *packages: str) -> dict[str, list[str]]:
        """The versions of some packages in the archives, the newest first."""
        found: dict[str, list[str]] = {}
        for row in self._asked("apt-cache", "madison", *packages).splitlines():
            name, version, source = (part.strip() for part in row.split("|"))
            if source.endswith("Packages") and version not in found.setdefault(name, []):
                found[name].append(version)
        return found

    def exchanged_by(self, package: str) -> list[str]:
        """The packages of this system that go or come with another version of one, NAME=VERSION; none if it cannot."""
        return _exchanged(self._asked("apt-get", "--simulate", "--allow-downgrades", "install", package))

    def _asked(self, program: str, *arguments: str) -> str:
        """What a program of apt says, however it ends."""
        self.directory.mkdir(exist_ok=True)
        with locked(self.directory):
            command = [program, "-q", *self._options(), *arguments]
            return subprocess.run(command, check=False, capture_output=True, text=True, timeout=APT_LIMIT).stdout

    def _apt(self, *arguments: str) -> str:
        """What apt-get says, which must succeed."""
        return _run("apt-get", "-q", "-y", *self._options(), *arguments)

    def _options(self) -> list[str]:
        """Those with which apt has its directories here and the current lists; this system is only read."""
        lists, archives = self.directory / "lists", self.directory / "debs"
        for directory in (lists, archives):
            (directory / "partial").mkdir(parents=True, exist_ok=True)
        configuration = self.directory / "apt.conf"
        configuration.write_text(NO_HOOKS)
        settings = {"Dir::State::lists": lists, "Dir::Cache": self.directory, "Dir::Cache::archives": archives}
        options = [word for name, path in settings.items() for word in ("-o", f"{name}={path}")]
        options += ["-c", str(configuration), "-o", "APT::Sandbox::User=", "-o", "Debug::NoLocking=true"]
        if not (self.directory / "updated").exists():
            _run("apt-get", "-q", "-y", *options, "update")
            (self.directory / "updated").touch()
        return options

    def _write_index(self) -> None:
        index = self.directory / "Packages.new"
        with index.open("w") as stream:
            for path in sorted((self.directory / "debs").glob("*.deb")):
                stream.write(f"{_described(path)}\n")
        index.rename(self.directory / "Packages")
        _run("chmod", "-R", "a+rX", str(self.directory))


def _exchanged(plan: str) -> list[str]:
    """The packages that a simulation of apt-get would add, exchange or remove."""
    return [line.split()[1] for line in plan.splitlines() if line.startswith(("Inst ", "Remv "))]


def _described(path: Path) -> str:
    """A package's paragraph of the index."""
    described = path.with_suffix(".txt")
    if not described.exists():
        # apt writes the colon of a version as %3a, and reads that in an index as a colon.
        plain = path.with_name("plain") / path.name.replace("%", "_")
        plain.parent.mkdir(exist_ok=True)
        plain.hardlink_to(path)
        data = path.read_bytes()
        own = f"Filename: debs/plain/{plain.name}\nSize: {len(data)}\nSHA256: {hashlib.sha256(data).hexdigest()}\n"
        described.write_text(_run("dpkg-deb", "--field", str(path)) + own)
    return described.read_text()


def _run(*command: str) -> str:
    result = subprocess.run(command, check=False, capture_output=True, text=True, timeout=APT_LIMIT)
    assert result.returncode == 0, f"{command}: {result.stdout}{result.stderr}"
    return result.stdout
