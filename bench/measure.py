"""One phase of a run: send, wait until all has landed, and say what it cost."""

import asyncio
import time
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final, NamedTuple

import orjson

from bench import cpu
from bench.load import send_load
from bench.probe import Probe
from bench.yardstick import Yardstick
from ops.demo.landed import ConsoleSql
from ops.demo.pipeline import counted
from ops.loadgen.bodies import LOAD_ID
from ops.loadgen.summary import quantile
from ops.stack.local import LocalStack

_POLL_S: Final = 0.25
_LANDING_DEADLINE_S: Final = 180.0

Figures = dict[str, Any]


class Batches(NamedTuple):
    """Counters that tell how much was gathered for one record of the log and for one insert."""

    events: float
    chunks: float
    rows: float
    inserts: float

    def sizes_since(self, before: "Batches") -> Figures:
        """Return the mean sizes between two moments."""
        chunks, inserts = self.chunks - before.chunks, self.inserts - before.inserts
        return {
            "events_per_chunk": (self.events - before.events) / chunks if chunks else 0.0,
            "rows_per_insert": (self.rows - before.rows) / inserts if inserts else 0.0,
        }


@dataclass(frozen=True)
class Bench:
    """A running stack to measure. `sql` is None where no store runs."""

    stack: LocalStack
    environment: Mapping[str, str]
    key: str
    gateway: str
    console: str
    sql: ConsoleSql | None
    yardstick: Yardstick

    def read_cpu(self) -> cpu.Reading:
        """Read the clocks of all processes of the stack."""
        state = self.stack.state
        assert state is not None
        return cpu.read({name: child.pid for name, child in state.children.items()})

    async def landed(self) -> int:
        """Return how many rows the lander says it has inserted; asking it costs next to nothing, unlike a query."""
        return int(await counted(self._lander_port, "headrace_lander_rows_total"))

    async def count_batches(self) -> Batches:
        """Return what gateway and lander have gathered until now."""
        gateway = self.stack.settings.admin_port("gateway")
        return Batches(
            events=await counted(gateway, "headrace_gateway_events_total"),
            chunks=await counted(gateway, "headrace_gateway_chunks_total"),
            rows=await counted(self._lander_port, "headrace_lander_rows_total") if self.sql else 0.0,
            inserts=await counted(self._lander_port, "headrace_lander_insert_seconds_count") if self.sql else 0.0,
        )

    @property
    def _lander_port(self) -> int:
        settings = self.stack.settings
        return settings.admin_port("store" if settings.store.is_embedded else "lander")


async def run_phase(bench: Bench, *arguments: str) -> Figures:
    """Send one load and return its figures: per process CPU µs an event, events/s, what landed."""
    before_rows = await bench.landed() if bench.sql else 0
    batches = await bench.count_batches()
    before, own_before, mark = bench.read_cpu(), time.process_time(), bench.yardstick.mark()
    sent = await send_load(bench.environment, bench.key, *arguments)
    if bench.sql:
        await _wait_landed(bench, before_rows + sent["acked"])
    seconds = time.time() - sent["began_at_ms"] / 1000
    spent = bench.read_cpu().since(before)
    events = sent["acked"] or 1
    per_event = {name: value * 1e6 / events for name, value in spent.seconds.items()}
    per_event["loadgen"] = sent["cpu_us_per_event"]
    per_event["bench"] = (time.process_time() - own_before) * 1e6 / events
    # What strangers on the machine used: the noise in the other figures.
    others = spent.machine * 1e6 / events - sum(per_event.values())
    figures: Figures = {
        "load": sent,
        "cpu_us_per_event": per_event,
        "others_us_per_event": others,
        "others_share_of_machine": others / (others + sum(per_event.values())),
        "slowdown": bench.yardstick.slowdown_since(mark),
        **(await bench.count_batches()).sizes_since(batches),
    }
    if bench.sql:
        figures |= {"seconds_until_all_landed": seconds, "landed_per_s": sent["acked"] / seconds}
        figures |= await _landed(bench.sql, sent)
    return figures


async def run_latency_phase(bench: Bench, *arguments: str) -> Figures:
    """Send one load with probes among it; return how long accepted events took until queries found them."""
    assert bench.sql is not None
    before_rows = await bench.landed()
    probe = Probe(bench.gateway, bench.key, bench.console, f"probe-{time.time_ns():x}")
    load_is_over = asyncio.Event()
    probing = asyncio.create_task(probe.run(load_is_over))
    try:
        sent = await send_load(bench.environment, bench.key, *arguments)
        ended = time.time()
    finally:
        load_is_over.set()
        await probing
    await _wait_landed(bench, before_rows + sent["acked"] + probe.seen)
    latencies = probe.latencies_ms(sent["began_at_ms"] / 1000, ended)
    return {
        "load": sent,
        "probes": len(latencies),
        "probes_unseen": probe.unseen,
        "probe_p50_ms": quantile(latencies, 0.5),
        "probe_p99_ms": quantile(latencies, 0.99),
        "probe_max_ms": quantile(latencies, 1.0),
        **await _landed(bench.sql, sent),
    }


async def _wait_landed(bench: Bench, wanted: int) -> None:
    deadline = time.monotonic() + _LANDING_DEADLINE_S
    while await bench.landed() < wanted:
        if time.monotonic() > deadline:
            return  # what is missing shows in the figures
        await asyncio.sleep(_POLL_S)


async def _landed(sql: ConsoleSql, sent: Figures) -> Figures:
    """Return what SQL finds of a load: rows, distinct ids, and how long rows took to be inserted."""
    where = f"WHERE session_id = 'load-{sent['run']}'"
    columns = f"JSONExtractString(metadata, '{LOAD_ID}') AS id, dateDiff('millisecond', received_at, landed_at) AS took"
    [line] = await sql.lines(
        "SELECT count() AS landed, uniqExact(id) AS distinct_ids, "
        "quantilesExactInclusive(0.5, 0.99, 1.0)(took) AS took FROM "
        f"(SELECT {columns} FROM exposures {where} UNION ALL SELECT {columns} FROM custom_events {where})"
    )
    found = orjson.loads(line)
    p50, p99, longest = found["took"]
    landed, distinct = int(found["landed"]), int(found["distinct_ids"])
    return {
        "landed": landed,
        "distinct_ids": distinct,
        "exact": landed == distinct == sent["acked"],
        "insert_p50_ms": p50,
        "insert_p99_ms": p99,
        "insert_max_ms": longest,
    }
