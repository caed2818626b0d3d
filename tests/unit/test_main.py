"""The entry: nothing is imported before Ctrl-C is harmless."""

from __future__ import annotations

import os
import pkgutil
import subprocess
import sys
from importlib.machinery import PathFinder

import pytest

import sysenv_ns
import sysenv_ns.__main__

_NEW = """
import sys
before = set(sys.modules)
import sysenv_ns.__main__
print(*sorted(set(sys.modules) - before))
"""


def test_nothing_is_imported_that_could_be_interrupted() -> None:
    process = subprocess.run((sys.executable, "-I", "-c", _NEW), capture_output=True, text=True, check=True)
    assert process.stdout.split() == ["gc", "sysenv_ns", "sysenv_ns.__main__"]


def test_modules_are_found_as_python_finds_them() -> None:
    package = sysenv_ns.__path__[0]
    names = [name for _, name, _ in pkgutil.walk_packages(sysenv_ns.__path__, "sysenv_ns.")]
    assert len(names) > 200
    for name in names:
        *_, parent, _ = name.split(".")
        path = [package] if parent == "sysenv_ns" else [f"{package}/{parent}"]
        expected, found = PathFinder.find_spec(name, path), sysenv_ns.__main__._Finder.find_spec(name, path)
        assert expected is not None
        assert found == expected
        assert (found.cached, found.has_location) == (expected.cached, True)


@pytest.mark.parametrize("name", ["click.core", "sysenv_ns.absent", "sysenv_nsx"])
def test_others_are_left_to_python(name: str) -> None:
    assert sysenv_ns.__main__._Finder.find_spec(name, sysenv_ns.__path__) is None


_LIBRARIES = """
import sys
sys.path.append(sys.argv[1])
import sysenv_ns
from sysenv_ns import libraries
before = {*sys.path}
libraries.find()
libraries.find()
print(*(path for path in sys.path if path not in before), sep="\\0")
import click
"""


def test_libraries_are_found_when_they_are_needed() -> None:
    command = (sys.executable, "-I", "-S", "-c", _LIBRARIES, os.path.dirname(sysenv_ns.__path__[0]))
    process = subprocess.run(command, capture_output=True, text=True, check=True)
    assert set(process.stdout.strip().split("\0")) <= set(sys.path) - {""}
