"""The host's os-release(5)."""

from __future__ import annotations

import contextlib
import shlex
from collections.abc import Mapping

from sysenv_ns.files import reader

_PATHS = ("/etc/os-release", "/usr/lib/os-release")


def fields() -> Mapping[str, str]:
    """The fields by name; empty if there is no such file."""
    for path in _PATHS:
        with contextlib.suppress(OSError):  # the other one, or there are systems without
            return parsed(reader.read(path, follow=True).decode("utf-8", "replace"))
    return {}


def name(found: Mapping[str, str]) -> str:
    """The distribution and its release, for comparison and for messages."""
    return f"{found.get('ID', 'an unknown system')} {found.get('VERSION_ID', '')}".strip()


def codename(found: Mapping[str, str]) -> str:
    """The same in the form of a manifest: debian/bookworm."""
    version = found.get("VERSION_CODENAME") or found.get("VERSION_ID", "")
    return "/".join(part for part in (found.get("ID", "linux"), version) if part)


def parsed(text: str) -> Mapping[str, str]:
    """Assignments of a shell: values may be quoted, and there may be comments."""
    rows = (line.partition("=") for line in text.splitlines() if not line.lstrip().startswith("#"))
    return {name.strip(): _unquoted(value.strip()) for name, equals, value in rows if equals}


def _unquoted(value: str) -> str:
    try:
        return "".join(shlex.split(value))
    except ValueError:  # a quote without an end
        return value.strip("\"'")
