"""A user beside the events is the user of every event that has none of its own."""

import json
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.refusal import Refusal
from ingest.shared_user import with_shared_user
from schemas.limits import DECODED_BODY_BYTES, EVENTS_PER_REQUEST
from schemas.reasons import Reason

USER = b'{"userID":"shared","customIDs":{"stableID":"d-1"}}'
OWN = b'{"eventName":"own","user":{"userID":"u-1"},"value":7.0}'
LONE_SURROGATE = b'{"eventName":"x","value":"\\ud800"}'


def body_of(*events: bytes, user: bytes = USER, metadata: bytes = b'{"sdkType":"curl"}') -> bytes:
    return b'{"user":%b,"events":[%b],"statsigMetadata":%b}' % (user, b",".join(events), metadata)


def events_of(body: bytes) -> list[Any]:
    return list(json.loads(body)["events"])


def test_events_without_a_user_get_the_shared_one_and_others_keep_theirs():
    done = with_shared_user(body_of(b'{"eventName":"a"}', b'{"eventName":"b","user":null}', OWN, b"{}"))
    shared = json.loads(USER)
    assert events_of(done) == [
        {"eventName": "a", "user": shared},
        {"eventName": "b", "user": shared},
        json.loads(OWN),
        {"user": shared},
    ]
    assert OWN in done
    assert json.loads(done)["statsigMetadata"] == {"sdkType": "curl"}


@pytest.mark.parametrize(
    "body",
    [
        b'{"events":[%b],"statsigMetadata":{}}' % OWN,
        body_of(OWN, b'{"eventName":"a"}', user=b"null"),
        b'{"statsigMetadata":{"user":{"userID":"x"}},"events":[{"eventName":"a","metadata":{"user":{}}}]}',
        b"",
        b"not json",
        b'{"user":{"userID":"x"}',
        b'{"user":{"userID":"x"}}',
    ],
)
def test_without_a_shared_user_nothing_is_touched(body: bytes):
    assert with_shared_user(body) == body


@pytest.mark.parametrize("odd", [b"17", b'"text"', b"[1]", LONE_SURROGATE, b'{"eventName":"\\x"}'])
def test_an_event_that_cannot_be_read_is_left_to_the_judge_and_costs_no_other(odd: bytes):
    done = with_shared_user(body_of(b'{"eventName":"a"}', odd, b'{"eventName":"b"}'))
    assert odd in done
    assert done.count(b'"shared"') == 2


@pytest.mark.parametrize("user", [b"5", b'"u-1"', b"[]", b'{"userID":"\\ud800"}', b'{"age":1e999}'])
def test_a_shared_user_that_nobody_can_read_refuses_the_request(user: bytes):
    with pytest.raises(Refusal) as refused:
        with_shared_user(body_of(b'{"eventName":"a"}', user=user))
    assert refused.value.reason is Reason.UNDECODABLE_BODY


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_a_large_user_cannot_be_multiplied_beyond_the_limit_of_a_body(over: int):
    events = [b"{}"] * EVENTS_PER_REQUEST
    size = DECODED_BODY_BYTES // EVENTS_PER_REQUEST - len(b"{}")
    rest = DECODED_BODY_BYTES - EVENTS_PER_REQUEST * (size + len(b"{}"))
    user = b'{"userID":"%b"}' % (b"u" * (size - len(b'{"userID":""}')))
    events[0] = b"{" + b" " * (rest + over) + b"}"
    if over > 0:
        with pytest.raises(Refusal) as refused:
            with_shared_user(body_of(*events, user=user))
        assert refused.value.status == 413
    else:
        assert with_shared_user(body_of(*events, user=user)).count(user) == EVENTS_PER_REQUEST


JSON = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**53), 2**53) | st.text(st.characters(codec="utf-8"), max_size=8),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=6,
)


@given(st.lists(st.dictionaries(st.sampled_from(["eventName", "user", "time", "metadata"]), JSON, max_size=4)), JSON)
def test_no_event_changes_but_by_its_user(events: list[dict[str, Any]], value: Any):
    user = {"userID": "shared", "custom": value}
    done = events_of(with_shared_user(json.dumps({"events": events, "user": user}).encode()))
    assert done == [event if event.get("user") is not None else {**event, "user": user} for event in events]
