"""`make bench`, or `python -m bench`: measures the pipeline on a stack of its own."""

import argparse
import asyncio
import sys
import tempfile
from collections.abc import Awaitable
from pathlib import Path
from typing import Final

import orjson

from bench import report
from bench.gateway import gateway_run, print_gateway
from bench.measure import Bench, Figures, run_latency_phase, run_phase
from bench.yardstick import Yardstick
from ops import settings as settings_module
from ops.demo.landed import ConsoleSql
from ops.demo.push import demo_key, make_known
from ops.settings import Settings
from ops.stack.errors import StackError
from ops.stack.local import LocalStack, environment_of
from ops.stack.supervisor import EventKind, StackEvent

_SERVERS: Final = 16
_CROWD: Final = 64
"""Connections of the load: servers send many events at once; only many senders fill a gateway with small requests."""


def arguments() -> argparse.Namespace:
    """Read the command line."""
    parser = argparse.ArgumentParser(prog="python -m bench", description=__doc__)
    parser.add_argument("--gateway", action="store_true", help="the gateway alone, at requests of 1 to 100 events")
    parser.add_argument("--events", type=int, default=5_000_000, help="of the gateway's last phase, that of its memory")
    parser.add_argument("--runs", type=int, default=1, help="medians over so many runs")
    parser.add_argument("--seconds", type=float, default=20, help="length of a phase")
    parser.add_argument("--rate", type=float, default=2_000, help="events/s of the phases at a rate")
    parser.add_argument("--connections", type=int, help="of the load generator: 16, with --gateway 64")
    parser.add_argument("--encoding", default="identity", choices=("identity", "gzip", "zstd"), help="of the requests")
    parser.add_argument("--port-base", type=int, default=28_700, help="first of ten ports that the stack takes")
    parser.add_argument("--json", type=Path, help="file for the figures of every run")
    return parser.parse_args()


def settings_for(base: int, data_dir: Path) -> Settings:
    """Return settings of a stack of its own: ports from `base` up, everything in `data_dir`."""
    ports = {"gateway_port": base, "console_port": base + 1, "kafka_port": base + 2, "admin_port_base": base + 4}
    own = {"data_dir": data_dir, "kafka_bootstrap": "", "clickhouse": "", "console_url": "", "host": "127.0.0.1"}
    return settings_module.load().model_copy(update={**ports, **own})


async def measure(asked: argparse.Namespace, settings: Settings) -> list[dict[str, Figures]]:
    """Start a stack, warm it up, and run every phase `--runs` times."""
    processes = ("gateway",) if asked.gateway else None
    with Yardstick() as yardstick:
        async with LocalStack(settings, _say_event, processes) as stack:
            return await _measure_on(stack, yardstick, asked)


async def _measure_on(stack: LocalStack, yardstick: Yardstick, asked: argparse.Namespace) -> list[dict[str, Figures]]:
    settings = stack.settings
    key = demo_key(settings.data_dir)
    await make_known(settings, key)
    sql = None if asked.gateway else ConsoleSql(settings.console_address)
    gateway = f"http://127.0.0.1:{settings.gateway_port}"
    bench = Bench(stack, environment_of(settings), key, gateway, settings.console_address, sql, yardstick)
    connections = asked.connections or (_CROWD if asked.gateway else _SERVERS)
    common = ("--connections", str(connections), "--encoding", asked.encoding)
    if sql is not None:
        _say("warming up")
        await run_phase(bench, "--full", "--seconds", "3", *common)
    runs = []
    for number in range(asked.runs):
        _say(f"run {number + 1} of {asked.runs}")
        if asked.gateway:
            runs.append(await gateway_run(bench, asked.seconds, asked.events, common, _say))
        else:
            runs.append(await _whole_run(bench, asked, common))
    if sql is not None:
        await sql.close()
    return runs


async def _whole_run(bench: Bench, asked: argparse.Namespace, common: tuple[str, ...]) -> dict[str, Figures]:
    seconds, rate = str(asked.seconds), str(asked.rate)
    at_rate = f"{asked.rate:,.0f}/s"
    return {
        "full speed": await _said("full speed", run_phase(bench, "--full", "--seconds", seconds, *common)),
        at_rate: await _said(at_rate, run_phase(bench, "--rate", rate, "--seconds", seconds, *common)),
        f"{at_rate} and probes": await _said(
            f"{at_rate} and probes",
            run_latency_phase(bench, "--rate", rate, "--seconds", seconds, *common),
        ),
    }


async def _said(phase: str, figures: Awaitable[Figures]) -> Figures:
    _say(phase)
    return await figures


def _say_event(event: StackEvent) -> None:
    if event.kind in (EventKind.READY, EventKind.DIED):
        _say(f"{event.part}: {event.kind.value} {event.detail}")


def _say(text: str) -> None:
    sys.stderr.write(f"bench: {text}\n")
    sys.stderr.flush()


def main() -> int:
    """Measure, print, and return 1 when something that was acknowledged did not land once."""
    asked = arguments()
    with tempfile.TemporaryDirectory(prefix="headrace-bench-", ignore_cleanup_errors=True) as folder:
        try:
            runs = asyncio.run(measure(asked, settings_for(asked.port_base, Path(folder))))
        except StackError as error:
            sys.stderr.write(f"error: {error}\n  {error.remedy}\n")
            return 3
    median = {phase: report.median_of([run[phase] for run in runs]) for phase in runs[0]}
    if asked.json:
        content = {"machine": report.machine(), "asked": vars(asked), "runs": runs, "median": median}
        asked.json.write_bytes(orjson.dumps(content, option=orjson.OPT_INDENT_2, default=str))
    report.print_phases({phase: figures for phase, figures in median.items() if "cpu_us_per_event" in figures})
    report.print_answers({phase: figures for phase, figures in median.items() if "load" in figures})
    if asked.gateway:
        print_gateway(median, runs[-1])
    else:
        first, *_, last = median.values()
        report.print_targets(first, last)
    return 0 if all(figures.get("exact", True) for figures in median.values()) else 1


if __name__ == "__main__":
    sys.exit(main())
