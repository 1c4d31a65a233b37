"""`headrace sql`: a read-only query, through the console's HTTP API."""

import sys
from enum import StrEnum
from typing import Annotated, Any

import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ops.console_client import ask_sql, printable
from ops.output import ExitCode, fail, read_settings


class Format(StrEnum):
    """The forms an answer may be printed in."""

    TABLE = "table"
    JSON = "json"
    JSONL = "jsonl"
    CSV = "csv"
    TSV = "tsv"
    ARROW = "arrow"
    PRETTY = "pretty"


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(rich_help_panel="Look")
    def sql(
        query: Annotated[str, typer.Argument(help="One statement that only reads; `-` reads it from standard input.")],
        format_: Annotated[Format, typer.Option("--format", "-f", help="Form of the answer.")] = Format.TABLE,
        as_json: Annotated[bool, typer.Option("--json", help="The same as --format json.")] = False,
    ) -> None:
        """Ask the store in SQL, read only: `headrace sql "SELECT count() FROM exposures"`.

        Exit codes: 1 the query was refused or failed, 3 console or store cannot be reached.
        """
        wanted = Format.JSON if as_json else format_
        statement = sys.stdin.read() if query == "-" else query
        if not statement.strip():
            fail("there is no query.", 'Give one, for example: headrace sql "SHOW TABLES".', ExitCode.USAGE)
        answer = ask_sql(read_settings(), statement, "json" if wanted is Format.TABLE else wanted.value)
        if wanted is Format.TABLE:
            _print_table(orjson.loads(answer))
        else:
            sys.stdout.buffer.write(answer)
            if wanted is Format.JSON:
                sys.stdout.buffer.write(b"\n")
            sys.stdout.buffer.flush()


def _print_table(answer: dict[str, Any]) -> None:
    """Print rows for people. What stands in them is printed as text: it may come from anybody."""
    console = Console(highlight=False)
    table = Table(header_style="bold", border_style="dim")
    for column in answer["columns"]:
        is_number = any(word in column["type"] for word in ("Int", "Float", "Decimal"))
        table.add_column(Text(printable(column["name"])), justify="right" if is_number else "left")
    for row in answer["rows"]:
        table.add_row(*[_cell(value) for value in row])
    if answer["columns"]:
        console.print(table)
    statistics = answer["statistics"]
    count = statistics["rows"]
    more = ", more were cut off: add a LIMIT, or use --format csv" if statistics["truncated"] else ""
    rows = "1 row" if count == 1 else f"{count:,} rows"
    Console(stderr=True, highlight=False).print(f"[dim]{rows} in {statistics['elapsed_ms']:.0f} ms{more}[/dim]")


def _cell(value: Any) -> Text:
    if value is None:
        return Text("NULL", style="dim italic")
    return Text(printable(value if isinstance(value, str) else orjson.dumps(value).decode()))
