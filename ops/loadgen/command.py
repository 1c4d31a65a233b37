"""From the command's arguments to its exit code."""

import asyncio
import secrets
import sys
from pathlib import Path
from typing import Final

import uvloop
from aiokafka.errors import KafkaError
from rich.console import Console
from rich.table import Table

from ops.demo.push import NotKnownError, demo_key, make_known
from ops.loadgen.bodies import Encoding
from ops.loadgen.send import Load, Sender
from ops.loadgen.summary import Summary
from ops.output import ExitCode, fail, print_json
from ops.settings import Settings

_ROWS: Final = (
    ("run", "run"),
    ("events sent", "sent"),
    ("events acknowledged", "acked"),
    ("events refused", "refused"),
    ("events sent twice", "copies"),
    ("requests sent again", "retried_requests"),
    ("connections lost", "lost_connections"),
    ("answers by status", "statuses"),
    ("seconds", "seconds"),
    ("events/s acknowledged", "events_per_s"),
    ("answer p50, ms", "answer_p50_ms"),
    ("answer p99, ms", "answer_p99_ms"),
    ("own CPU, µs an event", "cpu_us_per_event"),
)


def run(
    settings: Settings,
    *,
    key: str,
    rate: float,
    seconds: float,
    events: int,
    batch: int,
    users: int,
    connections: int,
    copies: float,
    encoding: Encoding,
    ledger: Path | None,
    as_json: bool,
) -> int:
    """Send the load and print what happened; return the exit code. Ends with a clear error where it cannot begin."""

    async def send() -> Summary:
        known = key or demo_key(settings.data_dir)
        if not key:
            await make_known(settings, known)
        load = Load(
            host="127.0.0.1",
            port=settings.gateway_port,
            key=known,
            run=secrets.token_hex(4),
            batch=batch,
            users=users,
            connections=connections,
            rate=rate,
            seconds=seconds,
            events=events,
            copies=copies,
            encoding=encoding,
            ledger=ledger,
        )
        return await Sender(load, None if as_json else _show_progress).run()

    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            summary = runner.run(send())
    except OSError as error:
        fail(
            f"no gateway at 127.0.0.1:{settings.gateway_port}: {error}",
            "Start one with `headrace up`, or set HEADRACE_GATEWAY_PORT.",
            ExitCode.UNREACHABLE,
        )
    except (KafkaError, NotKnownError) as error:
        fail(
            f"the demo's key cannot be made known: {error}",
            "Give a key that the gateway knows with --key, or start the stack with `headrace up`.",
            ExitCode.UNREACHABLE,
        )
    if as_json:
        print_json(summary.as_json())
    else:
        if sys.stderr.isatty():
            sys.stderr.write("\r\x1b[K")
        _print_table(summary)
    return ExitCode.FAILED if summary.refused else ExitCode.OK


def _show_progress(summary: Summary) -> None:
    if sys.stderr.isatty():
        sys.stderr.write(f"\r\x1b[K{summary.seconds:5.1f} s  sent {summary.sent:,}  acknowledged {summary.acked:,}")
        sys.stderr.flush()


def _print_table(summary: Summary) -> None:
    table = Table(title="Load", show_header=False)
    table.add_column()
    table.add_column(justify="right")
    values = summary.as_json()
    for label, name in _ROWS:
        value = values[name]
        table.add_row(label, f"{value:,}" if isinstance(value, int | float) else str(value))
    Console().print(table)
