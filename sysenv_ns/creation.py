"""Creates environments, and the base of a new one if there is none yet."""

from __future__ import annotations

import os
import sys

from sysenv_ns import TYPE_CHECKING, launcher, policy, sudo
from sysenv_ns.basics import suppress
from sysenv_ns.drivers import choose, driver
from sysenv_ns.environment import config, directory, ephemeral, removed, transaction
from sysenv_ns.environment.description import Environment, Ephemeral, new_ident, now
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import Exhausted, SysenvError, reason
from sysenv_ns.host import standins
from sysenv_ns.kernel import idmap, remedies
from sysenv_ns.kernel.idmap import IdMap
from sysenv_ns.lower import additions
from sysenv_ns.packages import origin
from sysenv_ns.packages.origin import Origin
from sysenv_ns.paths import Path
from sysenv_ns.reporter import Ask, Reporter

if TYPE_CHECKING:
    from collections.abc import Callable

    from sysenv_ns.drivers.driver import Driver


def create(
    store: Store,
    name: str,
    driver_name: str,
    id_map_kind: str,
    reporter: Reporter,
    throwaway: Ephemeral | None = None,
    init: bool = False,
) -> Environment:
    """Create an environment, and its base if there is none yet. Raises SysenvError; then nothing incomplete is left."""
    ephemeral.check_free(store, name, throwaway)
    store.prepare()
    _tidy(store)
    _offer_launcher(driver_name, reporter.ask)
    staging = transaction.trash_path(store.trash, f"{transaction.NEW}{name}")
    try:
        return _create(store, name, (driver_name, id_map_kind), reporter, throwaway, init, staging)
    finally:
        if os.path.lexists(staging):
            _discard(staging)


def _discard(staging: Path) -> None:
    """Without a namespace first: perhaps there are none, and all is the user's own."""
    from sysenv_ns.files import removal

    with suppress(OSError):
        removal.delete(staging)
    transaction.discard([staging], idmap.widest())


def created(name: str) -> str:
    """What to say of a new one."""
    return f"created {name}; enter it with: sysenv-ns shell {name}"


def _create(
    store: Store,
    name: str,
    wanted: tuple[str, str],
    reporter: Reporter,
    throwaway: Ephemeral | None,
    init: bool,
    staging: Path,
) -> Environment:
    """`wanted`: the driver and the kind of the id map, each perhaps "auto"."""

    def failed(error: OSError, kind: type[SysenvError] = SysenvError) -> SysenvError:
        return kind(f"creating {name} failed: {reason(error)}", remedies.storage(error, store.path))

    def begin(own: Driver) -> Callable[[], None]:
        """Makes what it begins with, as root of its namespace."""
        try:
            added = list(additions.batches((standins.prompt(name), *own.upper_additions())))
            if not os.path.lexists(staging):
                directory.make(staging)
        except OSError as error:
            raise failed(error, Exhausted) from error

        def inside() -> None:
            try:
                additions.write(added, staging / directory.UPPER)
            except OSError as error:
                raise failed(error, Exhausted) from error

        return inside

    driver_name, id_map = choose.choose(store, *wanted, reporter.ask, begin)
    if id_map is not None and id_map.kind == "single" != wanted[1] and not store.all_names():
        _recommend_full(driver_name, reporter)
    if init:
        _check_init(id_map, name)
    path, ident = store.envs / name, new_ident()
    environment = Environment(name, ident, driver_name, id_map, now(), path, store.path, ephemeral=throwaway, init=init)
    driver.of(environment).build_base(store, environment, config.host(store, environment), reporter)
    try:
        key = origin.remember(store)
        origin.write(staging, Origin(key, key))
        store.add(environment, staging)
    except OSError as error:
        raise failed(error) from error
    return environment


def _check_init(id_map: IdMap | None, name: str) -> None:
    """Raise SysenvError where no environment can have systemd as its process 1."""
    from sysenv_ns import init

    init.require(id_map, name)
    if init.program() is None:
        raise SysenvError(
            "this system has no systemd that could be process 1 of an environment",
            "install it (package systemd; it need not be what boots this system), or leave out --init",
        )


def _tidy(store: Store) -> None:
    if any(found.is_due for found in removed.all_of(store.removed)) or transaction.abandoned(store.trash):
        from sysenv_ns import lifecycle  # rarely there is anything

        lifecycle.tidy(store)


def _offer_launcher(driver_name: str, ask: Ask | None) -> None:
    """Where AppArmor forbids what all drivers but root need: let root change that, if the user says so; start again."""
    if ask is None or driver_name == "root" or not launcher.is_missing() or not sudo.available():
        return
    from sysenv_ns.mapped import client

    if ask(launcher.QUESTION.format(place=os.path.dirname(launcher.path_of(os.getuid())))):
        client.allow(os.getuid())
        launcher.go_on(sys.argv[1:])


def _recommend_full(driver_name: str, reporter: Reporter) -> None:
    """Before the first environment is created: how to have all users in it, if the driver allows that."""
    if "full" not in policy.DRIVERS[driver_name]:
        return
    try:
        idmap.detect_full()
    except SysenvError as error:
        reporter.notice(f"only root will exist inside ({error.message}); to have all users, first {error.hint}")
