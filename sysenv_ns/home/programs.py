"""which, path, link, unlink: one function for each verb, with a frozen result; prints nothing."""

from __future__ import annotations

import contextlib
import os
import re
from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from pathlib import Path

from sysenv_ns.command import root_path
from sysenv_ns.environment import ephemeral, links, shims, wrappers
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.links import NewFile, NewLink, Shown
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import EXIT_NOT_FOUND, SysenvError, reason
from sysenv_ns.files import reader
from sysenv_ns.home import desktop, lookup
from sysenv_ns.home.lookup import Inside, Program
from sysenv_ns.kernel import remedies
from sysenv_ns.reporter import Reporter
from sysenv_ns.sudo import Caller

_SHARES = ("/usr/local/share", "/usr/share")
_ICON_SIZE = re.compile(r"[0-9]+x[0-9]+(@[0-9]+)?|scalable|symbolic")
_ICON_TYPES = (".png", ".svg", ".xpm")
_ENTRY_LIMIT = 1 << 20  # bytes
_ICON_LIMIT = 4 << 20


@dataclass(frozen=True)
class Which:
    """Where a command lies inside."""

    command: str
    path: str
    real: str  # without symbolic links
    own: bool  # the environment's file, not the host's


@dataclass(frozen=True)
class Linked:
    """What link has made, and the commands that no desktop entry was found for though one was asked for."""

    links: tuple[Shown, ...]
    without_entry: tuple[str, ...] = ()


@dataclass(frozen=True)
class _Linkable:
    """A program as it is found inside, and the files of its desktop entries by path below the user's data directory."""

    target: str
    files: Mapping[str, bytes]


def which(store: Store, name: str, command: str, reporter: Reporter) -> Which:
    """Where a command lies inside, as exec finds it. Raises SysenvError."""
    _name(command)
    environment = store.load(name)
    ephemeral.refuse_in_memory(environment, "the programs")  # whether they are its own
    directories = _directories()

    def see(root: Inside) -> tuple[Program, ...]:
        found = root.find(command, directories, _is_wrapper)
        return () if found is None else (found,)

    for found in lookup.look(store, environment, see, tuple[Program, ...], reporter):
        return Which(command, found.path, found.real, found.own)
    raise _not_found(name, command)


def path(store: Store, name: str, reporter: Reporter) -> Path:
    """A directory for PATH with the programs that an environment adds or changes, up to date. Raises SysenvError."""
    environment = store.load(name)
    ephemeral.refuse(environment, "a directory of programs")
    place = shims.place(store, name)
    try:
        current = shims.signature(store, environment)  # first: what changes meanwhile, the next call sees
        if not shims.is_current(store, name, current):
            environment.require_root()
            found = lookup.look(
                store, environment, lambda root: root.programs(shims.DIRECTORIES), dict[str, str], reporter
            )
            with store.lock(name):
                shims.write(store, environment, found, current)
    except OSError as error:
        hint = remedies.storage(error, place)
        raise SysenvError(f"{place} cannot be brought up to date: {reason(error)}", hint) from error
    return place


def link(
    store: Store, name: str, commands: Sequence[str], with_entries: bool, reporter: Reporter, caller: Caller | None
) -> Linked:
    """Make a wrapper for each command, and a desktop entry for each that has one. Raises SysenvError; then for none."""
    names = dict(zip((_name(command) for command in commands), commands, strict=True))
    environment = store.load(name)
    ephemeral.refuse(environment, "a link")
    directories = _directories()

    def see(root: Inside) -> dict[str, _Linkable]:
        programs = ((key, root.find(command, directories, _is_wrapper)) for key, command in names.items())
        return {key: see_one(root, key, program) for key, program in programs if program}

    def see_one(root: Inside, key: str, program: Program) -> _Linkable:
        search = _Search(root, environment, program, str(links.directory() / key), directories)
        return _Linkable(program.path, search.files() if with_entries else {})

    seen = lookup.look(store, environment, see, dict[str, _Linkable], reporter)
    if missing := [command for key, command in names.items() if key not in seen]:
        raise _not_found(name, missing[0])
    new = []
    for key, found in seen.items():
        wrapper = NewFile(str(links.directory() / key), wrappers.script(store, environment, found.target), 0o755)
        others = (NewFile(str(links.data_directory() / path), data) for path, data in found.files.items())
        new.append(NewLink(key, found.target, (wrapper, *others)))
    with store.lock(name), written():
        links.add(environment, new, links.acting_for(caller))
    with store.as_user():
        made = tuple(shown for shown in links.show(environment.path) if shown.command in seen)
    return Linked(made, tuple(link.command for link in new if with_entries and len(link.files) == 1))


