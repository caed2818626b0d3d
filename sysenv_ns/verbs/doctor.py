"""doctor: what works on this machine, and a remedy for what does not."""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import asdict

import click

from sysenv_ns.console import show_json, show_lines
from sysenv_ns.drivers import diagnosis
from sysenv_ns.drivers.diagnosis import Diagnosis
from sysenv_ns.errors import EXIT_FAILURE
from sysenv_ns.text import line
from sysenv_ns.verbs.context import Context, refuse_inside
from sysenv_ns.verbs.options import JSON, examples


@click.command("doctor", epilog=examples("sysenv-ns doctor", "sysenv-ns doctor --json"))
@JSON
@click.pass_obj
def command(context: Context, as_json: bool) -> None:
    """Find out what works here, and what to do about the rest."""
    refuse_inside("find out what works")
    result = diagnosis.diagnose(context.store)
    if as_json:
        show_json(asdict(result))
    else:
        show_lines(lines(result), context.caller)
    if result.driver is None:
        raise click.exceptions.Exit(EXIT_FAILURE)


def text(result: Diagnosis) -> str:
    """A table, with remedies below what does not work."""
    return "\n".join(words for words, _ in lines(result))


def lines(result: Diagnosis) -> Iterator[tuple[str, str]]:
    """The same, each line with its colour."""
    width = max(len(finding.subject) for finding in result.findings)
    for finding in result.findings:
        said = (line(finding.detail) or "works") if finding.works else f"no: {line(finding.detail)}"
        yield f"{finding.subject.ljust(width)}  {said}", "" if finding.works else "yellow"
        if finding.remedy:
            yield f"{' ' * width}  -> {line(finding.remedy)}", ""
    if result.driver is None:
        yield "No environment can be run here.", "red"
    else:
        ids = f" and the id map {result.id_map}" if result.id_map else ""
        yield f"New environments use the driver {result.driver}{ids}.", "green"
    if result.asks:
        yield f"On a terminal you are asked first whether to use {' or '.join(result.asks)}.", ""
