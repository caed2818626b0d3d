"""What an environment has put into its user's home: wrappers, desktop entries, icons, units, and their record.

A file counts as an environment's own when it is recorded and still has the content that was written. What the user has
replaced or deleted meanwhile is left alone. What there is to be linked, home/programs.py and home/services.py find out.
"""

from __future__ import annotations

import contextlib
import hashlib
import os
import shlex
from collections.abc import Callable, Iterable, Sequence
from dataclasses import asdict, dataclass
from pathlib import Path

from sysenv_ns import documents
from sysenv_ns.environment import wrappers
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.directory import LINKS
from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.files import reader
from sysenv_ns.files.replacement import write_json, write_new
from sysenv_ns.kernel import children
from sysenv_ns.sudo import Caller

FORMAT_VERSION = 1

# Runs a function as the user whose home it is.
As = Callable[[Callable[[], None]], None]


@dataclass(frozen=True)
class LinkedFile:
    """A file or symbolic link in the user's home, and the SHA-256 of what was written there."""

    path: str
    digest: str


@dataclass(frozen=True)
class Link:
    """What runs a program or service of an environment from the host; the wrapper or unit is the first of its files."""

    command: str
    target: str
    files: tuple[LinkedFile, ...]

    @property
    def is_unit(self) -> bool:
        """Whether it is one of a service: the target of others is the path of a program."""
        return not self.target.startswith("/")


@dataclass(frozen=True)
class Shown:
    """A link as status shows it: not intact when the user has deleted or replaced the wrapper."""

    command: str
    target: str
    path: str
    files: tuple[str, ...]
    intact: bool


@dataclass(frozen=True)
class NewFile:
    """A file that is to be written, or a symbolic link that leads to its content."""

    path: str
    content: bytes
    mode: int = 0o644
    is_link: bool = False

    @property
    def record(self) -> LinkedFile:
        """What will be recorded of it."""
        return LinkedFile(self.path, _digest(self.content, self.is_link))


@dataclass(frozen=True)
class NewLink:
    """A link that is to be made; the wrapper is the first of its files."""

    command: str
    target: str
    files: tuple[NewFile, ...]

    @property
    def record(self) -> Link:
        """What will be recorded of it."""
        return Link(self.command, self.target, tuple(file.record for file in self.files))


def directory() -> Path:
    """Where wrappers lie."""
    return Path(os.path.expanduser("~/.local/bin"))


def unit_directory() -> Path:
    """Where the user's own manager looks for units (systemd.unit(5), "User Unit Search Path")."""
    configured = os.environ.get("XDG_CONFIG_HOME", "")
    return Path(configured if configured.startswith("/") else os.path.expanduser("~/.config"), "systemd", "user")


def data_directory() -> Path:
    """Where desktop entries and icons of the user lie."""
    configured = os.environ.get("XDG_DATA_HOME", "")
    return Path(configured if configured.startswith("/") else os.path.expanduser("~/.local/share"))


def read(environment_path: Path) -> tuple[Link, ...]:
    """The record of an environment. Raises SysenvError."""
    path = environment_path / LINKS
    hint = f"delete {path}, and by hand the files that it lists"
    try:
        data = documents.mapping(reader.read_json(path), "it")
        version = documents.field(data, "version", documents.integer)
        if version != FORMAT_VERSION:
            raise SysenvError(f"{path} has format {version}, this sysenv-ns reads {FORMAT_VERSION}", hint)
        return tuple(_decode(link) for link in documents.field(data, "links", documents.sequence))
    except FileNotFoundError:
        return ()
    except OSError as error:
        raise SysenvError(f"{path} cannot be read: {reason(error)}") from error
    except ValueError as error:
        raise SysenvError(f"{path} is damaged ({error})", hint) from error


def _decode(value: object) -> Link:
    data = documents.mapping(value, "a link")
    files = tuple(map(_decode_file, documents.field(data, "files", documents.sequence)))
    if not files:
        raise ValueError("a link without files")
    if not all(os.path.isabs(file.path) for file in files):
        raise ValueError("a path that is not absolute")
    command, target = (documents.field(data, key, documents.name) for key in ("command", "target"))
    return Link(command, target, files)


def _decode_file(value: object) -> LinkedFile:
    data = documents.mapping(value, "a file")
    return LinkedFile(*(documents.field(data, key, documents.name) for key in ("path", "digest")))


def _write(environment_path: Path, links: Iterable[Link]) -> None:
    write_json(environment_path / LINKS, {"version": FORMAT_VERSION, "links": [asdict(link) for link in links]})