def unlink(store: Store, name: str, commands: Sequence[str], caller: Caller | None) -> tuple[Shown, ...]:
    """Delete the links of these commands, or all; returns what they were. Raises SysenvError."""
    environment = store.load(name)
    environment.require_root()
    with store.lock(name), written():
        with store.as_user():
            shown = links.show(environment.path)
        known = {found.command for found in shown}
        if unknown := [command for command in commands if command not in known]:
            make = f"make one with: sysenv-ns link {name} COMMAND"
            hint = f"existing ones: {', '.join(sorted(known))}" if known else make
            raise SysenvError(f"{name} has no link {unknown[0]}", hint)
        gone = links.remove(environment.path, commands or None, links.acting_for(caller))
    return tuple(found for found in shown if found.command in {link.command for link in gone})


@contextlib.contextmanager
def written() -> Iterator[None]:
    """Turn what goes wrong in the user's home into a SysenvError."""
    try:
        yield
    except OSError as error:
        hint = remedies.storage(error, links.directory())
        raise SysenvError(f"{error.filename} cannot be written: {reason(error)}", hint) from error


def _directories() -> list[str]:
    return root_path(os.environ.get("PATH", ""))


def _is_wrapper(path: str) -> bool:
    """The user's directory of wrappers is the same inside; they lead into environments."""
    return wrappers.environment_of(path) is not None


def _name(command: str) -> str:
    name = os.path.basename(command)
    if not name or name in (".", "..") or ("/" in command and not command.startswith("/")):
        raise SysenvError(
            f"{command!r} is not the name of a command",
            "give a name, or an absolute path in the environment",
            exit_status=2,
        )
    return name


def _not_found(name: str, command: str) -> SysenvError:
    install = f"sysenv-ns exec {name} -- apt-get install PACKAGE"
    return SysenvError(
        f"{command}: command not found in the environment {name}", f"install it first: {install}", EXIT_NOT_FOUND
    )


@dataclass(frozen=True)
class _Search:
    """For the desktop entries of a program; works inside."""

    root: Inside
    environment: Environment
    found: Program
    wrapper: str
    directories: Sequence[str]

    def files(self) -> dict[str, bytes]:
        """Contents by path below the user's data directory."""
        files: dict[str, bytes] = {}
        for name, groups in self._entries():
            icon = desktop.icon(groups)
            icons = self._icons(icon) if icon else {}
            shown = self._own_name(_stem(icon)) if icon and icons else None
            entry = desktop.rewritten(groups, self._is_it, self.wrapper, shown)
            files |= {f"applications/{self._own_name(name)}": os.fsencode(entry), **icons}
        return files

    def _own_name(self, name: str) -> str:
        return f"sysenv-ns-{self.environment.name}-{name}"

    def _entries(self) -> Iterator[tuple[str, desktop.Groups]]:
        seen = set()
        for share in _SHARES:
            for name in sorted(reader.names(f"{share}/applications")):
                if not desktop.FILE_NAME.fullmatch(name) or name in seen:
                    continue
                seen.add(name)
                content = self.root.read(f"{share}/applications/{name}", _ENTRY_LIMIT)
                groups = desktop.parse(content.decode(errors="replace")) if content is not None else {}
                program = desktop.program(groups)
                if program is not None and self._is_it(program):
                    yield name, groups

    def _is_it(self, program: str) -> bool:
        other = self.root.find(program, self.directories, _is_wrapper)
        return other is not None and other.real == self.found.real

    def _icons(self, icon: str) -> dict[str, bytes]:
        """Content by path below the user's data directory."""
        found: dict[str, bytes] = {}
        for source, target in self._icon_places(icon):
            content = self.root.read(source, _ICON_LIMIT)
            if content is not None:
                found.setdefault(target, content)
        return found

    def _icon_places(self, icon: str) -> Iterator[tuple[str, str]]:
        stem = _stem(icon)
        if not desktop.ICON_NAME.fullmatch(stem):
            return
        own = self._own_name(stem)
        if icon.startswith("/"):
            if icon.endswith(_ICON_TYPES):
                yield icon, f"icons/{own}{os.path.splitext(icon)[1]}"
            return
        for share in _SHARES:
            for size in filter(_ICON_SIZE.fullmatch, sorted(reader.names(f"{share}/icons/hicolor"))):
                for kind in _ICON_TYPES:
                    yield f"{share}/icons/hicolor/{size}/apps/{stem}{kind}", f"icons/hicolor/{size}/apps/{own}{kind}"
            for kind in _ICON_TYPES:
                yield f"{share}/pixmaps/{stem}{kind}", f"icons/{own}{kind}"


def _stem(icon: str) -> str:
    """An icon's name; some entries have one with the type."""
    name = os.path.basename(icon)
    return os.path.splitext(name)[0] if name.endswith(_ICON_TYPES) else name


def on_path() -> bool:
    """Whether a shell finds the wrappers."""
    wanted = os.path.realpath(links.directory())
    return any(os.path.realpath(found) == wanted for found in os.environ.get("PATH", "").split(":") if found)
