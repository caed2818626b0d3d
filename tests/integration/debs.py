"""Small packages and an archive of them, made for one test; the system is changed only inside its environment."""

from __future__ import annotations

import hashlib
import subprocess
import tarfile
import tempfile
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from pathlib import Path

from .support import APT_LIMIT, Argument, Environment, Result, succeeded

_GUARD = """
[ "$SYSENV_NS" = "$1" ] && [ "$(cat /etc/debian_chroot)" = "$1" ] || { echo "not in the environment $1" >&2; exit 99; }
shift
export DEBIAN_FRONTEND=noninteractive
"""


@dataclass(frozen=True)
class Node:
    """A special file in a package; nobody needs to be able to make it, it goes straight into the archive."""

    path: str
    kind: bytes  # tarfile's
    mode: int
    gid: int = 0
    device: tuple[int, int] = (0, 0)
    link: str = ""

    def member(self) -> tarfile.TarInfo:
        """Its header in the archive."""
        member = tarfile.TarInfo(f"./{self.path}")
        member.type, member.mode, member.gid, member.linkname = self.kind, self.mode, self.gid, self.link
        member.devmajor, member.devminor = self.device
        return member


@dataclass(frozen=True)
class Deb:
    """A package for all architectures; its files in /etc are conffiles, those in a bin directory programs."""

    name: str
    version: str = "1"
    fields: Mapping[str, str] = field(default_factory=dict)
    files: Mapping[str, str] = field(default_factory=dict)
    scripts: Mapping[str, str] = field(default_factory=dict)  # and other files for DEBIAN

    def control(self) -> str:
        """The paragraph that describes it."""
        fields = {
            "Package": self.name,
            "Version": self.version,
            "Architecture": "all",
            "Maintainer": "Nobody <nobody@localhost>",
            **self.fields,
            "Description": "package of a test",
        }
        return "".join(f"{key}: {value}\n" for key, value in fields.items())

    def build(self, directory: Path, nodes: Sequence[Node] = ()) -> Path:
        """Make the .deb in a directory, with special files added to its own."""
        tree = directory / f"{self.name}_{self.version}_all"
        conffiles = "".join(f"{path}\n" for path in self.files if path.startswith("/etc/"))
        own = {"control": self.control(), "conffiles": conffiles, **self.scripts}
        for path, text in {**self.files, **{f"DEBIAN/{name}": text for name, text in own.items()}}.items():
            target = tree / path.lstrip("/")
            target.parent.mkdir(parents=True, exist_ok=True)
            target.write_text(text)
            if "/bin/" in path or path in ("DEBIAN/preinst", "DEBIAN/postinst", "DEBIAN/postrm", "DEBIAN/config"):
                target.chmod(0o755)
        _open_to_all(directory)
        package = Path(f"{tree}.deb")
        command = ["dpkg-deb", "-Znone", "--root-owner-group", "--build", str(tree), str(package)]
        subprocess.run(command, check=True, capture_output=True)
        if nodes:
            _add_to_archive(package, nodes)
        package.chmod(0o644)
        return package


def _add_to_archive(package: Path, nodes: Sequence[Node]) -> None:
    """Replace data.tar, the last member of the ar(5) archive that a .deb is."""
    with tempfile.TemporaryDirectory() as scratch:
        subprocess.run(["ar", "x", package], cwd=scratch, check=True)
        with tarfile.open(Path(scratch, "data.tar"), "a", format=tarfile.GNU_FORMAT) as data:
            directories = {parent for node in nodes for parent in Path(node.path).parents if parent.name}
            for path in sorted(directories):
                data.addfile(Node(str(path), tarfile.DIRTYPE, 0o755).member())
            for node in nodes:
                data.addfile(node.member())
        subprocess.run(["ar", "r", package, "data.tar"], cwd=scratch, check=True)


def program(name: str, version: str = "1", **fields: str) -> Deb:
    """A package with a program that prints its version, and a conffile."""
    files = {f"/usr/bin/{name}": f"#!/bin/sh\necho {name} {version}\n", f"/etc/{name}.conf": "as shipped\n"}
    return Deb(name, version, fields, files)


@dataclass(frozen=True)
class Archive:
    """A directory of packages, the only one that the environment's apt knows."""

    environment: Environment
    shared: Path

    @property
    def directory(self) -> Path:
        """Where it is; the same path inside."""
        return self.shared / self.environment.name

    def add(self, *debs: Deb) -> list[Path]:
        """Build packages and let apt know."""
        self.directory.mkdir(exist_ok=True)
        paths = [deb.build(self.directory) for deb in debs]
        with (self.directory / "Packages").open("a") as index:
            for deb, path in zip(debs, paths, strict=True):
                data = path.read_bytes()
                index.write(
                    f"{deb.control()}Filename: ./{path.name}\nSize: {len(data)}\n"
                    f"SHA256: {hashlib.sha256(data).hexdigest()}\n\n"
                )
        _open_to_all(self.directory)
        script = """
            rm -rf /etc/apt/sources.list /etc/apt/sources.list.d/*
            echo "deb [trusted=yes] file:$1 ./" > /etc/apt/sources.list.d/local.list
            apt-get -q update
        """
        change(self.environment, script, str(self.directory))
        return paths


def change(
    environment: Environment, script: str, *arguments: Argument, limit: float = APT_LIMIT, prefix: Sequence[str] = ()
) -> str:
    """The output of a script that must succeed; refuses to run anywhere but in this environment."""
    return succeeded(attempt(environment, script, *arguments, limit=limit, prefix=prefix)).stdout


def attempt(
    environment: Environment, script: str, *arguments: Argument, limit: float = APT_LIMIT, prefix: Sequence[str] = ()
) -> Result:
    """The same for a script that may fail."""
    command = ("sh", "-ec", _GUARD + script, "sh", environment.name, *arguments)
    return environment.exec(*command, limit=limit, prefix=prefix)


def states(environment: Environment, *patterns: str) -> dict[str, str]:
    """What dpkg knows of some packages: "ii 2" is version 2, installed."""
    script = "dpkg-query -W -f '${Package}\t${db:Status-Abbrev}${Version}\n' \"$@\" 2>/dev/null || true"
    lines = environment.sh(script, *patterns).splitlines()
    return {name: state for name, state in (line.split("\t") for line in lines) if not state.startswith("un")}


def assert_sound(environment: Environment) -> None:
    """dpkg has nothing to complain about, in a session that mounts everything anew."""
    assert environment.tool.status(environment.name)["running"] is False
    assert environment.audit() == ""
    environment.apt("check")


def _open_to_all(directory: Path) -> None:
    subprocess.run(["chmod", "-R", "u=rwX,go=rX", directory], check=True)
