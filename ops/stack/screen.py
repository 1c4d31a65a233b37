"""What the stack does, on the screen: a table in a terminal, a line for each event elsewhere."""

import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console
from rich.live import Live
from rich.spinner import Spinner
from rich.table import Table
from rich.text import Text

from ops.stack.supervisor import EventKind, StackEvent

_REFRESH_PER_S: Final = 8
_STYLES: Final = {
    EventKind.READY: "bold green",
    EventKind.DONE: "green",
    EventKind.DIED: "bold red",
    EventKind.STOPPED: "dim",
}
_AT_REST: Final = {EventKind.READY, EventKind.DONE, EventKind.DIED, EventKind.STOPPED}
_DETAIL_WIDTH: Final = 100


class StackScreen:
    """Takes the stack's events and shows them."""

    def __init__(self, *, quietly: bool) -> None:
        """Write to standard error, so that standard output stays for answers. `quietly`: no drawing."""
        self.console = Console(stderr=True, highlight=False)
        self._draws = self.console.is_terminal and not quietly
        self._began = time.monotonic()
        self._rows: dict[str, tuple[StackEvent, float]] = {}
        self._live: Live | None = None

    def on_event(self, event: StackEvent) -> None:
        """Show what happened."""
        at_s = time.monotonic() - self._began
        self._rows[event.part] = (event, at_s)
        if self._live is None and event.kind is not EventKind.WAITING:
            word = event.kind.value.replace("_", " ")
            detail = f" ({_one_line(event.detail)})" if event.detail else ""
            self.console.print(Text(f"{at_s:6.1f} s  {event.part} {word}{detail}"))

    @contextmanager
    def drawing(self) -> Iterator[None]:
        """Keep a table of all parts up to date while the block runs."""
        if not self._draws:
            yield
            return
        with Live(console=self.console, get_renderable=self._table, refresh_per_second=_REFRESH_PER_S) as live:
            self._live = live
            try:
                yield
            finally:
                self._live = None

    def _table(self) -> Table:
        table = Table.grid(padding=(0, 2))
        for part, (event, at_s) in self._rows.items():
            style = _STYLES.get(event.kind, "yellow")
            word = Text(event.kind.value.replace("_", " "), style=style)
            since = at_s if event.kind in _AT_REST else time.monotonic() - self._began
            busy = Text("•", style=style) if event.kind in _AT_REST else Spinner("dots", style=style)
            detail = Text(_one_line(event.detail), style="dim")
            table.add_row(busy, Text(part, style="bold"), word, Text(f"{since:.1f} s", style="dim"), detail)
        return table


def _one_line(detail: str) -> str:
    line = " ".join(detail.split())
    return line if len(line) <= _DETAIL_WIDTH else f"{line[: _DETAIL_WIDTH - 1]}…"
