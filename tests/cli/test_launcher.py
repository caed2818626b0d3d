"""What an installation puts on PATH: Python takes nothing from the caller there, and the command gets what he had."""

from __future__ import annotations

import os
import subprocess
import sys
import tomllib
from collections.abc import Mapping
from pathlib import Path

import pytest

from sysenv_ns import __version__

_CHECKOUT = Path(__file__).resolve().parents[2]
_LAUNCHER = _CHECKOUT / "scripts/sysenv-ns"
_LETHAL = "import os; os.write(2, b'the caller decides'); os._exit(9)\n"
_SHADOWED = ("typing", "re", "sitecustomize", "usercustomize", "click", "sysenv_ns", "json")


@pytest.fixture
def installed(tmp_path: Path) -> Path:
    """The launcher beside an interpreter that has the tool, as in a virtual environment."""
    (tmp_path / "bin").mkdir()
    python = tmp_path / "bin/python3"
    python.write_text(f'#!/bin/sh\nexec {sys.executable} "$@"\n')
    python.chmod(0o755)
    target = tmp_path / "bin/sysenv-ns"
    target.write_bytes(_LAUNCHER.read_bytes())
    target.chmod(0o755)
    return target


def _run(*command: str | Path, **variables: str) -> subprocess.CompletedProcess[str]:
    own: Mapping[str, str] = {"PATH": "/usr/bin:/bin", "HOME": "/", "LC_ALL": "C.UTF-8"}
    return subprocess.run(command, env={**own, **variables}, capture_output=True, text=True, check=False, cwd="/")


@pytest.fixture
def modules(tmp_path: Path) -> Path:
    """A directory with modules that end whatever imports them."""
    path = tmp_path / "modules"
    path.mkdir()
    for name in _SHADOWED:
        (path / f"{name}.py").write_text(_LETHAL)
    return path


def test_variables_of_python_do_not_reach_the_tool(installed: Path, modules: Path) -> None:
    hostile = {
        "PYTHONPATH": str(modules),
        "PYTHONHOME": "/nowhere",
        "PYTHONSTARTUP": str(modules / "re.py"),
        "PYTHONUSERBASE": str(modules),
        "PYTHONWARNINGS": "error",
        "PYTHONINSPECT": "1",
    }
    for variables in ({}, *({name: value} for name, value in hostile.items()), hostile):
        result = _run(installed, "--version", **variables)
        assert (result.returncode, result.stdout, result.stderr) == (0, f"sysenv-ns {__version__}\n", ""), variables


def test_a_link_to_it_works(installed: Path, modules: Path) -> None:
    """As pipx makes one."""
    link = modules / "sysenv-ns"
    link.symlink_to(installed)
    assert _run(link, "--version", PYTHONHOME="/nowhere").stdout == f"sysenv-ns {__version__}\n"


def test_its_status_and_arguments_are_those_of_the_tool(installed: Path) -> None:
    result = _run(installed, "no such\nverb")
    assert (result.returncode, "No such command" in result.stderr) == (2, True)


def test_without_an_interpreter_it_says_so(installed: Path, tmp_path: Path) -> None:
    (installed.parent / "python3").unlink()
    result = _run("/bin/sh", installed, "--version", PATH=str(tmp_path / "empty"))
    assert (result.returncode, result.stdout) == (125, "")
    assert result.stderr == "sysenv-ns: Python is not installed\nhint: install python3\n"


def test_it_is_what_an_installation_installs() -> None:
    project = tomllib.loads((_CHECKOUT / "pyproject.toml").read_text())
    assert project["tool"]["setuptools"]["script-files"] == ["scripts/sysenv-ns"]
    assert "scripts" not in project["project"]  # pip would write them, without -I
    assert os.access(_LAUNCHER, os.X_OK)


def test_its_licence_is_an_spdx_expression() -> None:
    project = tomllib.loads((_CHECKOUT / "pyproject.toml").read_text())["project"]
    assert project["license"] == "GPL-3.0-or-later"
    # PEP 639: beside the expression a classifier of a licence is an error.
    assert not [name for name in project["classifiers"] if name.startswith("License")]
    assert all((_CHECKOUT / name).is_file() for name in (*project["license-files"], project["readme"]))
