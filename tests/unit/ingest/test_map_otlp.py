"""A log record becomes the event that an SDK would have logged, or is counted as not taken."""

import json
from contextlib import suppress
from typing import Any

import hypothesis
import pytest
from google.protobuf import json_format
from hypothesis import strategies as st
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest

from ingest.map_otlp import Mapped, NotTaken, as_log_request, decode_export
from ingest.refusal import Refusal
from schemas import limits
from schemas.exposure_rule import REASONS, ExposureRule

ALL = ExposureRule.of("all")
RULES = {("button_color", "Green"): "grp_green"}
NANOSECONDS = 1767268800123456789
EVALUATION = {
    "feature_flag.key": "button_color",
    "feature_flag.result.variant": "Green",
    "feature_flag.result.reason": "split",
    "feature_flag.context.id": "u-1",
    "feature_flag.provider.name": "flagd",
}


def value_of(value: Any) -> dict[str, Any]:
    if isinstance(value, bool):
        return {"boolValue": value}
    if isinstance(value, int):
        return {"intValue": str(value)}
    if isinstance(value, float):
        return {"doubleValue": value}
    if isinstance(value, list):
        return {"arrayValue": {"values": [value_of(item) for item in value]}}
    return {"stringValue": value}


def pairs(attributes: dict[str, Any]) -> list[dict[str, Any]]:
    return [{"key": key, "value": value_of(value)} for key, value in attributes.items()]


def record(attributes: dict[str, Any], name: str = "feature_flag.evaluation", **more: Any) -> dict[str, Any]:
    return {"eventName": name, "timeUnixNano": str(NANOSECONDS), "attributes": pairs(attributes), **more}


def body(*records: dict[str, Any], **resource: Any) -> bytes:
    logs = [{"resource": {"attributes": pairs(resource)}, "scopeLogs": [{"logRecords": list(records)}]}]
    return json.dumps({"resourceLogs": logs}).encode()


def map_json(content: bytes, rule: ExposureRule = ALL) -> Mapped:
    export = decode_export(content, is_json=True)
    return as_log_request(export, rule, lambda experiment, group: RULES.get((experiment, group), ""))


def events_of(mapped: Mapped) -> list[dict[str, Any]]:
    events: list[dict[str, Any]] = json.loads(mapped.body)["events"]
    return events


def event_of(*args: Any, **kwargs: Any) -> dict[str, Any]:
    (event,) = events_of(map_json(body(record(*args, **kwargs))))
    return event


def test_an_evaluation_is_the_exposure_of_its_variant():
    event = event_of({**EVALUATION, "feature_flag.version": "17"})
    assert (event["eventName"], event["user"], event["time"]) == (
        "statsig::config_exposure",
        {"userID": "u-1"},
        NANOSECONDS // 1_000_000,
    )
    metadata = event["metadata"]
    assert (metadata["config"], metadata["ruleID"], metadata["group"]) == ("button_color", "grp_green", "Green")
    assert (metadata["reason"], metadata["configVersion"]) == ("split", "17")
    assert metadata["feature_flag.provider.name"] == "flagd"


@pytest.mark.parametrize(
    ("changes", "name", "expected"),
    [
        (
            {"feature_flag.key": "fast", "feature_flag.result.variant": "on", "feature_flag.result.value": True},
            "statsig::gate_exposure",
            {"gate": "fast", "gateValue": "true", "ruleID": "on"},
        ),
        (
            {"feature_flag.key": "fast", "feature_flag.result.variant": "off", "feature_flag.result.value": False},
            "statsig::gate_exposure",
            {"gate": "fast", "gateValue": "false", "ruleID": "off"},
        ),
        # An experiment of the specs stays one, whatever its value is.
        ({"feature_flag.result.value": True}, "statsig::config_exposure", {"ruleID": "grp_green"}),
        ({"feature_flag.result.variant": "unheard"}, "statsig::config_exposure", {"ruleID": "unheard"}),
        (
            {"feature_flag.result.variant": "", "feature_flag.result.value": "#ff0000"},
            "statsig::config_exposure",
            {"ruleID": "#ff0000"},
        ),
        (
            {"feature_flag.result.variant": "", "feature_flag.result.value": 7},
            "statsig::config_exposure",
            {"ruleID": "7"},
        ),
    ],
)
def test_what_an_evaluation_exposes_follows_from_its_value_and_the_specs(
    changes: dict[str, Any], name: str, expected: dict[str, Any]
):
    event = event_of({**EVALUATION, **changes})
    assert event["eventName"] == name
    assert expected.items() <= event["metadata"].items()


