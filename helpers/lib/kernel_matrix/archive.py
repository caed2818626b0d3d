"""Fetches kernels from Debian's archive, through an apt of its own: the machine's is not touched."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

_KEYRING = "/usr/share/keyrings/debian-archive-keyring.gpg"
_DEPENDENCY = re.compile(r"([a-z0-9][a-z0-9+.-]+) \(= ([^)]+)\)")


@dataclass(frozen=True)
class Kernel:
    """An unpacked kernel: its release as `uname -r` says it, its image and the directory of its modules."""

    release: str
    image: Path
    modules: Path

    @property
    def version(self) -> tuple[int, ...]:
        """The first two numbers."""
        return tuple(int(number) for number in self.release.split(".")[:2])


class Archive:
    """The archive that the machine's own sources name, with the suites that are asked for."""

    def __init__(self, cache: Path) -> None:
        self._cache = cache / "archive"
        self.mirror = mirror()

    def kernel(self, suite: str) -> Kernel:
        """The newest kernel of a suite, downloaded and unpacked. Raises SystemExit."""
        apt = self._apt(suite)
        package = f"linux-image-cloud-{architecture()}"
        wanted = self._closure(apt, f"{package}/{suite}")
        directory = self._cache / suite / "debs"
        directory.mkdir(exist_ok=True)
        missing = [(name, version) for name, version in wanted if not _deb(directory, name, version)]
        if missing:
            names = [f"{name}={version}" for name, version in missing]
            run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *names], apt, cwd=directory)
        debs = [deb for name, version in wanted if (deb := _deb(directory, name, version))]
        return unpack(debs, self._cache / "unpacked")

    def _apt(self, suite: str) -> dict[str, str]:
        """The variables for an apt that knows this suite only."""
        state = self._cache / suite
        for name in ("lists/partial", "archives/partial", "preferences.d"):
            (state / name).mkdir(parents=True, exist_ok=True)
        (state / "status").touch()
        (state / "sources.list").write_text(f"deb [signed-by={_KEYRING}] {self.mirror} {suite} main\n")
        configuration = state / "apt.conf"
        configuration.write_text(
            f'''Dir::State "{state}";
Dir::State::status "{state}/status";
Dir::Cache "{state}";
Dir::Etc::sourcelist "{state}/sources.list";
Dir::Etc::sourceparts "/dev/null";
Dir::Etc::preferences "/dev/null";
Dir::Etc::preferencesparts "{state}/preferences.d";
Acquire::Languages "none";
APT::Sandbox::User "root";
'''
        )
        variables = {**os.environ, "APT_CONFIG": str(configuration), "LC_ALL": "C.UTF-8"}
        run(["apt-get", "-q", "-o", "Acquire::Retries=3", "update"], variables)
        return variables

    def _closure(self, apt: dict[str, str], package: str) -> list[tuple[str, str]]:
        """The packages, with versions, that make up a kernel: what its own depends on in an exact version."""
        found: dict[str, str] = {}
        waiting = [package]
        while waiting:
            text = run(["apt-cache", "show", waiting.pop()], apt)
            paragraph = text.split("\n\n")[0]
            fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if re.match(r"[A-Z][\w-]*: ", line))
            found[fields["Package"]] = fields["Version"]
            needed = _DEPENDENCY.findall(fields.get("Depends", ""))
            waiting += [f"{name}={version}" for name, version in needed if name not in found]
        return sorted(found.items())


def _deb(directory: Path, name: str, version: str) -> Path | None:
    return next(directory.glob(f"{name}_{version.replace(':', '%3a')}_*.deb"), None)


def unpack(debs: list[Path], directory: Path) -> Kernel:
    """The kernel in these packages. Raises SystemExit when there is none."""
    tree = directory / "+".join(sorted(deb.stem for deb in debs if not deb.name.startswith("linux-image-cloud-")))[:200]
    if not (tree / ".complete").exists():
        tree.mkdir(parents=True, exist_ok=True)
        for deb in debs:
            run(["dpkg-deb", "--extract", str(deb), str(tree)])
        (tree / ".complete").touch()
    images = [*tree.glob("boot/vmlinuz-*"), *tree.glob("usr/lib/modules/*/vmlinuz")]
    modules = [*tree.glob("lib/modules/*/kernel"), *tree.glob("usr/lib/modules/*/kernel")]
    if not images or not modules:
        raise SystemExit(f"kernel-matrix: no kernel in {[deb.name for deb in debs]}: an image and modules are needed")
    return Kernel(modules[0].parent.name, images[0], modules[0].parent)


def mirror(sources: Path = Path("/etc/apt")) -> str:
    """The address of Debian's archive as this machine's sources have it. Raises SystemExit."""
    files = [sources / "sources.list", *sorted(sources.glob("sources.list.d/*"))]
    text = "\n".join(file.read_text() for file in files if file.suffix in (".list", ".sources") and file.exists())
    addresses = re.findall(r"^(?:deb\s+(?:\[[^]]*\]\s+)?|URIs:\s*)(\S+/debian)/?(?:\s|$)", text, re.MULTILINE)
    if not addresses:
        raise SystemExit("kernel-matrix: the sources of apt on this machine do not name an archive of Debian")
    return str(addresses[0])


def architecture() -> str:
    """Debian's name of it."""
    return run(["dpkg", "--print-architecture"]).strip()


def run(command: list[str], variables: dict[str, str] | None = None, cwd: Path | None = None) -> str:
    """The output of a command that must succeed. Raises SystemExit with what it said."""
    done = subprocess.run(
        command, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False, env=variables, cwd=cwd
    )
    if done.returncode != 0:
        raise SystemExit(f"kernel-matrix: {' '.join(command)} failed:\n{done.stdout[-3000:]}{done.stderr[-3000:]}")
    return done.stdout
