"""Reads a sysenv.toml as a Manifest, or raises an error that says what is wrong, and where."""

from __future__ import annotations

import base64
import binascii
import difflib
import errno
import os
import re
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass, replace
from pathlib import Path
from typing import Any, NoReturn

from sysenv_ns import documents
from sysenv_ns.environment.config import is_variable
from sysenv_ns.environment.store import check_name
from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.files import reader
from sysenv_ns.files.reader import Root
from sysenv_ns.manifest.document import (
    BASE,
    FILE_LIMIT,
    KEY_SUFFIXES,
    KEYS,
    LISTS,
    SOURCES,
    SOURCES_LIST,
    AddedFile,
    Manifest,
    Script,
    is_key,
)
from sysenv_ns.manifest.writer import ARMOUR
from sysenv_ns.packages import dpkg
from sysenv_ns.registry import reference

_HINT = "see docs/sync.md for what a sysenv.toml can contain"
_ARCHITECTURE = re.compile(r"[a-z0-9][a-z0-9-]*")
_RELEASE = re.compile(r"[a-z0-9._-]+(/[A-Za-z0-9._-]+)?")
_REPOSITORY = re.compile(r"[A-Za-z0-9_.-]+\.(list|sources)")
_MODE = re.compile(r"[0-7]{3,4}")
_OWNER = re.compile(r"[A-Za-z0-9_][A-Za-z0-9_.-]*\$?:[A-Za-z0-9_][A-Za-z0-9_.-]*\$?")
_CONTENTS = ("text", "base64", "source", "link")
# debconf-devel(7); the types for what is only shown have no answer.
_TYPES = ("string", "boolean", "select", "multiselect", "text")
_LIMIT = 4 << 20  # bytes
_SCRIPT_LIMIT = 100_000  # bytes: an argument of a command may have 128 KiB


def load(path: Path) -> Manifest:
    """The manifest in a file, with the contents beside it. Raises SysenvError."""
    manifest = parse(read(path), str(path))
    files: dict[str, AddedFile] = {}
    left = FILE_LIMIT
    for name, file in manifest.files.items():
        files[name] = _with_content(file, path, left) if file.source else file
        left -= len(files[name].content) if file.source else 0
    return replace(manifest, files=files)


def read(path: Path) -> bytes:
    """The text of a manifest. Raises SysenvError."""
    try:
        return reader.read(path, _LIMIT, follow=True)
    except OSError as error:
        hint = "make one with: sysenv-ns freeze NAME > sysenv.toml" if not path.exists() else "make it readable"
        raise SysenvError(f"{path} cannot be read: {reason(error)}", hint) from error


def _with_content(file: AddedFile, path: Path, limit: int) -> AddedFile:
    """The directory may be another user's: links in it must not lead to what only we may read."""
    try:
        with Root(os.path.realpath(path.parent), "beneath") as root:
            return replace(file, content=root.read(file.source, limit))
    except OSError as error:
        if error.errno == errno.EFBIG:
            what = f"{path}: the sources have more than {FILE_LIMIT >> 20} MiB together (at {file.source})"
            raise SysenvError(what, "a manifest is for small files: fetch large ones in a script") from error
        hint = "it must be a file in the directory of the manifest, and links in it must stay there"
        raise SysenvError(f"{path}: the source {file.source} cannot be read: {reason(error)}", hint) from error


def parse(content: bytes, where: str) -> Manifest:
    """The manifest of a text; contents beside it are not read. Raises SysenvError; `where` is for its message."""
    try:
        text = content.decode()
    except UnicodeDecodeError as error:
        line = content.count(b"\n", 0, error.start) + 1
        raise SysenvError(f"{where} is not UTF-8 (at line {line})", "give other bytes as base64") from error
    try:
        data = documents.parse_toml(text)
    except ValueError as error:
        raise SysenvError(f"{where} is not TOML: {error}", "see https://toml.io") from error
    return _Parser(text, where).manifest(data)


