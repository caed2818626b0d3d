"""Shows sockets that the host's daemons have created in /run since the environment was started; removes nothing."""

from __future__ import annotations

import os

from sysenv_ns import TYPE_CHECKING, policy
from sysenv_ns.basics import opened, suppress
from sysenv_ns.host.run_directory import RunEntry

if TYPE_CHECKING:
    from collections.abc import Iterable


def show(entries: Iterable[RunEntry]) -> None:
    """Add what is missing of the host's /run, as a start does it; of what is there nothing is touched."""
    if not os.path.isdir(policy.RUN_OF_HOST):  # it was started by an earlier version
        return
    with opened(os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as root:
        for entry in entries:
            operation = entry.operation
            if operation is not None and not os.path.lexists(operation.target):
                with suppress(OSError):  # the environment has something else in the place of its directory
                    operation.attach(root, None)
