"""shell and exec: start or join an environment and become the command. Nothing stays between terminal and command.

After the pivot nothing may be imported: it would come from the environment's own files.
"""

from __future__ import annotations

import os

from sysenv_ns import TYPE_CHECKING, policy
from sysenv_ns.basics import opened, suppress
from sysenv_ns.command import Asked, Command, as_given, become, identity_of, login_shell, variables_of
from sysenv_ns.environment import config, running, state
from sysenv_ns.environment.config import Config
from sysenv_ns.environment.description import Environment
from sysenv_ns.environment.store import Store
from sysenv_ns.errors import SysenvError, reason
from sysenv_ns.host import signs
from sysenv_ns.inside import accounts
from sysenv_ns.kernel import children, namespace
from sysenv_ns.kernel.emulation import Emulation
from sysenv_ns.kernel.namespace import Mounts
from sysenv_ns.packages import origin
from sysenv_ns.paths import current_directory
from sysenv_ns.records import replace
from sysenv_ns.reporter import Reporter
from sysenv_ns.supervised import emulation_of

if TYPE_CHECKING:
    from collections.abc import Callable, Iterable, Mapping
    from typing import NoReturn, TypeVar

    from sysenv_ns.host.run_directory import RunEntry

    _T = TypeVar("_T")


def run(
    store: Store, environment: Environment, command: Command, reporter: Reporter, emulated: Emulation | None = None
) -> NoReturn:
    """Enter the environment, starting it if it does not run, and become the command. Raises SysenvError.

    `emulated`: its emulation, if that is there already.
    """
    environment.require_root()
    identity = identity_of(environment, command)
    of_host = os.getgroups()  # with their numbers there
    directory = current_directory()
    finish = _hand_over(environment, command, directory) if identity == "root" else None
    emulated = emulated or emulation_of(store, environment)
    interactive = command.arguments is None
    _boot(store, environment, reporter)
    with store.lock(environment.name):
        settings = config.of_environment(store, environment)
        # The tool finds the store also when root inside runs it, who has another home.
        variables = {"SYSENV_NS_HOME": str(store.named)} | variables_of(environment, identity, command, settings.env)
        if interactive and settings.shell:
            variables["SHELL"] = settings.shell
            command = replace(command, arguments=(settings.shell,))
        if interactive:
            from sysenv_ns import prompt  # before the pivot; exec has none

            shells = accounts.shells()
        if enter(store, environment, reporter, settings, emulated):
            reporter.notice(
                f"the host has changed since {environment.name} was started; stop it to see the new files: "
                f"sysenv-ns stop {environment.name}"
            )
        if interactive and not settings.shell:  # one that chsh(1) has set inside
            uid = 0 if identity == "root" else command.caller.uid if command.caller else os.getuid()
            variables |= (("SHELL", shell) for number, shell in accounts.shells() - shells if number == uid)
        arguments = command.arguments or (login_shell(variables),)
        if interactive:
            shown = prompt.of(arguments[0], variables, identity == "root")
            arguments, variables = (*arguments, *shown.options), variables | dict(shown.variables)
        _change_directory(directory, variables, reporter)
        if command.directory:
            _enter_directory(command.directory)
        if identity == "root" and not environment.by_root:
            namespace.become_root()
        if identity == "me" and environment.id_map is not None:
            accounts.grant_groups(environment.id_map, of_host, reporter.notice)
        if emulated is not None:
            emulated.load()
        if command.caller is not None:
            os.umask(command.caller.umask)
        if identity == "me" and command.caller is not None:
            command.caller.become()
        _end_with_session(environment)
        if finish is not None:
            finish()
        become(arguments, variables)


def _boot(store: Store, environment: Environment, reporter: Reporter) -> None:
    """Have its process 1 started, if it shall have one and does not run. Raises SysenvError."""
    if environment.init:
        from sysenv_ns import init

        init.ensure(store, environment, reporter)


def _end_with_session(environment: Environment) -> None:
    """Where another process is the session: what `join` has asked for has been forgotten with the first ids."""
    if environment.init:
        children.end_with(children.OUTSIDE)


def _hand_over(environment: Environment, command: Command, directory: str) -> Callable[[], None] | None:
    """A call that puts a process above this one, which gives the user what the command leaves in the home; or None."""
    if command.arguments is None or environment.root_only:  # whose root is the user
        return None
    from sysenv_ns import root_files  # before the pivot
    from sysenv_ns.kernel import waiting

    home = (os.environ if command.caller is None else command.caller.variables).get("HOME", "")
    begun = root_files.Begun(home, os.path.join(directory, command.directory), command.arguments)
    work = root_files.of_session(environment, command.caller, begun)
    return None if work is None else lambda: waiting.in_child(work.hand_over)


def run_here(command: Command, name: str) -> NoReturn:
    """Become a command in the environment that this process already lives in: as the same user, unless given otherwise.

    Raises SysenvError.
    """
    variables = as_given(os.environ) | dict(command.variables) | {"SYSENV_NS": name}
    if command.directory:
        _enter_directory(command.directory)
    become((*_as(command.identity), *(command.arguments or ())), variables)


def _as(identity: Asked | None) -> tuple[str, ...]:
    """The words before a command that make it run as another user: the environment's sudo. Raises SysenvError."""
    is_root = os.geteuid() == 0
    if identity == "root" and not is_root:
        return ("sudo", "-E", "-H", "--")
    if identity == "me" and is_root:
        if "SUDO_UID" not in os.environ:
            raise SysenvError(
                "you are root here, and who you are outside is not known", "leave out --me, or exit first"
            )
        return ("sudo", "-E", "-H", "-u", f"#{os.environ['SUDO_UID']}", "--")
    return ()


