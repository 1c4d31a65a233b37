"""A chunk holds what was received, byte for byte."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given, settings
from hypothesis import strategies as st

from schemas import chunk
from schemas.chunk import Chunk, RequestPart
from schemas.limits import CHUNK_EVENTS, CLAIMS_WINDOW_MS, STORE_MAX_MS, TIME_MS

PART = {"project": "p", "environment": "e", "key_id": "k", "request_id": "r", "received_at": 5}

VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(), inner, max_size=3),
    max_leaves=8,
)


@settings(max_examples=30)
@given(st.lists(st.dictionaries(st.text(), VALUES, max_size=4), max_size=5), st.booleans(), st.sampled_from([None, 1]))
def test_events_come_out_as_the_bytes_that_went_in(events: list[dict[str, Any]], ascii_only: bool, indent: int | None):
    raw = [
        json.dumps(event, ensure_ascii=ascii_only, indent=indent).encode("utf-8", "surrogatepass") for event in events
    ]
    raw = [event for event in raw if b"\xed" not in event and b"\\ud" not in event]  # lone surrogates are not JSON text
    part = RequestPart("p", "e", "k", "r", 1, events=[msgspec.Raw(event) for event in raw])
    decoded = chunk.decode(chunk.encode(Chunk([part])))
    assert [bytes(event) for event in decoded.requests[0].events] == raw


def test_what_is_not_told_is_not_written():
    written = chunk.encode(Chunk([RequestPart("p", "e", "k", "r", 5)]))
    assert json.loads(written) == {
        "requests": [{"project": "p", "environment": "e", "key_id": "k", "request_id": "r", "received_at": 5}]
    }


def test_occurrences_and_ids_are_by_position():
    part = RequestPart("p", "e", "k", "r", 5, occurrences={2: 1}, ids={0: "ab" * 16})
    decoded = chunk.decode(chunk.encode(Chunk([part]))).requests[0]
    assert (decoded.occurrences, decoded.ids) == ({2: 1}, {0: "ab" * 16})


@pytest.mark.parametrize("value", [b"", b"{}", b"[]", b'{"requests":[{}]}', b"\x00\x01", b'{"requests":1}'])
def test_what_is_no_chunk_is_refused(value: object):
    with pytest.raises(msgspec.MsgspecError):
        chunk.decode(value)


@pytest.mark.parametrize(
    ("fields", "accepted"),
    [
        ({"received_at": -1}, False),
        ({"received_at": 0}, True),
        ({"received_at": STORE_MAX_MS}, True),
        ({"received_at": STORE_MAX_MS + 1}, False),
        ({"received_at": 2**70}, False),
        ({"client_time": -1}, False),
        ({"client_time": TIME_MS}, True),
        ({"client_time": TIME_MS + 1}, False),
        ({"occurrences": {0: -1}}, False),
        ({"occurrences": {0: 2**32 - 1}}, True),
        ({"occurrences": {0: 2**32}}, False),
    ],
)
def test_numbers_that_no_gateway_writes_are_refused(fields: dict[str, Any], accepted: bool):
    """An id or a record could not be made of them; the worker would end, and come back to them for ever."""
    written = json.dumps({"requests": [{**PART, **fields, "events": [{}]}]}).encode()
    if accepted:
        assert len(chunk.decode(written).requests) == 1
        return
    with pytest.raises(msgspec.ValidationError):
        chunk.decode(written)


@pytest.mark.parametrize(("over", "accepted"), [(-1, True), (0, True), (1, False)])
def test_a_chunk_with_more_events_than_a_gateway_puts_into_one_is_refused(over: int, accepted: bool):
    """Its claims would not fit into the one record that they must be written as."""
    written = json.dumps(
        {"requests": [{**PART, "events": [{}]}, {**PART, "events": [{}] * (CHUNK_EVENTS + over - 1)}]}
    ).encode()
    if accepted:
        assert sum(len(part.events) for part in chunk.decode(written).requests) == CHUNK_EVENTS + over
        return
    with pytest.raises(msgspec.ValidationError, match="the limit is"):
        chunk.decode(written)


def test_headers_tell_version_and_count():
    assert dict(chunk.headers(17)) == {"chunk": b"1", "n": b"17"}


def test_a_chunk_that_was_spilled_says_when():
    assert dict(chunk.headers(17, 1_763_740_000_000)) == {"chunk": b"1", "n": b"17", "spilled": b"1763740000000"}


@pytest.mark.parametrize(("over", "outlived"), [(-1, False), (0, False), (1, True)])
def test_a_chunk_outlives_the_claims_when_it_was_spilled_for_more_than_half_of_their_window(over: int, outlived: bool):
    headers = dict(chunk.headers(1, 1_000))
    assert chunk.outlived_claims(headers, 1_000 + CLAIMS_WINDOW_MS // 2 + over, CLAIMS_WINDOW_MS) is outlived


@pytest.mark.parametrize(
    ("headers", "outlived"),
    [
        ({}, False),
        ({"spilled": None}, True),
        ({"spilled": b"x"}, True),
        ({"spilled": b"-1"}, True),
        ({"spilled": b"9" * 5_000}, True),
    ],
)
def test_a_time_of_spilling_that_cannot_be_read_counts_as_long_ago(headers: dict[str, bytes | None], outlived: bool):
    assert chunk.outlived_claims(headers, 10**12, CLAIMS_WINDOW_MS) is outlived
