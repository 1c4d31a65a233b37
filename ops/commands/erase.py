"""`headrace erase`: one unit out of everything that can be changed."""

from typing import Annotated

import typer

from ops.output import ExitCode, fail, read_settings


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(rich_help_panel="Mend")
    def erase(
        unit: Annotated[str, typer.Option(help="TYPE:ID, for example userID:alice, stableID:… or companyID:7.")],
        project: Annotated[str, typer.Option(help="Of this project; empty: HEADRACE_PROJECT.")] = "",
        dry_run: Annotated[bool, typer.Option("--dry-run", help="Count what would go, and change nothing.")] = False,
        yes: Annotated[bool, typer.Option("--yes", help="Do not ask whether it is meant.")] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print the certificate as JSON.")] = False,
    ) -> None:
        """Remove a unit from the store and the archive, and say what stays in Kafka until when.

        No replay brings it back. What is received of it from now on are new events. Can be repeated.
        Exit codes: 1 it was not done, 2 wrong argument, 3 Kafka, the console or the archive cannot be reached.
        """
        from ops.erasing.perform import Wish, run

        settings = read_settings()
        unit_type, sign, unit_id = unit.partition(":")
        if not (unit_type and sign and unit_id):
            fail(f"{unit!r} is no unit.", "Write TYPE:ID, for example userID:alice.", ExitCode.USAGE)
        if not (dry_run or yes) and not typer.confirm(f"Erase {unit} for ever?", err=True):
            fail("nothing was erased.", "Look first with --dry-run.", ExitCode.USAGE)
        run(settings, Wish(project or settings.project, (unit_type, unit_id), dry_run, as_json))
