"""Dependencies point one way: no package or module of the tool imports what, in the end, imports it."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import sysenv_ns

_ROOT = Path(sysenv_ns.__file__).parent


def _module(path: Path) -> tuple[str, ...]:
    return path.relative_to(_ROOT).with_suffix("").parts


def _imported(path: Path, modules: set[tuple[str, ...]]) -> set[tuple[str, ...]]:
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.ImportFrom) and node.module and node.module.split(".")[0] == "sysenv_ns":
            below = tuple(node.module.split(".")[1:])
            found |= {(*below, name.name) if (*below, name.name) in modules else below for name in node.names}
    return found - {()}


def _graph(depth: int) -> dict[tuple[str, ...], set[tuple[str, ...]]]:
    """What imports what: packages at depth 1, modules at depth 2."""
    paths = [path for path in _ROOT.rglob("*.py") if path.name != "__init__.py"]
    modules = {_module(path) for path in paths}
    graph: dict[tuple[str, ...], set[tuple[str, ...]]] = {}
    for path in paths:
        name = _module(path)[:depth]
        graph.setdefault(name, set()).update({module[:depth] for module in _imported(path, modules)} - {name})
    return graph


def test_packages_depend_on_each_other_one_way() -> None:
    order = list(TopologicalSorter(_graph(1)).static_order())
    assert order.index(("kernel",)) < order.index(("host",)) < order.index(("lower",)) < order.index(("cli",))


def test_modules_depend_on_each_other_one_way() -> None:
    assert len(list(TopologicalSorter(_graph(2)).static_order())) > 70
