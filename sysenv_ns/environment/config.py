"""config.toml of the user and of an environment: reads and checks them; layout.py applies them."""

from __future__ import annotations

import os

from sysenv_ns import TYPE_CHECKING, documents, policy
from sysenv_ns.basics import suppress
from sysenv_ns.environment.directory import CONFIG
from sysenv_ns.environment.store import check_name
from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.files import reader
from sysenv_ns.files.reader import Root
from sysenv_ns.kernel.mountinfo import is_below
from sysenv_ns.paths import Path
from sysenv_ns.records import dataclass, replace

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable
    from typing import NoReturn

    from sysenv_ns.environment.description import Environment
    from sysenv_ns.environment.store import Store
    from sysenv_ns.host.layout import Host

_LIMIT = 1 << 20  # bytes

# In or below these nothing can be chosen: they are bound whole, or made anew for every session.
_FIXED = ("/proc", "/sys", "/dev", "/run")
_ID_MAPS = ("auto", "full", "single")
_LONGEST = 24 * 366 * 100  # hours
# Keys that an environment's file cannot have, and why.
_OF_USER = {
    **dict.fromkeys(("driver", "id-map"), "is chosen when an environment is made"),
    **dict.fromkeys(("default", "keep-removed"), "is no setting of one environment"),
}


@dataclass(frozen=True)
class Config:
    """The settings; paths are absolute, without symbolic links, and exist."""

    bind: tuple[str, ...] = ()
    overlay: tuple[str, ...] = ()
    driver: str = "auto"
    id_map: str = "auto"
    shell: str | None = None
    default: str | None = None  # the environment of a shell without a name, where no sysenv.toml says one
    env: tuple[tuple[str, str], ...] = ()  # variables of all sessions, each name once
    host_commands: bool = True  # whether programs inside may have commands run on the host
    keep_removed: int = policy.KEEP_REMOVED  # hours for which a removed environment can be restored

    @property
    def wishes(self) -> tuple[tuple[str, ...], tuple[str, ...]]:
        """The paths to bind and those to overlay, besides the policy's."""
        return self.bind, self.overlay


def of_user(store: Store) -> Config:
    """The settings of the user's own file; empty without one. Raises SysenvError."""
    with store.as_user():
        content = _content(_user_directory() / CONFIG, follow=True)
    return _parsed(_user_directory() / CONFIG, content, store)


def of_environment(store: Store, environment: Environment) -> Config:
    """The same with the environment's file: its keys win, lists and variables are combined. Raises SysenvError."""
    path = environment.path / CONFIG
    general, own = of_user(store), _parsed(path, _content(path), store, of_environment=True)
    merged = replace(
        general,
        bind=tuple(dict.fromkeys((*general.bind, *own.bind))),
        overlay=tuple(dict.fromkeys((*general.overlay, *own.overlay))),
        shell=own.shell or general.shell,
        env=tuple((dict(general.env) | of_manifest(environment) | dict(own.env)).items()),
        host_commands=general.host_commands and own.host_commands,
    )
    if both := sorted({*merged.bind} & {*merged.overlay}):
        where = f"{_user_directory() / CONFIG} and {environment.path / CONFIG}"
        raise SysenvError(f"{where}: {both[0]} is both in bind and in overlay", "keep it in one of them")
    return merged


def of_manifest(environment: Environment) -> dict[str, str]:
    """The variables of its sysenv.toml, which lie in the environment: whatever root there has made of them."""
    with suppress(OSError, ValueError):
        for upper in environment.uppers():
            with Root(upper) as root:
                if root.has(policy.VARIABLES_INSIDE):  # or it is deleted there
                    return _harmless(documents.parse_json(root.read(policy.VARIABLES_INSIDE, _LIMIT)))
    return {}


def _harmless(data: object) -> dict[str, str]:
    """What of it can be variables. Raises ValueError."""
    found = documents.mapping(data, "it")
    return {
        name: text
        for name, text in found.items()
        if is_variable(name) and name != "SYSENV_NS" and isinstance(text, str) and _can_be_value(text)
    }


def is_variable(name: str) -> bool:
    """Whether a variable of the shell can have this name."""
    return name.isascii() and name.isidentifier()


def _can_be_value(text: str) -> bool:
    """Whether execve(2) takes it: JSON can have letters that no bytes stand for."""
    try:
        return b"\0" not in os.fsencode(text)
    except UnicodeEncodeError:
        return False


def host(store: Store, environment: Environment, config: Config | None = None) -> Host:
    """The host as seen by this environment; `config` are its settings, if already read. Raises SysenvError, OSError."""
    from sysenv_ns.host import survey  # a session that joins needs neither
    from sysenv_ns.host.layout import Places

    config = config or of_environment(store, environment)
    stores = (store.path, *((environment.shared,) if environment.shared else ()))
    places = Places(kept=tuple(map(os.path.realpath, stores)), bound=config.bind, overlaid=config.overlay)
    found = survey.host(environment.id_map, places)
    for path in config.overlay:
        outer = next((b for b in found.bound_paths if path == b or is_below(path, b)), None)
        if outer is not None:
            raise SysenvError(
                f"{CONFIG}: {path} in overlay is inside {outer}, which is the host's own",
                f"remove it, or overlay {outer} as a whole",
            )
    return found


def _user_directory() -> Path:
    configured = os.environ.get("XDG_CONFIG_HOME", "")
    # The XDG specification: a relative path is invalid and to be ignored.
    return Path(configured if configured.startswith("/") else os.path.expanduser("~/.config")) / "sysenv-ns"


