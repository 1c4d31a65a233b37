"""`/v1/logs`, request by request: answers as OTLP says, and what is in the log after them."""

import gzip
import json
from typing import Any

import httpx
import pytest
from google.protobuf import json_format
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceRequest, ExportLogsServiceResponse
from support.memory_gateway import CLIENT, CONSOLE, SECRET, MemoryGateway

from schemas.exposure_rule import ExposureRule
from schemas.limits import EVENTS_PER_REQUEST, METADATA_KEYS, WIRE_BODY_BYTES

JSON, PROTOBUF = "application/json", "application/x-protobuf"
ENCODINGS = [JSON, PROTOBUF]


def record(reason: str = "split", name: str = "feature_flag.evaluation", **more: Any) -> dict[str, Any]:
    told = {
        "feature_flag.key": "button_color",
        "feature_flag.result.variant": "Green",
        "feature_flag.result.reason": reason,
        "feature_flag.context.id": "u-1",
        **more,
    }
    attributes = [{"key": key, "value": {"stringValue": value}} for key, value in told.items()]
    return {"eventName": name, "timeUnixNano": "1767268800000000000", "attributes": attributes}


def export(*records: dict[str, Any]) -> dict[str, Any]:
    return {"resourceLogs": [{"scopeLogs": [{"logRecords": list(records)}]}]}


def encoded(told: dict[str, Any], encoding: str) -> bytes:
    if encoding == JSON:
        return json.dumps(told).encode()
    return json_format.ParseDict(told, ExportLogsServiceRequest()).SerializeToString()


def read(answer: httpx.Response, message: Any) -> Any:
    """Read an answer in the encoding that it says it has."""
    if answer.headers["content-type"] == PROTOBUF:
        message.ParseFromString(answer.content)
        return message
    assert answer.headers["content-type"] == JSON
    return json_format.Parse(answer.content, message)


@pytest.fixture
async def gateway() -> MemoryGateway:
    return MemoryGateway(exposure_rule=ExposureRule.of("split"))


async def send(http: httpx.AsyncClient, content: bytes, encoding: str, key: str = SECRET, **more: str):
    headers = {"content-type": encoding, "statsig-api-key": key, **more}
    return await http.post("/v1/logs", content=content, headers=headers)


@pytest.mark.parametrize("encoding", ENCODINGS)
@pytest.mark.parametrize("packed", [True, False])
async def test_an_evaluation_is_in_the_log_when_it_is_acknowledged(
    gateway: MemoryGateway, http: httpx.AsyncClient, encoding: str, packed: bool
):
    content = encoded(export(record()), encoding)
    more = {"content-encoding": "gzip"} if packed else {}
    answer = await send(http, gzip.compress(content) if packed else content, encoding, **more)
    assert answer.status_code == 200
    assert answer.headers["content-type"] == encoding
    assert answer.headers["x-headrace-durability"] == "kafka"
    assert not read(answer, ExportLogsServiceResponse()).HasField("partial_success")
    (event,) = gateway.log.events()
    assert json.loads(event)["metadata"]["config"] == "button_color"
    assert gateway.count("headrace_gateway_requests_total", endpoint="otlp", status="200") == 1


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_what_is_not_taken_is_counted_and_the_answer_says_why(
    gateway: MemoryGateway, http: httpx.AsyncClient, encoding: str
):
    told = export(record(), record("default"), record("static"), record(name="exception"))
    answer = await send(http, encoded(told, encoding), encoding)
    assert answer.status_code == 200
    partial = read(answer, ExportLogsServiceResponse()).partial_success
    assert partial.rejected_log_records == 3
    assert "2 evaluations outside of HEADRACE_OTLP_EXPOSURES (split)" in partial.error_message
    assert "1 neither feature_flag.evaluation nor feature_flag.track" in partial.error_message
    assert len(gateway.log.events()) == 1
    assert gateway.count("headrace_gateway_otlp_not_taken_total", why="outside_rule") == 2


async def test_unless_a_rule_is_set_the_answer_names_the_setting():
    plain = MemoryGateway()
    async with httpx.AsyncClient(transport=httpx.ASGITransport(plain.app), base_url="http://gateway") as client:
        answer = await send(client, encoded(export(record()), JSON), JSON)
    assert "HEADRACE_OTLP_EXPOSURES (not set" in answer.json()["partialSuccess"]["errorMessage"]
    assert plain.log.records == []


async def test_a_record_that_is_too_much_for_an_event_waits_in_the_dead_letters(
    gateway: MemoryGateway, http: httpx.AsyncClient
):
    many = {f"k{number}": "x" for number in range(METADATA_KEYS)}
    answer = await send(http, encoded(export(record(), record(**many)), PROTOBUF), PROTOBUF)
    partial = read(answer, ExportLogsServiceResponse()).partial_success
    assert partial.rejected_log_records == 1
    assert partial.error_message == "1 too_many_metadata_keys, kept in the dead letters"
    assert (len(gateway.log.events()), len(gateway.log.letters)) == (1, 1)


