"""Sending in flights: what several chunks became, one batch per topic and partition.

A flight is acknowledged as a whole, in order, when the broker has all of it; only then are its
source records acknowledged (measure e of `faust_measures.py`).
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

from aiokafka import AIOKafkaProducer

from schemas.crash_points import CrashPoint, armed, reach
from schemas.kafka import PRODUCER, KafkaConnection
from schemas.limits import KIB
from schemas.topics import (
    CLAIMS_CHANGELOG,
    CUSTOM_EVENTS,
    DLQ_WORKER,
    EXPOSURES,
    IDENTITY_LINKS,
    LEDGER,
    SCHEMAS,
)

_BATCH_BYTES: Final = 512 * KIB
_FLIGHTS_PENDING: Final = 16

_HALVES: Final = (CrashPoint.WORKER_CLAIM_DURABLE, CrashPoint.WORKER_OUTPUT_DURABLE)
"""Points at which the broker has one half of a flight, its claims or all the rest, and never the other."""

_WRITTEN: Final = (SCHEMAS, EXPOSURES, CUSTOM_EVENTS, DLQ_WORKER, CLAIMS_CHANGELOG, LEDGER, IDENTITY_LINKS)

Headers = list[tuple[str, bytes]]


class Flight:
    """Records on their way to the broker, and the source records they were made from."""

    def __init__(self, new_batch: Callable[[], Any]) -> None:
        self._new_batch = new_batch
        self.batches: dict[tuple[str, int], list[Any]] = {}
        self.sources: list[Any] = []
        self.records = 0

    def add(self, topic: str, partition: int, key: bytes, value: bytes | None, headers: Headers | None = None) -> None:
        """Append one record; order within a topic and partition is kept."""
        batches = self.batches.get((topic, partition))
        if batches is None:
            batches = self.batches[topic, partition] = [self._new_batch()]
        if batches[-1].append(timestamp=None, key=key, value=value, headers=headers or []) is None:
            batches.append(self._new_batch())
            # The first record of a batch is always taken, whatever its size.
            taken = batches[-1].append(timestamp=None, key=key, value=value, headers=headers or [])
            assert taken is not None
        self.records += 1


class Publisher:
    """Takes flights, sends them in order, and reports each when the broker has all of it."""

    def __init__(
        self,
        connection: KafkaConnection,
        on_delivered: Callable[[Flight], None],
        on_failed: Callable[[BaseException], None],
    ) -> None:
        self._connection = connection
        self._on_delivered = on_delivered
        self._on_failed = on_failed
        self._producer: AIOKafkaProducer | None = None
        self._outbound: asyncio.Queue[Flight] = asyncio.Queue()
        self._in_air: asyncio.Queue[tuple[Flight, list[asyncio.Future[Any]]]] = asyncio.Queue(_FLIGHTS_PENDING)
        self._tasks: list[asyncio.Task[None]] = []

    async def start(self) -> None:
        """Connect the producer. Raises KafkaError when no broker answers."""
        self._producer = AIOKafkaProducer(
            **self._connection.client_settings(), **PRODUCER, max_batch_size=_BATCH_BYTES, linger_ms=0
        )
        await self._producer.start()
        assert self._producer._txn_manager is not None, "the producer is not idempotent"
        self._tasks = [
            asyncio.create_task(self._guarded(self._send), name="publish:send"),
            asyncio.create_task(self._guarded(self._deliver), name="publish:deliver"),
        ]

    async def missing(self) -> list[str]:
        """Return which of the topics that are written to do not exist. Raises KafkaError."""
        assert self._producer is not None
        # Asking for a topic by its name would make it, on a broker that makes topics by itself, and not as ours.
        known = await self._producer.client.fetch_all_metadata()
        return [topic for topic in _WRITTEN if not known.partitions_for_topic(topic)]

    async def stop(self) -> None:
        """Stop sending. What is still in the air may arrive; its sources stay unacknowledged."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)
        if self._producer is not None:
            await self._producer.stop()

    def new_flight(self) -> Flight:
        """Return an empty flight."""
        assert self._producer is not None
        return Flight(self._producer.create_batch)

    async def send_one(self, topic: str, partition: int, key: bytes, value: bytes) -> None:
        """Send one record and wait for its acknowledgement."""
        assert self._producer is not None
        await self._producer.send_and_wait(topic, value, key=key, partition=partition)

    def launch(self, flight: Flight) -> None:
        """Queue a flight behind those before it."""
        self._outbound.put_nowait(flight)

    async def _guarded(self, work: Callable[[], Any]) -> None:
        try:
            await work()
        except Exception as error:  # noqa: BLE001 - reported, and the process ends with nothing acknowledged
            self._on_failed(error)

    async def _send(self) -> None:
        assert self._producer is not None
        while True:
            flight = await self._outbound.get()
            reach(CrashPoint.WORKER_BEFORE_SEND)
            if (point := armed()) in _HALVES:
                await self._send_half(flight, point)
            arrivals = []
            for (topic, partition), batches in flight.batches.items():
                for batch in batches:
                    batch.close()
                    arrivals.append(await self._producer.send_batch(batch, topic, partition=partition))
            await self._in_air.put((flight, arrivals))

    async def _send_half(self, flight: Flight, point: CrashPoint) -> None:
        """Wait until the broker has one half of a flight, which otherwise goes out in one, and reach the point."""
        assert self._producer is not None
        claims_first = point is CrashPoint.WORKER_CLAIM_DURABLE
        for place in [place for place in flight.batches if (place[0] == CLAIMS_CHANGELOG) is claims_first]:
            topic, partition = place
            for batch in flight.batches.pop(place):
                batch.close()
                await (await self._producer.send_batch(batch, topic, partition=partition))
        reach(point)

    async def _deliver(self) -> None:
        while True:
            flight, arrivals = await self._in_air.get()
            for arrival in arrivals:
                await arrival
            reach(CrashPoint.WORKER_ALL_DURABLE)
            self._on_delivered(flight)
