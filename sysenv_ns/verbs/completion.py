"""completion: prints the script with which a shell completes the tool's command line."""

from __future__ import annotations

import click

from sysenv_ns import verbs
from sysenv_ns.completion import grammar, scripts
from sysenv_ns.console import show_data
from sysenv_ns.verbs.options import examples


@click.command(
    "completion",
    epilog=examples(
        "source <(sysenv-ns completion bash)", "sysenv-ns completion fish > ~/.config/fish/completions/sysenv-ns.fish"
    ),
)
@click.argument("shell", type=click.Choice(scripts.SHELLS))
@click.pass_context
def command(context: click.Context, shell: str) -> None:
    """Print the completion script of a shell.

    bash: put `source <(sysenv-ns completion bash)` into ~/.bashrc. zsh: write the script to a file `_sysenv-ns` in a
    directory of $fpath. fish: write it to ~/.config/fish/completions/sysenv-ns.fish. Packages install them.
    """
    group = context.find_root().command
    assert isinstance(group, click.Group)
    known = [grammar.of(verbs.load(name)) for name in verbs.NAMES]
    show_data(scripts.script(shell, grammar.of_group(group), known, verbs.ALIASES).encode())
