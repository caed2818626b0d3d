"""No module reads a file, or parses JSON and TOML, by other means than files/reader.py and documents.py."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

import sysenv_ns

_ROOT = Path(sysenv_ns.__file__).parent
_OPENING = {"open", "os.open", "io.open", "codecs.open", "Path.open"}
_PARSING = {"json.load", "json.loads", "tomllib.load", "tomllib.loads"}
_METHODS = {"read_text", "read_bytes", "open"}
# What makes a file, or opens what has no content: a directory, or a name alone.
_NO_READING = re.compile(r"O_CREAT|O_TMPFILE|O_DIRECTORY|O_PATH|'[axw]\+?b?'|'a\+b'")
_PROC = re.compile(r"\(f?'/proc/|Path\(f?'/proc|Path\('/proc/sys', name\)")

# By modules: the calls that may be there, and why.
_OTHERS = {
    "archive/import_": (r"os.open\(file, .*|tomllib.loads\(found.settings\)", "the archive; its settings"),
    "archive/packer": (r"os.open\(place, .*O_NOFOLLOW.*", "files that are looked at by descriptor"),
    "documents": (r"json.loads\(_decoded\(data\).*|tomllib.loads\(text\)", "it is what parses"),
    "host/survey": (r"os.open\(mount.point, .*", "automounts"),
    "host/walk": (r"os.open\(path, .*", "the host's files by the hundred thousand"),
    "init": (r"os.open\(path, flags, 384\)", "what it starts has them as standard streams"),
    "keeper": (r"os.open\((f'{group}/.*|os.devnull), .*", "the control group's list of processes; nothing"),
    "kernel/cgroups": (r"(os.open|Path)\((path, |f'{(path|own)}/).*", "files of the kernel"),
    "kernel/binds": (r"os.open\('mountinfo', .*dir_fd=itself\)|open\(sight.table, 'rb'\)", "below /proc"),
    "kernel/emulation": (r"open\(descriptor, 'rb'\)", "a pipe"),
    "kernel/subordinate": (r"Path\(path\).read_text\(errors='replace'\)", "the host's own /etc/subuid and /etc/subgid"),
    "kernel/mountinfo": (r".*os.open\(name, .*dir_fd=itself\).*", "below /proc"),
    "kernel/moves": (r"os.open\(name, .*O_NOFOLLOW \| os.O_NONBLOCK.*", "as the caller who links it, in its root"),
    "kernel/operations": (r"os.open\(self.target\[1:\], flags, 384, dir_fd=root\)", "it is made"),
    "files/reader": (r".*", "it is what reads"),
    "kernel/caller": (r".*os.open\(('status'|f'fd.*), .*dir_fd=(self.)?proc.*", "below /proc"),
    "kernel/supervision": (r"watch.open\(\)", "what it watches"),
    "kernel/visits": (r".*os.open\(name, .*dir_fd=proc\).*", "below /proc"),
    "notices": (r"os.open\(os.devnull, .*", "nothing"),
    "paths": (r"open\(self._path, .*", "the methods that are looked for in all other modules"),
    "host_commands/service": (r"os.open\(os.devnull, .*|open\(said, 'rb'\)", "nothing, and a pipe"),
    "launcher": (r"os.open\(path, .*O_NOFOLLOW \| os.O_NONBLOCK.*", "the kernel's and root's; it imports nothing"),
    "livefiles": (r"layer.open\(path\)", "it is the reader that opens"),
    "lower/mirror": (r"os.open\(path, os.O_RDONLY \| os.O_NOFOLLOW\)", "what it has just made"),
    "drivers/fuse": (r"os.open\((DEVICE|os.devnull), .*", "devices of the host"),
    "drivers/probe": (r"os.open\('file', os.O_RDWR, dir_fd=mount\)", "what it has just made"),
    "drivers/reflink": (r"open\(_HOST_FILE, 'rb'\)", "a program of the host"),
    "drivers/root": (r"os.open\(_HOST_DATABASE, os.O_RDWR, dir_fd=mount\)", "whether it can be opened"),
    "environment/running": (r".*os.open\('mountinfo', .*dir_fd=own.*", "below /proc"),
    "apply/execution": (
        r"open\(descriptor, 'rb'\)|os.open\(path, flags, 384\)",
        "what entries.open_file has opened; what is made",
    ),
    "apply/entries": (r"os.open\(name, .*O_NOFOLLOW \| os.O_NONBLOCK.*", "the attributes of whatever is there"),
    "apply/tree": (r"os.open\(name, .*O_NOFOLLOW \| os.O_NONBLOCK.*", "the attributes of whatever is there"),
}


def _constants(tree: ast.Module) -> dict[str, str]:
    """The texts of what a module's names with an underscore stand for, flags above all."""
    rows = (node for node in tree.body if isinstance(node, ast.Assign) and isinstance(node.targets[0], ast.Name))
    return {ast.unparse(node.targets[0]): ast.unparse(node.value) for node in rows}


def _readings(path: Path) -> Iterator[tuple[int, str]]:
    tree = ast.parse(path.read_text())
    constants = _constants(tree)
    for node in ast.walk(tree):
        if not isinstance(node, ast.Call):
            continue
        name = ast.unparse(node.func)
        is_method = isinstance(node.func, ast.Attribute) and node.func.attr in _METHODS
        if name not in _OPENING | _PARSING and not (is_method and not name.startswith(("reader.", "self."))):
            continue
        said = re.sub(r"\b_[A-Z]+\b", lambda found: constants.get(found[0], found[0]), ast.unparse(node))
        if not _NO_READING.search(said) and not _PROC.search(said):
            yield node.lineno, said


def test_files_of_others_are_opened_by_the_reader_alone() -> None:
    paths = [path for path in _ROOT.rglob("*.py") if path.parent != _ROOT / "within"]  # what runs inside
    found = {str(path.relative_to(_ROOT).with_suffix("")): list(_readings(path)) for path in paths}
    wrong = [
        f"{module}:{line}: {call}"
        for module, calls in found.items()
        for line, call in calls
        if not re.fullmatch(_OTHERS.get(module, ("", ""))[0], call, re.DOTALL)
    ]
    assert wrong == [], "use files/reader.py or documents.py, or say in this test why not"
    assert [module for module in _OTHERS if not found.get(module)] == [], "an exception that nothing needs any more"
