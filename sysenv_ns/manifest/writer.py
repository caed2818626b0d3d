"""PURE: a manifest as the text of a sysenv.toml; what parser.py reads back is the same."""

from __future__ import annotations

import base64
import re
import textwrap
from collections.abc import Iterable, Iterator, Mapping, Sequence

from sysenv_ns.manifest.document import BASE, LISTS, SOURCES, AddedFile, Manifest, Script
from sysenv_ns.text import harmless, line, visible

ARMOUR = b"-----BEGIN PGP"
_BARE = re.compile(r"[A-Za-z0-9_-]+")
_ESCAPES = {"\\": "\\\\", '"': '\\"', "\n": "\\n", "\t": "\\t", "\r": "\\r"}
_WIDTH = 76


def render(manifest: Manifest, comments: Iterable[str] = ()) -> str:
    """The text, with the comments, one line each, at the end."""
    parts = ["".join(_head(manifest))]
    parts.append("".join(_table("env", {name: string(value) for name, value in manifest.env.items()})))
    repositories = {
        path.removeprefix(f"{SOURCES}/"): "false" if text is None else string(text)
        for path, text in manifest.repositories.items()
    }
    parts.append("".join(_table("repositories", repositories)))
    parts.append("".join(_table("keys", {path: _key(content) for path, content in manifest.keys.items()})))
    parts += _files(manifest.files)
    parts += ["".join(_script(script)) for script in manifest.scripts]
    parts.append("".join(f"# {line(comment)}\n" for comment in comments))
    return "\n".join(part for part in parts if part)


def _head(manifest: Manifest) -> Iterator[str]:
    heads = {"name": manifest.name, BASE: manifest.base, "release": manifest.release}
    for key, value in {**heads, "architecture": manifest.architecture}.items():
        if value:
            yield f"{key} = {string(value)}\n"
    for key in LISTS:
        if values := getattr(manifest, key):
            yield f"{key} = {_array(values)}\n"


def _array(values: Sequence[str]) -> str:
    if len(values) == 1:
        return f"[{string(values[0])}]"
    return "".join(["[\n", *(f"    {string(value)},\n" for value in values), "]"])


def _table(name: str, values: Mapping[str, str]) -> Iterator[str]:
    if values:
        yield f"[{name}]\n"
    for key, value in values.items():
        yield f"{key if _BARE.fullmatch(key) else basic_string(key)} = {value}\n"


def _key(content: bytes) -> str:
    if content.startswith(ARMOUR) and (text := _text(content)) is not None:
        return string(text)
    return _base64(content)


def _files(files: Mapping[str, AddedFile]) -> Iterator[str]:
    """The files that are only a text, then each of the others in a table of its own."""
    fields = {path: _fields(file) for path, file in files.items()}
    texts = {path: found["text"] for path, found in fields.items() if found.keys() == {"text"}}
    yield "".join(_table("files", texts))
    for path, found in fields.items():
        if path not in texts:
            yield "".join(_table(f"files.{basic_string(path)}", found))


def _fields(file: AddedFile) -> dict[str, str]:
    fields = {}
    if file.link is None and file.mode != AddedFile.mode:
        fields["mode"] = string(f"{file.mode:04o}")
    if file.owner != AddedFile.owner:
        fields["owner"] = string(file.owner)
    text = _text(file.content)
    if file.link is not None:
        fields["link"] = string(file.link)
    elif file.source:
        fields["source"] = string(file.source)
    elif text is None:
        fields["base64"] = _base64(file.content)
    else:
        fields["text"] = string(text)
    return fields


def _script(script: Script) -> Iterator[str]:
    yield "[[scripts]]\n"
    if script.name:
        yield f"name = {string(script.name)}\n"
    yield f"run = {string(script.run)}\n"


def _text(content: bytes) -> str | None:
    try:
        return content.decode()
    except UnicodeDecodeError:
        return None


def _base64(content: bytes) -> str:
    text = base64.b64encode(content).decode()
    if len(text) <= _WIDTH:
        return f'"{text}"'
    return "\n".join(['"""', *textwrap.wrap(text, _WIDTH), '"""'])


def string(text: str) -> str:
    """A TOML string: over several lines, literally if that is possible."""
    if "\n" not in text:
        return basic_string(text)
    if "'''" in text or text.endswith("'") or visible(text) != text:
        return '"""\n' + "\n".join(map(_escaped, text.split("\n"))) + '"""'
    return f"'''\n{text}'''"


def basic_string(text: str) -> str:
    """A TOML string on one line (toml.io, "basic strings"), also valid as a key."""
    return f'"{_escaped(text)}"'


def _escaped(text: str) -> str:
    """Invisible characters as escapes with the same meaning, so that no reader of the file overlooks them."""
    return "".join(_ESCAPES.get(letter) or (letter if harmless(letter) else _escape(letter)) for letter in text)


def _escape(letter: str) -> str:
    code = ord(letter)
    return f"\\u{code:04x}" if code <= 0xFFFF else f"\\U{code:08x}"
