import asyncio
import re

import orjson
from aiokafka import TopicPartition
from hypothesis import given
from hypothesis import strategies as st
from support.clocks import skip_waiting
from support.exposures import framed

from console.live import hub
from console.live.decode import Exposure, Outcome, decode
from console.live.filters import filter_from
from console.live.look import Seen
from console.live.positions import Positions
from console.live.sse import message
from console.live.viewer import WAITING_BYTES_MAX, WAITING_MAX, Viewer
from schemas.topics import EXPOSURES

_ALL = filter_from([("tier", "*"), ("outcome", "accepted")])
_EVERY_OUTCOME = filter_from([])


def _batch(count: int, outcome: Outcome = Outcome.ACCEPTED, first: int = 0, **fields: str) -> Seen:
    shown = {**decode(framed(**fields), 0, 0).fields, "outcome": outcome.value}
    exposures = [
        Exposure(shown, message("exposure", orjson.dumps({"number": number}))) for number in range(first, first + count)
    ]
    return Seen(outcome, exposures, read=count, looked_at=count)


def _at(**offsets: int) -> Positions:
    return {TopicPartition(EXPOSURES, int(name[1:])): offset for name, offset in offsets.items()}


def _numbers(frames: bytes) -> list[int]:
    return [int(found) for found in re.findall(rb'"number":(\d+)', frames)]


def _tallies(frames: bytes) -> list[dict[str, float]]:
    return [orjson.loads(found) for found in re.findall(rb"event: tally\ndata: (.*)\n", frames)]


@given(st.lists(st.integers(0, 60), max_size=30), st.one_of(st.none(), st.floats(1, 50)))
def test_what_is_wanted_is_shown_or_counted_as_not_shown(batches: list[int], rate_max: float | None):
    viewer = Viewer(_ALL, rate_max, now=0.0)
    for step, count in enumerate(batches):
        viewer.offer(_batch(count), now=step / 10)
    frames = viewer.take(now=1000.0)
    tallies = _tallies(frames)
    matched = sum(tally["matched"] for tally in tallies)
    assert matched == sum(batches)
    assert matched == sum(tally["shown"] + tally["sampled_out"] + tally["missed"] for tally in tallies)
    assert len(_numbers(frames)) == sum(tally["shown"] for tally in tallies)


def test_a_slow_viewer_keeps_the_newest_and_is_told_how_many_it_missed():
    viewer = Viewer(_ALL, now=0.0)
    viewer.offer(_batch(WAITING_MAX + 500), now=0.0)
    frames = viewer.take(now=2.0)
    assert _numbers(frames) == list(range(500, WAITING_MAX + 500))
    assert _tallies(frames)[0]["missed"] == 500


def test_a_slow_viewer_of_large_exposures_keeps_no_more_bytes_than_are_allowed():
    viewer = Viewer(_ALL, now=0.0)
    large = Seen(Outcome.ACCEPTED, [Exposure(_batch(1).exposures[0].fields, bytes(200_000))] * 100, 100, 100)
    viewer.offer(large, now=0.0)
    assert WAITING_BYTES_MAX - 200_000 < len(viewer.take(now=0.5)) <= WAITING_BYTES_MAX


def test_a_viewer_is_stuck_when_it_takes_nothing_although_something_waits():
    viewer = Viewer(_ALL, now=0.0)
    assert not viewer.is_stuck(31, patience_s=30)
    viewer.offer(_batch(1), now=0.0)
    assert not viewer.is_stuck(30, patience_s=30)
    assert viewer.is_stuck(31, patience_s=30)
    viewer.take(31)
    viewer.offer(_batch(1), now=32)
    assert not viewer.is_stuck(33, patience_s=30)


