"""freeze: describes an environment as the text of a sysenv.toml."""

from __future__ import annotations

import click

from sysenv_ns.console import show_data, show_json
from sysenv_ns.manifest import freeze, writer
from sysenv_ns.notices import notice
from sysenv_ns.text import count
from sysenv_ns.verbs.context import Context, refuse_inside
from sysenv_ns.verbs.options import JSON, NAME, examples


@click.command(
    "freeze",
    epilog=examples(
        "sysenv-ns freeze proj > sysenv.toml", "sysenv-ns freeze --exact proj  # with the versions of all packages"
    ),
)
@NAME
@click.option("--exact", is_flag=True, help="Include the versions of all packages, and the architecture.")
@JSON
@click.pass_obj
def command(context: Context, name: str, exact: bool, as_json: bool) -> None:
    """Describe an environment as the text of a sysenv.toml. With it, sync creates others like it."""
    refuse_inside("freeze an environment")
    frozen = freeze.freeze(context.store, name, exact)
    text = writer.render(frozen.manifest, frozen.comments())
    if as_json:
        left = [{"what": what, "why": why} for what, why in frozen.left]
        show_json({"name": name, "text": text, "left": left})
        return
    show_data(text.encode("utf-8", "surrogateescape"))
    if frozen.left:
        notice(f"{count(len(frozen.left), 'change')} of {name} left out; see the list at the end")
