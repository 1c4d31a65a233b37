"""The worker's self-test: whether the installed Faust still behaves as the measures assume.

Run at every start, on Faust's real parts and without a broker (20 ms). An upgrade that changes what
counts as processed would lose or double events in silence; here it refuses to start.
"""

import asyncio
from collections.abc import Callable
from typing import Any, Final

import faust

from processors.faust_measures import NO_GENERATION, RebalanceListener, SnapshotConsumerThread
from processors.rehearsal import Rehearsal, rehearsing

_PATIENCE_S: Final = 10.0


class SelfTestError(Exception):
    """The installed Faust is not the one that the measures correct."""


async def run_self_test(new_app: Callable[[], faust.App]) -> None:
    """Return when every assumption holds. Raises SelfTestError, which names the one that does not."""
    try:
        async with asyncio.timeout(_PATIENCE_S):
            await _records_and_acknowledgements(new_app())
            await _generations(new_app())
    except SelfTestError:
        raise
    except Exception as error:
        raise SelfTestError(f"{_refusal()}: it could not even be tried: {error!r}") from error


def _refusal() -> str:
    return f"faust {faust.__version__} does not behave as processors/faust_measures.py assumes"


def _see(holds: bool, law: str) -> None:
    if not holds:
        raise SelfTestError(f"{_refusal()}: {law}; install the version that pyproject.toml names")


async def collect(rehearsal: Rehearsal, stream: Any) -> None:
    """Take events as the worker's agent does, and acknowledge none."""
    async for event in stream.noack().events():
        rehearsal.delivered.append(event)


async def _records_and_acknowledgements(app: faust.App) -> None:
    async with rehearsing(app, collect) as rehearsal:
        acknowledge = app.consumer.acknowledge
        await rehearsal.feed(0, 1, 2)
        await rehearsal.feed(3, 4)
        events = rehearsal.delivered
        _see([event.message.offset for event in events] == [0, 1, 2, 3, 4], "deliveries come in order, each once")
        _see(rehearsal.committable() is None, "nothing is acknowledged before its output is sent")
        events[0].ack()
        _see(rehearsal.committable() is None, "nothing but the worker acknowledges")
        for event in events[:2]:
            acknowledge(event.message)
        _see(rehearsal.committable() == 2, "what is acknowledged in order is committed up to there")
        await rehearsal.feed(9)
        for event in events[2:]:
            acknowledge(event.message)
        _see(rehearsal.committable() == 5, "records that were never seen are not committed")


async def _generations(app: faust.App) -> None:
    async with rehearsing(app, collect) as rehearsal:
        await rehearsal.feed(0, 1)
        late = rehearsal.delivered[-1]
        _see(late.message.generation_id == 1, "an event carries the generation in which it was fetched")
        rehearsal.begin_generation(2, 0)
        _see(app.consumer.acknowledge(late.message) is False, "an event of an earlier generation is not acknowledged")
        _see(rehearsal.committable() is None, "an acknowledgement of an earlier generation commits nothing")
        await rehearsal.feed_into_generation(3, 2)
        _see(rehearsal.committable() is None, "what is skipped because its generation is over is not acknowledged")
        await _fetches(app)
        listener = RebalanceListener(app.consumer._thread)
        listener._thread.on_partitions_revoked = _ignore
        await listener.on_partitions_revoked([])
        _see(app.consumer_generation_id == NO_GENERATION, "nothing is current once partitions are revoked")


async def _ignore(*_: object) -> None:
    return None


class _Fetcher:
    """Notes which partitions are asked for."""

    _closed = False

    def __init__(self) -> None:
        self._subscriptions = self
        self._max_poll_records = 1
        self._fetcher = self
        self.asked: list[Any] = []

    def fetch_context(self) -> "_Fetcher":
        return self

    def __enter__(self) -> None:
        return None

    def __exit__(self, *_: object) -> None:
        return None

    async def fetched_records(self, partitions: Any, **_: object) -> dict[Any, Any]:
        self.asked.append(partitions)
        return {}


async def _fetches(app: faust.App) -> None:
    thread = app.consumer._thread
    _see(isinstance(thread, SnapshotConsumerThread), "the consumer runs in our thread class")
    fetcher = _Fetcher()
    active: set[Any] = set()
    app.consumer.resume_flow()
    thread._consumer = fetcher
    thread.call_thread = _call
    await thread.getmany(active, timeout=0)
    _see(fetcher.asked == [], "an empty set of partitions fetches nothing")
    active.add("p")
    await thread.getmany(active, timeout=0)
    active.clear()
    _see(fetcher.asked == [frozenset("p")], "a fetch works on the partitions that were active when it began")


async def _call(function: Any, *arguments: Any, **named: Any) -> Any:
    return await function(*arguments, **named)
