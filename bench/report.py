"""Figures of several runs as one table."""

import platform
import statistics
from pathlib import Path
from typing import Any, Final

from rich.console import Console
from rich.table import Table

from bench.measure import Figures

PROCESSES: Final = ("gateway", "worker", "store", "lander", "console", "broker", "loadgen", "bench")
TARGETS_US: Final = {"gateway": 6.0, "worker": 22.0, "store": 16.0}
"""CPU µs an event on 2 cores, at requests of 50 events of 50 users and 4 partitions."""


_NOISY_SHARE: Final = 0.25
_WIDTH: Final = 160


def machine() -> dict[str, Any]:
    """Return what the figures were measured on."""
    cpuinfo = Path("/proc/cpuinfo").read_text()
    models = [line.partition(":")[2].strip() for line in cpuinfo.splitlines() if line.startswith("model name")]
    return {
        "cpu": models[0] if models else platform.machine(),
        "cores": len(models),
        "python": platform.python_version(),
    }


def console() -> Console:
    """Return standard output; a file or a pipe takes tables of any width."""
    made = Console()
    return made if made.is_terminal else Console(width=_WIDTH)


def median_of(runs: list[Figures]) -> Figures:
    """Return the median of every number that all runs have; `exact` only where all were."""
    merged: Figures = {}
    for name, value in runs[0].items():
        values = [run[name] for run in runs if name in run]
        if isinstance(value, bool):
            merged[name] = all(values)
        elif isinstance(value, dict):
            merged[name] = median_of(values)
        elif isinstance(value, int | float):
            merged[name] = statistics.median(values)
    return merged


def print_phases(phases: dict[str, Figures]) -> None:
    """Print one row a phase: what landed, and the CPU µs an event of every process."""
    table = Table(title="CPU µs an event (user + system), median of the runs", title_justify="left")
    names = [name for name in PROCESSES if any(name in figures["cpu_us_per_event"] for figures in phases.values())]
    for heading in ("phase", "events/s", "exact", *names, "others", "all", "slowdown", "a chunk", "an insert"):
        table.add_column(heading, justify="left" if heading == "phase" else "right")
    for phase, figures in phases.items():
        spent = figures["cpu_us_per_event"]
        rate = figures.get("landed_per_s", figures["load"]["events_per_s"])
        exact = {True: "yes", False: "[bold red]NO[/]", None: "–"}[figures.get("exact")]
        cells = [f"{spent[name]:.1f}" if name in spent else "–" for name in names]
        others = figures["others_us_per_event"]
        cells += [f"{others:.1f}", f"{sum(spent.values()) + others:.1f}", f"× {figures['slowdown']:.2f}"]
        cells += [f"{figures['events_per_chunk']:,.0f}", f"{figures['rows_per_insert']:,.0f}"]
        table.add_row(phase, f"{rate:,.0f}", exact, *cells)
    shown = console()
    shown.print(table)
    share = max(figures["others_share_of_machine"] for figures in phases.values())
    if share > _NOISY_SHARE:
        shown.print(f"[bold red]Others used up to {share:.0%} of the CPU time spent: these figures are noisy.[/]")


def print_answers(phases: dict[str, Figures]) -> None:
    """Print how long answers took, and accepted → queryable where it was measured."""
    table = Table(title="Times in ms, median of the runs", title_justify="left")
    for heading in (
        "phase",
        "answer p50",
        "answer p99",
        "inserted p50",
        "inserted p99",
        "seen p50",
        "seen p99",
        "seen max",
    ):
        table.add_column(heading, justify="left" if heading == "phase" else "right")
    for phase, figures in phases.items():
        cells = [figures["load"]["answer_p50_ms"], figures["load"]["answer_p99_ms"]]
        names = ("insert_p50_ms", "insert_p99_ms", "probe_p50_ms", "probe_p99_ms", "probe_max_ms")
        cells += [figures.get(name) for name in names]
        table.add_row(phase, *("–" if cell is None else f"{cell:,.1f}" for cell in cells))
    shown = console()
    shown.print(table)
    shown.print("answer: request due → 202. inserted: received_at → landed_at, by SQL. seen: 202 → a query finds it.")


def print_targets(figures: Figures, latency: Figures) -> None:
    """Print each target of the full-speed and the latency phase beside what was measured."""
    table = Table(title="Targets", title_justify="left")
    for heading in ("what", "target", "measured"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    spent = figures["cpu_us_per_event"]
    checks = [
        (f"{name}, CPU µs an event", f"≤ {limit:g}", spent.get(name, 0.0), limit) for name, limit in TARGETS_US.items()
    ]
    for what, target, value, limit in checks:
        table.add_row(what, target, coloured(f"{value:.1f}", value <= limit))
    rate = figures["landed_per_s"]
    table.add_row("events/s landed end to end", "≥ 20,000", coloured(f"{rate:,.0f}", rate >= 20_000))
    seen = latency["probe_p99_ms"]
    table.add_row("accepted → queryable p99, ms", "≤ 2,000", coloured(f"{seen:,.0f}", seen <= 2_000))
    table.add_row("everything landed once", "yes", coloured("yes" if figures["exact"] else "NO", figures["exact"]))
    console().print(table)


def coloured(text: str, good: bool) -> str:
    """Return a figure as a table shows it: green where it is within its target."""
    return f"[green]{text}[/]" if good else f"[bold red]{text}[/]"
