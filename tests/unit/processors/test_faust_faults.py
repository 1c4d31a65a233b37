"""What stock Faust counts as processed although it is not, on its own parts; and that the worker's Faust does not.

Each test runs the same steps on both. Should a later Faust mend a fault, its test says so by failing.
"""

from collections.abc import Awaitable, Callable
from typing import Any

import faust
import pytest
from support.stock_faust import measured_app, stock_app

from processors.faust_measures import NO_GENERATION, Guard, Recovery
from processors.rehearsal import Rehearsal, rehearsing
from processors.self_test import collect

App = Callable[[], faust.App]
Step = Callable[[Rehearsal], Awaitable[None]]


async def committed_after(app: App, step: Step, work: Any = collect) -> int | None:
    """Return what would be committed after `step`, which every app begins with nothing committed."""
    async with rehearsing(app(), work) as rehearsal:
        await step(rehearsal)
        return rehearsal.committable()


def acknowledge(app: faust.App, message: Any) -> None:
    """Say that a record is processed, as an agent says it: in stock Faust through the event's own method."""
    getattr(app.consumer, "acknowledge", app.consumer.ack)(message)


async def test_a_jump_of_the_offset_is_committed_by_stock_faust_and_not_by_ours():
    """Measure a: after a fetch that lost its records, nobody would ever read them again."""

    async def jump(rehearsal: Rehearsal) -> None:
        await rehearsal.feed(0, 1, 2)
        await rehearsal.feed(9)
        for event in rehearsal.delivered:
            acknowledge(rehearsal.app, event.message)

    assert await committed_after(stock_app, jump) == 10
    assert await committed_after(measured_app, jump) == 3


async def test_an_event_whose_agent_raised_is_committed_by_stock_faust_and_not_by_ours():
    """Measure e: leaving the loop acknowledges the event, whatever became of it."""

    async def fail(rehearsal: Rehearsal, stream: Any) -> None:
        async for event in stream.events():
            rehearsal.delivered.append(event)
            raise RuntimeError("the output could not be sent")

    async def feed(rehearsal: Rehearsal) -> None:
        await rehearsal.feed(0)
        assert len(rehearsal.delivered) == 1

    assert await committed_after(stock_app, feed, fail) == 1
    assert await committed_after(measured_app, feed, collect) is None


async def test_an_acknowledgement_of_an_earlier_generation_is_committed_by_stock_faust_and_not_by_ours():
    """Measures d and e: the next owner of the partition has gone back, and this one would jump over it."""

    async def acknowledge_late(rehearsal: Rehearsal) -> None:
        await rehearsal.feed(0, 1)
        rehearsal.begin_generation(2, 0)
        for event in rehearsal.delivered:
            acknowledge(rehearsal.app, event.message)

    assert await committed_after(stock_app, acknowledge_late) == 2
    assert await committed_after(measured_app, acknowledge_late) is None


async def test_an_acknowledgement_out_of_order_is_committed_over_its_predecessor_which_is_why_flights_land_in_order():
    """Measure e: Faust takes the record after the committed one for the first, and passes the one before it."""

    async def skip_one(rehearsal: Rehearsal) -> None:
        rehearsal.begin_generation(2, 5)
        await rehearsal.feed(5, 6)
        acknowledge(rehearsal.app, rehearsal.delivered[1].message)

    assert await committed_after(stock_app, skip_one) == 7, "5 was never acknowledged"


async def test_the_first_assignment_of_a_process_is_never_of_the_generation_of_the_last():
    """Measure d: Kafka puts a static member back into the generation that it left."""
    thread = measured_app().consumer._thread
    listener = thread._rebalance_listener
    seen: list[int] = []

    async def note(*_: Any) -> None:
        seen.append(thread.app.consumer_generation_id)

    thread.on_partitions_assigned = thread.on_partitions_revoked = note
    for _ in range(2):
        await listener.on_partitions_assigned([])
        await listener.on_partitions_revoked([])
    thread.thread_loop.close()
    assert seen == [1, NO_GENERATION, 2, NO_GENERATION]


async def test_what_is_fetched_after_a_revocation_is_left_to_the_next_owner_and_ends_nothing():
    """Measure d: Kafka's thread revokes at once, and the flow stops some turns of the loop later."""
    app = measured_app()
    async with rehearsing(app, collect) as rehearsal:
        app.consumer_generation_id = NO_GENERATION
        await rehearsal.feed(0)
        (event,) = rehearsal.delivered
        assert event.message.generation_id == NO_GENERATION
        assert not Guard(app, Recovery(app, "rehearsal", _nothing, _nothing)).is_current(event)


async def _nothing(*_: object) -> Any:
    """Neither claims nor bounds."""


@pytest.mark.parametrize("app", [stock_app, measured_app])
async def test_both_commit_what_is_acknowledged_in_order(app: App):
    async def in_order(rehearsal: Rehearsal) -> None:
        await rehearsal.feed(0, 1, 2)
        for event in rehearsal.delivered[:2]:
            acknowledge(rehearsal.app, event.message)

    assert await committed_after(app, in_order) == 2
