#!/usr/bin/python3
"""Fills the virtual environment that runs this with what the checkout depends on, and compiles nothing.

Run by venv.sh: CHECKOUT EXTRA [lowest] [compile]. A module that a distribution has comes from there: copied when its
package is installed, else out of the package, which apt-get downloads for anybody. What is not to be had in that way,
and all that tests need, are wheels. Nothing is installed on the system, and nothing compiled unless it is told to.
Prints one line about what it did. The exit status is 3 when something has to be compiled.
"""

from __future__ import annotations

import compileall
import contextlib
import importlib.util
import os
import re
import shutil
import signal
import subprocess
import sys
import sysconfig
import tempfile
import tomllib
from collections.abc import Callable, Sequence
from dataclasses import dataclass
from pathlib import Path

NOT_TO_BE_HAD = 3  # exit status
_DIST_PACKAGES = "usr/lib/python3/dist-packages"  # of Debian and what comes from it
_WHEELS = "usr/share/python-wheels"


@dataclass(frozen=True)
class Packaged:
    """What a distribution has in the place of a requirement: a package, and in it a version of something importable."""

    package: str
    module: str
    distribution: str
    minimum: tuple[int, int]


PACKAGED = {
    "click": Packaged("python3-click", "click", "click", (8, 1)),
    "backports.zstd": Packaged("python3-zstandard", "zstandard", "zstandard", (0, 19)),
    "tomlkit": Packaged("python3-tomlkit", "tomlkit", "tomlkit", (0, 11)),
    "python-prctl": Packaged("python3-prctl", "_prctl", "python-prctl", (1, 8)),
}
OPTIONAL = frozenset({"python-prctl"})  # where it is missing, sysenv_ns.kernel.syscalls makes its calls itself


class Failed(Exception):
    """The text is for the user."""


@dataclass(frozen=True)
class Place:
    """The virtual environment."""

    root: Path

    @property
    def packaged(self) -> Path:
        """The modules that come from packages."""
        return self.root / "packaged"

    def show(self, *directories: Path) -> None:
        """Let Python look for modules there too, after what pip has installed.

        What is moved together with this is named from here: so the checkout may be moved, and be anywhere.
        """
        site = Path(sysconfig.get_path("purelib"))
        together = self.root.parent
        lines = [os.path.relpath(path, site) if path.is_relative_to(together) else str(path) for path in directories]
        (site / "sysenv-ns-checkout.pth").write_text("".join(f"{line}\n" for line in lines))


