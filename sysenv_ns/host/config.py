"""The policy files: config.toml of the user and of an environment. Reads and checks them; layout.py applies them."""

from __future__ import annotations

import os
from collections.abc import Callable, Iterable
from dataclasses import dataclass, replace
from pathlib import Path
from typing import TYPE_CHECKING, NoReturn

from sysenv_ns import policy
from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.host import layout, survey
from sysenv_ns.host.layout import Host, Places
from sysenv_ns.kernel.mountinfo import is_below

if TYPE_CHECKING:
    from sysenv_ns.store import Environment, Store

NAME = "config.toml"

# In or below these nothing can be chosen: they are bound whole, or made anew for every session.
_FIXED = ("/proc", "/sys", "/dev", "/run")
_ID_MAPS = ("auto", "full", "single")


@dataclass(frozen=True)
class Config:
    """What the files say; paths are absolute, without symbolic links, and exist."""

    bind: tuple[str, ...] = ()
    overlay: tuple[str, ...] = ()
    driver: str = "auto"
    id_map: str = "auto"
    shell: str | None = None


def of_user(store: Store) -> Config:
    """What the user's own file says; without one, nothing. Raises SysenvError."""
    return _read(_user_directory() / NAME, store)


def of_environment(store: Store, environment: Environment) -> Config:
    """The same with the environment's file: its keys win, lists of paths add up. Raises SysenvError."""
    general, own = of_user(store), _read(environment.path / NAME, store, of_environment=True)
    merged = replace(
        general,
        bind=tuple(dict.fromkeys((*general.bind, *own.bind))),
        overlay=tuple(dict.fromkeys((*general.overlay, *own.overlay))),
        shell=own.shell or general.shell,
    )
    if both := sorted({*merged.bind} & {*merged.overlay}):
        where = f"{_user_directory() / NAME} and {environment.path / NAME}"
        raise SysenvError(f"{where}: {both[0]} is in bind and in overlay", "leave it in one of them")
    return merged


def host(store: Store, environment: Environment) -> Host:
    """The host as this environment shall see it. Raises SysenvError, OSError."""
    config = of_environment(store, environment)
    places = Places(kept=(os.path.realpath(store.path),), bound=config.bind, overlaid=config.overlay)
    found = survey.host(environment.id_map, places)
    bound = layout.bound_paths(found) if config.overlay else ()
    for path in config.overlay:
        outer = next((b for b in bound if path == b or is_below(path, b)), None)
        if outer is not None:
            raise SysenvError(
                f"{NAME}: {path} in overlay lies in {outer}, which is the host's own",
                f"take it out, or overlay {outer} as a whole",
            )
    return found


def _user_directory() -> Path:
    configured = os.environ.get("XDG_CONFIG_HOME", "")
    # The XDG specification: a relative path is invalid and to be ignored.
    return Path(configured if configured.startswith("/") else os.path.expanduser("~/.config")) / "sysenv-ns"


def _read(path: Path, store: Store, of_environment: bool = False) -> Config:
    try:
        content = path.read_bytes()
    except (FileNotFoundError, NotADirectoryError):
        return Config()
    except OSError as error:
        raise SysenvError(f"{path} cannot be read: {reason(error)}", "make it readable, or remove it") from error
    return _File(path, store, of_environment).parse(content)


@dataclass(frozen=True)
class _File:
    """One file, for the messages, and whose it is."""

    path: Path
    store: Store
    of_environment: bool

    def parse(self, content: bytes) -> Config:
        import tomllib  # slow, and rarely needed

        try:
            data = tomllib.loads(content.decode())
        except (ValueError, RecursionError) as error:
            raise SysenvError(f"{self.path} is not TOML: {error}", "see https://toml.io") from error
        readers: dict[str, Callable[[object], object]] = {
            "bind": lambda value: self._paths("bind", value, self._check_bind),
            "overlay": lambda value: self._paths("overlay", value, self._check_overlay),
            "driver": lambda value: self._choice("driver", value, ("auto", *policy.DRIVERS)),
            "id-map": lambda value: self._choice("id-map", value, _ID_MAPS),
            "shell": self._shell,
        }
        found: dict[str, object] = {}
        for key, value in data.items():
            if key not in readers:
                self._fail(f"there is no key {key!r}", f"the keys are: {', '.join(readers)}")
            if self.of_environment and key in ("driver", "id-map"):
                self._fail(f"{key} is chosen when an environment is made", f"put it in {_user_directory() / NAME}")
            found[key.replace("-", "_")] = readers[key](value)
        return Config(**found)  # type: ignore[arg-type]

    def _fail(self, problem: str, hint: str) -> NoReturn:
        raise SysenvError(f"{self.path}: {problem}", hint)

    def _choice(self, key: str, value: object, choices: tuple[str, ...]) -> str:
        if not isinstance(value, str) or value not in choices:
            self._fail(f"{key} cannot be {value!r}", f"choose one of: {', '.join(choices)}")
        return value

    def _shell(self, value: object) -> str:
        if not isinstance(value, str) or not value.startswith("/"):
            self._fail(f"shell cannot be {value!r}", 'give an absolute path: shell = "/usr/bin/fish"')
        return value

    def _paths(self, key: str, value: object, check: Callable[[str, str], None]) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(path, str) for path in value):
            self._fail(f"{key} is not a list of paths", f'for example: {key} = ["/opt/vendor"]')
        return tuple(self._path(key, path, check) for path in value)

    def _path(self, key: str, path: str, check: Callable[[str, str], None]) -> str:
        if not path.startswith("/") or ".." in path.split("/") or "\0" in path:
            self._fail(f"{path!r} in {key} is not an absolute path without ..", "write it out, from / on")
        real = os.path.realpath(path)
        if not os.path.lexists(real):
            self._fail(f"{path} in {key} does not exist", "take it out, or make it")
        store = os.path.realpath(self.store.path)
        if real == "/" or _meets(real, (*_FIXED, store)):
            self._fail(f"{path} in {key} cannot be chosen", f"neither /, {', '.join(_FIXED)} nor the store can")
        check(path, real)
        return real

    def _check_bind(self, path: str, real: str) -> None:
        if real == "/etc" or any(place == real or is_below(place, real) for place in policy.WRITTEN):
            self._fail(f"{path} in bind is written to by every installation", "bind something in it")

    def _check_overlay(self, path: str, real: str) -> None:
        home = os.path.realpath(os.path.expanduser("~"))
        if not os.path.isdir(real):
            self._fail(f"{path} in overlay is not a directory", "overlay the directory that it is in")
        if real == home or is_below(home, real) or is_below(real, home):
            self._fail(f"{path} in overlay meets your home, which is the host's own", "take it out")


def _meets(path: str, places: Iterable[str]) -> bool:
    return any(path == place or is_below(path, place) for place in places)
