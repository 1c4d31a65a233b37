"""Chunks that waited while the log grew: every event goes to its unit's new partition, as it was."""

import random

import orjson
from hypothesis import given
from hypothesis import strategies as st

from ingest.chunks import RequestHead, parts_of
from ingest.durability import Record
from ingest.linger import records_of
from ingest.repartition import repartitioned
from ingest.split import split
from schemas import chunk

events = st.lists(
    st.builds(
        lambda user, number: {"eventName": "e", "time": number, "user": {"userID": user} if user else {}},
        st.sampled_from(["", "a", "b", "c", "d", "e", "f"]),
        st.integers(0, 5),
    ),
    min_size=1,
    max_size=30,
)


def records(requests: list[bytes], partitions: int) -> dict[int, list[Record]]:
    found: dict[int, list[Record]] = {}
    head = RequestHead(b'{"project":"p","environment":"e","key_id":"k"', "p", "e", "r", 1_763_740_000_000)
    for body in requests:
        for part in parts_of(head, split(body), partitions, b"client-key", len(body)):
            found.setdefault(part.partition, []).extend(records_of([part]))
    return found


def told(records_of_partition: list[Record]) -> list[tuple[bytes, int]]:
    """Return what of each event makes its id, in order."""
    return [
        (bytes(event), part.occurrences.get(place, 0))
        for record in records_of_partition
        for part in chunk.decode(record.value).requests
        for place, event in enumerate(part.events)
    ]


@given(st.lists(events, min_size=1, max_size=3), st.integers(1, 5), st.integers(1, 9), st.randoms())
def test_they_are_what_the_gateway_would_have_made_of_the_requests(
    sent: list[list[dict[str, object]]], before: int, after: int, chance: random.Random
):
    requests = [orjson.dumps({"events": some, "statsigMetadata": {"stableID": f"s{len(some) % 2}"}}) for some in sent]
    waited = records(requests, before)
    found: dict[int, list[Record]] = {}
    lanes = list(waited)
    chance.shuffle(lanes)
    for lane in lanes:
        for number, some in repartitioned(waited[lane], after).items():
            found.setdefault(number, []).extend(some)
    wanted = records(requests, after)
    assert {n: sorted(told(some)) for n, some in found.items()} == {n: sorted(told(s)) for n, s in wanted.items()}
    assert all(
        record.events == sum(len(part.events) for part in chunk.decode(record.value).requests)
        for some in found.values()
        for record in some
    )


def test_of_one_lane_events_keep_their_order_and_the_time_at_which_they_were_spilled():
    body = orjson.dumps({"events": [{"time": n, "user": {"userID": f"u{n % 3}"}} for n in range(60)]})
    [waited] = records([body], 1).values()
    for some in repartitioned([record._replace(spilled_ms=17) for record in waited], 4).values():
        times = [orjson.loads(event)["time"] for event, _ in told(some)]
        assert times == sorted(times)
        assert {record.spilled_ms for record in some} == {17}
