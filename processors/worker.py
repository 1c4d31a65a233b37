"""The worker: chunks in, exposures and custom events out, each event id once.

The order of things, which exactness rests on: decide and claim in one step without awaiting; send
output, claim, dead letters and ledger record in one flight; acknowledge the chunk when the broker
has all of them; commit what is acknowledged, in order.
"""

import asyncio
import contextlib
import gc
import time
from collections.abc import Awaitable, Callable
from functools import partial
from typing import Any, Final

import faust
import structlog
from aiokafka.errors import KafkaError
from faust.types import TP

from processors.burst_guard import BurstGuard, why_stopped
from processors.claims import ClaimsIndex, encode_entry, entry_key, without_log
from processors.claims_log import read_claims
from processors.config import WorkerConfig
from processors.faust_app import new_app
from processors.faust_measures import NO_GENERATION, Guard, Recovery
from processors.known import Known
from processors.log_bounds import LogBounds
from processors.map_event import EventMapper
from processors.past_claims import PastClaims, StaleEntries, partitions_before
from processors.process_chunk import process
from processors.processed import Processed, SourceRecord
from processors.publish import Flight, Headers, Publisher
from processors.self_test import run_self_test
from processors.source import LogDrainedError, Source
from processors.watchdog import StalledError, Watchdog
from schemas import avro, chunk, identity_links, ledger, topics
from schemas.logs import LogRecord
from schemas.metrics import WorkerMetrics
from schemas.origin import HEADER as ORIGIN
from schemas.origin import Origin
from schemas.topics import CLAIMS_CHANGELOG

log = structlog.get_logger()

FLIGHT_LINGER_S: Final = 0.015
"""How long output waits for more: Kafka is paid per batch, and a chunk of 13 events is little.

With 4 ms a fifth of the worker's CPU went into produce requests."""

FLIGHT_RECORDS: Final = 2_000
"""Records of a flight at the most."""

PENDING_CHUNKS: Final = 400
"""Chunks sent and not yet acknowledged; beyond, reading waits."""

DRAIN_S: Final = 5.0
RETRY_S: Final = 1.0

LOOKS_A_LIMIT: Final = 12
"""How often the watchdog looks while something may stand still."""

# The default of 700 objects makes the collector walk the claims over and over (13 µs an event).
_GC_THRESHOLDS: Final = (50_000, 20, 1000)

_OF_REPLAYS: Final = (chunk.REPLAY_HEADER, chunk.ATTEMPT_HEADER)


