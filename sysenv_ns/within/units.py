"""Finds and reads unit files as systemd.unit(5) says: drop-ins, templates, aliases, specifiers; starts nothing."""

from __future__ import annotations

import glob
import os
import platform
import pwd
import re
from collections.abc import Callable, Iterator
from dataclasses import dataclass

GENERATED = "/run/sysenv-ns/generated"
DIRECTORIES = (
    "/etc/systemd/system",
    "/run/systemd/system",
    GENERATED,
    "/usr/local/lib/systemd/system",
    "/usr/lib/systemd/system",
    "/lib/systemd/system",
)
_INIT_SCRIPTS = "/etc/init.d"
TYPES = ("service", "socket", "target", "timer", "mount", "automount", "path", "slice", "scope", "swap", "device")
_TRUE = frozenset({"1", "yes", "true", "on", "y", "t"})
_SPANS = {
    **dict.fromkeys(("", "s", "sec", "second", "seconds"), 1.0),
    **dict.fromkeys(("m", "min", "minute", "minutes"), 60.0),
    **dict.fromkeys(("h", "hr", "hour", "hours"), 3600.0),
    **dict.fromkeys(("d", "day", "days"), 86400.0),
    **dict.fromkeys(("w", "week", "weeks"), 604800.0),
    **dict.fromkeys(("M", "month", "months"), 2629800.0),
    **dict.fromkeys(("y", "year", "years"), 31557600.0),
    **dict.fromkeys(("ms", "msec"), 0.001),
    **dict.fromkeys(("us", "usec"), 0.000001),
}


class OrderError(Exception):
    """An order that cannot be carried out: the sentence, a hint or "", and the exit status."""

    def __init__(self, message: str, hint: str = "", status: int = 1) -> None:
        super().__init__(message)
        self.message, self.hint, self.status = message, hint, status


@dataclass(frozen=True)
class Unit:
    """A unit with all that its file and drop-ins say: (section, key) to values, the earliest first."""

    name: str
    path: str  # of its file; empty for one that was made of an init script without a unit
    settings: dict[tuple[str, str], tuple[str, ...]]
    drop_ins: tuple[str, ...] = ()

    @property
    def type(self) -> str:
        """service, socket ..."""
        return self.name.rpartition(".")[2]

    @property
    def description(self) -> str:
        """What it is, in a few words."""
        return self.text("Unit", "Description") or self.name

    def raw(self, section: str, key: str) -> tuple[str, ...]:
        """All values of a setting as they are written."""
        return self.settings.get((section, key), ())

    def values(self, section: str, key: str) -> tuple[str, ...]:
        """All values of a setting, specifiers replaced."""
        return tuple(self.expanded(value) for value in self.raw(section, key))

    def text(self, section: str, key: str, default: str = "") -> str:
        """The last value of a setting."""
        values = self.values(section, key)
        return values[-1] if values else default

    def words(self, section: str, *keys: str) -> list[str]:
        """The words of all values of settings that are lists of names."""
        return [word for key in keys for value in self.values(section, key) for word in value.split()]

    def flag(self, section: str, key: str, default: bool = False) -> bool:
        """A setting that is yes or no."""
        value = self.text(section, key).lower()
        return value in _TRUE if value else default

    def seconds(self, section: str, key: str, default: float) -> float:
        """A span of time; infinity for "infinity"."""
        value = self.text(section, key)
        return span(value) if value else default

    def expanded(self, text: str) -> str:
        """A text with its specifiers replaced (systemd.unit(5), "Specifiers")."""
        if "%" not in text:
            return text
        return re.sub(r"%(.)", lambda found: self._specifier(found[1]), text)

    def _specifier(self, letter: str) -> str:
        prefix, _, instance = self.name.rpartition(".")[0].partition("@")
        user = self.settings.get(("Service", "User"), ("root",))[-1] if letter in "hU" else ""
        meaning: Callable[[], str] | None = {
            "%": lambda: "%",
            "n": lambda: self.name,
            "N": lambda: self.name.rpartition(".")[0],
            "p": lambda: prefix,
            "P": lambda: unescaped(prefix),
            "i": lambda: instance,
            "I": lambda: unescaped(instance),
            "j": lambda: prefix.rpartition("-")[2],
            "J": lambda: unescaped(prefix.rpartition("-")[2]),
            "f": lambda: f"/{unescaped(instance or prefix)}",
            "t": lambda: "/run",
            "S": lambda: "/var/lib",
            "C": lambda: "/var/cache",
            "L": lambda: "/var/log",
            "E": lambda: "/etc",
            "T": lambda: "/tmp",
            "V": lambda: "/var/tmp",
            "u": lambda: "root",  # of the manager, not of the unit
            "U": lambda: "0",
            "h": lambda: _home(user),
            "H": platform.node,
            "l": lambda: platform.node().partition(".")[0],
            "v": platform.release,
            "m": lambda: _first_line("/etc/machine-id"),
            "b": lambda: _first_line("/proc/sys/kernel/random/boot_id").replace("-", ""),
        }.get(letter)
        if meaning is None:
            raise OrderError(f"{self.name}: the specifier %{letter} is not supported")
        return meaning()


