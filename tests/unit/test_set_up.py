"""The checkout's set-up (helpers/lib/venv.sh, dependencies.py): what it installs on the system, and when."""

from __future__ import annotations

import importlib.util
import os
import pwd
import shutil
import signal
import subprocess
import sys
import zipfile
from pathlib import Path

import dependencies
import pexpect
import pytest

_LIBRARY = Path(__file__).parents[2] / "helpers" / "lib" / "venv.sh"
_SCRIPT = f"helpers=/nonexistent; . {_LIBRARY}; yes=$1; install_packages gcc libc6-dev; say installed"
_INSTALL = "-q -y -o DPkg::Lock::Timeout=300 --no-install-recommends install gcc libc6-dev"


@pytest.fixture
def programs(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A user with sudo and apt-get, which note what they are told."""
    directory = tmp_path / "bin"
    directory.mkdir()
    for name, text in {
        "id": "echo 1000",
        "sudo": f'echo sudo >>{tmp_path}/log; exec "$@"',
        "apt-get": f'echo "$*" >>{tmp_path}/log',
    }.items():
        directory.joinpath(name).write_text(f"#!/bin/sh\n{text}\n")
        directory.joinpath(name).chmod(0o755)
    monkeypatch.setenv("PATH", f"{directory}:/usr/bin:/bin")
    return tmp_path / "log"


def test_nothing_is_installed_without_a_terminal(programs: Path) -> None:
    result = subprocess.run(
        ["sh", "-c", _SCRIPT], capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL
    )
    assert result.returncode == 125
    assert result.stderr == (
        "sysenv-ns: this needs packages that are not installed: gcc libc6-dev\n"
        "hint: sudo apt-get install -y gcc libc6-dev, or say --yes to let this do it\n"
    )
    assert not programs.exists()


def test_yes_installs(programs: Path) -> None:
    command = ["sh", "-c", _SCRIPT, "sh", "yes"]
    result = subprocess.run(command, capture_output=True, text=True, check=False, stdin=subprocess.DEVNULL)
    assert result.returncode == 0, result.stderr
    assert _INSTALL in programs.read_text()


@pytest.mark.parametrize(("answer", "installs"), [("y", True), ("yes", True), ("n", False), ("", False), ("yn", False)])
def test_a_terminal_is_asked(programs: Path, answer: str, installs: bool) -> None:
    terminal = pexpect.spawn("sh", ["-c", _SCRIPT], encoding="utf-8", timeout=20)
    terminal.expect_exact("Install them on this system with sudo apt-get? [y/N] ")
    assert not programs.exists()
    terminal.sendline(answer)
    terminal.expect(pexpect.EOF)
    terminal.close()
    assert (terminal.exitstatus, programs.exists()) == ((0, True) if installs else (125, False))


@pytest.mark.parametrize(
    ("variables", "expected"),
    [
        ({"XDG_CACHE_HOME": "/c", "HOME": "/h"}, "/c"),
        ({"XDG_CACHE_HOME": "c", "HOME": "/h"}, "/h/.cache"),
        ({"HOME": "/h"}, "/h/.cache"),
        ({"HOME": "relative"}, f"{pwd.getpwuid(os.getuid()).pw_dir}/.cache"),
        ({}, f"{pwd.getpwuid(os.getuid()).pw_dir}/.cache"),
    ],
)
def test_where_a_virtual_environment_for_a_foreign_checkout_goes(variables: dict[str, str], expected: str) -> None:
    command = ["sh", "-euc", f"helpers=/nonexistent; . {_LIBRARY}; _cache"]
    environment = {"PATH": "/usr/bin:/bin", **variables}
    result = subprocess.run(command, capture_output=True, text=True, check=True, env=environment)
    assert result.stdout == f"{expected}\n"


@pytest.fixture
def checkout(tmp_path: Path) -> Path:
    """One whose virtual environment is ready, with a Python that says so."""
    helpers, venv = tmp_path / "helpers", tmp_path / ".venv"
    (helpers / "lib").mkdir(parents=True)
    (venv / "bin").mkdir(parents=True)
    shutil.copy(_LIBRARY.parents[1] / "sysenv-ns", helpers)
    (helpers / "lib/venv.sh").write_text("prepare_venv() { echo prepared; exit; }\n")
    (venv / "bin/python").write_text("#!/bin/sh\necho started\n")
    (venv / "bin/python").chmod(0o755)
    (tmp_path / "pyproject.toml").touch()
    os.utime(tmp_path / "pyproject.toml", (0, 0))
    (venv / ".ready").touch()
    return tmp_path


@pytest.mark.parametrize(("unfinished", "done"), [(False, "started"), (True, "prepared")])
def test_what_is_being_changed_is_not_used(checkout: Path, unfinished: bool, done: str) -> None:
    """helpers/test adds to it: meanwhile, and for ever if it is interrupted, modules are missing."""
    if unfinished:
        (checkout / ".venv/.unfinished").touch()
    result = subprocess.run([checkout / "helpers/sysenv-ns"], capture_output=True, text=True, check=True)
    assert result.stdout == f"{done}\n"
    script = (
        f"helpers={checkout}/helpers; . {_LIBRARY}; venv={checkout}/.venv ready=.ready checkout={checkout}; _is_ready"
    )
    assert (subprocess.run(["sh", "-c", script], check=False).returncode == 0) is not unfinished


def test_where_the_checkout_is_does_not_depend_on_cdpath(tmp_path: Path) -> None:
    """With it cd says where it went; or goes to another directory of that name."""
    (tmp_path / "helpers").mkdir()
    script = f"helpers=helpers; . {_LIBRARY}; _is_ready() {{ :; }}; prepare_venv; echo $checkout"
    environment = {"PATH": "/usr/bin:/bin", "CDPATH": str(tmp_path)}
    result = subprocess.run(
        ["sh", "-euc", script], capture_output=True, text=True, check=True, cwd=tmp_path, env=environment
    )
    assert result.stdout == f"{tmp_path}\n"


@pytest.mark.parametrize("variables", [{}, {"PYTHONHOME": "/nonexistent"}, {"PYTHONPATH": "."}])
def test_the_set_up_takes_no_modules_of_the_caller(tmp_path: Path, variables: dict[str, str]) -> None:
    """Who begins in a directory with a logging.py, or has variables for another Python."""
    (tmp_path / "logging.py").write_text("raise SystemExit('the wrong module')")
    (tmp_path / "pyproject.toml").touch()
    script = (
        f"helpers=/nonexistent; . {_LIBRARY}; _fill_venv() {{ output=made; }}\n"
        "checkout=. venv=./.venv ready=.ready python=$1; mkdir .venv; _need_python_packages"
    )
    command = ["sh", "-c", script, "sh", sys.executable]
    environment = {"PATH": "/usr/bin:/bin", **variables}
    result = subprocess.run(command, capture_output=True, text=True, check=False, cwd=tmp_path, env=environment)
    assert (result.returncode, result.stderr) == (0, "sysenv-ns: made\n")


def test_an_interrupt_is_told_without_a_traceback(tmp_path: Path) -> None:
    (tmp_path / "pyproject.toml").write_text(_LIBRARY.parents[2].joinpath("pyproject.toml").read_text())
    (tmp_path / "bin").mkdir()
    (tmp_path / "bin/dpkg-query").write_text("#!/bin/sh\nkill -INT $PPID\nsleep 60\n")
    (tmp_path / "bin/dpkg-query").chmod(0o755)
    python = tmp_path / ".venv/bin/python"
    subprocess.run([sys.executable, "-I", "-m", "venv", "--without-pip", str(tmp_path / ".venv")], check=True)
    command = [str(python), "-I", str(_LIBRARY.with_name("dependencies.py")), str(tmp_path), ""]
    environment = {"PATH": f"{tmp_path}/bin:/usr/bin:/bin"}
    result = subprocess.run(command, capture_output=True, text=True, check=False, env=environment)
    assert (result.returncode, result.stderr) == (-signal.SIGINT, "")


@pytest.fixture
def python(tmp_path: Path) -> Path:
    """Of a new virtual environment of a checkout, whose path is an odd one."""
    venv = tmp_path / "odd\npath" / ".venv"
    subprocess.run([sys.executable, "-I", "-m", "venv", "--without-pip", str(venv)], check=True)
    return venv / "bin/python"


def test_a_checkout_may_be_moved(python: Path) -> None:
    """Nobody expects that he has to do something then."""
    venv = python.parents[1]
    (venv / "packaged").mkdir()
    (venv / "packaged/madeup_package.py").touch()
    (venv.parent / "madeup_tool.py").touch()
    show = "dependencies.Place(venv).show(venv.parent, venv / 'packaged')"
    code = f"import pathlib, sys; venv = pathlib.Path(sys.prefix); sys.path.append({str(_LIBRARY.parent)!r})"
    imports = ["-I", "-c", "import madeup_package, madeup_tool"]
    subprocess.run([python, "-I", "-c", f"{code}; import dependencies; {show}"], check=True)
    subprocess.run([python, *imports], check=True)
    moved = venv.parent.rename(venv.parents[1] / "moved")
    subprocess.run([moved / ".venv/bin/python", *imports], check=True)


@pytest.fixture
def pip(python: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """The real one, as it runs in `python`; the directory where alone it finds packages."""
    found = importlib.util.find_spec("pip")
    places = (found and found.submodule_search_locations) or [
        str(wheel / "pip") for wheel in Path(sys.prefix, "pip").glob("pip-*.whl")
    ]
    monkeypatch.setattr(dependencies, "_pip", lambda *_: (str(python), "-I", places[0]))
    index = tmp_path / "index"
    index.mkdir()
    for name in [name for name in os.environ if name.startswith("PIP_")]:
        monkeypatch.delenv(name)
    monkeypatch.setenv("PIP_NO_INDEX", "1")
    monkeypatch.setenv("PIP_FIND_LINKS", str(index))
    monkeypatch.setenv("PIP_CONFIG_FILE", str(index / "pip.conf"))
    return index


def _install_madeup(python: Path) -> bool:
    directory = python.parents[1]
    return dependencies._install_wheels(
        dependencies.Place(directory), dependencies.Archive(directory), ["madeup"], False
    )


def test_wheels_come_into_the_virtual_environment_whatever_the_settings_of_pip(
    python: Path, pip: Path, tmp_path: Path, monkeypatch: pytest.MonkeyPatch
) -> None:
    """Gone elsewhere, they would be missing in what counts as set up."""
    metadata = "madeup-1.dist-info"
    with zipfile.ZipFile(pip / "madeup-1-py3-none-any.whl", "w") as wheel:
        wheel.writestr("madeup.py", "")
        wheel.writestr(f"{metadata}/METADATA", "Metadata-Version: 2.1\nName: madeup\nVersion: 1\n")
        wheel.writestr(
            f"{metadata}/WHEEL", "Wheel-Version: 1.0\nGenerator: x\nRoot-Is-Purelib: true\nTag: py3-none-any\n"
        )
        wheel.writestr(f"{metadata}/RECORD", "")
    monkeypatch.setenv("PIP_USER", "1")
    monkeypatch.setenv("PIP_TARGET", str(tmp_path / "target"))
    (pip / "pip.conf").write_text(f"[install]\nprefix = {tmp_path}/prefix\nroot = {tmp_path}/root\n")
    assert _install_madeup(python)
    subprocess.run([python, "-I", "-c", "import madeup"], check=True)


def test_what_pip_does_not_find_needs_no_compiler(python: Path, pip: Path) -> None:
    """As on a machine that reaches no PyPI."""
    with pytest.raises(dependencies.Failed, match="No matching distribution found for madeup"):
        _install_madeup(python)
    (pip / "madeup-1.tar.gz").touch()
    assert not _install_madeup(python)


def test_a_checkout_of_who_calls_by_sudo_is_set_up_by_that_user(checkout: Path, programs: Path) -> None:
    """Who could not delete what root makes there."""
    shutil.copy(_LIBRARY, checkout / "helpers/lib/venv.sh")
    (checkout / ".venv/.ready").unlink()
    for name, text in {"id": "echo 0", "stat": "echo 4242", "flock": "echo root >&2; exit 1"}.items():
        (programs.parent / "bin" / name).write_text(f"#!/bin/sh\n{text}\n")
        (programs.parent / "bin" / name).chmod(0o755)
    (programs.parent / "bin/sudo").write_text(f'#!/bin/sh\necho "$*" >>{programs}; touch {checkout}/.venv/.ready\n')
    environment = {**os.environ, "SUDO_UID": "4242"}
    result = subprocess.run(
        [checkout / "helpers/sysenv-ns"], capture_output=True, text=True, check=True, env=environment
    )
    assert (result.stdout, result.stderr) == ("started\n", "")
    assert programs.read_text().startswith("-H -u #4242 -- ")


def test_markers_say_which_python_needs_a_requirement() -> None:
    here = f"{sys.version_info.major}.{sys.version_info.minor}"
    later = f"{sys.version_info.major}.{sys.version_info.minor + 1}"
    assert dependencies._applies("click>=8.1")
    assert dependencies._applies(f"backports.zstd>=1; python_version < '{later}'")
    assert not dependencies._applies(f"backports.zstd>=1; python_version < '{here}'")


def test_a_package_that_is_too_old_or_for_another_python_will_not_do(tmp_path: Path) -> None:
    module = tmp_path / "madeup.py"
    metadata = tmp_path / "madeup-0.18.2.egg-info"
    module.write_text("")
    metadata.mkdir()
    (metadata / "PKG-INFO").write_text("Metadata-Version: 2.1\nName: madeup\nVersion: 0.18.2\n")
    for minimum, will_do in (((0, 18), True), ((0, 9), True), ((0, 19), False), ((1, 0), False)):
        packaged = dependencies.Packaged("python3-madeup", "madeup", "madeup", minimum)
        assert dependencies._will_do(packaged, tmp_path) is will_do
    module.write_text("raise ImportError('another Python')")
    assert not dependencies._will_do(dependencies.Packaged("", "madeup", "madeup", (0, 1)), tmp_path)


def test_modules_are_compiled_for_users_who_cannot_write_there(tmp_path: Path) -> None:
    package = tmp_path / "package"
    package.mkdir()
    package.joinpath("module.py").write_text("")
    dependencies._compile(tmp_path / "missing", package)
    assert [path.name for path in package.rglob("*.pyc")] == [f"module.{sys.implementation.cache_tag}.pyc"]
