"""Which events may enter the log: the limits at -1, 0 and +1, and what no reader could read."""

import json
from collections.abc import Callable

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.judge import certainly_good, judge
from schemas.limits import EVENT_BYTES, EVENT_DEPTH, METADATA_KEYS
from schemas.reasons import Reason


def event_of_bytes(size: int) -> bytes:
    frame = b'{"eventName":"x","value":""}'
    return frame[:-2] + b"x" * (size - len(frame)) + frame[-2:]


def event_of_depth(levels: int) -> bytes:
    return b'{"metadata":' + b"[" * (levels - 1) + b"]" * (levels - 1) + b"}"


def event_of_keys(keys: int) -> bytes:
    return json.dumps({"eventName": "x", "metadata": {f"k{n}": n for n in range(keys)}}).encode()


LIMITS = [
    (event_of_bytes, EVENT_BYTES, Reason.EVENT_TOO_LARGE),
    (event_of_depth, EVENT_DEPTH, Reason.EVENT_TOO_DEEP),
    (event_of_keys, METADATA_KEYS, Reason.TOO_MANY_METADATA_KEYS),
]


@pytest.mark.parametrize(("make", "limit", "reason"), LIMITS, ids=[reason for _, _, reason in LIMITS])
@pytest.mark.parametrize("over", [-1, 0, 1])
def test_a_limit_is_inclusive(make: Callable[[int], bytes], limit: int, reason: Reason, over: int):
    verdict = judge(make(limit + over))
    assert (verdict.reason if verdict else None) == (reason if over > 0 else None)


def test_makers_make_what_they_say():
    assert len(event_of_bytes(EVENT_BYTES)) == EVENT_BYTES
    assert len(json.loads(event_of_keys(257))["metadata"]) == 257


UNREADABLE = [
    b"",
    b"1",
    b"null",
    b'"text"',
    b"[]",
    b"nonsense",
    b"{",
    b'{"a"}',
    b'{"a":NaN}',
    b'{"a":Infinity}',
    b'{"a":1e999}',
    b'{"a":-1E+999}',
    b'{"a":1' + b"0" * 400 + b"}",
    b'{"a":01}',
    b'{"a":"\\ud800"}',
    b'{"a":"\\ud800x"}',
    b'{"a":"\\udc00"}',
    b'{"\\ud800":1}',
    b'{"a":"\\q"}',
    b'{"a":"\x01"}',
    b'{"a":1,}',
    b"{'a':1}",
    b'{"a":1}{"b":2}',
]


@pytest.mark.parametrize("event", UNREADABLE)
def test_what_a_reader_further_on_could_not_read_is_malformed(event: bytes):
    verdict = judge(event)
    assert verdict is not None
    assert verdict.reason is Reason.MALFORMED_EVENT
    assert verdict.message


READABLE = [
    b"{}",
    b'{"time":"yesterday","user":7,"metadata":[]}',
    b'{"a":"\\ud83d\\ude00","b":"\xf0\x9f\x98\x80","c":"\\u0000"}',
    b'{"a":1e-999,"b":123456789012345678901234567890,"c":1e308}',
    b' {"a" : 1 } '.strip(),
    b'{"__proto__":{"a":1},"a":1,"a":2}',
    b'{"metadata":null}',
    b'{"metadata":{"a":"' + b"\\u2028<script>" * 200 + b'"}}',
]


@pytest.mark.parametrize("event", READABLE)
def test_what_an_event_means_is_not_judged_here(event: bytes):
    assert judge(event) is None


def test_duplicate_metadata_keys_count_once():
    many = b'{"metadata":{' + b",".join([b'"k":1'] * 300) + b"}}"
    assert judge(many) is None


EVENTS = st.sampled_from(
    [e for e in UNREADABLE if e[:1] == b"{" and b"," not in e[-2:]]
    + READABLE
    + [make(limit + over) for make, limit, _ in LIMITS for over in (-1, 0, 1)]
    + [event_of_depth(EVENT_DEPTH * 2), b'{"a":"' + b"{[" * 40 + b'"}', b'{"a":"\\"' + b']\\"' * 40 + b'"}']
)


@given(st.lists(EVENTS, max_size=5))
def test_what_is_certainly_good_is_good(events: list[bytes]):
    body = b'{"events":[' + b",".join(events) + b"]}"
    try:
        whole = all(isinstance(event, dict) for event in json.loads(body)["events"])
    except (ValueError, RecursionError):
        whole = False
    if whole and certainly_good(body, events):
        assert all(judge(event) is None for event in events)


def test_ordinary_events_are_certainly_good():
    events = [b'{"eventName":"x","user":{"userID":"u","custom":{"tags":["a","b"]}},"metadata":{"a":"1"}}'] * 50
    assert certainly_good(b'{"events":[' + b",".join(events) + b"]}", events)
    large = [b'{"eventName":"x","user":{"custom":{"note":"' + b"x" * 4000 + b'"}}}']
    assert certainly_good(b'{"events":[' + b",".join(large) + b"]}", large)