@dataclass(frozen=True)
class _Parser:
    """One text, for the messages."""

    text: str
    where: str

    def manifest(self, data: dict[str, Any]) -> Manifest:
        strings = {"name": "name", BASE: "base", "release": "release", "architecture": "architecture"}
        self._known(data, (*strings, *LISTS, "env", "repositories", "keys", "files", "scripts"))
        found: dict[str, Any] = {field: self._string(key, data[key]) for key, field in strings.items() if key in data}
        found |= {key: self._strings(key, data[key]) for key in LISTS if key in data}
        manifest = Manifest(
            **found,
            env=dict(self._mapping("env", data, self._variable)),
            repositories=dict(self._mapping("repositories", data, self._repository)),
            keys=dict(self._mapping("keys", data, self._key)),
            files=dict(self._mapping("files", data, self._file)),
            scripts=tuple(self._scripts(data.get("scripts", []))),
        )
        self._check(manifest)
        return manifest

    def _fail(self, problem: str, hint: str = _HINT, key: str = "") -> NoReturn:
        """`key`: what to search in the text, to give the line."""
        pattern = rf'^[ \t]*(\[+[ \t]*(files\.)?)?["\']?{re.escape(key)}["\']?[ \t]*[=\].]'
        found = re.search(pattern, self.text, re.MULTILINE) if key else None
        line = f" (line {self.text.count(chr(10), 0, found.start()) + 1})" if found else ""
        raise SysenvError(f"{self.where}: {documents.shortened(problem)}{line}", hint)

    def _known(self, data: Mapping[str, Any], keys: Iterable[str], of: str = "") -> None:
        for key in data:
            if key not in keys:
                near = difflib.get_close_matches(key, keys, 1)
                hint = f"did you mean {near[0]}?" if near else f"known keys: {', '.join(keys)}"
                self._fail(f"unknown key {key!r}{of}", hint, key)

    def _string(self, key: str, value: object) -> str:
        if not isinstance(value, str):
            self._fail(f"{key} is not a string", key=key)
        return value

    def _strings(self, key: str, value: object) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(item, str) for item in value):
            self._fail(f"{key} is not a list of strings", key=key)
        return tuple(value)

    def _mapping(
        self, key: str, data: Mapping[str, Any], read: Callable[[str, object], tuple[str, Any]]
    ) -> list[tuple[str, Any]]:
        value = data.get(key, {})
        if not isinstance(value, dict):
            self._fail(f"{key} is not a table", key=key)
        return [read(name, item) for name, item in value.items()]

    def _variable(self, name: str, value: object) -> tuple[str, str]:
        if not is_variable(name):
            self._fail(f"{name!r} in env cannot name a variable", "use letters, digits and _", name)
        if name == "SYSENV_NS":
            self._fail("SYSENV_NS in env is the name of the environment", "remove it", name)
        text = self._string(name, value)
        if "\0" in text:
            self._fail(f"{name} in env has a NUL", "no variable can have one", name)
        return name, text

    def _check(self, manifest: Manifest) -> None:
        if manifest.name:
            check_name(manifest.name)
        if manifest.base:
            self._check_base(manifest.base)
        if manifest.release and not _RELEASE.fullmatch(manifest.release):
            self._fail(f"release cannot be {manifest.release!r}", 'for example: release = "debian/bookworm"', "release")
        for entry in (manifest.architecture, *manifest.architectures):
            if entry and not _ARCHITECTURE.fullmatch(entry):
                self._fail(f"{entry!r} is not an architecture", 'for example: architectures = ["i386"]')
        for key in ("packages", "versions", "removed", "held"):
            self._check_packages(key, getattr(manifest, key))
        if both := {entry.partition("=")[0] for entry in manifest.packages} & {*manifest.removed}:
            self._fail(f"{sorted(both)[0]} is both in packages and in removed", "keep it in one of them", "removed")
        for line in manifest.debconf:
            self._check_answer(line)

    def _check_base(self, text: str) -> None:
        try:
            reference.parse(text)
        except SysenvError:
            self._fail(
                f"{text!r} names nothing in a registry",
                f'for example: {BASE} = "registry.example.org/team/proj:1"',
                BASE,
            )

    def _check_packages(self, key: str, entries: Iterable[str]) -> None:
        for entry in entries:
            name, pinned, version = entry.partition("=")
            if not dpkg.NAME.fullmatch(name) or (pinned and not dpkg.VERSION.fullmatch(version)):
                self._fail(f"{entry!r} in {key} is not a package", "for example: hello, libc6:i386, hello=2.10-3", key)
            if pinned and key in ("removed", "held"):
                self._fail(f"{entry!r} in {key} has a version", "give the name alone", key)
            if key == "versions" and not pinned:
                self._fail(f"{entry!r} in versions has no version", f"for example: {name}=1.0-1", key)

    def _check_answer(self, line: str) -> None:
        parts = line.split(None, 3)
        if len(parts) < 3 or "\n" in line:
            self._fail(
                f"{line!r} in debconf is not an answer",
                'for example: "locales locales/default_environment_locale select C.UTF-8"',
                "debconf",
            )
        if parts[2] == "password":
            self._fail(
                "debconf has an answer of the type password", "passwords do not belong in such a file", "debconf"
            )
        if parts[2] not in _TYPES:
            self._fail(f"{parts[2]!r} in debconf is not a type", f"known types: {', '.join(_TYPES)}", "debconf")

    def _repository(self, name: str, value: object) -> tuple[str, str | None]:
        path = name if name == SOURCES_LIST else f"{SOURCES}/{name}"
        if name != SOURCES_LIST and not _REPOSITORY.fullmatch(name):
            self._fail(
                f"{name!r} is not the name of a repository", 'for example: "nodesource.sources", "local.list"', name
            )
        if value is False:
            return path, None
        if not isinstance(value, str):
            self._fail(f"the repository {name} is neither a string nor false", key=name)
        return path, value

    def _key(self, path: str, value: object) -> tuple[str, bytes]:
        self._check_path("keys", path)
        if not is_key(path):
            hint = f"a name with {', '.join(KEY_SUFFIXES)} in {', '.join(KEYS)}; other files belong in [files]"
            self._fail(f"{path} in keys is not a path for a key", hint, path)
        text = self._string(path, value)
        return path, text.encode() if text.startswith(ARMOUR.decode()) else self._base64(path, text)

    def _base64(self, key: str, text: str) -> bytes:
        try:
            return base64.b64decode("".join(text.split()), validate=True)
        except binascii.Error as error:
            self._fail(f"{key} is not base64: {error}", key=key)

    def _check_path(self, key: str, path: str) -> None:
        if not path.startswith("/") or os.path.normpath(path) != path or path.startswith("//") or "\0" in path:
            self._fail(f"{path!r} in {key} is not an absolute path of a file", "write it in full, from /", path)

    def _file(self, path: str, value: object) -> tuple[str, AddedFile]:
        self._check_path("files", path)
        if path == "/":
            self._fail("/ in files is a directory", key=path)
        if isinstance(value, str):
            return path, AddedFile(value.encode())
        if not isinstance(value, dict):
            self._fail(f"{path} is neither a string nor a table", f"a table has one of: {', '.join(_CONTENTS)}", path)
        self._known(value, (*_CONTENTS, "mode", "owner"), f" of {path}")
        fields = {key: self._string(f"{key} of {path}", item) for key, item in value.items()}
        contents = [key for key in _CONTENTS if key in fields]
        if len(contents) != 1:
            problem = f"{path} has {' and '.join(contents)}" if contents else f"{path} has no content"
            self._fail(problem, f"give one of: {', '.join(_CONTENTS)}", path)
        return path, self._file_of(path, contents[0], fields)

    def _file_of(self, path: str, kind: str, fields: Mapping[str, str]) -> AddedFile:
        value, mode = fields[kind], fields.get("mode", "0644")
        owner = fields.get("owner", AddedFile.owner)
        if not _MODE.fullmatch(mode):
            self._fail(f"the mode of {path} cannot be {mode!r}", 'for example: mode = "0755"', path)
        if not _OWNER.fullmatch(owner):
            self._fail(f"the owner of {path} cannot be {owner!r}", 'for example: owner = "www-data:www-data"', path)
        if kind == "link":
            if "mode" in fields or not value or "\0" in value:
                self._fail(f"the link {path} has a mode, or leads nowhere", "a link has only an owner", path)
            return AddedFile(link=value, owner=owner)
        file = AddedFile(mode=int(mode, 8), owner=owner)
        if kind == "source":
            if value.startswith("/") or ".." in value.split("/") or not value or "\0" in value:
                self._fail(
                    f"the source {value!r} is not a path below the directory of the file",
                    'for example: source = "files/x"',
                    path,
                )
            return replace(file, source=value)
        return replace(file, content=value.encode() if kind == "text" else self._base64(path, value))

    def _scripts(self, value: object) -> list[Script]:
        if not isinstance(value, list) or not all(isinstance(item, dict) for item in value):
            self._fail(
                "scripts is not an array of tables", 'each begins with [[scripts]] and has run = "..."', "scripts"
            )
        found = []
        for item in value:
            self._known(item, ("name", "run"), " of a script")
            fields = {key: self._string(f"{key} of a script", text) for key, text in item.items()}
            run = fields.get("run", "")
            if not run.strip() or "\0" in run or len(run.encode()) > _SCRIPT_LIMIT:
                self._fail(f"a script has nothing to run, or over {_SCRIPT_LIMIT} bytes", 'run = "..."', "scripts")
            found.append(Script(run, fields.get("name", "")))
        return found