@pytest.mark.parametrize("reason", [*REASONS, "of_a_vendor", "SPLIT", "Targeting_Match", ""])
def test_an_evaluation_is_an_exposure_only_where_the_rule_says_so(reason: str):
    content = body(record({**EVALUATION, "feature_flag.result.reason": reason}))
    assert events_of(map_json(content, ExposureRule())) == []
    assert len(events_of(map_json(content, ALL))) == 1
    mapped = map_json(content, ExposureRule.of("split, targeting_match"))
    assert len(events_of(mapped)) == (reason.lower() in ("split", "targeting_match"))
    assert mapped.not_taken[NotTaken.OUTSIDE_RULE] == 1 - len(events_of(mapped))


@pytest.mark.parametrize("text", ["everything", "split,", "all,split", "split;default", ","])
def test_a_rule_that_means_nothing_is_not_accepted(text: str):
    with pytest.raises(ValueError, match="neither 'all'"):
        ExposureRule.of(text)


def test_tracking_is_a_custom_event_whatever_the_rule_is():
    told = {"feature_flag.event_name": "checkout", "feature_flag.context.id": "u-1", "value": 99.77, "currency": "USD"}
    mapped = map_json(body(record(told, "feature_flag.track")), ExposureRule())
    (event,) = events_of(mapped)
    assert (event["eventName"], event["value"], event["user"]) == ("checkout", 99.77, {"userID": "u-1"})
    assert event["metadata"]["currency"] == "USD"
    assert not mapped.not_taken


@pytest.mark.parametrize(
    ("sent", "why"),
    [
        (record({"x": 1}, "exception"), NotTaken.OTHER_RECORD),
        ({"body": {"stringValue": "a line"}}, NotTaken.OTHER_RECORD),
        ({}, NotTaken.OTHER_RECORD),
        (record({**EVALUATION, "feature_flag.key": ""}), NotTaken.NO_FLAG_KEY),
        (record({**EVALUATION, "feature_flag.key": 7}), NotTaken.NO_FLAG_KEY),
        (record({**EVALUATION, "feature_flag.context.id": ""}), NotTaken.NO_CONTEXT_ID),
        (record({**EVALUATION, "feature_flag.context.id": ["u-1"]}), NotTaken.NO_CONTEXT_ID),
        (record({"value": 1}, "feature_flag.track"), NotTaken.NO_EVENT_NAME),
    ],
)
def test_every_record_becomes_an_event_or_is_counted(sent: dict[str, Any], why: NotTaken):
    mapped = map_json(body(record(EVALUATION), sent, sent))
    assert mapped.not_taken == {why: 2}
    assert len(events_of(mapped)) == 1


def test_the_name_may_stand_where_older_senders_put_it():
    sent = record({**EVALUATION, "event.name": "feature_flag.evaluation"}, "")
    assert len(events_of(map_json(body(sent)))) == 1


def test_a_record_has_one_event_in_both_encodings():
    told = {**EVALUATION, "number": 1.5, "large": 2**62, "list": ["a", True, 3], "yes": False}
    ids = {"traceId": "5B8EFFF798038103D269B633813FC60C", "spanId": "EEE19B7EC3C1B174"}
    content = body(record(told, **ids), **{"service.name": "shop"})
    export = decode_export(content, is_json=True)
    again = decode_export(export.SerializeToString(), is_json=False)
    assert again == export
    event = events_of(as_log_request(again, ALL, lambda *_: ""))[0]
    assert event["metadata"]["trace_id"] == ids["traceId"].lower()
    assert event["metadata"]["span_id"] == ids["spanId"].lower()
    assert event["metadata"]["service.name"] == "shop"
    assert (event["metadata"]["large"], event["metadata"]["list"]) == (2**62, ["a", True, 3])
    assert as_log_request(again, ALL, lambda *_: "") == as_log_request(export, ALL, lambda *_: "")


def test_an_event_does_not_change_with_the_batch_it_travels_in():
    one, two = record(EVALUATION), record({**EVALUATION, "feature_flag.context.id": "u-2"})
    together = map_json(body(one, two)).body
    for alone in (map_json(body(one)).body, map_json(body(two)).body):
        assert alone[len(b'{"events":[') :].partition(b'],"statsigMetadata"')[0] in together


def test_two_evaluations_of_one_millisecond_are_two_events():
    first, second = events_of(map_json(body(record(EVALUATION), record(EVALUATION, timeUnixNano=str(NANOSECONDS + 1)))))
    assert first["time"] == second["time"]
    assert first != second


def test_the_time_of_a_record_without_one_is_when_it_was_observed():
    event = event_of(EVALUATION, timeUnixNano="0", observedTimeUnixNano=str(NANOSECONDS))
    assert event["time"] == NANOSECONDS // 1_000_000
    assert "time" not in event_of(EVALUATION, timeUnixNano="0")


@pytest.mark.parametrize("word", ["NaN", "Infinity", "-Infinity"])
def test_what_is_no_number_is_told_in_words(word: str):
    sent = record(EVALUATION)
    sent["attributes"].append({"key": "x", "value": {"doubleValue": word}})
    (event,) = events_of(map_json(body(sent)))
    assert event["metadata"]["x"] == word


