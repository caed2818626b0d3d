"""Reads the texts that are shown with a plan: of files that apt obeys as soon as it runs."""

from __future__ import annotations

import hashlib
from collections.abc import Sequence

from sysenv_ns.apply import plan
from sysenv_ns.apply.plan import Plan
from sysenv_ns.diff import difference
from sysenv_ns.diff.difference import Sides
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError, located
from sysenv_ns.kernel import namespace
from sysenv_ns.text import is_text, quoted, size

LIMIT = 256 << 10  # bytes of a file that people are asked to look at
_KEY_LIMIT = 16 << 10
_PROCESS = "sysenv-ns-apply"


def texts(store: Store, agreed: Plan) -> dict[str, str]:
    """The texts by path, as the plan has them; bytes that are not UTF-8 as surrogates. Raises SysenvError."""
    wanted = {step.path: step.new for step in agreed.steps if plan.has_text(step) and step.new}
    for path, entry in wanted.items():
        if entry.size > _limit(path) and not plan.is_key(path):
            what = f"{quoted(path)} is too long to show ({size(entry.size)}), and apt would obey it"
            raise SysenvError(what, "make it shorter in the environment, or apply other paths only: -- PATH...")
    paths = [path for path, entry in wanted.items() if entry.size <= _limit(path)]
    if not paths:
        return {}
    with store.lock(agreed.name):
        environment = store.load(agreed.name)
        sides = difference.sides_of(store, environment)
        try:
            found = namespace.look_inside(environment.id_map, lambda: _read(sides, paths), tuple[bytes, ...], _PROCESS)
        except OSError as error:
            raise SysenvError(f"the files that apt would obey cannot be read: {located(error)}") from error
    result = {}
    for path, data in zip(paths, found, strict=True):
        if hashlib.sha256(data).hexdigest() != wanted[path].digest:
            raise SysenvError(f"{quoted(path)} was changed in {agreed.name} while it was read", "run it again")
        if not plan.is_key(path) or is_text(data):
            result[path] = data.decode("utf-8", "surrogateescape")
    return result


def _limit(path: str) -> int:
    return _KEY_LIMIT if plan.is_key(path) else LIMIT


def _read(sides: Sides, paths: Sequence[str]) -> tuple[bytes, ...]:
    """In the namespace."""
    upper = sides.upper()
    found = []
    for path in paths:
        entry = upper.get(path)
        data = b""
        if entry is not None:
            with entry.stream() as stream:
                data = stream.read(LIMIT)
        found.append(data)
    return tuple(found)
