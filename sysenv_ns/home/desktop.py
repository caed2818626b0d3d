"""PURE: desktop entries: which program an entry starts, and the same entry for another program; reads no files.

https://specifications.freedesktop.org/desktop-entry-spec/latest/
"""

from __future__ import annotations

import re
from collections.abc import Callable, Iterator, Sequence

FILE_NAME = re.compile(r"[A-Za-z0-9_@+-][A-Za-z0-9._@+-]*\.desktop")
ICON_NAME = re.compile(r"[A-Za-z0-9_+-][A-Za-z0-9._+-]*")

# What a menu shows and asks; all others (DBusActivatable, Path, Implements ...) speak of what is not on the host.
_KEYS = frozenset(
    {
        *("Type", "Version", "Name", "GenericName", "Comment", "Keywords", "Categories", "MimeType", "Terminal"),
        *("StartupNotify", "StartupWMClass", "NoDisplay", "OnlyShowIn", "NotShowIn", "SingleMainWindow"),
        "PrefersNonDefaultGPU",
    }
)
_MAIN = "Desktop Entry"
_ACTION = "Desktop Action "
_LINE = re.compile(r"([A-Za-z0-9-]+)(\[[A-Za-z0-9_.@-]+\])?\s*=\s*(.*)")
_ESCAPES = {"s": " ", "n": "\n", "t": "\t", "r": "\r", "\\": "\\"}
_RESERVED = re.compile(r"""[\s"'\\><~|&;$*?#()`]""")

# (key with its locale, value) in order, by the name of the group
Groups = dict[str, list[tuple[str, str]]]


def parse(text: str) -> Groups:
    """The groups of a file; lines that are none of an entry are left out."""
    groups: Groups = {}
    entries: list[tuple[str, str]] = []
    for line in text.split("\n"):
        if line.startswith("[") and line.rstrip().endswith("]"):
            entries = groups.setdefault(line.strip()[1:-1], [])
        elif found := _LINE.fullmatch(line.strip()):
            entries.append((found[1] + (found[2] or ""), found[3]))
    return groups


def program(groups: Groups) -> str | None:
    """What the entry starts, as it names it; None when that is nothing."""
    main = dict(groups.get(_MAIN, ()))
    if main.get("Type") != "Application" or main.get("Hidden") == "true":
        return None
    return next(iter(split_command(main.get("Exec", ""))), None)


def icon(groups: Groups) -> str | None:
    """The entry's icon: a name, or a path."""
    return dict(groups.get(_MAIN, ())).get("Icon")


def rewritten(groups: Groups, is_it: Callable[[str], bool], wrapper: str, icon_name: str | None) -> str:
    """The entry for a wrapper of its program. Actions that start other programs (`is_it` tells) are left out."""
    actions = [name for name in _action_names(groups) if _starts(groups.get(f"{_ACTION}{name}", ()), is_it)]
    lines = ["# Made by sysenv-ns.", f"[{_MAIN}]", *_lines(groups[_MAIN], _KEYS, wrapper)]
    lines.append(f"TryExec={_escaped(wrapper)}")
    if icon_name is not None:
        lines.append(f"Icon={icon_name}")
    if actions:
        lines.append(f"Actions={''.join(f'{name};' for name in actions)}")
    for name in actions:
        lines += ["", f"[{_ACTION}{name}]", *_lines(groups[f"{_ACTION}{name}"], frozenset({"Name"}), wrapper)]
    return "".join(f"{line}\n" for line in lines)


def _action_names(groups: Groups) -> list[str]:
    listed = dict(groups[_MAIN]).get("Actions", "").split(";")
    return [name for name in listed if re.fullmatch(r"[A-Za-z0-9-]+", name)]


def _starts(entries: Sequence[tuple[str, str]], is_it: Callable[[str], bool]) -> bool:
    command = split_command(dict(entries).get("Exec", ""))
    return bool(command) and is_it(command[0])


def _lines(entries: Sequence[tuple[str, str]], keys: frozenset[str], wrapper: str) -> Iterator[str]:
    for key, value in entries:
        if key.partition("[")[0] in keys:
            yield f"{key}={value}"
        elif key == "Exec":
            arguments = split_command(value)[1:]
            yield f"Exec={join_command([wrapper.replace('%', '%%'), *arguments])}"


def split_command(value: str) -> list[str]:
    """The arguments of a value of Exec, field codes as they are; none when it is malformed."""
    text = re.sub(r"\\(.)", lambda found: _ESCAPES.get(found[1], found[0]), value)
    arguments: list[str] = []
    rest = text.strip(" ")
    while rest:
        found = re.match(r'"((?:[^"\\]|\\.)*)"(?: +|$)', rest, re.DOTALL) or re.match(r'([^ "]+)(?: +|$)', rest)
        if found is None:
            return []
        quoted = rest.startswith('"')
        arguments.append(re.sub(r'\\(["`$\\])', r"\1", found[1]) if quoted else found[1])
        rest = rest[found.end() :]
    return arguments


def join_command(arguments: Sequence[str]) -> str:
    """A value of Exec."""
    return " ".join(_escaped(_quoted(argument)) for argument in arguments)


def _quoted(argument: str) -> str:
    if argument and not _RESERVED.search(argument):
        return argument
    return '"' + re.sub(r'(["`$\\])', r"\\\1", argument) + '"'


def _escaped(text: str) -> str:
    for plain, escape in (("\\", "\\\\"), ("\n", "\\n"), ("\t", "\\t"), ("\r", "\\r")):
        text = text.replace(plain, escape)
    return text
