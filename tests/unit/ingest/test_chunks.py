"""From a request to the parts of chunks: nothing lost, nothing changed, every event where it belongs."""

import json
from collections import Counter

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.chunks import Part, RequestHead, event_ids_of, has_time, parts_of
from ingest.linger import records_of
from ingest.split import split
from schemas import chunk
from schemas.chunk import RequestPart
from schemas.ids import EventIds, partition_of
from schemas.limits import CHUNK_BYTES, CHUNK_EVENTS

HEAD = RequestHead(
    b'{"project":"p\xc3\xbc","environment":"e","key_id":"k-1"',
    "pü",
    "e",
    "request-1",
    1767225600123,
    1767225600000,
    'order "77"',
    "Mozilla/5.0 é",
)
METADATA = b'{"sdkType":"py-server","sessionID":"s-1","more":[1, 2]}'
KEY = b"secret-lab-key"


def body_of(events: list[bytes], metadata: bytes = METADATA) -> bytes:
    return b'{"events":[' + b",".join(events) + b'],"statsigMetadata":' + metadata + b"}"


def read(parts: list[Part]) -> list[tuple[int, RequestPart]]:
    """Read parts as the worker does: inside of records."""
    by_partition: dict[int, list[Part]] = {}
    for part in parts:
        by_partition.setdefault(part.partition, []).append(part)
    found = []
    for partition, of_partition in by_partition.items():
        for record in records_of(of_partition):
            requests = chunk.decode(record.value).requests
            assert sum(len(request.events) for request in requests) == record.events
            found += [(partition, request) for request in requests]
    return found


def make(events: list[bytes], head: RequestHead = HEAD, partitions: int = 4) -> list[tuple[int, RequestPart]]:
    body = body_of(events)
    return read(parts_of(head, split(body), partitions, KEY, len(body)))


EVENTS = st.builds(
    lambda user, name, spaced: json.dumps(
        {"eventName": name, "user": {"userID": user}, "time": 1}, separators=(", ", ": ") if spaced else (",", ":")
    ).encode(),
    st.sampled_from(["a", "b", "c", "grün"]),
    st.sampled_from(["x", "y"]),
    st.booleans(),
)


@given(st.lists(EVENTS, max_size=20), st.integers(1, 5))
def test_all_events_are_in_the_partition_of_their_key_untouched_and_in_order(events: list[bytes], partitions: int):
    found = make(events, partitions=partitions)
    assert Counter(bytes(event) for _, part in found for event in part.events) == Counter(events)
    for partition, part in found:
        user_ids = {json.loads(bytes(event))["user"]["userID"] for event in part.events}
        assert {partition_of(user_id.encode(), partitions) for user_id in user_ids} == {partition}
    for partition in range(partitions):
        here = [bytes(event) for at, part in found if at == partition for event in part.events]
        expected = [
            e for e in events if partition_of(json.loads(e)["user"]["userID"].encode(), partitions) == partition
        ]
        assert here == expected


@given(st.lists(EVENTS, max_size=20))
def test_occurrences_count_over_the_whole_request(events: list[bytes]):
    seen = set()
    for _, part in make(events):
        for position, event in enumerate(part.events):
            seen.add((bytes(event), part.occurrences.get(position, 0)))
        assert 0 not in part.occurrences.values()
    expected: Counter[bytes] = Counter()
    numbered = set()
    for event in events:
        numbered.add((event, expected[event]))
        expected[event] += 1
    assert seen == numbered


def test_a_part_says_all_of_its_request():
    ((_, part),) = make([b'{"user":{"userID":"u"}}'])
    assert (part.project, part.environment, part.key_id) == ("pü", "e", "k-1")
    assert (part.request_id, part.received_at, part.client_time) == ("request-1", 1767225600123, 1767225600000)
    assert (part.idempotency_key, part.user_agent) == ('order "77"', "Mozilla/5.0 é")
    assert bytes(part.statsigMetadata) == METADATA
    assert (part.occurrences, part.ids, part.ip) == ({}, {}, "")


def test_a_request_without_events_has_no_parts():
    assert make([]) == []


def test_a_part_is_cut_where_a_chunk_is_full_by_count():
    events = [b'{"user":{"userID":"u"},"value":%d}' % n for n in range(CHUNK_EVENTS * 2 + 1)]
    sizes = [len(part.events) for _, part in make(events)]
    assert sizes == [CHUNK_EVENTS, CHUNK_EVENTS, 1]


@pytest.mark.parametrize("repeated", [False, True])
def test_a_part_is_cut_where_a_chunk_is_full_by_bytes(repeated: bool):
    large = [b'{"user":{"userID":"u"},"value":"%d%b"}' % (n * (not repeated), b"x" * 200_000) for n in range(6)]
    parts = [part for _, part in make(large)]
    assert [len(part.events) for part in parts] == [2, 2, 2]
    assert all(sum(len(bytes(event)) for event in part.events) <= CHUNK_BYTES for part in parts)
    if repeated:
        assert [part.occurrences for part in parts] == [{1: 1}, {0: 2, 1: 3}, {0: 4, 1: 5}]


def test_an_event_that_is_changed_carries_the_id_of_what_was_received():
    secret = b'{"eventName":"x","user":{"userID":"u","privateAttributes":{"plan":"gold"}},"time":5}'
    without_time = secret.replace(b',"time":5', b"")
    plain = b'{"eventName":"x","user":{"userID":"u"},"time":5}'
    ((_, part),) = make([plain, secret, secret, without_time])
    ids = EventIds("pü", "e", "s-1", 'order "77"')
    assert part.ids == {
        1: ids.of(secret, 0, has_time=True).hex(),
        2: ids.of(secret, 1, has_time=True).hex(),
        3: ids.of(without_time, 0, has_time=False).hex(),
    }
    assert part.occurrences == {2: 1}
    assert bytes(part.events[0]) == plain
    assert all(b"gold" not in bytes(event) for event in part.events)


def test_the_worker_computes_the_id_that_the_gateway_computes():
    event = b'{"eventName":"x","user":{"userID":"u"},"time":5}'
    found = split(body_of([event]))
    ((_, part),) = make([event])
    sender = msgspec.json.decode(part.statsigMetadata)
    worker = EventIds(part.project, part.environment, sender["sessionID"], part.idempotency_key)
    assert event_ids_of(HEAD, found).of(event, 0, has_time=True) == worker.of(bytes(part.events[0]), 0, has_time=True)


@pytest.mark.parametrize(
    ("event", "expected"),
    [
        (b'{"time":5}', True),
        (b'{"time":"yesterday"}', True),
        (b'{"time":0}', True),
        (b'{"time":null}', False),
        (b"{}", False),
        (b'{"metadata":{"time":5}}', False),
        (b'{"time":5,"value":NaN}', True),
        (b'{"value":NaN}', False),
    ],
)
def test_a_time_is_an_events_own_when_it_is_told(event: bytes, expected: bool):
    assert has_time(event) is expected


def test_records_are_cut_at_the_limits_of_a_chunk():
    small = Part(0, 400, b"{}")
    assert [record.events for record in records_of([small] * 5)] == [800, 800, 400]
    large = Part(0, 1, b'{"a":"' + b"x" * (CHUNK_BYTES // 2) + b'"}')
    assert [record.events for record in records_of([large] * 3)] == [1, 1, 1]
    assert [record.events for record in records_of([small, large, small])] == [801]
    assert records_of([]) == []