@pytest.mark.parametrize(
    "content",
    [
        b"",
        b"[]",
        b"null",
        b'{"resourceLogs":5}',
        b'{"resourceLogs":[5]}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[5]}]}]}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"traceId":"no hex"}]}]}]}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"traceId":5}]}]}]}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"timeUnixNano":"soon"}]}]}]}',
        b'{"resourceLogs":[{"scopeLogs":[{"logRecords":[{"eventName":"\\ud800"}]}]}]}',
        b'{"resourceLogs":' + b"[" * 5000,
        body({"body": json.loads('{"arrayValue":{"values":[' * 200 + "]}}" * 200)}),
    ],
)
def test_json_that_is_no_export_is_refused(content: bytes):
    with pytest.raises(Refusal) as refused:
        decode_export(content, is_json=True)
    assert refused.value.status == 400


def test_fields_of_later_versions_are_passed_over():
    told = json.loads(body({**record(EVALUATION), "later": {"x": 1}}))
    assert len(events_of(map_json(json.dumps({**told, "later": 1}).encode()))) == 1


@hypothesis.given(st.binary(max_size=200))
def test_bytes_are_an_export_or_are_refused(content: bytes):
    with suppress(Refusal):
        as_log_request(decode_export(content, is_json=False), ALL, lambda *_: "")


_VALUES = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats() | st.text(max_size=5),
    lambda inner: (
        st.lists(inner, max_size=3)
        | st.dictionaries(
            st.sampled_from(["resourceLogs", "scopeLogs", "logRecords", "attributes", "key", "value", "traceId", "x"]),
            inner,
            max_size=3,
        )
    ),
    max_leaves=20,
)


@hypothesis.given(_VALUES)
def test_json_is_an_export_or_is_refused(told: Any):
    with suppress(Refusal):
        as_log_request(decode_export(json.dumps({"resourceLogs": told}).encode(), is_json=True), ALL, lambda *_: "")


@pytest.mark.parametrize(("over", "fits"), [(-1, True), (0, True), (1, False)])
def test_the_events_of_a_request_have_a_limit_since_each_repeats_its_service(
    monkeypatch: pytest.MonkeyPatch, over: int, fits: bool
):
    content = body(*[record(EVALUATION)] * 3, **{"service.name": "shop"})
    size = sum(len(json.dumps(event, separators=(",", ":"))) + 1 for event in events_of(map_json(content)))
    monkeypatch.setattr("ingest.map_otlp.DECODED_BODY_BYTES", size - over)
    assert size < limits.DECODED_BODY_BYTES
    if fits:
        map_json(content)
    else:
        with pytest.raises(Refusal) as refused:
            map_json(content)
        assert refused.value.status == 413


OVER = [(-1, 0), (0, 0), (1, 413)]


def status_of(content: bytes, *, is_json: bool) -> int:
    """Return the status with which an export is refused, 0 when it is taken."""
    try:
        as_log_request(decode_export(content, is_json=is_json), ALL, lambda *_: "")
    except Refusal as refusal:
        return refusal.status
    return 0


@pytest.mark.parametrize(("over", "status"), OVER)
def test_the_limit_of_a_body_is_inclusive(over: int, status: int):
    size = limits.OTLP_BODY_BYTES + over
    start, end = b'{"later":"', b'"}'
    assert status_of(start + b"x" * (size - len(start) - len(end)) + end, is_json=True) == status
    # A field that no version knows, of this length.
    head = b"\xfa\x01" + varint(size - 6)
    assert status_of(head + bytes(size - len(head)), is_json=False) == status


@pytest.mark.parametrize(("over", "status"), OVER)
def test_the_limit_of_parts_is_inclusive(over: int, status: int):
    parts = limits.OTLP_PARTS + over
    empty = b",".join([b"{}"] * (parts - 1))
    assert status_of(b'{"later":[' + empty + b"]}", is_json=True) == status
    assert status_of(b"\x0a\x00" * parts, is_json=False) == status
    scopes = b"\x12\x00" * (parts - 1)
    assert status_of(b"\x0a" + varint(len(scopes)) + scopes, is_json=False) == status
    records = b"\x12\x00" * (parts - 2)
    scope = b"\x12" + varint(len(records)) + records
    assert status_of(b"\x0a" + varint(len(scope)) + scope, is_json=False) == status


def varint(number: int) -> bytes:
    written = bytearray()
    while number > 127:
        written.append(number & 127 | 128)
        number >>= 7
    return bytes([*written, number])


def test_an_empty_export_is_no_events():
    assert events_of(as_log_request(ExportLogsServiceRequest(), ALL, lambda *_: "")) == []
    assert json_format.MessageToDict(decode_export(b"{}", is_json=True)) == {}
