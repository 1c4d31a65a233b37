"""The gateway alone: CPU an event by size of requests, answers at half of its rate, and memory."""

import asyncio
import re
from collections.abc import Sequence
from pathlib import Path
from typing import Any, Final

from rich.table import Table

from bench.crowd import Idle, Slow
from bench.load import send_load
from bench.measure import Bench, Figures, run_phase
from bench.report import coloured, console

TARGETS_US: Final = {1: 85.0, 5: 18.0, 10: 11.0, 50: 4.5, 100: 3.5}
"""CPU µs an event by events a request, with every record acknowledged by all replicas."""

HALF_RATE_P99_MS: Final = 50.0
IDLE_CONNECTIONS: Final = 1_000
IDLE_BYTES: Final = 30_000_000
SLOW_CONNECTIONS: Final = 1_000
SLOW_RATIO: Final = 2.0
FLAT_BYTES: Final = 10_000_000
"""What the gateway's memory may differ by between a fifth of the events and all of them."""

_GENTLE_EVENTS_PER_S: Final = 2_000
_IDLE, _HALF, _ALONE, _BESIDE, _MANY = "idle connections", "half rate", "alone", "beside slow ones", "many events"
_TURNS: Final = 3
_POINTS: Final = 20
_SAMPLE_S: Final = 0.25


def resident_bytes(pid: int) -> int:
    """Return the memory that a process has in hand."""
    found = re.search(r"^VmRSS:\s+(\d+) kB$", Path(f"/proc/{pid}/status").read_text(), re.MULTILINE)
    assert found is not None
    return int(found[1]) * 1024


async def idle_connections(bench: Bench) -> Figures:
    """Return what so many idle connections cost the gateway. It should not have held much before."""
    pid, before = _pid(bench), resident_bytes(_pid(bench))
    async with Idle(bench.stack.settings.gateway_port, bench.key, IDLE_CONNECTIONS) as crowd:
        grown = resident_bytes(pid) - before
        return {"connections": IDLE_CONNECTIONS, "lost": crowd.lost, "rss_bytes": before, "grown_bytes": grown}


async def gateway_run(bench: Bench, seconds: float, events: int, common: Sequence[str], say: Any) -> dict[str, Figures]:
    """Run every phase once. `events` are those of the last phase, in which only memory is watched."""
    figures: dict[str, Figures] = {}
    say(_IDLE)
    figures[_IDLE] = await idle_connections(bench)
    say("warming up")
    await run_phase(bench, "--full", "--seconds", "3", *common)
    length = ("--seconds", str(seconds))
    for size in TARGETS_US:
        say(f"{size} events a request")
        figures[_of(size)] = await run_phase(bench, "--full", *length, "--batch", str(size), *common)
    for size in (1, 50):
        rate = figures[_of(size)]["load"]["events_per_s"] / 2
        say(f"{size} events a request at {rate:,.0f}/s")
        phase = run_phase(bench, "--rate", str(rate), *length, "--batch", str(size), *common)
        figures[f"{_of(size)}, {_HALF}"] = await phase
    gentle = ("--rate", str(_GENTLE_EVENTS_PER_S), "--batch", "10", *length, *common)
    say("a gentle load, alone and beside slow connections, in turns")
    alone, beside = [], []
    for _ in range(_TURNS):
        alone.append(await run_phase(bench, *gentle))
        async with Slow(bench.stack.settings.gateway_port, SLOW_CONNECTIONS) as crowd:
            beside.append({**await run_phase(bench, *gentle), "cut": crowd.cut})
    # What else the machine does makes answers later and never earlier.
    figures[_ALONE], figures[_BESIDE] = (min(turns, key=_p99_ms) for turns in (alone, beside))
    say(f"{events:,} events")
    figures[_MANY] = await _watch_memory(bench, events, common)
    return figures


async def _watch_memory(bench: Bench, events: int, common: Sequence[str]) -> Figures:
    """Return the gateway's memory by the events that it has taken."""
    pid, began = _pid(bench), (await bench.count_batches()).events
    many = ("--full", "--events", str(events), "--seconds", "0", "--batch", "100")
    sending = asyncio.create_task(send_load(bench.environment, bench.key, *many, *common))
    series: list[tuple[int, int]] = []
    while not sending.done():
        taken = int((await bench.count_batches()).events - began)
        if taken >= len(series) * events // _POINTS:
            series.append((taken, resident_bytes(pid)))
        await asyncio.wait([sending], timeout=_SAMPLE_S)
    sent = await sending
    series.append((sent["acked"], resident_bytes(pid)))
    settled = [size for taken, size in series if taken >= events // 5]
    return {
        "events": sent["acked"],
        "refused": sent["refused"],
        "events_per_s": sent["events_per_s"],
        "series": series,
        "spread_bytes": max(settled) - min(settled),
    }


def print_gateway(median: dict[str, Figures], last: dict[str, Figures]) -> None:
    """Print each target beside what was measured, and the series of the last run."""
    table = Table(title="Targets of the gateway", title_justify="left")
    for heading in ("what", "target", "measured"):
        table.add_column(heading, justify="left" if heading == "what" else "right")
    for size, limit in TARGETS_US.items():
        spent = median[_of(size)]["cpu_us_per_event"]["gateway"]
        table.add_row(f"CPU µs an event, {_of(size)}", f"≤ {limit:g}", coloured(f"{spent:.1f}", spent <= limit))
    for size in (1, 50):
        p99 = _p99_ms(median[f"{_of(size)}, {_HALF}"])
        shown = coloured(f"{p99:.1f}", p99 < HALF_RATE_P99_MS)
        table.add_row(f"answer p99 at half of the rate, ms, {_of(size)}", f"< {HALF_RATE_P99_MS:g}", shown)
    idle = median[_IDLE]["grown_bytes"]
    shown = coloured(f"{idle / 1e6:.1f}", idle < IDLE_BYTES)
    table.add_row(f"memory of {IDLE_CONNECTIONS:,} idle connections, MB", f"< {IDLE_BYTES / 1e6:g}", shown)
    alone, beside = (_p99_ms(median[phase]) for phase in (_ALONE, _BESIDE))
    shown = coloured(f"× {beside / alone:.2f} ({alone:.1f} → {beside:.1f} ms)", beside < SLOW_RATIO * alone)
    table.add_row(f"answer p99 beside {SLOW_CONNECTIONS:,} slow connections", f"< × {SLOW_RATIO:g}", shown)
    spread = median[_MANY]["spread_bytes"]
    shown = coloured(f"{spread / 1e6:.1f}", spread < FLAT_BYTES)
    table.add_row(f"memory over {median[_MANY]['events']:,.0f} events, from a fifth on, MB", "flat", shown)
    shown_on = console()
    shown_on.print(table)
    series = "  ".join(f"{taken / 1e6:.2f} M: {size / 1e6:.1f}" for taken, size in last[_MANY]["series"])
    shown_on.print(f"Memory of the gateway in MB by events: {series}")


def _p99_ms(figures: Figures) -> float:
    return float(figures["load"]["answer_p99_ms"])


def _of(size: int) -> str:
    return f"{size} event{'s' * (size > 1)} a request"


def _pid(bench: Bench) -> int:
    state = bench.stack.state
    assert state is not None
    return state.children["gateway"].pid