def _home(user: str) -> str:
    return pwd.getpwuid(0).pw_dir if user == "root" else pwd.getpwnam(user).pw_dir


def _first_line(path: str) -> str:
    try:
        with open(path, encoding="ascii") as stream:
            return stream.readline().strip()
    except OSError:
        return ""


def unescaped(text: str) -> str:
    """systemd-escape --unescape."""
    return re.sub(r"\\x([0-9a-f]{2})", lambda found: chr(int(found[1], 16)), text.replace("-", "/"))


def span(text: str) -> float:
    """The seconds of a systemd.time(7) span such as "1min 30s"."""
    if text == "infinity":
        return float("inf")
    parts = re.findall(r"([0-9.]+)\s*([A-Za-z]*)", text)
    try:
        if not re.fullmatch(r"(\s*[0-9.]+\s*[A-Za-z]*)+\s*", text):
            raise ValueError
        return sum(float(number) * _SPANS[unit] for number, unit in parts)
    except (KeyError, ValueError):
        raise OrderError(f"{text!r} is not a span of time") from None


def full_name(name: str) -> str:
    """A unit's name with its type: a service where none is said."""
    return name if name.rpartition(".")[2] in TYPES and "." in name else f"{name}.service"


def full_pattern(pattern: str) -> str:
    """A pattern for names of units: as it is, but a plain name without its type is that of a service."""
    return pattern if any(letter in pattern for letter in "*?[") else full_name(pattern)


def load(name: str) -> Unit | None:
    """The unit of a full name; None when there is none. Raises OrderError for one that is masked or cannot be read."""
    path = _find(name)
    if path is None:
        return _of_init_script(name)
    if os.path.realpath(path) == os.devnull:
        raise OrderError(f"Unit {name} is masked.", f"systemctl unmask {name}")
    name = _real_name(name, path)
    drop_ins = tuple(_drop_ins(name))
    settings: dict[tuple[str, str], tuple[str, ...]] = {}
    try:
        for part in (path, *drop_ins):
            with open(part, encoding="utf-8", errors="surrogateescape") as stream:
                _read(stream.read(), settings)
    except OSError as error:
        raise OrderError(f"{error.filename} cannot be read: {error.strerror}") from error
    return Unit(name, path, settings, drop_ins)


def names() -> list[str]:
    """The names of all units that have a file, and of init scripts without one."""
    found = {name for directory in DIRECTORIES for name in _listed(directory) if name.rpartition(".")[2] in TYPES}
    scripts = (f"{name}.service" for name in _listed(_INIT_SCRIPTS) if name not in ("README", "skeleton"))
    return sorted(found | {name for name in scripts if _of_init_script(name)})


def wanted_by(target: str) -> list[str]:
    """The units that a target or service wants by links."""
    places = [f"{directory}/{target}.{kind}" for directory in DIRECTORIES for kind in ("wants", "requires")]
    return sorted({name for place in places for name in _listed(place)})


def generated_for(name: str) -> list[str]:
    """The units that a service stands for, by links that a program of its package has made (systemd.generator(7))."""
    return _listed(f"{GENERATED}/{name}.wants")


