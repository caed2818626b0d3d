#!/usr/bin/python3
"""The manual pages of sysenv-ns, made of what click knows of its verbs and of docs/; run by helpers/manual."""

from __future__ import annotations

import inspect
import os
import re
import sys
import time
from collections.abc import Iterator
from pathlib import Path

import click

CHECKOUT = Path(__file__).resolve().parents[2]
sys.path.insert(0, str(CHECKOUT))

import roff  # noqa: E402

from sysenv_ns import __version__, cli, verbs  # noqa: E402

DOCS = CHECKOUT / "docs"
_NAME = "sysenv-ns"
_TABLES = DOCS / "scripts.md"  # what all verbs have in common: its sections "Exit status", "Variables" and "Files"
_EXAMPLE = re.compile(r" {4}(?:\$ )?(sysenv-ns (\S+).*?)(?: +# (.*))?")
_INSTALLED = "/usr/share/doc/sysenv-ns/docs"


def pages() -> dict[str, str]:
    """All pages, by the name of their file."""
    group = click.Context(cli.main, info_name=_NAME, **cli.main.context_settings)
    found = {f"{_NAME}.1": "\n".join([*_group_page(group), ""])}
    for name in verbs.NAMES:
        with click.Context(verbs.load(name), group, info_name=name) as context:
            found[f"{_NAME}-{name}.1"] = "\n".join([*_verb_page(context), ""])
    return found


def _group_page(context: click.Context) -> Iterator[str]:
    yield from _head(context, "a virtualenv for system packages, without root")
    yield from _options(context)
    yield roff.heading("COMMANDS")
    for title, names in verbs.SECTIONS.items():
        yield roff.subheading(title)
        yield from roff.entries((f"{_NAME}-{name}(1)", verbs.load(name).get_short_help_str(200)) for name in names)
    others = ", ".join(f"`{alias}` for `{name}`" for alias, name in verbs.ALIASES.items())
    yield from [".PP", roff.line(f"Names that other tools have are understood too: {others}.")]
    tables = _TABLES.read_text()
    for title in ("Exit status", "Variables", "Files"):
        yield roff.heading(title.upper())
        yield from roff.entries(_table(tables, title))
    yield from _see_also(["README.md"])


def _verb_page(context: click.Context) -> Iterator[str]:
    command = context.command
    yield from _head(context, command.get_short_help_str(200).rstrip(".").replace("`", ""))
    yield from _options(context)
    if isinstance(command, click.Group):
        yield roff.heading("COMMANDS")
        for name, inner in command.commands.items():
            with click.Context(inner, context, info_name=name) as below:
                yield roff.subheading(" ".join([name, *inner.collect_usage_pieces(below)]))
                yield from roff.paragraphs(_help(inner))
                yield from _option_entries(below)
    name = command.name or ""
    documents = _documents(name)
    examples = {**dict(_help_examples(command)), **dict(_document_examples(name, documents))}
    yield roff.heading("EXAMPLES")
    for number, (example, said) in enumerate(examples.items()):
        yield from [".PP"] if number else []
        yield from [roff.line(f"{said[:1].upper()}{said[1:]}:"), ".PP"] if said else []
        yield from [".RS 4", *roff.literal([example]), ".RE"]
    yield roff.heading("EXIT STATUS")
    yield roff.line("What all verbs have in common is in `sysenv-ns`(1).")
    yield from _see_also(documents)


def _head(context: click.Context, short: str) -> Iterator[str]:
    """The title, NAME, SYNOPSIS and DESCRIPTION."""
    command = context.command
    page = context.command_path.replace(" ", "-")
    yield roff.title(page.upper(), 1, _date(), f"{_NAME} {__version__}", "User Commands")
    yield roff.heading("NAME")
    yield rf"{roff.escaped(page)} \- {roff.line(short)}"
    yield roff.heading("SYNOPSIS")
    pieces = " ".join(roff.escaped(piece) for piece in command.collect_usage_pieces(context))
    yield rf"\fB{roff.escaped(context.command_path)}\fR {pieces}"
    yield roff.heading("DESCRIPTION")
    yield from roff.paragraphs(_help(command))


def _options(context: click.Context) -> Iterator[str]:
    yield roff.heading("OPTIONS")
    yield from _option_entries(context)


def _option_entries(context: click.Context) -> Iterator[str]:
    options = [found for found in context.command.get_params(context) if isinstance(found, click.Option)]
    records = (option.get_help_record(context) for option in options)
    yield from roff.entries(record for record in records if record is not None)


def _help(command: click.Command) -> str:
    return inspect.cleandoc(command.help or "").partition("\f")[0].rstrip()


def _date() -> str:
    seconds = os.environ.get("SOURCE_DATE_EPOCH")
    return time.strftime("%Y-%m-%d", time.gmtime(int(seconds))) if seconds else ""


def _help_examples(command: click.Command) -> Iterator[tuple[str, str]]:
    """The examples of --help, each with what it does; see verbs/options.py."""
    for text in (command.epilog or "").splitlines()[2:]:
        example, _, said = text.strip().partition("  # ")
        yield example.rstrip(), said


def _documents(verb: str) -> list[str]:
    """The documents about a verb, as the index says."""
    found = []
    for row in (DOCS / "README.md").read_text().splitlines():
        names, _, links = row.removeprefix("|").partition("|")
        if re.search(rf"`{verb}\b[^`]*`", names):
            found += re.findall(r"\]\(([\w-]+\.md)\)", links)
    return list(dict.fromkeys(found))


def _document_examples(verb: str, documents: list[str]) -> Iterator[tuple[str, str]]:
    """What is typed in the documents about a verb, where they say beside it what it does."""
    for document in documents:
        for text in (DOCS / document).read_text().splitlines():
            found = _EXAMPLE.fullmatch(text)
            if found and found[2] == verb and found[3]:
                yield found[1].rstrip(), found[3].partition(";")[0]


def _table(text: str, title: str) -> Iterator[tuple[str, str]]:
    """The rows of the table in a section of a document."""
    section = text.partition(f"\n## {title}\n")[2].partition("\n## ")[0].partition("\n|---|---|\n")[2]
    for row in section.splitlines():
        if row.startswith("| ") and " | " in row:
            term, said = row.strip("| ").split(" | ", 1)
            yield term.replace("`", ""), re.sub(r"\[([^\]]*)\]\([^)]*\)", r"\1", said)


def _see_also(documents: list[str]) -> Iterator[str]:
    yield roff.heading("SEE ALSO")
    places = [f"`{_INSTALLED}/{name}`" for name in documents]
    yield roff.line(", ".join(["`sysenv-ns`(1)", "`sysenv-ns help`", *places]))


def main() -> None:
    """Write all pages into a directory."""
    directory = Path(sys.argv[1])
    directory.mkdir(parents=True, exist_ok=True)
    for name, text in pages().items():
        (directory / name).write_text(text)


if __name__ == "__main__":
    main()
