"""The state file, written by the first session of a running environment: a hint where to look first, not a proof."""

from __future__ import annotations

import os

from sysenv_ns import TYPE_CHECKING, documents
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.directory import STATE
from sysenv_ns.files import reader
from sysenv_ns.files.replacement import write_json
from sysenv_ns.host.signs import Signature, of_programs
from sysenv_ns.kernel import namespace
from sysenv_ns.kernel.processes import started_at
from sysenv_ns.paths import Path
from sysenv_ns.records import dataclass

if TYPE_CHECKING:
    from collections.abc import Mapping


@dataclass(frozen=True)
class State:
    """What the first session left: itself, its mount and user namespace (namespace.identity, of the boot with this id),
    the base layers it mounted, the host's signs (signs.of_programs) as they were before, and the base of the layers.
    """

    pid: int
    start_time: int
    boot: str
    namespace: int
    user_namespace: int
    layers: tuple[str, ...]
    signs: Mapping[str, Signature | None] | None = None
    base: str = ""  # what earlier versions have left has none


def record(
    environment: Environment, layers: tuple[str, ...], signs: Mapping[str, Signature | None], base: str = ""
) -> None:
    """Write the state file for this process, which has entered its new mount namespace but not pivoted yet."""
    pid = os.getpid()
    state = {
        "pid": pid,
        "start_time": started_at(pid),
        "boot": _boot(),
        "namespace": namespace.identity_of_own("mnt"),
        "user_namespace": namespace.identity_of_own("user"),
        "signs": signs,
        "layers": layers,
        "base": base,
    }
    # After a reboot the file says nothing that would be true.
    write_json(environment.path / STATE, state, durable=False)


def name_process(environment: Environment, pid: int) -> None:
    """Let the state file name this process, which stays, and not the one that has started the environment."""
    data = documents.mapping(reader.read_json(environment.path / STATE), "it")
    told = {**data, "pid": pid, "start_time": started_at(pid)}
    write_json(environment.path / STATE, told, durable=False)


def read_state(environment_path: Path) -> State | None:
    """The state file, or None when there is none worth reading, or one of an earlier boot: it is only a hint."""
    try:
        data = documents.mapping(reader.read_json(environment_path / STATE), "it")
        pid, start_time, mounts, users = (
            documents.field(data, key, documents.integer)
            for key in ("pid", "start_time", "namespace", "user_namespace")
        )
        boot = documents.field(data, "boot", documents.text)
        layers = tuple(
            documents.name(layer, "a layer") for layer in documents.field(data, "layers", documents.sequence)
        )
        signs = documents.mapping(data["signs"], "signs") if data.get("signs") else None
        base = documents.name(data["base"], "a base") if data.get("base") else ""
        state = State(pid, start_time, boot, mounts, users, layers, signs, base)
        return state if boot == _boot() else None
    except (OSError, ValueError):
        return None


def _boot() -> str:
    """What distinguishes this boot of the machine from all others (random(4))."""
    return Path("/proc/sys/kernel/random/boot_id").read_text().strip()


def host_changed(environment_path: Path) -> bool:
    """Whether the host's programs have changed since the environment was started, which must run. Cheap."""
    state = read_state(environment_path)
    return state is not None and state.signs is not None and state.signs != of_programs()