async def test_equal_records_of_a_request_are_each_an_event(gateway: MemoryGateway, http: httpx.AsyncClient):
    await send(http, encoded(export(record(), record()), PROTOBUF), PROTOBUF)
    (part,) = gateway.log.parts()
    assert (len(part.events), part.occurrences) == (2, {1: 1})


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_nothing_to_take_is_success(http: httpx.AsyncClient, encoding: str):
    answer = await send(http, encoded({}, encoding), encoding)
    assert answer.status_code == 200
    assert not read(answer, ExportLogsServiceResponse()).HasField("partial_success")


@pytest.mark.parametrize(
    ("headers", "query", "status"),
    [
        ({"statsig-api-key": SECRET}, "", 200),
        ({"statsig-api-key": CLIENT}, "", 200),
        ({"authorization": f"Bearer {SECRET}"}, "", 200),
        ({"authorization": f"bearer  {SECRET} "}, "", 200),
        ({"authorization": f"Basic {SECRET}"}, "", 401),
        ({"authorization": "Bearer"}, "", 401),
        ({"authorization": "Bearer wrong"}, "", 401),
        ({"authorization": f"Bearer {CONSOLE}"}, "", 401),
        ({"authorization": f"Bearer {SECRET}", "statsig-api-key": "wrong"}, "", 401),
        ({}, f"?k={CLIENT}", 200),
        ({}, "", 401),
    ],
)
@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_a_key_may_come_as_a_bearer(
    gateway: MemoryGateway,
    http: httpx.AsyncClient,
    headers: dict[str, str],
    query: str,
    status: int,
    encoding: str,
):
    content = encoded(export(record()), encoding)
    answer = await http.post(f"/v1/logs{query}", content=content, headers={**headers, "content-type": encoding})
    assert answer.status_code == status
    assert len(gateway.log.events()) == (status == 200)
    if status == 401:
        assert read(answer, Status()).code == 16


REFUSED = [
    (PROTOBUF, b"\xff\xff", {}, 400, "undecodable_body"),
    (JSON, b"not json", {}, 400, "undecodable_body"),
    (JSON, b"", {}, 400, "undecodable_body"),
    (PROTOBUF, b"plain", {"content-encoding": "gzip"}, 400, "undecodable_body"),
    (PROTOBUF, b"\x00\x01", {"content-encoding": "snappy"}, 415, "unsupported_encoding"),
    (PROTOBUF, gzip.compress(bytes(50_000_000)), {"content-encoding": "gzip"}, 413, "body_too_large"),
    (PROTOBUF, bytes(WIRE_BODY_BYTES + 1), {}, 413, "body_too_large"),
    (JSON, encoded(export(*[record()] * (EVENTS_PER_REQUEST + 1)), JSON), {}, 413, "too_many_events"),
    ("text/plain", b"{}", {}, 415, "unsupported_encoding"),
    ("", b"{}", {}, 415, "unsupported_encoding"),
]


@pytest.mark.parametrize(("encoding", "content", "headers", "status", "reason"), REFUSED)
async def test_what_is_worthless_is_refused_with_a_status_that_is_not_tried_again(
    gateway: MemoryGateway,
    http: httpx.AsyncClient,
    encoding: str,
    content: bytes,
    headers: dict[str, str],
    status: int,
    reason: str,
):
    answer = await send(http, content, encoding, **headers)
    assert answer.status_code == status
    told = read(answer, Status())
    assert told.code == 3
    assert told.message.startswith(f"{reason}: ")
    assert answer.headers["content-type"] == (PROTOBUF if encoding == PROTOBUF else JSON)
    assert (gateway.log.records, gateway.log.letters, gateway.log_events.held_bytes()) == ([], [], 0)
    assert gateway.count("headrace_gateway_refused_requests_total", reason=reason) == 1


@pytest.mark.parametrize("encoding", ENCODINGS)
async def test_while_the_log_is_away_a_sender_is_told_to_try_again(
    gateway: MemoryGateway, http: httpx.AsyncClient, encoding: str
):
    gateway.log.problem = "Kafka is away"
    answer = await send(http, encoded(export(record()), encoding), encoding)
    assert answer.status_code == 503
    told = read(answer, Status())
    assert (told.code, told.message) == (14, "log_unavailable: Kafka is away")


async def test_a_failure_of_ours_is_503_in_the_sender_s_encoding(gateway: MemoryGateway, http: httpx.AsyncClient):
    gateway.log.partitions = 0
    answer = await send(http, encoded(export(record()), PROTOBUF), PROTOBUF)
    assert answer.status_code == 503
    assert read(answer, Status()).message.startswith("unexpected_error: ")


@pytest.mark.parametrize("encoding", [f"{JSON}; charset=utf-8", "Application/X-Protobuf"])
async def test_a_content_type_may_be_written_otherwise(gateway: MemoryGateway, http: httpx.AsyncClient, encoding: str):
    answer = await send(http, encoded(export(record()), encoding.partition(";")[0].lower()), encoding)
    assert answer.status_code == 200
    assert len(gateway.log.events()) == 1
