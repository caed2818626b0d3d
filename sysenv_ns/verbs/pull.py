"""pull: creates an environment from what push has sent to a registry."""

from __future__ import annotations

import click

from sysenv_ns import status
from sysenv_ns.archive.import_ import Wish
from sysenv_ns.console import progress, show_json
from sysenv_ns.environment.store import check_name
from sysenv_ns.notices import notice
from sysenv_ns.registry import pull, reference, skopeo
from sysenv_ns.registry.pull import Pulled
from sysenv_ns.verbs.context import Context, refuse_inside
from sysenv_ns.verbs.create import New, chosen
from sysenv_ns.verbs.options import DRIVER, ID_MAP, JSON, examples
from sysenv_ns.verbs.status import as_data


@click.command(
    "pull",
    epilog=examples(
        "sysenv-ns pull registry.example.org/team/proj:1",
        "sysenv-ns pull registry.example.org/team/proj:1 other",
        "sysenv-ns pull --if-missing registry.example.org/team/proj:1 proj",
    ),
)
@click.argument("where", metavar="REGISTRY/REPOSITORY[:TAG|@DIGEST]")
@click.argument("name", required=False)
@DRIVER
@ID_MAP
@click.option("--if-missing", is_flag=True, help="Only if there is no environment NAME; of several calls one pulls.")
@click.option("--force", is_flag=True, help="Pull even if it was made on another release.")
@JSON
@click.pass_obj
def command(
    context: Context,
    where: str,
    name: str | None,
    driver: str | None,
    id_map: str | None,
    if_missing: bool,
    force: bool,
    as_json: bool,
) -> None:
    """Create an environment from what push has sent to a registry.

    Without NAME it keeps its name. All of it is verified before anything is created; what was fetched before is not
    fetched again. It needs skopeo, which has your credentials (skopeo login REGISTRY).
    """
    refuse_inside("pull an environment")
    new = New(driver, id_map)
    if not if_missing:
        _tell(context, pulled(context, where, name, new, force), as_json)
    elif name is None:
        raise click.UsageError("--if-missing needs NAME.")
    else:
        source, make = reference.parse(where), lambda: pulled(context, where, name, new, force)
        result = pull.ensure(context.store, source, check_name(name), make)
        if result is not None:
            _tell(context, result, as_json)
        elif as_json:
            show_json(as_data(status.of(context.store, name)))


def _tell(context: Context, result: Pulled, as_json: bool) -> None:
    made = result.environment.name
    if as_json:
        show_json(as_data(status.of(context.store, made)) | {"digest": result.digest})
    notice(f"pulled {made} ({result.digest}); enter it with: sysenv-ns shell {made}")


def pulled(context: Context, where: str, name: str | None, new: New, force: bool) -> Pulled:
    """A new environment of what a registry has; says what the user should know. Raises SysenvError."""
    source = reference.parse(where)
    wish = Wish(str(source), name, *chosen(context, new), force, verb="pull")
    program = skopeo.find(context.caller)
    result = pull.pull(context.store, source, wish, program, context.reporter, lambda: progress("Importing"))
    for note in result.notes:
        notice(note)
    return result
