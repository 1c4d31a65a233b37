"""What Faust 0.15.3 does wrong for us, and the measure against each.

Stock Faust skips records whenever it resumes after a rebalance, acknowledges what it skipped, and
recovers tables in ways that lose entries; measured on a real broker it lost 7,117 events in five
kills. With these measures the same design lost none in 144. The claims are therefore no Faust table
(measure f: `claims_log.py` reads them), and what is left of the faults is corrected here.
`docs/decisions/0002-faust.md` holds the evidence, `tests/integration/test_faust_measures.py` shows
each fault on the stock class, and `self_test.py` sees at every start that the measures still bite.
"""

import asyncio
from collections.abc import Awaitable, Callable, Iterable, Mapping
from typing import Any, Final

import faust
import structlog
from aiokafka.errors import IllegalStateError
from faust.app.base import BootStrategy
from faust.transport.drivers import aiokafka as driver
from faust.types import TP

from processors.log_bounds import Bounds, first_to_process
from processors.slot import watch_slot

log = structlog.get_logger()

_EMPTY_FETCH_PAUSE_S: Final = 0.05
_FETCH_POLL_S: Final = 0.005
_FETCH_WAIT_MS: Final = 250
"""How long a fetch without records waits at the broker. Faust fixes 1.5 s, and whatever else is asked on
that connection meanwhile waits behind it: a recovery took 1.3 s longer."""

NO_GENERATION: Final = -1
"""The generation while no partitions are ours: nothing is of it."""


class RebalanceListener(driver.ConsumerRebalanceListener):
    """Measure d, the number: each assignment to this process is a generation of its own.

    Kafka's generation does not tell two of them apart: a static member that is put back into a stable
    group gets the generation that was there (Kafka 4.1: two processes were both in generation 1).
    Faust compares the number with itself only.
    """

    assignments = 0

    def on_partitions_revoked(self, revoked: Iterable[Any]) -> Awaitable[Any]:
        """Let nothing be current from here on; Kafka's thread calls this."""
        self._thread.app.consumer_generation_id = NO_GENERATION
        result: Awaitable[Any] = super().on_partitions_revoked(revoked)
        return result

    async def on_partitions_assigned(self, assigned: Iterable[Any]) -> None:
        """Begin the next generation."""
        self.assignments += 1
        self._thread.app.consumer_generation_id = self.assignments
        await self._thread.on_partitions_assigned(driver.ensure_TPset(assigned), self.assignments)


class SnapshotConsumerThread(driver.AIOKafkaConsumerThread):
    """Measure b: fetches work on a snapshot of the active partitions, and are counted.

    The stock thread hands the live set by reference to a fetch that may be in flight. When recovery
    ends the set becomes empty, which aiokafka reads as "all partitions": source records are handed
    out, the position moves, and Faust drops them.
    """

    fetches_in_flight = 0

    def __post_init__(self) -> None:
        super().__post_init__()
        self.committed: dict[TP, int] = {}
        """What the broker took. Faust's own note of it is written even when a commit has failed."""

    async def on_start(self) -> None:
        """Start the consumer, and see who else uses this worker's name."""
        await super().on_start()
        watch_slot(self._ensure_consumer()._coordinator, self.app.fail)

    def _create_worker_consumer(self, transport: Any) -> Any:
        consumer = super()._create_worker_consumer(transport)
        consumer._fetch_max_wait_ms = _FETCH_WAIT_MS
        return consumer

    async def _fetch_records(
        self, consumer: Any, active_partitions: Iterable[TP], timeout: Any = None, max_records: Any = None
    ) -> Any:
        wanted = frozenset(active_partitions)
        if not wanted:
            await asyncio.sleep(_EMPTY_FETCH_PAUSE_S)
            return {}
        self.fetches_in_flight += 1
        try:
            return await super()._fetch_records(consumer, wanted, timeout=timeout, max_records=max_records)
        finally:
            self.fetches_in_flight -= 1

    async def _commit(self, offsets: Mapping[TP, int]) -> bool:
        committed = bool(await super()._commit(offsets))
        if committed:
            self.committed.update(offsets)
        return committed

    async def committed_offsets(self, partitions: Iterable[TP]) -> dict[TP, int | None]:
        """Return what the group has committed, None where it never did."""
        result: dict[TP, int | None] = await self.call_thread(self._committed_offsets, list(partitions))
        return result

    async def _committed_offsets(self, partitions: list[TP]) -> dict[TP, int | None]:
        consumer = self._ensure_consumer()
        return {tp: await consumer.committed(driver.ensure_aiokafka_TP(tp)) for tp in partitions}

    async def seek_all(self, positions: Mapping[TP, int]) -> None:
        """Go on reading at `positions`. Raises IllegalStateError when a partition is no longer ours.

        Stock Faust seeks only where something was committed, so that a first start keeps whatever
        position a stray fetch has left.
        """
        await self.call_thread(self._seek_all, dict(positions))

    async def _seek_all(self, positions: dict[TP, int]) -> None:
        consumer = self._ensure_consumer()
        for tp, offset in positions.items():
            consumer.seek(driver.ensure_aiokafka_TP(tp), offset)


