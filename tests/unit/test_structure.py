"""Dependencies point one way: no package or module of the tool imports what, in the end, imports it."""

from __future__ import annotations

import ast
from graphlib import TopologicalSorter
from pathlib import Path

import pytest

import sysenv_ns
from sysenv_ns import verbs
from sysenv_ns.environment import directory

pytestmark = pytest.mark.slow  # all of the source is parsed

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
    expected = [
        (name,)
        for name in ("text", "errors", "kernel", "files", "host", "environment", "lower", "status", "verbs", "cli")
    ]
    assert sorted(expected, key=order.index) == expected


def test_nothing_below_the_command_line_prints_or_knows_of_it() -> None:
    above = {("verbs",), ("cli",), ("quick",), ("quick_verbs",), ("__main__",)}
    graph = _graph(1)
    assert {name for name, below in graph.items() if below & {("verbs",), ("console",)}} <= above


def test_what_runs_inside_knows_nothing_of_the_tool() -> None:
    """It is run by the environment's python3, which has the standard library alone; and the tool runs none of it."""
    graph = _graph(1)
    assert graph[("within",)] == set()
    assert [name for name, below in graph.items() if ("within",) in below] == []


def test_each_verb_is_a_file_and_each_file_a_verb() -> None:
    beside = {"__init__", "context", "entry", "options"}
    files = {
        path.stem.removesuffix("_") if path.stem != "__init__" else path.stem for path in (_ROOT / "verbs").glob("*.py")
    }
    assert files - beside == set(verbs.NAMES)
    for name in verbs.NAMES:
        assert verbs.load(name).name == name


def test_modules_depend_on_each_other_one_way() -> None:
    assert len(list(TopologicalSorter(_graph(2)).static_order())) > 70


# What prints, and the descriptors of the standard streams.
_PRINTING = {"print", "echo", "secho", "confirm", "prompt", "progressbar", "echo_via_pager", "pause", "input"}
_STREAMS = {"stdout", "stderr", "__stdout__", "__stderr__"}
_WRITING = {"write", "writelines", "flush", "buffer"}


def _prints(path: Path) -> set[str]:
    """The calls in a module that put something on the screen."""
    found = set()
    for node in ast.walk(ast.parse(path.read_text())):
        if isinstance(node, ast.Call):
            function = node.func
            name = function.attr if isinstance(function, ast.Attribute) else getattr(function, "id", "")
            owner = getattr(getattr(function, "value", None), "id", "")
            if name in _PRINTING and owner in ("", "click", "builtins"):
                found.add(name)
            if name in ("write", "write_all") and node.args and _is_standard(node.args[0]):
                found.add("os.write")
        if isinstance(node, ast.Attribute) and node.attr in _WRITING and getattr(node.value, "attr", "") in _STREAMS:
            found.add(f"sys.{node.attr}")
    return found


def _is_standard(descriptor: ast.expr) -> bool:
    number = isinstance(descriptor, ast.Constant) and descriptor.value in (1, 2)
    return number or (isinstance(descriptor, ast.Name) and descriptor.id in ("_STDOUT", "_STDERR"))


def test_one_module_prints() -> None:
    found = {"/".join(_module(path)): _prints(path) for path in _ROOT.rglob("*.py")}
    assert {name: calls for name, calls in found.items() if calls} == {
        "console": {"echo", "confirm"},
        "notices": {"sys.write", "sys.flush", "os.write"},
        "__main__": {"os.write"},  # that nothing can be imported
        "mapped/root": {"os.write"},  # likewise
        "within/systemctl": {"sys.flush", "sys.write", "sys.writelines"},  # a program of its own, which runs inside
        "apply/root": {"os.write"},  # its answer, as JSON, to the process that has started it
    }


def test_a_class_name_means_one_thing() -> None:
    names = [
        node.name.removeprefix("_")
        for path in _ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.ClassDef)
    ]
    assert sorted({name for name in names if names.count(name) > 1}) == []


# Names in the directory of an environment and of a store that mean nothing else.
_OF_DIRECTORIES = {name for name in vars(directory).values() if isinstance(name, str) and "." in name}


def test_names_of_files_are_in_one_module() -> None:
    found = {
        "/".join(_module(path)): node.value
        for path in _ROOT.rglob("*.py")
        for node in ast.walk(ast.parse(path.read_text()))
        if isinstance(node, ast.Constant) and node.value in _OF_DIRECTORIES
    }
    assert set(found) == {"environment/directory"}


def test_a_module_has_at_most_350_lines() -> None:
    helpers = Path(__file__).parents[2] / "helpers"
    modules = [*_ROOT.rglob("*.py"), *helpers.rglob("*.py"), *(path for path in helpers.iterdir() if path.is_file())]
    assert [path for path in modules if len(path.read_text().splitlines()) > 350] == []


def test_no_path_is_found_by_going_two_directories_up() -> None:
    assert [path for path in _ROOT.rglob("*.py") if ".parent.parent" in path.read_text()] == []
