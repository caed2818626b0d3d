"""Fetches kernels from the archives of Debian and Ubuntu, through an apt of its own: the machine's is not touched."""

from __future__ import annotations

import os
import re
import subprocess
from dataclasses import dataclass
from pathlib import Path

_DEBIAN_KEYRING = Path("/usr/share/keyrings/debian-archive-keyring.gpg")
_UBUNTU_KEYRING = ("ubuntu-keyring", "trixie")  # a package of Debian, and a suite that has it
_UBUNTU = "http://archive.ubuntu.com/ubuntu"
# What is asked for, the suite that has it, and the package: the kernels of Ubuntu for virtual machines.
_UBUNTU_KERNELS = {
    "noble": ("noble-updates", "linux-image-virtual"),
    "noble-hwe": ("noble-updates", "linux-image-virtual-hwe-24.04"),
    "resolute": ("resolute", "linux-image-virtual"),
}
# Debian's depend on parts of themselves by an exact version, Ubuntu's by a name with the version in it.
_DEPENDENCY = re.compile(r"([a-z0-9][a-z0-9+.-]+) \(= ([^)]+)\)|(linux-(?:image|modules)-\d[a-z0-9+.-]+)")


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

    def kernel(self, name: str) -> Kernel:
        """The newest kernel of a suite of Debian, or a named one of Ubuntu, unpacked. Raises SystemExit."""
        if name not in _UBUNTU_KERNELS:
            return self._kernel(self._debian(name), f"linux-image-cloud-{architecture()}", name)
        suite, package = _UBUNTU_KERNELS[name]
        keyring, origin = _UBUNTU_KEYRING
        debian = self._debian(origin)
        deb = self._download(debian, self._closure(debian, keyring), origin)[0]
        run(["dpkg-deb", "--extract", str(deb), str(self._cache / "keyring")])
        signed_by = self._cache / "keyring/usr/share/keyrings/ubuntu-archive-keyring.gpg"
        return self._kernel(self._apt(suite, _UBUNTU, signed_by), package, suite)

    def _kernel(self, apt: dict[str, str], package: str, suite: str) -> Kernel:
        return unpack(self._download(apt, self._closure(apt, f"{package}/{suite}"), suite), self._cache / "unpacked")

    def _download(self, apt: dict[str, str], wanted: list[tuple[str, str]], suite: str) -> list[Path]:
        directory = self._cache / suite / "debs"
        directory.mkdir(exist_ok=True)
        missing = [(name, version) for name, version in wanted if not _deb(directory, name, version)]
        if missing:
            names = [f"{name}={version}" for name, version in missing]
            run(["apt-get", "-q", "-o", "APT::Sandbox::User=root", "download", *names], apt, cwd=directory)
        return [deb for name, version in wanted if (deb := _deb(directory, name, version))]

    def _debian(self, suite: str) -> dict[str, str]:
        return self._apt(suite, self.mirror, _DEBIAN_KEYRING)

    def _apt(self, suite: str, mirror: str, keyring: Path) -> dict[str, str]:
        """The variables for an apt that knows this suite only."""
        state = self._cache / suite
        for name in ("lists/partial", "archives/partial", "preferences.d"):
            (state / name).mkdir(parents=True, exist_ok=True)
        (state / "status").touch()
        (state / "sources.list").write_text(f"deb [signed-by={keyring}] {mirror} {suite} main\n")
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
        """A package and the parts of the same kernel that it depends on, with their versions."""
        found: dict[str, str] = {}
        waiting = [package]
        while waiting:
            text = run(["apt-cache", "show", waiting.pop()], apt)
            paragraph = text.split("\n\n")[0]
            fields = dict(line.split(": ", 1) for line in paragraph.splitlines() if re.match(r"[A-Z][\w-]*: ", line))
            found[fields["Package"]] = fields["Version"]
            waiting += [part for part in parts(fields.get("Depends", "")) if part.partition("=")[0] not in found]
        return sorted(found.items())


def parts(depends: str) -> list[str]:
    """What a package depends on that belongs to the same kernel, as apt-get takes it."""
    return [named or f"{name}={version}" for name, version, named in _DEPENDENCY.findall(depends)]


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
