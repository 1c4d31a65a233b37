"""`headrace ledger`: whether everything that was accepted is somewhere, through the console's HTTP API."""

from typing import Annotated, Any, Final

import httpx
import orjson
import typer
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ops.console_client import client_of, printable, reachable, refused
from ops.output import ExitCode, print_json, read_settings

_ANSWER_S: Final = 150.0
_COUNTS: Final = ("accepted", "landed", "duplicate", "dead", "in_flight", "missing")
_KEY: Final = ("project", "environment", "key_id")
_GAPS_SHOWN: Final = 50
_TO_THE_MINUTE: Final = len("2026-01-01T00:00")

_MEANING: Final = {
    "missing": "was accepted and is nowhere",
    "doubled": "landed more than once",
    "never_accepted": "landed, and nobody ever sent it",
}


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(rich_help_panel="Look")
    def ledger(
        since: Annotated[str, typer.Option(help="How far back, by minute of receipt: 90m, 24h, 7d.")] = "1h",
        by_minute: Annotated[bool, typer.Option("--minutes", help="A line for each minute.")] = False,
        as_json: Annotated[bool, typer.Option("--json", help="Print JSON.")] = False,
    ) -> None:
        """Weigh what was accepted against what landed, was a duplicate, is dead or in flight, to the event.

        Exit codes: 1 it does not balance, and the ranges log/partition/offset/index that do not are
        named; 2 wrong argument; 3 console, Kafka or store cannot be asked.
        """
        answer = _asked(since)
        if as_json:
            print_json(answer)
        else:
            _print_table(answer, by_minute=by_minute)
            _print_gaps(answer)
        if not answer["balanced"]:
            raise typer.Exit(ExitCode.FAILED)


def _asked(since: str) -> dict[str, Any]:
    settings = read_settings()
    with client_of(settings, _ANSWER_S) as client, reachable(settings):
        answer = client.get("/api/ledger", params={"window": since})
    if answer.status_code != httpx.codes.OK:
        refused(answer.status_code, answer.content, ExitCode.USAGE)
    body: dict[str, Any] = orjson.loads(answer.content)
    return body


def _print_table(answer: dict[str, Any], *, by_minute: bool) -> None:
    table = Table(header_style="bold", border_style="dim", show_footer=True)
    columns = (*_KEY, "minute") if by_minute else _KEY
    for name in columns:
        table.add_column(name, "total" if name == _KEY[0] else "", overflow="fold")
    for name in _COUNTS:
        total = Text(f"{answer['totals'][name]:,}", "bold red" if name == "missing" and answer["totals"][name] else "")
        # A number that is cut off is another number; where the terminal is narrow, names are folded instead.
        width = max(len(total), *map(len, name.split("_")))
        table.add_column(name.replace("_", " "), total, justify="right", min_width=width)
    for head, counts in _rows(answer["lines"], columns):
        cells = [Text(_cell(name, value)) for name, value in zip(columns, head, strict=True)]
        table.add_row(*cells, *(f"{counts[name]:,}" for name in _COUNTS))
    console = Console(highlight=False)
    console.print(table)
    if answer["dead_reasons"]:
        reasons = ", ".join(
            f"{count:,} {printable(reason) or 'unknown'}" for reason, count in answer["dead_reasons"].items()
        )
        console.print(Text(f"dead: {reasons}"))


def _cell(name: str, value: str) -> str:
    if name == "minute":
        return value[:_TO_THE_MINUTE] + "Z"
    return printable(value) or "–"


def _rows(lines: list[dict[str, Any]], columns: tuple[str, ...]) -> list[tuple[tuple[str, ...], dict[str, int]]]:
    """Add up the lines that are equal in these columns."""
    rows: dict[tuple[str, ...], dict[str, int]] = {}
    for line in lines:
        counts = rows.setdefault(tuple(line[name] for name in columns), dict.fromkeys(_COUNTS, 0))
        for name in _COUNTS:
            counts[name] += line[name]
    return list(rows.items())


def _print_gaps(answer: dict[str, Any]) -> None:
    console = Console(highlight=False, soft_wrap=True)
    if answer["balanced"]:
        console.print(Text(f"It balances, since {answer['since']}.", "green"))
        return
    console.print(Text(f"It does not balance, since {answer['since']} (log/partition/offset/index):", "bold red"))
    for gap in answer["gaps"][:_GAPS_SHOWN]:
        whose = " ".join(printable(str(gap[name])) for name in (*_KEY, "minute") if gap[name])
        console.print(Text(f"  {gap['range']}  {_MEANING.get(gap['flaw'], gap['flaw'])}  {whose}"))
    events = sum(answer["flaws"].values())
    shown = sum(gap["last_index"] - gap["first_index"] + 1 for gap in answer["gaps"][:_GAPS_SHOWN])
    if events > shown:
        console.print(Text(f"  … {events - shown:,} events more; --json names up to a thousand ranges"))
