"""Request bodies of the load generator: what a real SDK sends, with ids of their own."""

import gzip
from collections.abc import Callable
from typing import Any

import orjson
import pytest
import zstandard

from ops.loadgen.bodies import LOAD_ID, Encoding, RequestMaker
from ops.loadgen.ledger import event_id
from schemas.ids import partition_key
from schemas.wire import peek_of

NOW_MS = 1_795_000_000_000


def maker(events: int = 50, users: int = 1_000, encoding: Encoding = "identity") -> RequestMaker:
    return RequestMaker("127.0.0.1:8080", "secret-key", "ab12", events, users, encoding)


def events_of(number: int, users: int = 1_000) -> list[dict[str, Any]]:
    return list(orjson.loads(maker(users=users).body(number, NOW_MS))["events"])


def test_each_event_has_an_id_that_follows_from_the_request_number_and_its_place():
    for number in (0, 7, 123_456):
        ids = [event["metadata"][LOAD_ID] for event in events_of(number)]
        assert ids == [event_id("ab12", number, place) for place in range(50)]


def test_no_two_requests_share_an_id():
    ids = [event["metadata"][LOAD_ID] for number in range(40) for event in events_of(number)]
    assert len(set(ids)) == len(ids)


def test_the_events_of_a_request_are_of_as_many_users():
    for number in (0, 19, 20):
        events = events_of(number)
        assert len({event["user"]["userID"] for event in events}) == 50
        assert len({event["user"]["customIDs"]["stableID"] for event in events}) == 50


def test_there_are_about_as_many_users_as_asked_for():
    users = {event["user"]["userID"] for number in range(100) for event in events_of(number, users=1_000)}
    assert len(users) == 1_000


def test_an_event_has_the_seven_keys_of_an_sdk_event_and_its_size():
    body = maker().body(0, NOW_MS)
    for event in orjson.loads(body)["events"]:
        assert set(event) == {
            "eventName", "user", "time", "value", "metadata", "secondaryExposures", "statsigMetadata",
        }  # fmt: skip
        assert event["time"] == NOW_MS
    assert 350 <= len(body) / 50 <= 550


def test_exposures_and_custom_events_are_mixed():
    names = {event["eventName"] for event in events_of(0)}
    assert {"statsig::gate_exposure", "statsig::config_exposure", "statsig::layer_exposure", "purchase"} <= names


def test_units_decide_the_partition():
    [first, *_] = events_of(0)
    encoded = orjson.dumps(first)
    assert peek_of(encoded) == (first["user"]["customIDs"]["stableID"], first["user"]["userID"])
    assert partition_key(encoded, "") == first["user"]["customIDs"]["stableID"].encode()


@pytest.mark.parametrize(
    ("encoding", "decode"),
    [("identity", bytes), ("gzip", gzip.decompress), ("zstd", zstandard.ZstdDecompressor().decompress)],
)
def test_head_and_body_fit_together(encoding: Encoding, decode: Callable[[bytes], bytes]):
    made = maker(encoding=encoding)
    head, _, body = made.make(5, NOW_MS).partition(b"\r\n\r\n")
    fields = dict(line.split(b": ", 1) for line in head.split(b"\r\n")[1:])
    assert int(fields[b"content-length"]) == len(body)
    assert fields.get(b"content-encoding", b"identity") == encoding.encode()
    assert fields[b"statsig-api-key"] == b"secret-key"
    assert decode(body) == made.body(5, NOW_MS)


def test_equal_arguments_give_equal_bytes():
    assert maker().make(3, NOW_MS) == maker().make(3, NOW_MS)


@pytest.mark.parametrize("events", [0, 1_001])
def test_a_size_that_ids_cannot_number_is_refused(events: int):
    with pytest.raises(ValueError, match="1 to 1000"):
        maker(events=events)
