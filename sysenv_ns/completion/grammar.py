"""PURE: what can follow each word of a command line, derived from the verbs themselves; knows no shell."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from typing import Literal

import click

# What an argument is. `choice`: one of some words; `command`: a program of the environment, and all that follows it.
Kind = Literal["environment", "new", "snapshot", "file", "program", "command", "verb", "choice", "link"]
_KINDS: Mapping[str, Kind] = {
    "name": "environment",
    "names": "environment",
    "source": "environment",
    "label": "snapshot",
    "file": "file",
    "paths": "file",
    "directory": "file",
    "command": "program",
    "commands": "program",
    "arguments": "command",
    "verb": "verb",
}
# Where the same name is something else.
_SPECIAL: Mapping[tuple[str, str], Kind] = {
    ("create", "name"): "new",
    ("clone", "name"): "new",
    ("import", "name"): "new",
    ("rename", "name"): "new",
    ("sync", "arguments"): "environment",
    ("unlink", "commands"): "link",
}


@dataclass(frozen=True)
class CompletedOption:
    """An option: all its names, what is said of it, and what its value can be (None: it has none)."""

    names: tuple[str, ...]
    text: str
    value: Kind | None = None
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class CompletedArgument:
    """An argument; one that is `repeated` takes all that follows."""

    kind: Kind
    repeated: bool = False
    choices: tuple[str, ...] = ()


@dataclass(frozen=True)
class CompletedVerb:
    """A verb with all that can follow it."""

    name: str
    text: str
    options: tuple[CompletedOption, ...]
    arguments: tuple[CompletedArgument, ...]


def of(command: click.Command) -> CompletedVerb:
    """What can follow a verb."""
    name = command.name or ""
    options = [option for parameter in command.params if (option := _option(parameter)) is not None]
    arguments = [_argument(name, p) for p in command.params if isinstance(p, click.Argument)]
    text = command.get_short_help_str(100).rstrip(".")
    return CompletedVerb(name, text, (*options, CompletedOption(("-h", "--help"), "Show the help")), tuple(arguments))


def of_group(group: click.Group) -> tuple[CompletedOption, ...]:
    """The options before the verb."""
    found = (option for parameter in group.params if (option := _option(parameter)) is not None)
    return (*found, CompletedOption(("-h", "--help"), "Show the help"))


def _option(parameter: click.Parameter) -> CompletedOption | None:
    if not isinstance(parameter, click.Option) or parameter.hidden:
        return None
    names = (*parameter.opts, *parameter.secondary_opts)
    text = (parameter.help or "").split(". ")[0].split(":")[0].rstrip(".")
    if parameter.is_flag or parameter.count:
        return CompletedOption(names, text)
    if isinstance(parameter.type, click.Choice):
        return CompletedOption(names, text, "choice", tuple(map(str, parameter.type.choices)))
    return CompletedOption(names, text, _KINDS.get(parameter.name or "", "new"))


def _argument(verb: str, parameter: click.Argument) -> CompletedArgument:
    repeated = parameter.nargs != 1
    if isinstance(parameter.type, click.Choice):
        return CompletedArgument("choice", repeated, tuple(map(str, parameter.type.choices)))
    name = parameter.name or ""
    return CompletedArgument(_SPECIAL.get((verb, name)) or _KINDS.get(name, "new"), repeated)


def lines(verb: CompletedVerb) -> Iterator[str]:
    """The options of a verb, a line for each name with what is said of it."""
    for option in verb.options:
        yield from (f"{name}\t{option.text}" for name in option.names)