def is_intact(file: LinkedFile) -> bool:
    """Whether a file is there as it was written."""
    with contextlib.suppress(OSError):
        is_link = os.path.islink(file.path)
        content = os.fsencode(os.readlink(file.path)) if is_link else reader.read(file.path)
        return _digest(content, is_link) == file.digest
    return False


def _digest(content: bytes, is_link: bool) -> str:
    return hashlib.sha256(b"-> " + content if is_link else content).hexdigest()


def show(environment_path: Path) -> tuple[Shown, ...]:
    """The links of an environment, and whether they are still there. Raises SysenvError."""
    return tuple(
        Shown(
            link.command,
            link.target,
            link.files[0].path,
            tuple(file.path for file in link.files),
            is_intact(link.files[0]),
        )
        for link in read(environment_path)
    )


def add(environment: Environment, new: Sequence[NewLink], as_user: As) -> None:
    """Write the files of new links. Raises SysenvError, OSError; then none of these links is there."""
    known = {link.command: link for link in read(environment.path)}
    own = {file for link in known.values() for file in link.files}
    files = [file for link in new for file in link.files]

    def check() -> None:
        for file in files:
            _check(environment, file, own)

    def write() -> None:
        for old in surplus:
            _remove(old)
        for file in files:
            if not is_intact(file.record):
                _place(file, replace=any(old.path == file.path and is_intact(old) for old in own))

    as_user(check)
    known |= {link.command: link.record for link in new}
    surplus = _surplus(own, known.values())
    _write(environment.path, known.values())  # before the files: none shall be there that nobody knows of
    try:
        as_user(write)
    except BaseException:
        remove(environment.path, [link.command for link in new], as_user)
        raise


def remove(
    environment_path: Path, commands: Sequence[str] | None, as_user: As, forget: bool = True
) -> tuple[Link, ...]:
    """Delete the files of these links, or of all; returns the links. Raises SysenvError, OSError.

    Without `forget` their record stays, for an environment that can be restored.
    """
    links = read(environment_path)
    gone = tuple(link for link in links if commands is None or link.command in commands)
    left = tuple(link for link in links if link not in gone)
    if gone:
        surplus = _surplus({file for link in links for file in link.files}, left)

        def delete() -> None:
            for file in surplus:
                _remove(file)

        as_user(delete)
        if forget:
            _write(environment_path, left)
    return gone


def _surplus(files: Iterable[LinkedFile], links: Iterable[Link]) -> list[LinkedFile]:
    """Those that no link has; two may have the same icon."""
    needed = {file.path for link in links for file in link.files}
    return sorted((file for file in files if file.path not in needed), key=lambda file: file.path)


def acting_for(caller: Caller | None) -> As:
    """Something that runs a function as the user whose home it is: root by way of sudo must not write there."""
    if caller is None:
        return lambda function: function()

    def as_caller(function: Callable[[], None]) -> None:
        def run() -> None:
            caller.become()
            function()

        children.run(run, "sysenv-ns-link")

    return as_caller


def _check(environment: Environment, file: NewFile, own: Iterable[LinkedFile]) -> None:
    """Raise SysenvError when something is there that is not this environment's."""
    if not os.path.lexists(file.path) or is_intact(file.record):
        return
    if any(old.path == file.path and is_intact(old) for old in own):
        return
    other = wrappers.environment_of(file.path)
    if other is None or other == environment.name:
        what = "is not a link made by sysenv-ns" if other is None else "was changed after sysenv-ns wrote it"
        raise SysenvError(f"{file.path} already exists and {what}", "move it away, or delete it")
    raise SysenvError(
        f"{file.path} is a link to the environment {other}",
        f"sysenv-ns unlink {other} {shlex.quote(os.path.basename(file.path))}",
    )


def _place(file: NewFile, replace: bool) -> None:
    """Write a file so that nobody sees a part of it, and nothing of others is overwritten. Raises OSError."""
    path = Path(file.path)
    path.parent.mkdir(parents=True, exist_ok=True)
    temporary = _temporary(path)
    if file.is_link:
        temporary.unlink(missing_ok=True)
        temporary.symlink_to(os.fsdecode(file.content))
    else:
        write_new(temporary, file.content, file.mode)
    try:
        if replace:
            os.replace(temporary, path)
        else:
            os.link(temporary, path, follow_symlinks=False)  # fails where something is
    finally:
        temporary.unlink(missing_ok=True)


def _temporary(path: Path) -> Path:
    """The same each time: what a killed writer has left goes with the next one, or with the link."""
    return path.with_name(f".{path.name}.sysenv-ns")


def _remove(file: LinkedFile) -> None:
    with contextlib.suppress(FileNotFoundError, NotADirectoryError):
        _temporary(Path(file.path)).unlink()
    if is_intact(file):
        os.unlink(file.path)
