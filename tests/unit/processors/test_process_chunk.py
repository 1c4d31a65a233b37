"""A chunk: every event comes out once, as a record, a copy or a dead letter."""

import hashlib
from typing import Any

import msgspec
import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from processors.claims import ClaimsIndex
from processors.map_event import EventMapper
from processors.process_chunk import Processed, SourceRecord, process
from schemas import avro, chunk
from schemas.config_history import ConfigHistory
from schemas.ids import EventIds
from schemas.origin import Origin
from schemas.reasons import Reason
from schemas.topics import CUSTOM_EVENTS, EXPOSURES

RECEIVED_MS = 1_763_740_001_000
SERVER = {"sdkType": "py-server", "sdkVersion": "0.72.1", "sessionID": "session-1"}
GATE = {
    "eventName": "statsig::gate_exposure",
    "user": {"userID": "user-1", "customIDs": {"stableID": "device-1"}, "statsigEnvironment": {"tier": "staging"}},
    "time": 1_763_740_000_000,
    "value": "",
    "metadata": {
        "gate": "new_checkout",
        "gateValue": "true",
        "ruleID": "rule_50",
        "configVersion": 4,
        "lcut": "1763730000000",
        "reason": "Network:Recognized",
    },
}
PURCHASE = {"eventName": "purchase", "user": {"userID": "user-1"}, "time": 1_763_740_000_001, "value": 12.5}


def part_of(*events: Any, metadata: dict[str, Any] | None = None, **fields: Any) -> chunk.RequestPart:
    raw = [event if isinstance(event, bytes) else orjson.dumps(event) for event in events]
    return chunk.RequestPart(
        project="default",
        environment="production",
        key_id="secret-1",
        request_id="request-1",
        received_at=RECEIVED_MS,
        statsigMetadata=msgspec.Raw(orjson.dumps(SERVER if metadata is None else metadata)),
        events=[msgspec.Raw(event) for event in raw],
        **fields,
    )


def run(*parts: chunk.RequestPart, offset: int = 7, index: ClaimsIndex | None = None) -> Processed:
    record = SourceRecord(1, 2, offset, RECEIVED_MS, dict(chunk.headers(1)), chunk.encode(chunk.Chunk(list(parts))))
    return process(record, index or ClaimsIndex(1_000), EventMapper(ConfigHistory()), RECEIVED_MS)


def rows(done: Processed) -> list[dict[str, Any]]:
    schema_of = {EXPOSURES: avro.EXPOSURE, CUSTOM_EVENTS: avro.CUSTOM_EVENT}
    found = []
    for mapped, _ in done.emitted:
        schema = schema_of[mapped.topic]
        schema_id, body = avro.unframe(mapped.value)
        assert schema_id == schema.id
        found.append(schema.decode(body))
    return found


def test_an_exposure_becomes_the_row_that_its_sdk_meant():
    (row,) = rows(run(part_of(GATE, client_time=RECEIVED_MS - 50)))
    assert row == {
        "event_id_bytes": EventIds("default", "production", "session-1", "request-1").of(orjson.dumps(GATE), 0, True),
        "origin_index": 0,
        "origin_part": 0,
        "origin_log": 1,
        "origin_partition": 2,
        "origin_offset": 7,
        "project": "default",
        "environment": "production",
        "key_id": "secret-1",
        "request_id": "request-1",
        "received_at": RECEIVED_MS,
        "sdk_type": "py-server",
        "sdk_version": "0.72.1",
        "session_id": "session-1",
        "tier": "staging",
        "event_time": 1_763_740_000_000,
        "event_time_ms": 1_763_740_000_000,
        "corrected_time": 1_763_740_000_050,
        "time_flag": "ok",
        "lateness_ms": 950,
        "unit_type": "userID",
        "unit_id": "user-1",
        "user_id": "user-1",
        "stable_id": "device-1",
        "custom_ids": {"stableID": "device-1"},
        "canonical_id": "user-1",
        "country": "",
        "app_version": "",
        "is_bot": False,
        "weight": 1.0,
        "metadata": orjson.dumps(GATE["metadata"]).decode(),
        "user": orjson.dumps(GATE["user"]).decode(),
        "parent_event_id_bytes": bytes(16),
        "value": "true",
        "kind": "gate",
        "name": "new_checkout",
        "rule_id": "rule_50",
        "group_name": "",
        "parameter": "",
        "allocated_experiment": "",
        "wire_name": "new_checkout",
        "stamped_version": "4",
        "stamped_time": 1_763_730_000_000,
        "config_version": "",
        "config_time": None,
        "config_match": "unknown_config",
        "assignment": "skipped:no_version",
        "expected_group": "",
        "reason": "Network:Recognized",
        "is_manual": False,
    }


