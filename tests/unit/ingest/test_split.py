"""Splitting a request: every event is accepted or refused, and one bad event costs no other."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.refusal import Refusal
from ingest.split import split
from schemas.ids import partition_key
from schemas.limits import EVENT_DEPTH, EVENTS_PER_REQUEST, REQUEST_METADATA_BYTES
from schemas.reasons import Reason

GOOD = b'{"eventName":"x","user":{"userID":"u-%d"},"time":1}'
BAD = {
    "a lone surrogate": b'{"eventName":"x","value":"\\ud800"}',
    "NaN": b'{"eventName":"x","value":NaN}',
    "a number beyond a double": b'{"eventName":"x","metadata":{"n":1e999}}',
    "1,000 levels": b'{"metadata":' + b"[" * 1000 + b"]" * 1000 + b"}",
    "100,000 levels": b'{"metadata":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
    "no object": b"17",
    "a bad escape": b'{"eventName":"\\x"}',
    "too many keys": json.dumps({"metadata": {str(n): n for n in range(257)}}).encode(),
    "nothing": b"",
}


def body_of(events: list[bytes], metadata: bytes = b'{"sdkType":"py-server","sessionID":"s"}') -> bytes:
    return b'{"events":[' + b",".join(events) + b'],"statsigMetadata":' + metadata + b"}"


@pytest.mark.parametrize("name", BAD)
def test_one_bad_event_in_a_hundred_costs_only_itself(name: str):
    events = [GOOD % n for n in range(100)]
    events[42] = BAD[name]
    found = split(body_of(events))
    assert found.events == events[:42] + events[43:]
    assert [(refused.position, refused.event) for refused in found.refused] == [(42, BAD[name])]
    assert found.refused[0].verdict.message


# Everything but an empty event in the middle, which a list of nothing but that one would not hold.
ANY_EVENT = st.sampled_from([GOOD % 1, GOOD % 2, b"{}", b'{"user":null}', b'{"user":"u"}', b'{"user":{"userID":5}}'])
# Drawn by name: events of 1,000 levels are too long for reports to repeat.
BAD_NAMES = st.sampled_from([name for name, event in BAD.items() if event and name != "100,000 levels"])


@given(st.lists(ANY_EVENT | BAD_NAMES, max_size=8), st.sampled_from([b"{}", b"null", b'{"stableID":"device"}']))
def test_accepted_and_refused_together_are_what_was_sent(drawn: list[bytes | str], metadata: bytes):
    events = [BAD[item] if isinstance(item, str) else item for item in drawn]
    found = split(body_of(events, metadata))
    together: dict[int, bytes] = {refused.position: refused.event for refused in found.refused}
    rest = iter(found.events)
    for position in range(len(events)):
        if position not in together:
            together[position] = next(rest)
    assert [together[position] for position in range(len(events))] == events
    assert list(rest) == []
    assert all(event not in BAD.values() for event in found.events)


@given(st.lists(ANY_EVENT, max_size=6), st.booleans(), st.sampled_from([b"null", b'{"stableID":"device"}']))
def test_both_ways_of_splitting_agree(events: list[bytes], slowly: bool, metadata: bytes):
    # A member that the fast decoder refuses sends the whole body the slow way.
    found = split(body_of([*events, BAD["NaN"]] if slowly else events, metadata))
    device = "device" if b"device" in metadata else ""
    assert found.events == events
    assert found.keys == [partition_key(event, device) for event in events]
    assert found.metadata == (metadata if device else b"{}")


USERS = st.none() | st.fixed_dictionaries(
    {},
    optional={
        "userID": st.none() | st.text(max_size=3) | st.integers() | st.floats(allow_nan=False, allow_infinity=False),
        "customIDs": st.none()
        | st.lists(st.integers(), max_size=1)
        | st.fixed_dictionaries({}, optional={"stableID": st.none() | st.text(max_size=3) | st.integers()}),
    },
)


@given(st.lists(USERS, max_size=5), st.sampled_from(["", "device"]))
def test_partition_keys_are_those_of_the_contract(users: list[Any], device: str):
    events = [json.dumps({"user": user}).encode() for user in users]
    found = split(body_of(events, json.dumps({"stableID": device}).encode()))
    assert found.keys == [partition_key(event, device) for event in events]


@pytest.mark.parametrize(("count", "accepted"), [(0, True), (2000, True), (5000, True), (5001, False)])
def test_the_number_of_events_is_limited(count: int, accepted: bool):
    assert EVENTS_PER_REQUEST == 5000
    body = body_of([b"{}"] * count)
    if accepted:
        assert len(split(body).events) == count
        return
    with pytest.raises(Refusal) as refused:
        split(body)
    assert (refused.value.reason, refused.value.status) == (Reason.TOO_MANY_EVENTS, 413)


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"null",
        b"not json",
        b"[]",
        b'{"events":null}',
        b'{"statsigMetadata":{}}',
        b'{"events":[{"a":1}',
        b'{"events":[{"a":1}]',
        b'{"events":[]} trailing garbage',
        b"\xef\xbb\xbf" + b'{"events":[]}',
        '{"events":[]}'.encode("utf-16"),
        b'{"events":[{"a":"\xff"}]}',
        b'{"events":[{"a":"\xed\xa0\x80"}]}',
        b'{"events":[],"statsigMetadata":{"a":NaN}}',
        b'{"events":[],"statsigMetadata":' + b"[" * 100_000 + b"]" * 100_000 + b"}",
        b'{"events":[],"statsigMetadata":{"a":' + b"[" * EVENT_DEPTH + b"]" * EVENT_DEPTH + b"}}",
        b'{"events":[],"statsigMetadata":{"sdkType":"\\ud800"}}',
    ],
)
def test_a_body_of_which_nothing_can_be_used_is_refused_whole(body: bytes):
    with pytest.raises(Refusal) as refused:
        split(body)
    assert (refused.value.reason, refused.value.status) == (Reason.UNDECODABLE_BODY, 400)


@pytest.mark.parametrize(("over", "accepted"), [(-1, True), (0, True), (1, False)])
def test_the_metadata_of_a_request_is_limited(over: int, accepted: bool):
    frame = b'{"sdkType":""}'
    metadata = frame[:-2] + b"x" * (REQUEST_METADATA_BYTES + over - len(frame)) + frame[-2:]
    if accepted:
        assert split(body_of([b"{}"], metadata)).metadata == metadata
        return
    with pytest.raises(Refusal) as refused:
        split(body_of([b"{}"], metadata))
    assert refused.value.status == 413


@pytest.mark.parametrize("metadata", [b"null", b"[]", b'"text"', b"7"])
def test_metadata_that_is_no_object_says_nothing(metadata: bytes):
    found = split(body_of([b"{}"], metadata))
    assert found.metadata == b"{}"
    assert found.sender.sdkType is None


def status_of(body: bytes) -> int:
    try:
        split(body)
    except Refusal as refusal:
        return refusal.status
    return 200


@given(st.binary(max_size=100))
def test_any_bytes_are_split_or_refused(noise: bytes):
    for body in (noise, b'{"events":[' + noise + b"]}", b'{"events":[{"a":' + noise + b"}]}"):
        assert status_of(body) in (200, 400, 413)
