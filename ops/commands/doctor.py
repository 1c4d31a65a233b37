"""`headrace doctor`: what is installed, what runs, what is wrong, and how to mend it."""

from typing import Annotated

import msgspec
import typer

from ops.doctor.finding import Finding, Verdict
from ops.output import ExitCode, print_json, read_settings

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
        from ops.doctor.examine import examine

        findings = list(examine(read_settings()))
        if as_json:
            print_json([msgspec.to_builtins(finding) for finding in findings])
        else:
            _print(findings)
        if any(finding.verdict is Verdict.BAD for finding in findings):
            raise typer.Exit(ExitCode.FAILED)


def _print(findings: list[Finding]) -> None:
    from rich.console import Console
    from rich.table import Table
    from rich.text import Text

    table = Table.grid(padding=(0, 2))
    for finding in findings:
        told = Text(finding.found)
        if finding.remedy:
            told.append(f"\n→ {finding.remedy}", style="bold")
        table.add_row(Text(finding.verdict.value, style=_STYLES[finding.verdict]), Text(finding.part), told)
    Console(highlight=False).print(table)