def test_exposures_whose_values_are_equal_only_to_python_stay_different():
    values = [True, "true", 1, 1.0, False, 0, "0", None]
    sent = [GATE | {"metadata": GATE["metadata"] | {"gateValue": value}, "time": n} for n, value in enumerate(values)]
    found = [row["value"] for row in rows(run(part_of(*sent)))]
    assert found == ["true", "true", "1", "1", "false", "0", "0", ""]


def test_records_carry_their_origin_and_keep_the_order_of_the_chunk():
    done = run(part_of(GATE, PURCHASE), part_of(PURCHASE | {"time": 5}))
    assert [Origin.unpack(origin) for _, origin in done.emitted] == [Origin(1, 2, 7, n) for n in range(3)]
    assert [mapped.topic for mapped, _ in done.emitted] == [EXPOSURES, CUSTOM_EVENTS, CUSTOM_EVENTS]
    assert all(mapped.key == b"user-1" for mapped, _ in done.emitted)


@pytest.mark.parametrize(
    ("value", "number", "text"),
    [(12.5, 12.5, ""), (7, 7.0, ""), ("SKU-1", None, "SKU-1"), ("", None, ""), (None, None, ""), (True, None, "true")],
)
def test_the_value_of_a_custom_event_keeps_its_type(value: object, number: float | None, text: str):
    (row,) = rows(run(part_of(PURCHASE | {"value": value})))
    assert (row["value_number"], row["value_string"]) == (number, text)


@pytest.mark.parametrize("user", [None, {}, {"userID": 7}, {"userID": 7.0}, {"customIDs": None}])
def test_a_user_of_any_shape_is_accepted(user: object):
    done = run(part_of(PURCHASE | {"user": user}))
    assert len(done.emitted) == 1
    (row,) = rows(done)
    assert row["user_id"] == ("7" if user and user.get("userID") else "")  # type: ignore[attr-defined]


def test_an_anonymous_browser_is_known_by_the_device_of_its_request():
    browser = {"sdkType": "javascript-client", "sessionID": "s", "stableID": "device-9"}
    (row,) = rows(run(part_of(PURCHASE | {"user": {}}, metadata=browser)))
    assert (row["unit_type"], row["unit_id"], row["stable_id"]) == ("stableID", "device-9", "device-9")


def test_byte_equal_events_of_two_browsers_in_one_millisecond_are_two_events():
    browsers = [{"sdkType": "javascript-client", "stableID": device} for device in ("a", "b")]
    done = run(*(part_of(PURCHASE, metadata=browser) for browser in browsers))
    assert (len(done.emitted), done.duplicates) == (2, 0)


def test_a_retried_request_is_a_copy_though_the_request_around_the_events_changed():
    index = ClaimsIndex(1_000)
    first = run(part_of(GATE, PURCHASE), index=index)
    index.claim(7, RECEIVED_MS, first.claimed)
    again = part_of(PURCHASE | {"time": 9}, GATE, PURCHASE)
    again.request_id, again.received_at = "request-2", RECEIVED_MS + 1_000
    second = run(again, offset=8, index=index)
    assert (len(second.emitted), second.duplicates) == (1, 2)


def test_equal_events_of_one_request_are_told_apart_by_their_occurrence():
    done = run(part_of(PURCHASE, PURCHASE, occurrences={1: 1}))
    assert (len(done.emitted), done.duplicates) == (2, 0)


def test_an_event_without_a_time_is_told_apart_by_its_request():
    index = ClaimsIndex(1_000)
    timeless = {"eventName": "purchase", "user": {"userID": "user-1"}}
    first = run(part_of(timeless), index=index)
    index.claim(7, RECEIVED_MS, first.claimed)
    other = part_of(timeless)
    other.request_id = "request-2"
    assert len(run(other, offset=8, index=index).emitted) == 1
    same_key = [part_of(timeless, idempotency_key="k"), part_of(timeless, idempotency_key="k")]
    same_key[1].request_id = "request-3"
    assert run(*same_key, offset=9, index=index).duplicates == 1


