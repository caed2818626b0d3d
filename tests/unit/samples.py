"""Saved mount tables, hosts and environments that several tests start from."""

from __future__ import annotations

from pathlib import Path

from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.host.layout import Host, HostEntry
from sysenv_ns.host.run_directory import EntryKind, RunEntry
from sysenv_ns.kernel import idmap, mountinfo
from sysenv_ns.kernel.mountinfo import Mount
from sysenv_ns.kernel.subordinate import Range

DATA = Path(__file__).parent / "data"
TABLES = sorted(path.stem for path in DATA.glob("*.mountinfo"))

FULL = idmap.full(1000, 1000, [Range(100000, 65536)], [Range(100000, 65536)])
SINGLE = idmap.single(1000, 1000)

_DIRECTORIES = ("boot", "dev", "etc", "home", "media", "mnt", "opt", "proc", "root", "run", "srv", "sys", "tmp")
_USR_LINKS = ("bin", "lib", "lib64", "sbin")


def table(name: str) -> tuple[Mount, ...]:
    """A saved mount table."""
    return mountinfo.parse((DATA / f"{name}.mountinfo").read_bytes())


def host(
    mounts: str | tuple[Mount, ...] = "plain",
    *,
    extra: tuple[HostEntry, ...] = (),
    merged: bool = True,
    home: str = "/home/you",
    stores: tuple[str, ...] = ("/var/tmp",),
    run: tuple[RunEntry, ...] = (),
    mounted_files: tuple[str, ...] = (),
) -> Host:
    """A host with the usual directories in /; `merged` has /bin, /lib and /sbin as links into /usr."""
    kind: EntryKind = "symlink" if merged else "directory"
    top = [HostEntry(name, "directory") for name in (*_DIRECTORIES, "usr", "var")]
    top += [HostEntry(name, kind) for name in _USR_LINKS]
    entries = tuple(sorted((*top, *extra), key=lambda entry: entry.path))
    found = table(mounts) if isinstance(mounts, str) else mounts
    return Host(found, entries, home, stores, run, frozenset(mounted_files))


def add_environment(store: Store, name: str, id_map: idmap.IdMap | None = FULL, driver: str = "stub") -> Environment:
    """An environment in the store, as `create` leaves it but for its work directories."""
    store.prepare()
    environment = Environment(name, "0123abcd", driver, id_map, 1_700_000_000.0, store.envs / name, store.path)
    staging = store.trash / f"new-{name}"
    (staging / "upper").mkdir(parents=True)
    store.add(environment, staging)
    return environment