class GaplessConsumer(driver.Consumer):
    """Measures a and e: what is acknowledged is said by the worker alone.

    a. The stock consumer counts a jump of the offset as processed, and commits past records it never
    saw. The raw topic has no holes (never compacted, never transactional), so a gap is a mistake.

    e. Stock Faust acknowledges an event whose agent raised, one that it skips because its generation
    is over, and whatever is acknowledged late. Here `acknowledge` counts, and nothing else.
    """

    RebalanceListener = RebalanceListener

    def _new_consumer_thread(self) -> SnapshotConsumerThread:
        return SnapshotConsumerThread(self, loop=self.loop, beacon=self.beacon)

    async def _add_gap(self, tp: TP, offset_from: int, offset_to: int) -> None:
        """Count nothing as processed; `Guard` ends the process on the record after the gap."""

    def ack(self, message: Any) -> bool:  # noqa: ARG002 - the signature is Faust's
        """Acknowledge nothing: Faust calls this, and does not know what is on the broker."""
        return False

    def acknowledge(self, message: Any) -> bool:
        """Let the commit pass `message`, if it is of the present generation; tell whether it is."""
        if message.generation_id != self.app.consumer_generation_id:
            return False
        super().ack(message)
        return True


class MeasuredTransport(driver.Transport):
    """The transport whose consumer has the measures above."""

    Consumer = GaplessConsumer


class NoFoldersApp(faust.App):
    """Faust without its data folders: the stock app makes three wherever the process was started."""

    fail: Callable[[BaseException], object]
    """Ends the process; may be called in any thread."""

    def _create_directories(self) -> None:
        """Make none; this app keeps nothing on disk."""


class NoWebBoot(BootStrategy):
    """`web_enabled=False` still starts a web server; health and metrics are on our admin port."""

    def web_server(self) -> Iterable[Any]:
        """Start none."""
        return []


class Recovery:
    """Measure c: nothing is processed before the index is rebuilt, and nothing is skipped then.

    The signal `on_rebalance_complete` is awaited between "partitions assigned" and "fetching
    resumed". It also runs for generations that are over by then; those are left to the next.
    """

    def __init__(
        self,
        app: faust.App,
        topic: str,
        rebuild: Callable[[set[int]], Awaitable[None]],
        bounds: Callable[[str, Iterable[int]], Awaitable[dict[int, Bounds]]],
    ) -> None:
        self._app = app
        self._topic = topic
        self._rebuild = rebuild
        self._bounds = bounds
        self.generation = NO_GENERATION
        self.expected: dict[int, int] = {}

    async def on_rebalance_complete(self, *_: object, **__: object) -> None:
        """Rebuild the index of every assigned partition and seek to where processing must go on.

        Raises RecordsLostError when the log does not reach back to there.
        """
        app = self._app
        generation = app.consumer_generation_id
        consumer = app.consumer
        partitions = {tp for tp in consumer.assignment() if tp.topic == self._topic}
        numbers = {tp.partition for tp in partitions}
        await self._rebuild(numbers)
        consumer.stop_flow()
        thread = consumer._thread
        while thread.fetches_in_flight:  # noqa: ASYNC110 - counted in another thread, for milliseconds
            await asyncio.sleep(_FETCH_POLL_S)
        if app.consumer_generation_id != generation:
            return
        try:
            committed = {tp.partition: offset for tp, offset in (await thread.committed_offsets(partitions)).items()}
            bounds = await self._bounds(self._topic, numbers)
            if app.consumer_generation_id != generation:
                return
            positions = {
                number: first_to_process(self._topic, number, committed[number], bounds[number]) for number in numbers
            }
            await thread.seek_all({tp: positions[tp.partition] for tp in partitions})
        except IllegalStateError:
            log.info("recovery_overtaken_by_rebalance", generation=generation)
            return
        if app.consumer_generation_id != generation:
            return
        self.expected = positions
        self.generation = generation
        log.info("claims_recovered", generation=generation, expected=self.expected)


class SkippedRecordsError(Exception):
    """A record of the raw topic is missing before the one that arrived."""


class Guard:
    """Measure d: an event is processed only in its own generation, on its index, without a gap."""

    def __init__(self, app: faust.App, recovery: Recovery) -> None:
        self._app = app
        self._recovery = recovery

    def is_current(self, event: Any) -> bool:
        """Whether the event's generation is still the consumer's; the next owner reads the others again.

        What a fetch brings between the revocation and the stop of the flow is of no generation, and never is.
        """
        generation = event.message.generation_id
        return bool(generation == self._app.consumer_generation_id and generation != NO_GENERATION)

    def admit(self, event: Any) -> None:
        """Accept the next event of its partition.

        Raises SkippedRecordsError when the index is not of this generation or records are missing:
        the process must end, and a restart recovers.
        """
        message = event.message
        recovery = self._recovery
        if recovery.generation != message.generation_id:
            raise SkippedRecordsError(
                f"the claims index is of generation {recovery.generation}, the record of {message.generation_id}"
            )
        expected = recovery.expected.get(message.partition)
        if expected is None or message.offset > expected:
            raise SkippedRecordsError(
                f"{message.topic}/{message.partition}: expected offset {expected}, got {message.offset}; where the "
                f"topic's retention has removed unprocessed records they are lost to Headrace, otherwise a restart "
                f"reads them"
            )
        if message.offset == expected:
            recovery.expected[message.partition] = expected + 1
