"""The verbs of the command line, one file each: its options, the call, the text and JSON of its result.

A new verb is a file with a `command`, and its name in the table below.
"""

from __future__ import annotations

import importlib
import keyword

import click

# By the section of --help, in the order in which they are shown.
SECTIONS = {
    "Environments": (
        "create",
        "shell",
        "exec",
        "list",
        "status",
        "upgrade",
        "rebase",
        "stop",
        "refresh",
        "remove",
        "doctor",
    ),
    "Services": ("start", "logs"),
    "Changes and states": ("diff", "snapshot", "history", "rollback", "clone", "rename"),
    "Sharing": ("export", "import", "push", "pull", "freeze", "sync", "add", "drop"),
    "On the host": ("which", "path", "link", "unlink", "reclaim", "apply", "host"),
    "This tool": ("help", "completion"),
}
NAMES = tuple(name for names in SECTIONS.values() for name in names)
# What people type who know other tools.
ALIASES = {"ls": "list", "rm": "remove", "enter": "shell", "run": "exec"}


def load(name: str) -> click.Command:
    """A verb. Only what is used is imported: most of `exec`'s time is Python's imports."""
    module = importlib.import_module(f"{__name__}.{name}_" if keyword.iskeyword(name) else f"{__name__}.{name}")
    command: click.Command = module.command
    return command