class Worker:
    """One worker process: the Faust app that reads, the claims, and the publisher that sends."""

    def __init__(self, config: WorkerConfig, metrics: WorkerMetrics) -> None:
        self._config = config
        self._metrics = metrics
        self.registry = metrics.registry
        self._waiting_for = {"worker": "it has not been started"}
        self._failure: asyncio.Future[BaseException] | None = None
        self._starting: asyncio.Task[None] | None = None
        self._watching: list[asyncio.Task[None]] = []
        self._known = Known(config.kafka, config.identity_links)
        self._mapper = EventMapper(self._known.configs, config.enriching, self._known.identities)
        self._publisher = Publisher(config.kafka, self._on_delivered, self._fail)
        self._bounds = LogBounds(config.kafka)
        self._logs = Source(config.kafka, self._bounds, partial(self._publisher.send_one, topics.LOGS, 0))
        self._source = LogRecord(0, topics.EVENTS_RAW, "", 0, 0)
        """The log that is processed; this one until it is chosen."""
        self._stale: dict[int, StaleEntries] = {}
        self._without_log: set[bytes] = set()
        self._indexes: dict[int, ClaimsIndex] = {}
        self._bursts: dict[int, BurstGuard] = {}
        self._counted: dict[int, int] = {}
        """Up to which offset the burst guard of a partition has counted."""
        self._halted: dict[int, str] = {}
        """Partitions that the burst guard stopped, and why; nothing of them goes on in this process."""
        self._flight: Flight | None = None
        self._pending = 0
        self._acknowledged: dict[int, int] = {}
        self._claims_read = 0
        self._ordering = False
        self._room = asyncio.Event()
        self._room.set()
        self._landed = asyncio.Event()
        self._app: faust.App | None = None

    async def start(self) -> None:
        """Begin to work in the background; `readiness` tells how far it is."""
        self._failure = asyncio.get_running_loop().create_future()
        self._starting = asyncio.create_task(self._start(), name="worker:start")

    def readiness(self) -> dict[str, str]:
        """Return what is not ready yet, and why; {} when chunks are being processed."""
        return self._waiting_for | {f"partition {number}": why for number, why in self._halted.items()}

    async def failed(self) -> BaseException:
        """Wait for an error that the process must end for; a restart recovers."""
        assert self._failure is not None
        return await asyncio.shield(self._failure)

    async def stop(self) -> None:
        """Finish and acknowledge what is in the air, commit, and leave the group."""
        self._waiting_for = {"worker": "it is stopping"}
        if self._starting is not None:
            self._starting.cancel()
            await asyncio.gather(self._starting, return_exceptions=True)
        for task in self._watching:
            task.cancel()
        await asyncio.gather(*self._watching, return_exceptions=True)
        if self._app is not None and self._app.started:
            await self._drain()
            await self._app.stop()
        await self._logs.stop()
        await self._bounds.stop()
        await self._publisher.stop()
        await self._known.stop()

    # --- starting ------------------------------------------------------------------------------

    async def _start(self) -> None:
        gc.set_threshold(*_GC_THRESHOLDS)
        try:
            await run_self_test(self._new_app)
            self._waiting_for = {"kafka": f"no answer yet from {self._config.kafka.bootstrap}"}
            await self._until_reachable(self._publisher.start)
            self._waiting_for = {"log": "events.raw has no log number yet; `headrace init` gives it one"}
            await self._logs.start()
            self._source = await self._logs.choose()
            await self._until_reachable(self._wait_for_topics)
            log.info("log_chosen", log=self._source.log, topic=self._source.topic)
            self._waiting_for = {"config": "reading the config specs and the identity links"}
            await self._known.start()
            await self._publish_schemas()
            self._waiting_for = {"claims": "reading the claims back"}
            self._app = self._compose()
            self._watching = [
                asyncio.create_task(self._guarded(watch(self._app)), name="worker:watch")
                for watch in (self._watch_crash, self._watch_progress, self._watch_log)
            ]
            await self._app.start()
        except Exception as error:  # noqa: BLE001 - whatever it is, the process cannot work
            self._fail(error)

    async def _until_reachable(self, connect: Callable[[], Awaitable[None]]) -> None:
        while True:
            try:
                return await connect()
            except (KafkaError, OSError) as error:
                log.warning("kafka_unavailable", error=repr(error))
                await asyncio.sleep(RETRY_S)

    async def _wait_for_topics(self) -> None:
        """Wait for the topics that came with this version."""
        while missing := await self._publisher.missing():
            self._waiting_for = {"topics": f"{missing[0]} does not exist; `headrace init` creates it"}
            await asyncio.sleep(RETRY_S)

    async def _publish_schemas(self) -> None:
        for schema in (avro.EXPOSURE, avro.CUSTOM_EVENT, avro.DEAD_LETTER):
            await self._publisher.send_one(topics.SCHEMAS, 0, b"%d" % schema.id, schema.text)

    async def _guarded(self, work: Awaitable[None]) -> None:
        try:
            await work
        except Exception as error:  # noqa: BLE001 - who watched in vain must not do so in silence
            self._fail(error)

    async def _watch_crash(self, app: faust.App) -> None:
        await app._crashed.wait()
        self._fail(app._crash_reason or RuntimeError("Faust crashed without saying why"))

    async def _watch_progress(self, app: faust.App) -> None:
        """End the process when something stands still that a new process would do."""
        limit_s = self._config.stall_s
        watchdog = Watchdog(limit_s, limit_s / LOOKS_A_LIMIT)
        while True:
            await asyncio.sleep(limit_s / LOOKS_A_LIMIT)
            try:
                bounds = await self._bounds.of(self._source.topic, self._recovery.expected or (0,))
            except (KafkaError, OSError):
                watchdog.forget()
                continue
            ends = {number: end for number, (_, end) in bounds.items()}
            if stalled := watchdog.look(time.monotonic(), self._work_to_do(app, ends)):
                self._fail(StalledError(f"{stalled} has not moved for {limit_s:g} s although Kafka answers"))

    async def _watch_log(self, _app: faust.App) -> None:
        """End the process when its log is drained: with a new start it is another's."""
        follower = await self._logs.wait_drained(self._source)
        self._fail(LogDrainedError(f"log {self._source.log} is drained; a new start goes on with log {follower.log}"))

    def _work_to_do(self, app: faust.App, ends: dict[int, int]) -> dict[str, object]:
        """Return what has to move, each with a mark that changes when it does."""
        generation = app.consumer_generation_id
        if self._ordering:
            return {}
        if generation == NO_GENERATION or generation != self._recovery.generation:
            return {"joining the group and reading the claims back": (generation, self._claims_read)}
        work: dict[str, object] = {}
        raw = self._source.topic
        if self._pending:
            work["delivery to Kafka"] = (generation, dict(self._acknowledged), self._pending)
        committed = app.consumer._thread.committed
        for number, expected in self._recovery.expected.items():
            if number in self._halted:
                continue
            if self._room.is_set() and expected < ends.get(number, 0):
                work[f"reading of {raw}/{number}"] = (generation, expected)
            acknowledged = self._acknowledged.get(number, 0)
            done = committed.get(TP(raw, number), 0)
            if done < acknowledged:
                work[f"commit of {raw}/{number}"] = (generation, done)
        return work

    def _new_app(self, raw: str = topics.EVENTS_RAW) -> faust.App:
        loop = asyncio.get_running_loop()
        group = topics.worker_group(raw)
        return new_app(self._config, PENDING_CHUNKS, lambda error: loop.call_soon_threadsafe(self._fail, error), group)

    def _compose(self) -> faust.App:
        raw = self._source.topic
        app = self._new_app(raw)
        self._recovery = Recovery(app, raw, self._rebuild, self._bounds.of)
        app.on_rebalance_complete.connect(self._recovery.on_rebalance_complete, weak=False)
        self._guard = Guard(app, self._recovery)
        as_bytes = faust.Schema(key_type=bytes, value_type=bytes, key_serializer="raw", value_serializer="raw")
        app.agent(app.topic(raw, schema=as_bytes), name="worker", concurrency=1)(self._work)
        return app

    async def _rebuild(self, partitions: set[int]) -> None:
        if self._flight is not None:
            # Of the generation before: its records may land, its sources will be read again.
            self._launch(self._flight)
        started = time.monotonic()
        source, window_ms = self._source, self._config.claims_window_ms
        before = partitions_before(partitions, source.partitions, self._logs.earlier(source))
        claims = await read_claims(self._config.kafka, partitions | before, self._logs.first_log, self._on_claims_read)
        entries, self._without_log = claims
        own = {number: entries.pop((source.log, number), []) for number in partitions}
        earlier = {place: entries[place] for place in entries if place[0] < source.log}
        del entries, claims
        self._waiting_for = {"claims": "putting them in order"}
        self._ordering = True
        # Ten million take a core for 15 s, and meanwhile the process has to answer.
        self._indexes = {
            number: await asyncio.to_thread(ClaimsIndex.rebuild, own.pop(number), window_ms) for number in sorted(own)
        }
        past = await asyncio.to_thread(PastClaims.of, earlier, window_ms)
        for number, index in self._indexes.items():
            index.past = past
            self._stale[number] = StaleEntries({place: earlier[place] for place in earlier if place[1] == number})
        self._ordering = False
        self._metrics.recoveries.inc()
        ids = sum(len(index) for index in self._indexes.values())
        self._metrics.claims.set(ids)
        self._acknowledged.clear()
        self._waiting_for = {}
        seconds = round(time.monotonic() - started, 3)
        log.info("claims_rebuilt", partitions=sorted(partitions), ids=ids, seconds=seconds)

    def _on_claims_read(self, read: int, total: int) -> None:
        self._claims_read = read
        self._waiting_for = {"claims": f"read back {read:,} of {total:,} records"}

    # --- working -------------------------------------------------------------------------------

    async def _work(self, stream: Any) -> None:
        async for event in stream.noack().events():
            try:
                await self._room.wait()
                if not self._guard.is_current(event) or event.message.partition in self._halted:
                    continue
                self._guard.admit(event)
                self._process(event)
            except asyncio.CancelledError:
                raise
            except BaseException as error:  # noqa: BLE001 - leaving the loop would acknowledge the event
                self._fail(error)
            if self._failure is not None and self._failure.done():
                await asyncio.Event().wait()

    def _process(self, event: Any) -> None:
        """Decide, claim and hand over one chunk. Nothing is awaited in between."""
        message = event.message
        partition, offset = message.partition, message.offset
        append_ms = round(message.timestamp * 1000)
        index = self._indexes[partition]
        headers = dict(message.headers or ())
        log_number = self._source.log
        record = SourceRecord(log_number, partition, offset, append_ms, headers, message.value or b"")
        done = process(record, index, self._mapper, time.time_ns() // 1_000_000)
        if self._config.burst_guard and self._is_burst(partition, offset, done, headers):
            return
        flight = self._current_flight()
        self._emit(flight, partition, done, self._carried(headers, append_ms))
        index.claim(offset, append_ms, done.claimed, done.firsts)
        entry = encode_entry(append_ms, done.claimed, done.firsts)
        flight.add(CLAIMS_CHANGELOG, partition, entry_key(log_number, partition, offset), entry)
        flight.add(topics.LEDGER, 0, ledger.key_of(log_number, partition, offset), done.ledger)
        for link in done.links:
            if self._known.identities.learn(link):
                flight.add(topics.IDENTITY_LINKS, 0, identity_links.key_of(link), identity_links.encode(link))
        for gone in index.expire(append_ms):
            self._forget(flight, partition, entry_key(log_number, partition, gone))
        if index.past is not None:
            self._forget_past(flight, partition, index, append_ms)
        flight.sources.append(event)
        self._pending += 1
        if self._pending >= PENDING_CHUNKS:
            self._room.clear()
        if flight.records >= FLIGHT_RECORDS:
            self._launch(flight)
        self._count(done)

    def _forget_past(self, flight: Flight, partition: int, index: ClaimsIndex, append_ms: int) -> None:
        """Let go of the claims of earlier logs that nothing can meet any more."""
        assert index.past is not None
        horizon_ms, stale = index.horizon(append_ms), self._stale[partition]
        for key in stale.gone(horizon_ms):
            self._forget(flight, partition, key)
        if stale.are_gone and index.past.newest_ms < horizon_ms:
            index.past = None

    def _forget(self, flight: Flight, partition: int, key: bytes) -> None:
        flight.add(CLAIMS_CHANGELOG, partition, key, None)
        if key in self._without_log:
            flight.add(CLAIMS_CHANGELOG, partition, without_log(key), None)
            self._without_log.discard(key)

    def _is_burst(self, partition: int, offset: int, done: Processed, headers: dict[str, bytes]) -> bool:
        """Stop the partition before a chunk with which too much of it has failed through us; nothing of it is sent."""
        if chunk.REPLAY_HEADER in headers:
            return False  # whoever replays sees what fails, and live events must not wait for that
        if offset < self._counted.get(partition, 0):
            return False  # read again after a rebalance: its failures are counted
        self._counted[partition] = offset + 1
        guard = self._bursts.setdefault(partition, BurstGuard())
        failures = ((letter.origin.index, letter.reason) for letter in done.dead if letter.origin is not None)
        if not guard.take(done.events, failures):
            return False
        self._halted[partition] = why_stopped(partition, done.dead[-1].message)
        assert self._app is not None
        self._app.consumer.pause_partitions([TP(self._source.topic, partition)])
        log.critical("partition_stopped", partition=partition, why=self._halted[partition])
        return True

    def _carried(self, headers: dict[str, bytes], append_ms: int) -> Headers:
        """Return the headers of a chunk that make the lander look for copies of its events which nobody claims."""
        if chunk.REPLAY_HEADER in headers:
            return [(name, headers[name] or b"") for name in _OF_REPLAYS if name in headers]
        if not chunk.outlived_claims(headers, append_ms, self._config.claims_window_ms):
            return []
        return [(chunk.SPILLED_HEADER, headers[chunk.SPILLED_HEADER] or b"")]

    def _emit(self, flight: Flight, partition: int, done: Processed, carried: Headers) -> None:
        for mapped, origin in done.emitted:
            flight.add(mapped.topic, partition, mapped.key, mapped.value, [(ORIGIN, origin), *carried])
        for letter in done.dead:
            key = letter.origin.pack() if isinstance(letter.origin, Origin) else b""
            flight.add(topics.DLQ_WORKER, partition, key, letter.encode())

    def _count(self, done: Processed) -> None:
        metrics = self._metrics
        metrics.chunks.inc()
        metrics.events.inc(done.events)
        if done.duplicates:
            metrics.duplicates.inc(done.duplicates)
        for letter in done.dead:
            metrics.dead_letters.labels(letter.reason.value).inc()
        exposures = sum(mapped.topic == topics.EXPOSURES for mapped, _ in done.emitted)
        metrics.emitted.labels(topics.EXPOSURES).inc(exposures)
        metrics.emitted.labels(topics.CUSTOM_EVENTS).inc(len(done.emitted) - exposures)

    # --- flights -------------------------------------------------------------------------------

    def _current_flight(self) -> Flight:
        if self._flight is None:
            flight = self._flight = self._publisher.new_flight()
            asyncio.get_running_loop().call_later(FLIGHT_LINGER_S, self._launch, flight)
        return self._flight

    def _launch(self, flight: Flight) -> None:
        if self._flight is flight:
            self._flight = None
            self._publisher.launch(flight)

    def _on_delivered(self, flight: Flight) -> None:
        assert self._app is not None
        acknowledge = self._app.consumer.acknowledge
        for source in flight.sources:
            self._pending -= 1
            message = source.message
            if acknowledge(message):
                self._acknowledged[message.partition] = message.offset + 1
        self._landed.set()
        self._mapper.report(self._metrics.count_enriched)
        self._metrics.identity_links.set(len(self._known.identities))
        self._metrics.pending.set(self._pending)
        self._metrics.claims.set(sum(len(index) for index in self._indexes.values()))
        if self._pending < PENDING_CHUNKS // 2:
            self._room.set()

    async def _drain(self) -> None:
        assert self._app is not None
        self._app.consumer.stop_flow()
        self._room.clear()
        deadline = time.monotonic() + DRAIN_S
        while self._pending and time.monotonic() < deadline:
            self._landed.clear()
            with contextlib.suppress(TimeoutError):
                await asyncio.wait_for(self._landed.wait(), deadline - time.monotonic())

    def _fail(self, error: BaseException) -> None:
        if self._failure is not None and not self._failure.done():
            log.error("worker_failed", error=repr(error))
            self._failure.set_result(error)