def _content(path: Path, follow: bool = False) -> bytes:
    try:
        # People keep their own among other such files and link to it; in a store nothing is a link.
        return reader.read(path, _LIMIT, follow=follow)
    except (FileNotFoundError, NotADirectoryError):
        return b""
    except OSError as error:
        raise SysenvError(f"{path} cannot be read: {reason(error)}", "make it readable, or remove it") from error


def _parsed(path: Path, content: bytes, store: Store, of_environment: bool = False) -> Config:
    return _ConfigFile(path, store, of_environment).parse(content) if content else Config()


@dataclass(frozen=True)
class _ConfigFile:
    """Reads one file: its path, for messages, and its store."""

    path: Path
    store: Store
    of_environment: bool

    def parse(self, content: bytes) -> Config:
        try:
            data = documents.parse_toml(content)
        except ValueError as error:
            raise SysenvError(f"{self.path} is not TOML: {error}", "see https://toml.io") from error
        readers: dict[str, Callable[[object], object]] = {
            "bind": lambda value: self._paths("bind", value, self._check_bind),
            "overlay": lambda value: self._paths("overlay", value, self._check_overlay),
            "driver": lambda value: self._choice("driver", value, ("auto", *policy.DRIVERS)),
            "id-map": lambda value: self._choice("id-map", value, _ID_MAPS),
            "shell": self._shell,
            "default": self._default,
            "env": self._variables,
            "host-commands": lambda value: self._flag("host-commands", value),
            "keep-removed": self._hours,
        }
        found: dict[str, object] = {}
        for key, value in data.items():
            if key not in readers:
                self._fail(f"unknown key {key!r}", f"known keys: {', '.join(readers)}")
            if self.of_environment and key in _OF_USER:
                self._fail(f"{key} {_OF_USER[key]}", f"put it in {_user_directory() / CONFIG}")
            found[key.replace("-", "_")] = readers[key](value)
        return Config(**found)  # type: ignore[arg-type]

    def _fail(self, problem: str, hint: str) -> NoReturn:
        raise SysenvError(f"{self.path}: {documents.shortened(problem)}", hint)

    def _choice(self, key: str, value: object, choices: tuple[str, ...]) -> str:
        if not isinstance(value, str) or value not in choices:
            self._fail(f"{key} cannot be {value!r}", f"choose one of: {', '.join(choices)}")
        return value

    def _flag(self, key: str, value: object) -> bool:
        if not isinstance(value, bool):
            self._fail(f"{key} cannot be {value!r}", "choose one of: true, false")
        return value

    def _hours(self, value: object) -> int:
        if not isinstance(value, int) or isinstance(value, bool) or not 0 <= value <= _LONGEST:
            self._fail(f"keep-removed cannot be {value!r}", "give whole hours; 0: what is removed is deleted at once")
        return value

    def _shell(self, value: object) -> str:
        if not isinstance(value, str) or not value.startswith("/"):
            self._fail(f"shell cannot be {value!r}", 'give an absolute path: shell = "/usr/bin/fish"')
        return value

    def _default(self, value: object) -> str:
        if not isinstance(value, str):
            self._fail(f"default cannot be {value!r}", 'give the name of an environment: default = "proj"')
        try:
            return check_name(value)
        except SysenvError as error:
            self._fail(f"default: {error.message}", error.hint)

    def _variables(self, value: object) -> tuple[tuple[str, str], ...]:
        if not isinstance(value, dict):
            self._fail("env is not a table of variables", 'for example: env = { EDITOR = "vim" }')
        for name, text in value.items():
            if not name or "=" in name or "\0" in name:
                self._fail(f"{name!r} in env is not a valid variable name", "use letters, digits and _")
            if name == "SYSENV_NS":
                self._fail("SYSENV_NS in env is the name of the environment", "remove it")
            if not isinstance(text, str) or "\0" in text:
                self._fail(f"{name} in env cannot be {text!r}", f'give a string: {name} = "..."')
        return tuple(value.items())

    def _paths(self, key: str, value: object, check: Callable[[str, str], None]) -> tuple[str, ...]:
        if not isinstance(value, list) or not all(isinstance(path, str) for path in value):
            self._fail(f"{key} is not a list of paths", f'for example: {key} = ["/opt/vendor"]')
        return tuple(self._path(key, path, check) for path in value)

    def _path(self, key: str, path: str, check: Callable[[str, str], None]) -> str:
        if not path.startswith("/") or ".." in path.split("/") or "\0" in path:
            self._fail(f"{path!r} in {key} is not an absolute path without ..", "write it in full, from /")
        real = os.path.realpath(path)
        if not os.path.lexists(real):
            self._fail(f"{path} in {key} does not exist", "remove it, or create it")
        store = os.path.realpath(self.store.path)
        if real == "/" or _meets(real, (*_FIXED, store)):
            self._fail(f"{path} in {key} cannot be chosen", f"not possible: /, {', '.join(_FIXED)}, the store")
        check(path, real)
        return real

    def _check_bind(self, path: str, real: str) -> None:
        if real == "/etc" or any(place == real or is_below(place, real) for place in policy.WRITTEN):
            self._fail(f"every installation writes to {path} in bind", "bind a path below it")

    def _check_overlay(self, path: str, real: str) -> None:
        home = os.path.realpath(os.path.expanduser("~"))
        if not os.path.isdir(real):
            self._fail(f"{path} in overlay is not a directory", "overlay the directory that it is in")
        if real == home or is_below(home, real) or is_below(real, home):
            self._fail(f"{path} in overlay overlaps your home, which is the host's own", "remove it")


def _meets(path: str, places: Iterable[str]) -> bool:
    return any(path == place or is_below(path, place) for place in places)