def main() -> int:
    """The exit status."""
    checkout, extra, lowest, compiling = Path(sys.argv[1]), sys.argv[2], "lowest" in sys.argv, "compile" in sys.argv
    place = Place(Path(sys.prefix))
    place.show(checkout)  # pip shall not take what is packaged for its own
    place.packaged.mkdir(exist_ok=True)
    project = tomllib.loads((checkout / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    needed = [text for text in project["dependencies"] if _applies(text)]
    wheels = [*(text.replace(">=", "==", 1) if lowest else text for text in needed), *extras[extra]] if extra else []
    try:
        with tempfile.TemporaryDirectory(prefix="sysenv-ns-") as directory:
            archive = Archive(Path(directory))
            taken, left = _take_packages(place, archive, [*([] if extra else needed), *extras["prctl"]])
            wheels += [text for text in left if _name(text) not in OPTIONAL]
            if wheels and not _install_wheels(place, archive, wheels, compiling):
                return NOT_TO_BE_HAD
    except shutil.Error as error:
        print(error.args[0][0][2], file=sys.stderr)  # of many files the first
        return 1
    except (Failed, OSError) as error:
        print(error, file=sys.stderr)
        return 1
    place.show(checkout, place.packaged)
    _compile(place.packaged, checkout / "sysenv_ns")
    print(_report(taken, wheels))
    return 0


def _compile(*directories: Path) -> None:
    """Do what Python would do at each start for other users of the checkout, who cannot write there."""
    for directory in directories:
        if os.access(directory, os.W_OK):
            compileall.compile_dir(directory, quiet=2)


def _name(requirement: str) -> str:
    return requirement.partition(">")[0].strip()


def _applies(requirement: str) -> bool:
    """Whether a marker, of which the project has one kind only, is about this Python."""
    _, _, marker = requirement.partition(";")
    if not marker:
        return True
    name, below, version = marker.split()
    assert (name, below) == ("python_version", "<"), requirement
    return sys.version_info < tuple(map(int, version.strip("'").split(".")))


def _report(taken: Sequence[str], wheels: Sequence[str]) -> str:
    found = [f"the system's {', '.join(taken)}"] if taken else []
    found += [f"{', '.join(map(_name, wheels))} from PyPI"] if wheels else []
    return f"it has {' and '.join(found) or 'nothing but Python'}; nothing was installed on the system"


# For lists that are not the system's own: what it does after apt has fetched an index would change it, as it removes
# packages or renews a catalogue of software.
NO_HOOKS = "#clear APT::Update;\n#clear DPkg;\n"


class Archive:
    """The distribution's packages: installed, or as apt-get downloads them for anybody."""

    def __init__(self, directory: Path) -> None:
        self._directory = directory
        self._reached = True

    def unpack(self, package: str, below: str, target: Path) -> bool:
        """Put what a package has below a directory of the system into `target`; False when it is not to be had."""
        return self._copy_installed(package, below, target) or self._unpack_downloaded(package, below, target)

    def _copy_installed(self, package: str, below: str, target: Path) -> bool:
        state = _output("dpkg-query", "--show", "--showformat=${db:Status-Status}", package)
        if state != "installed":
            return False
        for line in (_output("dpkg-query", "--listfiles", package) or "").splitlines():
            source = Path(line)
            if source.is_relative_to(f"/{below}") and source.is_file():
                copy = target / source.relative_to(f"/{below}")
                copy.parent.mkdir(parents=True, exist_ok=True)
                shutil.copy(source, copy)
        return True

    def _unpack_downloaded(self, package: str, below: str, target: Path) -> bool:
        with tempfile.TemporaryDirectory(dir=self._directory) as directory:
            file = self._download(package, Path(directory))
            if file is None or _output("dpkg-deb", "--extract", str(file), f"{directory}/tree") is None:
                return False
            shutil.copytree(Path(directory, "tree", below), target, dirs_exist_ok=True)
        return True

    def _download(self, package: str, directory: Path) -> Path | None:
        """With the lists of the system, or, where it has none or old ones, with lists of our own."""
        ways: tuple[Callable[[], Sequence[str]], ...] = (tuple, self._own_lists)
        for options in ways:
            if self._reached and _output("apt-get", *options(), "-q", "download", package, cwd=directory) is not None:
                return next(directory.glob("*.deb"), None)
        return None

    def _own_lists(self) -> Sequence[str]:
        """Options of apt-get for lists that are fetched once, for anybody."""
        state, kept = self._directory / "state", self._directory / "cache"
        configuration = self._directory / "apt.conf"
        configuration.write_text(NO_HOOKS)
        settings = (f"Dir::State={state}", f"Dir::Cache={kept}", "Dir::State::status=/var/lib/dpkg/status")
        options = (f"-c{configuration}", *(f"-o{setting}" for setting in settings))
        if not state.exists():
            (state / "lists" / "partial").mkdir(parents=True)
            (kept / "archives" / "partial").mkdir(parents=True)
            update = ("apt-get", *options, "-oAPT::Update::Error-Mode=any", "-q", "update")
            self._reached = _output(*update) is not None  # waiting in vain once is enough
        return options


def _take_packages(place: Place, archive: Archive, needed: Sequence[str]) -> tuple[list[str], list[str]]:
    """The packages whose modules are in place now, and the requirements that are not met by one."""
    taken, left = [], []
    for requirement in needed:
        packaged = PACKAGED[_name(requirement)]
        if archive.unpack(packaged.package, _DIST_PACKAGES, place.packaged) and _will_do(packaged, place.packaged):
            taken.append(packaged.package)
        else:
            left.append(requirement)
    return taken, left


def _will_do(packaged: Packaged, directory: Path) -> bool:
    """Whether it is new enough and can be imported here: a compiled module is made for one Python."""
    code = (
        f"import importlib.metadata, sys\n"
        f"sys.path.append({str(directory)!r})\n"
        f"import {packaged.module}\n"
        f"version = importlib.metadata.version({packaged.distribution!r})\n"
        f"sys.exit(tuple(map(int, version.split('.')[:2])) < {packaged.minimum})"
    )
    return _output(sys.executable, "-I", "-c", code) is not None


def _install_wheels(place: Place, archive: Archive, wheels: Sequence[str], compiling: bool) -> bool:
    """Let pip do it; False when not all of them are wheels and nothing may be compiled. Raises Failed."""
    pip = [*_pip(place, archive), "--disable-pip-version-check"]
    # The caller's settings (variables, pip.conf) say where packages come from, but not where they go.
    options = ["--quiet", "--no-user", "--target=", f"--prefix={place.root}", "--root=/"]
    options += [] if compiling else ["--only-binary", ":all:"]
    done = subprocess.run([*pip, "install", *options, *wheels], capture_output=True, text=True, check=False)
    if done.returncode and (compiling or not _has_source(pip, done.stderr)):
        raise Failed(f"pip failed:\n{done.stderr.strip()}")
    return done.returncode == 0


def _has_source(pip: Sequence[str], said: str) -> bool:
    """Whether what pip has found no wheel of is there at all: it says the same when it reaches no index."""
    found = re.search(r"No matching distribution found for ([\w.-]+)", said)
    return found is not None and _output(*pip, "--retries=0", "index", "versions", found[1]) is not None


def _pip(place: Place, archive: Archive) -> Sequence[str]:
    """pip as a command: Python's own, or the one of a package, which needs not be installed. Raises Failed."""
    if importlib.util.find_spec("pip"):
        return (sys.executable, "-I", "-m", "pip")
    if importlib.util.find_spec("ensurepip"):
        if _output(sys.executable, "-I", "-m", "ensurepip") is None:
            raise Failed("Python's ensurepip does not work")
        return (sys.executable, "-I", "-m", "pip")
    wheels = place.root / "pip"
    with contextlib.suppress(StopIteration):
        if wheels.is_dir() or archive.unpack("python3-pip-whl", _WHEELS, wheels):
            return (sys.executable, str(next(wheels.glob("pip-*.whl")) / "pip"))
    raise Failed("there is no pip here, and it cannot be downloaded either: install python3-venv, or mend the network")


def _output(*command: str, cwd: Path | None = None) -> str | None:
    """What a command writes to its standard output; None when it fails or is not there."""
    if not (shutil.which(command[0]) or os.path.isabs(command[0])):
        return None
    variables = os.environ | {"LC_ALL": "C.UTF-8"}
    done = subprocess.run(
        command, cwd=cwd, env=variables, stdin=subprocess.DEVNULL, capture_output=True, text=True, check=False
    )
    return done.stdout if done.returncode == 0 else None


if __name__ == "__main__":
    try:
        sys.exit(main())
    except KeyboardInterrupt:  # everything is cleared away; the shell that runs this shall end by it too
        signal.signal(signal.SIGINT, signal.SIG_DFL)
        signal.raise_signal(signal.SIGINT)
