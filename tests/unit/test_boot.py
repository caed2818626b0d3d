"""What a unit of systemd would execute at each boot must be root's alone, all of it."""

from __future__ import annotations

import importlib
import sys
from pathlib import Path

import pytest

from sysenv_ns.errors import SysenvError
from sysenv_ns.kernel import ownership
from sysenv_ns.mapped import boot


@pytest.fixture
def library(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> Path:
    """A directory of modules, two of which are loaded: one on top and one in a package."""
    (tmp_path / "zz_package").mkdir()
    for name in ("zz_package/__init__.py", "zz_package/inner.py", "zz_module.py", "zz.pth"):
        (tmp_path / name).write_text("")
    monkeypatch.syspath_prepend(tmp_path)
    for module in ("zz_package", "zz_package.inner", "zz_module"):
        monkeypatch.setitem(sys.modules, module, None)  # taken away again at the end
        del sys.modules[module]
        importlib.import_module(module)
    return tmp_path


@pytest.mark.parametrize(
    "name",
    [
        ".",
        "zz.pth",
        "zz_module.py",
        "zz_package/inner.py",
        f"zz_package/__pycache__/inner.{sys.implementation.cache_tag}.pyc",
    ],
)
def test_of_libraries(library: Path, monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    _refuses(library / name, monkeypatch)


@pytest.mark.parametrize("name", ["", "mapped", "mapped/root.py"])
def test_of_the_tool(monkeypatch: pytest.MonkeyPatch, name: str) -> None:
    _refuses(Path(boot.__file__).parents[1] / name, monkeypatch)


def test_of_the_interpreter(monkeypatch: pytest.MonkeyPatch) -> None:
    _refuses(Path(sys.executable), monkeypatch)
    _refuses(Path(sys.prefix) / "pyvenv.cfg", monkeypatch)


def _refuses(path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """It does if somebody else could change just this."""
    monkeypatch.setattr(ownership, "intruded", lambda found: found if Path(found) == path else None)
    with pytest.raises(SysenvError, match="what users other than root can change"):
        boot._require_closed()
