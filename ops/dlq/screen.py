"""Dead letters and replays as people read them. What came from senders is printed as text, never as markup."""

from collections.abc import Iterable, Sequence
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from rich.console import Console
from rich.table import Table
from rich.text import Text

from ops.console_client import printable
from ops.dlq.predict import Fate
from ops.dlq.replay import Forecast
from schemas.masking import masked
from schemas.replays import ReplayRecord

_OF_MOMENT: Final = slice(len("2026-"), len("2026-01-31 12:00"))
_FATES: Final = tuple(Fate)
_STYLE: Final = {Fate.WOULD_SUCCEED: "green", Fate.ALREADY_LANDED: "dim", Fate.STILL_FAILS: "red"}


def print_groups(rows: Sequence[dict[str, Any]], by: Sequence[str]) -> None:
    """Print the table of `list`; what points at us is red."""
    console = Console(highlight=False)
    if not rows:
        console.print("No event is dead.")
        return
    table = Table(header_style="bold", border_style="dim", show_footer=True)
    for name in by:
        table.add_column(name, "total" if name == by[0] else "", overflow="fold")
    for name in ("dead", "landed"):
        table.add_column(name, f"{sum(int(row[name]) for row in rows):,}", justify="right")
    for name in ("first", "last", "sample"):
        table.add_column(name, overflow="fold", min_width=len("01-31") if name != "sample" else None)
    for row in rows:
        cells = [Text(printable(str(row[f"by_{name}"])) or "–") for name in by]
        counts = (f"{int(row['dead']):,}", f"{int(row['landed']):,}")
        times = (str(row["first"])[_OF_MOMENT], str(row["last"])[_OF_MOMENT])
        style = "red" if row["class"] == "ours" else ""
        table.add_row(*cells, *counts, *times, Text(printable(str(row["sample"]))), style=style)
    console.print(table)


def print_letters(envelopes: Sequence[dict[str, Any]]) -> None:
    """Print all that is known of one event: its envelopes, and its bytes."""
    console = Console(highlight=False, soft_wrap=True)
    for number, row in enumerate(envelopes):
        if number:
            console.print()
        for name, value in row.items():
            if name in ("original", "request", "headers") or value in ("", None):
                continue
            console.print(Text(f"{name:18}", "bold"), Text(printable(str(value))))
        headers = {name: printable(str(value)) for name, value in dict(row["headers"]).items()}
        console.print(Text(f"{'headers':18}", "bold"), Text(orjson.dumps(headers).decode()))
        console.print(Text("request", "bold"), Text(printable(row["request"])))
        shown = f"original, {int(row['original_bytes']):,} bytes"
        console.print(Text(shown, "bold"), Text(printable(row["original"])))


def print_forecast(forecast: Forecast) -> None:
    """Print what a dry run found: a line for each reason as it is now, and what would become of it."""
    console = Console(highlight=False)
    table = Table(header_style="bold", border_style="dim")
    for name in ("reason now", "would become", "why", "events", "sample", "message"):
        table.add_column(name, justify="right" if name == "events" else "left", overflow="fold")
    for (reason, prediction), count in sorted(forecast.counts.items(), key=_by_fate):
        letter, message = forecast.samples[reason, prediction]
        style = _STYLE.get(prediction.fate, "yellow")
        event_id = letter.envelope.event_id
        sample = event_id.hex() if event_id else str(letter.place)
        cells = (Text(printable(reason)), Text(prediction.fate.value, style), Text(printable(prediction.why)))
        table.add_row(*cells, f"{count:,}", sample, Text(printable(masked(message.encode("utf-8", "replace"))[:200])))
    console.print(table if forecast.counts else "The selection is empty.")
    _print_unreadable(console, forecast.unreadable, forecast.unreadable_named)


def _by_fate(item: tuple[tuple[str, Any], int]) -> tuple[int, int]:
    (_, prediction), count = item
    return _FATES.index(prediction.fate), -count


def _print_unreadable(console: Console, count: int, named: Iterable[str]) -> None:
    if count:
        console.print(Text(f"{count:,} records are no envelopes and stay where they are:", "yellow"))
        for one in named:
            console.print(Text(f"  {printable(one)}"))


def print_before_after(pairs: Sequence[tuple[str, bytes, bytes]]) -> None:
    """Print what rules make of some events, masked."""
    console = Console(highlight=False, soft_wrap=True)
    for name, before, after in pairs:
        console.print(Text(name, "bold"))
        console.print(Text("  before  ", "red"), Text(printable(masked(before))[:1000]))
        console.print(Text("  after   ", "green"), Text(printable(masked(after))[:1000]))


def print_replay(record: ReplayRecord) -> None:
    """Print how a replay stands, in a few lines."""
    console = Console(highlight=False, soft_wrap=True)
    console.print(Text(f"replay {record.id}", "bold"), f"{record.state}: {record.selected:,} selected,", end=" ")
    console.print(f"{record.sent:,} sent")
    for title, counts in (
        ("not sent", record.passed_over),
        ("refused by the gateway again", record.refused_again),
        ("became", record.outcome),
    ):
        if counts:
            said = ", ".join(f"{count:,} {name}" for name, count in counts.items())
            console.print(Text(f"  {title}: {said}"))


def print_history(records: Sequence[ReplayRecord]) -> None:
    """Print all replays, the newest last."""
    console = Console(highlight=False)
    table = Table(header_style="bold", border_style="dim")
    columns = ("replay", "started", "who", "state", "selection", "fix", "selected", "sent", "became")
    for name in columns:
        table.add_column(name, overflow="fold", justify="right" if name in ("selected", "sent") else "left")
    for record in records:
        selection = "; ".join(f"{name} {_few(some)}" for name, some in record.selection.items())
        became = ", ".join(f"{count:,} {name}" for name, count in {**record.outcome, **record.passed_over}.items())
        cells = (record.id, moment(record.started_at), record.who, record.state, selection or "everything")
        table.add_row(
            *(Text(printable(cell)) for cell in cells),
            "yes" if record.fix else "",
            f"{record.selected:,}",
            f"{record.sent:,}",
            Text(printable(became)),
        )
    console.print(table if records else "Nothing was ever replayed.")


def _few(values: Sequence[str]) -> str:
    return ", ".join(values[:3]) + (" …" if len(values) > 3 else "")


def moment(ms: int) -> str:
    """Write a time for people, in UTC."""
    return datetime.fromtimestamp(ms / 1000, UTC).strftime("%Y-%m-%d %H:%M:%S")
