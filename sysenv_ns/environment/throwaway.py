"""Makes throwaway environments with changes in memory on top of others: a directory with a few small files.

What they begin with is made in memory at their start (memory.py). So neither this nor deleting them needs a namespace,
and nothing has to reach the disk: after a power cut there is nothing that anybody would want back.
"""

from __future__ import annotations

from sysenv_ns import TYPE_CHECKING
from sysenv_ns.environment import directory, ephemeral, transaction, uppers
from sysenv_ns.environment.description import Environment, like
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError, located
from sysenv_ns.files import reader
from sysenv_ns.files.replacement import write_new
from sysenv_ns.kernel import remedies
from sysenv_ns.records import replace

if TYPE_CHECKING:
    from collections.abc import Sequence

_FILES = (directory.ORIGIN, directory.CONFIG, directory.REGISTRY)


def on_top(store: Store, source: str, name: str) -> Environment | None:
    """One on top of an environment of which all is frozen; None if that has changes that first have to be.

    Such a one may run: what it changes is in its own upper directory. Raises SysenvError; then nothing is left.
    """
    with uppers.locked(store):
        model = store.load(source)
        ephemeral.refuse(model, "the clone")
        model.require_root()
        return None if uppers.is_changed(model) or not model.layers else add(store, model, name)


def add(store: Store, model: Environment, name: str, files: Sequence[str] = _FILES) -> Environment:
    """One above the frozen layers of another one, which has some, and with these files of it.

    The lock of all layers must be held, if they are this store's. Raises SysenvError; then nothing is left.
    """
    new = replace(like(model, name, store.envs, store.path), ephemeral="memory", init=False)
    try:
        with transaction.staging(store.trash, f"{transaction.NEW}{name}", None) as staging:
            directory.make(staging)
            for file in files:
                if (content := reader.get(model.path / file)) is not None:
                    write_new(staging / file, content, 0o666, durable=False)
            store.add(new, staging, durable=False)
    except OSError as error:
        hint = remedies.storage(error, store.path)
        raise SysenvError(f"creating {name} failed: {located(error)}", hint) from error
    return new
