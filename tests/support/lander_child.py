"""A lander in a process of its own, that answers SQL lines on stdin with JSON lines on stdout.

Arguments: bootstrap servers, folder of the store, consumer group, rows of a batch, session time-out,
how long a call may stand still, and whether to make the tables.
"""

import asyncio
import contextlib
import signal
import sys
from pathlib import Path
from typing import Any

import orjson
import uvloop
from clickhouse_connect.driver.exceptions import OperationalError

from ops import logs
from processors.lander import Lander, LanderConfig
from schemas import migrations
from schemas.kafka import KafkaConnection
from schemas.metrics import LanderMetrics
from schemas.store import StoreAddress


def counted(metrics: LanderMetrics) -> dict[str, float]:
    """Return what the lander counts, summed over labels."""
    return {family.name: sum(s.value for s in family.samples if s.name.endswith("_total")) for family in _own(metrics)}


def _own(metrics: LanderMetrics) -> list[Any]:
    return [family for family in metrics.registry.collect() if family.name.startswith("headrace_lander")]


class Child:
    """Runs the lander and answers until told to stop."""

    def __init__(self, bootstrap: str, store: str, group: str, rows: str, session_ms: str, stall_s: str) -> None:
        self._address = StoreAddress(path=Path(store))
        self._metrics = LanderMetrics()
        config = LanderConfig(
            KafkaConnection(bootstrap), self._address, int(rows), 200, group, int(session_ms), stall_s=float(stall_s)
        )
        self._lander = Lander(config, self._metrics)

    async def run(self) -> int:
        """Return the exit code: 0 stopped, 3 failed for good, with the reason on stdout."""
        loop = asyncio.get_running_loop()
        stop = asyncio.Event()
        loop.add_signal_handler(signal.SIGTERM, stop.set)
        await self._lander.start()
        questions = asyncio.create_task(self._answer())
        failed = asyncio.create_task(self._lander.failed())
        stopped = asyncio.create_task(stop.wait())
        await asyncio.wait([failed, stopped], return_when=asyncio.FIRST_COMPLETED)
        if failed.done():
            self._say({"failed": str(failed.result()), "kind": type(failed.result()).__name__})
        await self._lander.stop()
        for task in (questions, failed, stopped):
            task.cancel()
        return 3 if failed.done() and not failed.cancelled() else 0

    async def _answer(self) -> None:
        reader = asyncio.StreamReader()
        await asyncio.get_running_loop().connect_read_pipe(lambda: asyncio.StreamReaderProtocol(reader), sys.stdin)
        while line := await reader.readline():
            match line.decode().strip():
                case "readiness":
                    self._say(self._lander.readiness())
                case "metrics":
                    self._say(counted(self._metrics))
                case "hang commit":
                    self._lander._consumer.commit = _never
                    self._say({})
                case "hang store":
                    self._lander._store.run = _never  # type: ignore[method-assign]  # as a lost connection does
                    self._say({})
                case "read nothing":
                    self._lander._consumer.getmany = _nothing
                    self._say({})
                case statement:
                    self._say(await asyncio.to_thread(self._ask, statement))

    def _ask(self, statement: str) -> Any:
        client = self._address.connect()
        try:
            if not statement.upper().startswith("SELECT"):
                return str(client.command(statement))
            return client.query(statement).result_rows
        finally:
            client.close()

    def _say(self, what: Any) -> None:
        sys.stdout.buffer.write(orjson.dumps(what, default=str) + b"\n")
        sys.stdout.buffer.flush()


async def _never(*_: object, **__: object) -> Any:
    await asyncio.Event().wait()


async def _nothing(*_: object, **__: object) -> dict[Any, Any]:
    await asyncio.sleep(0.05)
    return {}


def main() -> int:
    """Land until told to stop."""
    logs.configure("info", "lander")
    *arguments, migrates = sys.argv[1:]
    if migrates:
        with contextlib.suppress(OperationalError):  # in use by another process, as a test wants it
            client = StoreAddress(path=Path(arguments[1])).connect()
            migrations.apply(client)
            client.close()
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        return runner.run(Child(*arguments).run())


if __name__ == "__main__":
    sys.exit(main())
