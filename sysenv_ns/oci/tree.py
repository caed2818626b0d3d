"""Mounts the root of an environment for its image, without what of the host shows in it; runs nothing there."""

from __future__ import annotations

import os

from sysenv_ns import running
from sysenv_ns.host import config, layout, refresh, standins
from sysenv_ns.host.layout import Host
from sysenv_ns.host.records import Addition
from sysenv_ns.kernel import namespace, operations
from sysenv_ns.kernel.operations import Overlay
from sysenv_ns.lower import drivers
from sysenv_ns.oci import contents
from sysenv_ns.oci.members import Walk
from sysenv_ns.session import Reporter
from sysenv_ns.store import Environment, Store
from sysenv_ns.upper import uppers, view
from sysenv_ns.upper.fuse import FuseOverlay
from sysenv_ns.upper.view import Upper


def mount(store: Store, environment: Environment, reporter: Reporter) -> Walk:
    """Mount its root in new namespaces of this process, which ends with it. Raises SysenvError, OSError.

    Until then the environment counts as running, so that nothing of its layers is deleted.
    """
    for directory in (environment.work, environment.root):  # nothing is kept in them
        directory.mkdir(mode=0o755, exist_ok=True)
    signs = refresh.signs()  # before the base is compared with the host
    host = config.host(store, environment)
    with drivers.get(environment.driver).prepare(store, environment, host, reporter.progress) as prepared:
        namespace.enter(environment.id_map)
        overlays = [operation for operation in prepared.plan if isinstance(operation, Overlay | FuseOverlay)]
        os.close(operations.execute(overlays, str(environment.root), reporter.operation))
        running.record(environment, prepared.layers, signs)
    rules = contents.of_environment(host, _additions(environment, host))
    return Walk(str(environment.root), _upper(environment, host), rules)


def _additions(environment: Environment, host: Host) -> tuple[Addition, ...]:
    """What the environment has in addition to the host, to live on it."""
    bound = layout.hosts_own(host)
    id_map = environment.id_map
    added = standins.host_additions(id_map.kind == "single", bound) if id_map else standins.root_additions(bound)
    return (*added, standins.prompt(environment.name))


def _upper(environment: Environment, host: Host) -> Upper:
    """All that the environment has changed."""
    further = [mount.point for mount in layout.further_mounts(host)] if environment.id_map is None else []
    return Upper(uppers.layers(environment, ["", *further]), view.signs(environment.driver))
