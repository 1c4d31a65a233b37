"""`headrace doctor`: what is installed, what runs, what is wrong, and how to mend it."""

import asyncio
from collections.abc import Iterator
from typing import Annotated

import msgspec
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ops.doctor import machine, pipeline
from ops.doctor.finding import Finding, Verdict
from ops.output import ExitCode, print_json, read_settings
from ops.settings import Settings

_STYLES = {Verdict.OK: "green", Verdict.WARN: "yellow", Verdict.BAD: "bold red"}


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(rich_help_panel="Look")
    def doctor(
        *, as_json: Annotated[bool, typer.Option("--json", help="Print the findings as a JSON array.")] = False
    ) -> None:
        """Look at programs, ports, folders, and whatever runs; say what is wrong and how to mend it.

        Exit codes: 0 nothing is bad (there may be warnings), 1 something is.
        """
        findings = list(examine(read_settings()))
        if as_json:
            print_json([msgspec.to_builtins(finding) for finding in findings])
        else:
            _print(findings)
        if any(finding.verdict is Verdict.BAD for finding in findings):
            raise typer.Exit(ExitCode.FAILED)


def examine(settings: Settings) -> Iterator[Finding]:
    """Yield all findings. What should run is looked at only where something should: a stack, or a cluster."""
    yield from machine.examine_programs(settings)
    yield from machine.examine_data_folder(settings.data_dir.resolve())
    runs_here = pipeline.stack_runs(settings)
    if settings.has_local_broker or runs_here:
        yield from pipeline.examine_stack(settings)
    if settings.has_local_broker and not runs_here:
        yield from machine.examine_ports(settings, machine.listener_of)
        return
    yield from pipeline.examine_processes(settings)
    yield from asyncio.run(pipeline.examine_kafka(settings))
    yield pipeline.examine_console(settings)


def _print(findings: list[Finding]) -> None:
    table = Table.grid(padding=(0, 2))
    for finding in findings:
        told = Text(finding.found)
        if finding.remedy:
            told.append(f"\n→ {finding.remedy}", style="bold")
        table.add_row(Text(finding.verdict.value, style=_STYLES[finding.verdict]), Text(finding.part), told)
    Console(highlight=False).print(table)