def is_enabled(name: str) -> bool:
    """Whether some unit wants this one by a link in /etc."""
    return any(glob.iglob(f"/etc/systemd/system/*.wants/{glob.escape(name)}")) or any(
        glob.iglob(f"/etc/rc[2-5].d/S??{glob.escape(name.rpartition('.')[0])}")
    )


def _find(name: str) -> str | None:
    prefix, at, instance = name.partition("@")
    template = f"{prefix}@.{instance.rpartition('.')[2]}" if at else ""
    candidates = [name, template] if template and template != name else [name]
    paths = (f"{directory}/{candidate}" for candidate in candidates for directory in DIRECTORIES)
    return next((path for path in paths if os.path.exists(path)), None)


def _real_name(name: str, path: str) -> str:
    """The name of the unit that an alias is a link to; the instance of a template stays what it is."""
    real = os.path.basename(os.path.realpath(path))
    if real == os.path.basename(path) or real.rpartition(".")[2] not in TYPES:
        return name
    if "@." in real:
        instance = name.partition("@")[2].rpartition(".")[0]
        return real.replace("@.", f"@{instance}.")
    return real


def _drop_ins(name: str) -> Iterator[str]:
    """*.conf in NAME.d, TEMPLATE@.service.d and service.d; of one name in several directories, the first."""
    prefix, at, _ = name.partition("@")
    kind = name.rpartition(".")[2]
    owners = [name, *([f"{prefix}@.{kind}"] if at else []), kind]
    found: dict[str, str] = {}
    for owner in owners:
        for directory in DIRECTORIES:
            for file in _listed(f"{directory}/{owner}.d"):
                if file.endswith(".conf"):
                    found.setdefault(file, f"{directory}/{owner}.d/{file}")
    return (path for _, path in sorted(found.items()) if os.path.realpath(path) != os.devnull)


def _read(text: str, settings: dict[tuple[str, str], tuple[str, ...]]) -> None:
    """Add what a file says; an empty value takes back what was said of a setting before."""
    section = ""
    for line in _lines(text):
        if line.startswith("["):
            section = line.strip("[] ")
            continue
        key, equals, value = line.partition("=")
        if not equals:
            continue
        place = section, key.strip()
        value = value.strip()
        settings[place] = (*settings.get(place, ()), value) if value else ()


def _lines(text: str) -> Iterator[str]:
    """The lines that say something, continued ones joined."""
    joined = ""
    for raw in text.splitlines():
        line = raw.strip()
        if line.startswith(("#", ";")) or (not line and not joined):
            continue
        if line.endswith("\\"):
            joined += line[:-1] + " "
            continue
        yield joined + line
        joined = ""
    if joined:
        yield joined


def _of_init_script(name: str) -> Unit | None:
    """What systemd-sysv-generator(8) makes of an init script that has no unit."""
    base = name.rpartition(".")[0]
    path = f"{_INIT_SCRIPTS}/{base}"
    if not name.endswith(".service") or "/" in base or not os.access(path, os.X_OK) or os.path.isdir(path):
        return None
    with open(path, encoding="utf-8", errors="replace") as stream:
        header = stream.read(8192)
    described = re.search(r"^#\s*Short-Description:\s*(.+)$", header, re.MULTILINE)
    values = {
        ("Unit", "Description"): f"LSB: {described[1].strip()}" if described else f"init script {base}",
        ("Service", "Type"): "forking",
        ("Service", "ExecStart"): f"{path} start",
        ("Service", "ExecStop"): f"{path} stop",
        ("Service", "RemainAfterExit"): "yes",
        ("Service", "GuessMainPID"): "no",
        ("Service", "KillMode"): "process",
    }
    if re.search(r"\breload\)|\breload\|", header):
        values["Service", "ExecReload"] = f"{path} reload"
    return Unit(name, "", {place: (value.replace("%", "%%"),) for place, value in values.items()})


def _listed(directory: str) -> list[str]:
    """The names in a directory; none when there is no such directory."""
    try:
        return sorted(os.listdir(directory))
    except OSError:
        return []