def test_an_id_given_with_the_chunk_wins_over_the_bytes():
    given_id = hashlib.blake2b(b"first bytes", digest_size=16).digest()
    (row,) = rows(run(part_of(GATE, ids={0: given_id.hex()})))
    assert row["event_id_bytes"] == given_id


@pytest.mark.parametrize(
    ("event", "reason"),
    [
        ({"user": {}, "time": 1}, Reason.MISSING_EVENT_NAME),
        ({"eventName": "", "time": 1}, Reason.MISSING_EVENT_NAME),
        ({"eventName": 7, "time": 1}, Reason.MISSING_EVENT_NAME),
        (PURCHASE | {"time": "yesterday"}, Reason.INVALID_TIME),
        (PURCHASE | {"user": "user-1"}, Reason.INVALID_EVENT),
        (GATE | {"metadata": None}, Reason.INVALID_EXPOSURE),
        (GATE | {"metadata": {"ruleID": "x"}}, Reason.INVALID_EXPOSURE),
        ([1, 2], Reason.INVALID_EVENT),
        ("text", Reason.INVALID_EVENT),
    ],
)
def test_a_bad_event_is_dead_with_its_reason_and_costs_its_neighbours_nothing(event: object, reason: Reason):
    done = run(part_of(GATE, event, PURCHASE))
    (letter,) = done.dead
    assert (letter.reason, letter.original) == (reason, orjson.dumps(event))
    assert letter.origin == Origin(1, 2, 7, 1)
    assert letter.event_id in done.claimed
    assert len(done.emitted) == 2


def test_a_copy_of_a_dead_event_is_a_copy():
    index = ClaimsIndex(1_000)
    bad = PURCHASE | {"time": "yesterday"}
    index.claim(7, RECEIVED_MS, run(part_of(bad), index=index).claimed)
    assert run(part_of(bad), offset=8, index=index).duplicates == 1


@pytest.mark.parametrize("value", [b"", b"\x00\xff", b"{}", b"[]", b'{"requests": 1}', b'{"requests": [{}]}'])
def test_a_record_that_is_no_chunk_is_one_dead_letter_with_all_its_bytes(value: bytes):
    record = SourceRecord(1, 2, 7, RECEIVED_MS, {}, value)
    done = process(record, ClaimsIndex(1_000), EventMapper(ConfigHistory()), RECEIVED_MS)
    (letter,) = done.dead
    assert (letter.reason, letter.original, done.claimed) == (Reason.UNDECODABLE_CHUNK, value, [])


def test_a_chunk_of_a_later_format_is_kept_for_a_later_worker():
    record = SourceRecord(1, 2, 7, RECEIVED_MS, {chunk.VERSION_HEADER: b"9"}, b"anything")
    done = process(record, ClaimsIndex(1_000), EventMapper(ConfigHistory()), RECEIVED_MS)
    assert [letter.reason for letter in done.dead] == [Reason.UNKNOWN_CHUNK_VERSION]


json_values = st.recursive(
    st.none() | st.booleans() | st.integers(-(2**63), 2**63 - 1) | st.floats(allow_nan=False) | st.text(max_size=20),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
events = st.fixed_dictionaries(
    {},
    optional={
        "eventName": st.sampled_from(["purchase", "statsig::gate_exposure", "statsig::layer_exposure"]) | json_values,
        "time": st.integers(0, 2**42) | json_values,
        "value": json_values,
        "user": st.fixed_dictionaries({}, optional={"userID": json_values, "customIDs": json_values}) | json_values,
        "metadata": st.fixed_dictionaries({}, optional={"gate": json_values, "config": json_values}) | json_values,
        "statsigMetadata": json_values,
    },
)


@given(st.lists(events | json_values, max_size=6))
def test_every_event_comes_out_exactly_once(sent: list[Any]):
    """Conservation: events = emitted + duplicates + dead, none of them by an error of ours."""
    done = run(part_of(*sent))
    assert done.events == len(sent) == len(done.emitted) + done.duplicates + len(done.dead)
    assert Reason.UNEXPECTED_ERROR not in {letter.reason for letter in done.dead}
    assert len(rows(done)) == len(done.emitted)