def enter(
    store: Store,
    environment: Environment,
    reporter: Reporter,
    settings: Config | None = None,
    emulated: Emulation | None = None,
) -> bool:
    """Move this process into the environment, holding its lock; `settings` if already read. Raises SysenvError.

    Returns whether the host has changed since the environment was started.
    """
    # What it is made of may have changed before the lock was taken.
    environment = replace(store.load(environment.name), init=environment.init)
    mounts = running.find(environment, reporter.notice)
    if mounts is not None:
        # While the host's own files are in sight.
        from sysenv_ns.host import run_directory

        changed = state.host_changed(environment.path)
        made_meanwhile = run_directory.sockets(environment.id_map)
        if environment.init:
            from sysenv_ns.inside import boot

            made_meanwhile = tuple(entry for entry in made_meanwhile if not boot.is_own(entry.path))
        join(environment, mounts)
        _show(made_meanwhile)
        return changed
    if environment.init:
        raise SysenvError(f"{environment.name} has been shut down meanwhile", "try again")
    start(store, environment, reporter, settings, emulated)
    return False


def _show(sockets: Iterable[RunEntry]) -> None:
    """Show inside what the host's daemons have made in /run since the start, as that does; what is there stays."""
    if not os.path.isdir(policy.RUN_OF_HOST):  # it was started by an earlier version
        return
    with opened(os.open("/", os.O_PATH | os.O_DIRECTORY | os.O_CLOEXEC)) as root:
        for entry in sockets:
            if entry.operation is not None and not os.path.lexists(entry.operation.target):
                with suppress(OSError):  # the environment has something else in the place of its directory
                    entry.operation.attach(root, None)


def start(
    store: Store,
    environment: Environment,
    reporter: Reporter,
    settings: Config | None = None,
    emulated: Emulation | None = None,
) -> None:
    """Move this process into a new root made of the environment's layers; see `enter`. Raises SysenvError.

    `emulated`: not loaded yet; its supervisor has looked at the base, and makes the user namespace meanwhile.
    """
    if emulated is not None:
        emulated.supervisor.make_namespace()
    # A session that joins needs none of the drivers, nor the base.
    from sysenv_ns.drivers import driver
    from sysenv_ns.inside import tmpfiles
    from sysenv_ns.kernel import operations
    from sysenv_ns.lower import glance

    for directory in (environment.work, environment.root):  # nothing is kept in them
        directory.mkdir(mode=0o755, exist_ok=True)
    own = driver.of(environment)
    own.agree(store, reporter.ask, by_name=True)
    host = config.host(store, environment, settings)
    seen = glance.read(emulated.supervisor.looked()) if emulated is not None else None
    before = signs.of_programs() if seen is None else seen.signs  # before the base is compared with the host
    with own.prepare(store, environment, host, reporter, None if seen is None else seen.holds) as prepared:
        host_accounts_changed = origin.follow(store, environment)
        if host_accounts_changed:
            from sysenv_ns.packages import accounts as accounts_of_host
        services_inside = tmpfiles.services(environment.uppers())
        namespace.enter(environment.id_map, emulated.supervisor.made_namespace() if emulated is not None else None)
        plan = prepared.plan
        if environment.ephemeral is not None:
            from sysenv_ns import memory

            plan = memory.planned(plan, environment, reporter.notice)
        root = operations.execute(plan, str(environment.root), reporter.operation)
        # By now nobody else can be mounting this upper; before the pivot, while the store is in reach.
        state.record(environment, prepared.layers, before, prepared.base)
        if host_accounts_changed:
            accounts_of_host.follow(store, environment, reporter.notice)
        namespace.pivot(root)
        os.close(root)
    tmpfiles.apply(not environment.root_only, services_inside)


def join(environment: Environment, mounts: Mounts) -> None:
    """Enter the namespaces of the processes of an environment; with a process 1, in a child. Raises SysenvError."""
    first = None
    try:
        if environment.init:
            from sysenv_ns import init

            first = init.first(environment, mounts)
        mounts.join()
        if first is not None:
            first.enter()
    except OSError as error:
        raise SysenvError(
            f"joining the processes of {environment.name} failed: {reason(error)}",
            f"end them and try again: sysenv-ns stop {environment.name}",
        ) from error
    finally:
        mounts.close()


def call_as_root(
    store: Store, environment: Environment, reporter: Reporter, function: Callable[[], _T], kind: type[_T], name: str
) -> _T:
    """Run a function as root inside, in a child that starts the environment; its result, which is of the type `kind`.

    The child ends with this process. Raises SysenvError, OSError, and what the function raises.
    """
    id_map = environment.id_map
    emulated = emulation_of(store, environment)
    parent = os.getpid()

    def inside() -> _T:
        os.umask(0o022)
        start(store, environment, reporter, emulated=emulated)
        if id_map is not None:
            namespace.become_root()
            children.end_with(parent)  # it holds the environment's lock
        if emulated is not None:
            emulated.load()
        return function()

    return children.call(inside, kind, name)


def _change_directory(directory: str, variables: Mapping[str, str], reporter: Reporter) -> None:
    for path in (directory, variables.get("HOME", "/")):
        with suppress(OSError):
            os.chdir(path)
            if path != directory:
                reporter.notice(f"{directory or 'the current directory'} does not exist inside; continuing in {path}")
            return
    os.chdir("/")


def _enter_directory(path: str) -> None:
    try:
        os.chdir(path)
    except OSError as error:
        raise SysenvError(
            f"{path} in the environment: {reason(error)}", "create it first, or give another one"
        ) from error