def test_a_flood_of_one_outcome_leaves_room_for_the_others():
    viewer = Viewer(_EVERY_OUTCOME, rate_max=8, now=0.0)
    shown: list[int] = []
    for step in range(400):
        now = step / 40
        viewer.offer(_batch(50, Outcome.REJECTED, first=0), now=now)
        viewer.offer(_batch(250, Outcome.ACCEPTED, first=1000), now=now)
        viewer.offer(_batch(50, Outcome.DUPLICATE, first=2000), now=now)
        shown += _numbers(viewer.take(now=now))
    counts = [sum(number // 1000 == each for number in shown) for each in range(3)]
    assert min(counts) >= 8
    assert 80 <= sum(counts) <= 96


def test_the_true_rate_of_each_outcome_is_told_although_only_some_were_looked_at():
    viewer = Viewer(_EVERY_OUTCOME, rate_max=1, now=0.0)
    some = _batch(250)
    viewer.offer(Seen(Outcome.ACCEPTED, some.exposures, read=10_000, looked_at=250), now=0.0)
    viewer.offer(_batch(30, Outcome.REJECTED), now=0.0)
    (tally,) = _tallies(viewer.take(now=2.0))
    assert tally["rates"] == {"accepted": 5000, "rejected": 15}


def test_a_rate_is_kept_over_time_and_the_choice_is_even():
    viewer = Viewer(_ALL, rate_max=10, now=0.0)
    shown = 0
    for step in range(100):
        viewer.offer(_batch(100), now=step / 10)
        shown += len(_numbers(viewer.take(now=step / 10)))
    assert 100 <= shown <= 120
    viewer.offer(_batch(100), now=1000.0)
    assert _numbers(viewer.take(now=1000.0)) == list(range(0, 100, 10))


def test_only_what_the_filter_wants_is_shown():
    viewer = Viewer(filter_from([("tier", "staging"), ("outcome", "accepted")]), now=0.0)
    viewer.offer(_batch(3, tier="production"), now=0.0)
    viewer.offer(_batch(2, tier="staging"), now=0.0)
    assert len(_numbers(viewer.take(now=0.0))) == 2


def test_the_position_comes_after_everything_that_lies_before_it():
    viewer = Viewer(_ALL, now=0.0)
    viewer.offer(_batch(3), now=0.0)
    viewer.stand(_at(p0=3, p1=8))
    frames = viewer.take(now=0.0)
    assert frames.endswith(b"id: 0-3.1-8\n\n")
    assert viewer.take(now=0.1) == b""


def test_a_viewer_is_told_that_nothing_comes_once_and_not_every_second():
    viewer = Viewer(_ALL, now=0.0)
    viewer.offer(_batch(1), now=0.0)
    told = [bool(_tallies(viewer.take(now=float(second)))) for second in range(1, 6)]
    assert told == [True, True, False, False, False]


async def test_a_viewer_is_told_what_it_has_seen_although_nothing_follows():
    viewer = Viewer(_ALL)
    viewer.offer(_batch(3))
    frames = await viewer.frames(patience_s=60)
    assert len(_numbers(frames)) == 3
    frames += await viewer.frames(patience_s=60)
    frames += await viewer.frames(patience_s=60)
    assert [tally["read"] for tally in _tallies(frames)] == [3, 0]


async def test_an_exposure_waits_nowhere_on_its_way_but_for_its_fetch_and_its_gathering():
    """Half a second from the log to the viewer is promised; the rest of it is for work, and for the network."""
    skip_waiting()
    viewer = Viewer(_ALL)
    clock = asyncio.get_running_loop().time
    sending = asyncio.create_task(viewer.frames(patience_s=60))
    await asyncio.sleep(0)
    offered_s = clock()
    viewer.offer(_batch(1))
    assert _numbers(await sending) == [0]
    assert clock() == offered_s
    assert hub.GATHER_S + hub._FETCH_WAIT_MS / 1000 < 0.25


async def test_a_viewer_without_news_gets_nothing_within_its_patience_and_a_closed_one_at_once():
    viewer = Viewer(_ALL)
    assert await viewer.frames(patience_s=0.01) == b""
    viewer.close()
    await viewer.frames(patience_s=60)
    assert viewer.is_closed
