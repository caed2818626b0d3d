"""The directories in /run of services installed in the environment: systemd creates them when it starts a service.

Only those of units that are the environment's own are looked at: the services of the host run there, if at all.
"""

from __future__ import annotations

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.basics import suppress
from sysenv_ns.files import reader
from sysenv_ns.inside.tmpfiles import Line
from sysenv_ns.paths import Path

if TYPE_CHECKING:
    from collections.abc import Iterable, Iterator

_DIRECTORIES = ("/etc/systemd/system", "/usr/lib/systemd/system", "/lib/systemd/system")  # the first one wins
_MODE = "755"  # systemd.exec(5), RuntimeDirectoryMode=


def services(uppers: Iterable[Path]) -> set[str]:
    """The services of which there is something in these directories of changes; before the pivot, after which none is
    in reach.
    """
    found: set[str] = set()
    for upper in uppers:
        with suppress(OSError), reader.Root(upper) as root:
            for directory in _DIRECTORIES:
                with suppress(OSError):  # most have none
                    found |= {name for name in root.names(directory) if name.endswith(".service") and "@" not in name}
    return found


def wanted(services: Iterable[str]) -> Iterator[Line]:
    """What these services want in /run."""
    for service in sorted(services):
        for directory in _DIRECTORIES:
            with suppress(OSError):
                text = reader.read(f"{directory}/{service}", follow=True).decode("utf-8", "surrogateescape")
                yield from parse(text)
                break


def parse(text: str) -> Iterator[Line]:
    """The same from the text of a unit, systemd.exec(5)."""
    pairs = (line.partition("=") for line in text.splitlines() if line[:1] not in ("#", ";"))
    settings = {key.strip(): value.strip() for key, _, value in pairs}
    user = settings.get("User", "") or "root"
    with suppress(ValueError):
        mode = int(settings.get("RuntimeDirectoryMode", _MODE), 8)
        for name in settings.get("RuntimeDirectory", "").split():
            path = name.partition(":")[0].strip("/")
            if path and "%" not in path and ".." not in path.split("/"):
                yield Line("directory", path, mode, user, settings.get("Group", "") or user)
