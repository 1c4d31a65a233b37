"""The demo in a terminal: the stack's parts, the arms, the newest exposures, and what has landed."""

import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final

from rich.console import Console, Group, RenderableType
from rich.live import Live
from rich.panel import Panel
from rich.progress_bar import ProgressBar
from rich.table import Table
from rich.text import Text

from ops.demo.plan import EXPERIMENT
from ops.demo.state import State
from ops.demo.summary import Summary, groups

_COLOURS: Final = {"ready": "green", "done": "green", "died, starting again": "bold red"}
_REFRESH_PER_S: Final = 5
_LINE_EVERY_S: Final = 2.0


@contextmanager
def shown(state: State, *, quietly: bool) -> Iterator[None]:
    """Show `state` while the block runs: drawn in a terminal, as lines elsewhere or when `quietly`."""
    console = Console(stderr=True)
    if quietly or not console.is_terminal:
        lines = Lines(state)
        state.on_change = lines.update
        yield
        return
    with Live(console=console, get_renderable=lambda: drawn(state), refresh_per_second=_REFRESH_PER_S, transient=True):
        yield


class Lines:
    """Writes a line to standard error when a part changes, and one now and then on what has landed."""

    def __init__(self, state: State) -> None:
        self._state = state
        self._said: dict[str, str] = {}
        self._counted_at = 0.0

    def update(self) -> None:
        """Write what is new."""
        state = self._state
        for name, (word, detail) in state.parts.items():
            self._say(name, f"{name}: {word}" + (f" ({detail})" if detail and word.startswith("died") else ""))
        self._say("phase", state.phase)
        if state.trouble:
            self._say("trouble", state.trouble)
        reckoning = state.reckoning
        if reckoning is not None and reckoning.sent and time.monotonic() - self._counted_at > _LINE_EVERY_S:
            self._counted_at = time.monotonic()
            self._say("landed", f"landed {reckoning.landed:,} of {reckoning.sent:,} logged")

    def _say(self, about: str, line: str) -> None:
        if self._said.get(about) != line:
            self._said[about] = line
            sys.stderr.write(line + "\n")
            sys.stderr.flush()


def drawn(state: State) -> RenderableType:
    """Return the whole picture."""
    parts: list[RenderableType] = [_parts(state)]
    if state.reckoning is not None:
        parts += [_counts(state), _arms(state), _latest(state)]
    if state.trouble:
        parts.append(Text(state.trouble, style="bold red"))
    parts.append(Text.assemble("console ", (state.console, "bold cyan"), "   Ctrl-C ends everything", style="dim"))
    return Panel(Group(*parts), title="headrace demo", subtitle=state.phase)


def _parts(state: State) -> RenderableType:
    text = Text()
    for name, (word, _detail) in state.parts.items():
        text.append(f"{name} ", style="bold")
        text.append(f"{word}   ", style=_COLOURS.get(word, "yellow"))
    return text


def _counts(state: State) -> RenderableType:
    reckoning = state.reckoning
    assert reckoning is not None
    bar = ProgressBar(total=max(reckoning.sent, 1), completed=reckoning.landed, width=40)
    text = Text.assemble(
        ("landed ", "dim"),
        (f"{reckoning.landed:,}", "bold green"),
        (" of ", "dim"),
        (f"{reckoning.sent:,}", "bold"),
        (" logged   ", "dim"),
        (f"{state.landed_per_s:,.0f}", "bold"),
        (" events/s", "dim"),
    )
    grid = Table.grid(padding=(0, 2))
    grid.add_row(bar, text)
    return grid


def _arms(state: State) -> RenderableType:
    reckoning = state.reckoning
    assert reckoning is not None
    table = Table(title=f"experiment {EXPERIMENT}", title_justify="left", expand=False)
    for heading in ("group", "users put into it", "landed"):
        table.add_column(heading, justify="left" if heading == "group" else "right")
    for rule_id, group in groups().items():
        sent, landed = reckoning.sent_per_rule.get(rule_id, 0), reckoning.settled.per_rule.get(rule_id, 0)
        table.add_row(group, f"{sent:,}", f"{landed:,}")
    return table


def _latest(state: State) -> RenderableType:
    table = Table(title="live exposures", title_justify="left", show_header=False, box=None)
    for shown_exposure in list(state.latest)[-8:]:
        group = shown_exposure.get("group_name") or shown_exposure.get("rule_id") or ""
        name = " ".join(filter(None, [shown_exposure.get("name"), shown_exposure.get("parameter")]))
        value = str(shown_exposure.get("value") or "") if shown_exposure.get("kind") == "gate" else ""
        table.add_row(Text(str(shown_exposure.get("unit_id", "")), style="cyan"), Text(name), Text(f"{group} {value}"))
    return table


def print_summary(summary: Summary, console_address: str) -> None:
    """Print what it came to, for a person."""
    table = Table(title="What was sent, and what SQL finds of it", title_justify="left", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    first = summary.seconds_to_first_queryable
    rows = [
        ("events logged by the SDK", f"{summary.sent:,}"),
        ("landed", f"{summary.landed:,}"),
        ("copies dropped by the worker", f"{summary.duplicates:,}"),
        ("dead letters", f"{summary.dead:,}"),
        ("the SDK's own events", f"{summary.internal:,}"),
        *((f"users in {group}", f"{count:,}") for group, count in summary.per_arm.items()),
        ("first event queryable after", "never" if first is None else f"{first:.1f} s"),
        ("all in", f"{summary.seconds:.1f} s"),
    ]
    for row in rows:
        table.add_row(*row)
    console = Console()
    console.print(table)
    for label, items in (
        ("missing", summary.missing),
        ("landed more than once", summary.doubled),
        ("landed and not logged", summary.strange),
        ("landed in another arm", summary.wrong_arm),
    ):
        if items:
            console.print(f"[bold red]{label}[/], the first {len(items)}:")
            for item in items:
                console.print(f"  {item}", markup=False)
    for reason, count in summary.dead_reasons.items():
        console.print(f"dead letters: {count:,} of {reason}", markup=False)
    if summary.trouble:
        console.print(f"[bold red]trouble:[/] {summary.trouble}")
    if summary.is_exact:
        console.print("[bold green]Every event landed exactly once.[/]")
    console.print(f"[dim]The console was at {console_address}; the data stays for the next start.[/]")
