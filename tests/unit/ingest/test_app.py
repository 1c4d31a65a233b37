"""The application, request by request: which status, which reason, and what is in the log after it."""

import asyncio
import gzip
import json
import threading
import time
from pathlib import Path
from typing import Any

import httpx
import pytest
from support.memory_gateway import CLIENT, SECRET, MemoryGateway

from ingest.durability import Durability
from schemas import specs
from schemas.ids import EventIds, partition_key, partition_of
from schemas.keys import KeyKind
from schemas.limits import EVENT_BYTES

SPECS = Path(__file__).parents[2].joinpath("data", "specs.json").read_bytes()
SPECS_TIME = json.loads(SPECS)["time"]
EVENT = b'{"eventName":"purchase","user":{"userID":"u-1"},"time":1767225600000}'
BODY = b'{"events":[' + EVENT + b'],"statsigMetadata":{"sdkType":"py-server","sessionID":"s-1"}}'
HEADER = {"statsig-api-key": SECRET}


@pytest.fixture
async def gateway() -> MemoryGateway:
    return MemoryGateway(alias_paths=("/v1/my-product-data",))


@pytest.mark.parametrize(
    ("path", "headers"),
    [
        ("/v1/log_event", HEADER),
        ("/v1/log_event", {"STATSIG-API-KEY": SECRET}),
        ("/v1/log_event", {"statsig-api-key": CLIENT}),
        (f"/v1/rgstr?k={CLIENT}&st=javascript-client&sv=3.33.5&t=1795267614484&ec=1", {}),
        (f"/v1/log_event_beacon?k={CLIENT}", {"content-type": "text/plain;charset=UTF-8"}),
        (f"/v1/my-product-data?k={CLIENT}", {}),
    ],
)
async def test_every_log_path_takes_events(
    gateway: MemoryGateway, http: httpx.AsyncClient, path: str, headers: dict[str, Any]
):
    answer = await http.post(path, content=BODY, headers=headers)
    assert (answer.status_code, answer.json()) == (202, {"success": True})
    assert answer.headers["content-type"] == "application/json"
    (part,) = gateway.log.parts()
    assert part.request_id == answer.headers["x-headrace-request-id"]
    assert gateway.log.events() == [EVENT]
    assert (part.project, part.environment) == ("default", "production")


@pytest.mark.parametrize("durability", Durability)
async def test_an_answer_says_where_the_events_are_kept(
    gateway: MemoryGateway, http: httpx.AsyncClient, durability: Durability
):
    gateway.log.durability = durability
    answer = await http.post("/v1/log_event", content=BODY, headers=HEADER)
    assert answer.headers["x-headrace-durability"] == durability.value
    bad = b'{"events":[{"eventName":"\\ud800"}]}'
    answer = await http.post("/v1/log_event", content=bad, headers=HEADER)
    assert answer.json()["refused"]
    assert answer.headers["x-headrace-durability"] == durability.value


async def test_what_the_request_says_of_itself_goes_with_its_events(gateway: MemoryGateway, http: httpx.AsyncClient):
    before_ms = time.time_ns() // 1_000_000
    headers = {**HEADER, "statsig-client-time": "1795267547230", "idempotency-key": "order-7", "user-agent": "python"}
    await http.post("/v1/log_event", content=BODY, headers=headers)
    await http.post(f"/v1/rgstr?k={CLIENT}&t=1795267614484", content=BODY, headers={"user-agent": "Mozilla/5.0"})
    server, browser = gateway.log.parts()
    assert (server.client_time, server.idempotency_key, server.user_agent) == (1795267547230, "order-7", "")
    assert (browser.client_time, browser.idempotency_key, browser.user_agent) == (1795267614484, "", "Mozilla/5.0")
    assert before_ms <= server.received_at <= time.time_ns() // 1_000_000


async def test_a_clock_that_tells_nonsense_tells_nothing(gateway: MemoryGateway, http: httpx.AsyncClient):
    for told in ("yesterday", "-5", "1e5", "9" * 40, ""):
        await http.post("/v1/log_event", content=BODY, headers={**HEADER, "statsig-client-time": told})
    assert [part.client_time for part in gateway.log.parts()] == [0] * 5


async def test_a_key_may_be_escaped_in_the_query(http: httpx.AsyncClient):
    """Who may not send: `tests/integration/test_hostile_input.py`."""
    assert (await http.post("/v1/log_event?k=client%2Dlab%2Dkey", content=BODY)).status_code == 202


async def test_a_key_may_end_in_the_future(gateway: MemoryGateway, http: httpx.AsyncClient):
    gateway.know("rotated", KeyKind.SECRET, revoked_at=time.time_ns() // 1_000_000 + 60_000)
    assert (await http.post("/v1/log_event", content=BODY, headers={"statsig-api-key": "rotated"})).status_code == 202


async def test_a_key_that_may_still_be_read_is_asked_for_again(gateway: MemoryGateway, http: httpx.AsyncClient):
    gateway.keys_read = False
    known = await http.post("/v1/log_event", content=BODY, headers=HEADER)
    unknown = await http.post("/v1/log_event", content=BODY, headers={"statsig-api-key": "secret-new"})
    assert (known.status_code, unknown.status_code) == (202, 503)
    assert unknown.json()["reason"] == "keys_not_ready"


async def test_a_refused_key_costs_no_decoding(http: httpx.AsyncClient):
    answer = await http.post("/v1/log_event", content=b"\x1f\x8bnot gzip", headers={"statsig-api-key": "wrong"})
    assert answer.status_code == 401


async def test_a_bad_event_waits_in_the_dead_letters_and_the_answer_says_so(
    gateway: MemoryGateway, http: httpx.AsyncClient
):
    bad = b'{"eventName":"x","user":{"userID":"u-9"},"time":5,"value":"\\ud800"}'
    large = b'{"eventName":"' + b"x" * EVENT_BYTES + b'"}'
    sender = b'{"sdkType":"py-server","sdkVersion":"1.2","sessionID":"s-1"}'
    body = b'{"events":[' + b",".join([EVENT, bad, EVENT, large, bad]) + b'],"statsigMetadata":' + sender + b"}"
    answer = await http.post("/v1/log_event", content=body, headers=HEADER)
    assert answer.status_code == 202
    assert answer.json() == {
        "success": True,
        "refused": [
            {"index": 1, "reason": "malformed_event"},
            {"index": 3, "reason": "event_too_large"},
            {"index": 4, "reason": "malformed_event"},
        ],
    }
    assert gateway.log.events() == [EVENT, EVENT]
    letters = [letter for _, letter in gateway.log.letters]
    assert [(letter["original"], letter["occurrence"]) for letter in letters] == [(bad, 0), (large, 0), (bad, 1)]
    first: dict[str, Any] = letters[0]
    assert first["event_id"] == EventIds("default", "production", "s-1", "").of(bad, 0, has_time=True)
    assert (first["stage"], first["reason"], first["blame"]) == ("ingest", "malformed_event", "theirs")
    assert (first["sdk_type"], first["sdk_version"], first["attempt"]) == ("py-server", "1.2", 1)
    assert first["request_id"] == answer.headers["x-headrace-request-id"]
    assert json.loads(first["request"])["statsigMetadata"]["sessionID"] == "s-1"
    assert first["partition_key"] == partition_key(bad, "")
    assert gateway.log.letters[0][0] == partition_of(partition_key(bad, ""), 4)
    assert gateway.count("headrace_gateway_dead_letters_total", reason="malformed_event") == 2


async def test_without_its_dead_letter_a_request_is_not_accepted(gateway: MemoryGateway, http: httpx.AsyncClient):
    gateway.log.refuses_letters = True
    answer = await http.post("/v1/log_event", content=b'{"events":[1,' + EVENT + b"]}", headers=HEADER)
    assert (answer.status_code, answer.json()["reason"]) == (503, "log_unavailable")


@pytest.mark.parametrize("body", [gzip.compress(BODY), BODY])
async def test_browsers_announce_gzip_in_the_query_or_not_at_all(
    gateway: MemoryGateway, http: httpx.AsyncClient, body: bytes
):
    answer = await http.post(f"/v1/rgstr?k={CLIENT}&gz=1", content=body)
    assert answer.status_code == 202
    assert gateway.log.events() == [EVENT]


async def test_a_large_request_is_taken_like_a_small_one(gateway: MemoryGateway, http: httpx.AsyncClient):
    events = [b'{"eventName":"x","user":{"userID":"u-%d"},"value":"%b"}' % (n, b"y" * 900) for n in range(3000)]
    body = b'{"events":[' + b",".join(events) + b"]}"
    assert (await http.post("/v1/log_event", content=body, headers=HEADER)).status_code == 202
    assert sorted(gateway.log.events()) == sorted(events)


async def test_while_the_log_is_away_everything_is_503_and_nothing_429(gateway: MemoryGateway, http: httpx.AsyncClient):
    gateway.log.problem = "Kafka is away"
    answer = await http.post("/v1/log_event", content=BODY, headers=HEADER)
    assert (answer.status_code, answer.json()["reason"]) == (503, "log_unavailable")
    assert answer.json()["success"] is False
    assert gateway.log_events.held_bytes() == 0


async def test_a_gateway_that_stops_says_try_again(gateway: MemoryGateway, http: httpx.AsyncClient):
    gateway.log_events.is_draining = True
    answer = await http.post("/v1/log_event", content=BODY, headers=HEADER)
    assert (answer.status_code, answer.json()["reason"]) == (503, "draining")


async def test_a_failure_of_ours_is_503_so_that_the_batch_is_kept(gateway: MemoryGateway, http: httpx.AsyncClient):
    gateway.log.partitions = 0
    answer = await http.post("/v1/log_event", content=BODY, headers=HEADER)
    assert (answer.status_code, answer.json()["reason"]) == (503, "unexpected_error")


@pytest.mark.parametrize("version", ["v1", "v2"])
@pytest.mark.parametrize("tail", ["", f"/{SECRET}.json"])
async def test_pushed_specs_are_served_in_both_formats(
    gateway: MemoryGateway, http: httpx.AsyncClient, version: str, tail: str
):
    gateway.push(SPECS)
    path = f"/{version}/download_config_specs{tail}"
    answer = await http.get(path, headers=HEADER)
    assert answer.status_code == 200
    assert (answer.json()["response_format"], answer.json()["time"]) == (f"dcs-{version}", SPECS_TIME)
    again = await http.get(path, headers={**HEADER, "if-none-match": answer.headers["etag"]})
    assert (again.status_code, again.content) == (304, b"")


@pytest.mark.parametrize(
    ("query", "has_updates"),
    [
        ("", True),
        ("?sinceTime=0", True),
        (f"?sinceTime={SPECS_TIME - 1}", True),
        (f"?sinceTime={SPECS_TIME}", False),
        (f"?sinceTime={SPECS_TIME + 1}", False),
        (f"?sinceTime={SPECS_TIME}&checksum=lab%252D1", False),
        (f"?sinceTime={SPECS_TIME}&checksum=other", True),
        ("?sinceTime=nonsense", True),
    ],
)
async def test_an_sdk_that_has_the_newest_is_told_so(
    gateway: MemoryGateway, http: httpx.AsyncClient, query: str, has_updates: bool
):
    gateway.push(SPECS)
    answer = await http.get(f"/v2/download_config_specs/{SECRET}.json{query}", headers=HEADER)
    assert answer.json()["has_updates"] is has_updates
    if query and "nonsense" not in query:
        told = {name: value for name, value in httpx.QueryParams(query[1:]).items() if name != "checksum"}
        posted = {name: int(value) for name, value in told.items()}
        if "checksum=other" in query:
            posted["checksum"] = "other"
        answer = await http.post("/v1/download_config_specs", json=posted, headers=HEADER)
        assert answer.json()["has_updates"] is has_updates


async def test_while_a_document_is_read_for_the_first_time_events_are_taken(
    gateway: MemoryGateway, http: httpx.AsyncClient, monkeypatch: pytest.MonkeyPatch
):
    reading, read_on = threading.Event(), threading.Event()
    find = gateway.shelf.find

    def slow_find(*asked: Any) -> Any:
        reading.set()
        assert read_on.wait(60), "nothing else was answered meanwhile"
        return find(*asked)

    monkeypatch.setattr(gateway.shelf, "find", slow_find)
    gateway.push(SPECS)
    asked = asyncio.create_task(http.get("/v1/download_config_specs", headers=HEADER))
    await asyncio.to_thread(reading.wait, 60)
    assert (await http.post("/v1/log_event", content=BODY, headers=HEADER)).status_code == 202
    read_on.set()
    assert (await asked).json()["time"] == SPECS_TIME


async def test_specs_are_those_of_the_newest_document_of_the_project(gateway: MemoryGateway, http: httpx.AsyncClient):
    document = json.loads(SPECS)
    for project, at in (("default", 300), ("default", 200), ("other", 900)):
        pushed = json.dumps({**document, "time": at}).encode()
        gateway.shelf.on_record(specs.record_key(project, at), pushed)
    answer = await http.get("/v1/download_config_specs", headers=HEADER)
    assert answer.json()["time"] == 300
    gateway.shelf.on_record(specs.record_key("default", 300), None)
    assert (await http.get("/v1/download_config_specs", headers=HEADER)).status_code == 404


async def test_a_record_of_specs_that_cannot_be_read_does_not_stop_the_gateway(
    gateway: MemoryGateway, http: httpx.AsyncClient
):
    gateway.shelf.on_record(b"nonsense", SPECS)
    gateway.shelf.on_record(specs.record_key("default", 5), b"nonsense")
    answer = await http.get("/v1/download_config_specs", headers=HEADER)
    assert (answer.status_code, answer.json()["reason"]) == (404, "no_specs")


@pytest.mark.parametrize("path", ["/v1/download_config_specs", "/v2/download_config_specs/x.json"])
async def test_specs_are_for_server_keys(gateway: MemoryGateway, http: httpx.AsyncClient, path: str):
    gateway.push(SPECS)
    answer = await http.get(path, headers={"statsig-api-key": CLIENT})
    assert (answer.status_code, answer.json()["reason"]) == (403, "key_not_allowed")
    assert (await http.get(path, headers={"statsig-api-key": "wrong"})).status_code == 401
    assert (await http.get(f"{path}?k={SECRET}")).status_code == 401
    assert (await http.post("/v1/get_id_lists", json={}, headers={"statsig-api-key": CLIENT})).status_code == 403


async def test_there_are_no_id_lists(http: httpx.AsyncClient):
    answer = await http.post("/v1/get_id_lists", json={"statsigMetadata": {}}, headers=HEADER)
    assert (answer.status_code, answer.json()) == (200, {})


async def test_an_sdks_own_exception_is_taken(http: httpx.AsyncClient):
    answer = await http.post("/v1/sdk_exception", json={"tag": "x", "exception": "y"})
    assert (answer.status_code, answer.json()) == (202, {"success": True})


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/", 404, "unknown_path"),
        ("POST", "/v1/log_events", 404, "unknown_path"),
        ("GET", "/v1/download_config_specs/a/b.json", 404, "unknown_path"),
        ("GET", "/v1/download_config_specs/key.txt", 404, "unknown_path"),
        ("GET", "/v1/log_event", 405, "wrong_method"),
        ("DELETE", "/v1/download_config_specs", 405, "wrong_method"),
        ("POST", f"/v1/initialize?k={CLIENT}", 501, "not_built"),
    ],
)
async def test_what_is_not_there_is_said_in_json(
    http: httpx.AsyncClient, method: str, path: str, status: int, reason: str
):
    answer = await http.request(method, path, headers={"origin": "https://shop.example"})
    assert (answer.status_code, answer.json()["reason"]) == (status, reason)
    assert answer.headers["access-control-allow-origin"] == "*"


PREFLIGHT = {
    "origin": "https://shop.example",
    "access-control-request-method": "POST",
    "access-control-request-headers": "statsig-event-count,statsig-retry-count,statsig-sdk-type,statsig-sdk-version",
}


async def test_a_browser_may_send_from_another_origin(http: httpx.AsyncClient):
    answer = await http.options(f"/v1/rgstr?k={CLIENT}&t=1", headers=PREFLIGHT)
    assert (answer.status_code, answer.content) == (204, b"")
    assert answer.headers["access-control-allow-origin"] == "*"
    assert answer.headers["access-control-allow-headers"] == PREFLIGHT["access-control-request-headers"]
    assert "POST" in answer.headers["access-control-allow-methods"]
    assert "access-control-allow-credentials" not in answer.headers
    posted = await http.post(f"/v1/rgstr?k={CLIENT}", content=BODY, headers={"origin": "https://shop.example"})
    assert posted.headers["access-control-allow-origin"] == "*"
    refused = await http.post("/v1/rgstr?k=wrong", content=BODY, headers={"origin": "https://shop.example"})
    assert refused.headers["access-control-allow-origin"] == "*"


async def test_origins_that_are_listed_are_the_only_ones():
    gateway = MemoryGateway(cors_origins=("https://shop.example",))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(gateway.app), base_url="http://gateway") as http:
        listed = await http.options(f"/v1/rgstr?k={CLIENT}", headers=PREFLIGHT)
        unlisted = await http.options(f"/v1/rgstr?k={CLIENT}", headers={**PREFLIGHT, "origin": "https://evil.example"})
    assert listed.headers["access-control-allow-origin"] == "https://shop.example"
    assert listed.headers["vary"] == "origin"
    assert "access-control-allow-origin" not in unlisted.headers
    assert "access-control-allow-headers" not in unlisted.headers


async def test_answers_without_an_origin_carry_no_cors_headers(http: httpx.AsyncClient):
    answer = await http.post("/v1/log_event", content=BODY, headers=HEADER)
    assert "access-control-allow-origin" not in answer.headers


async def test_every_answer_is_counted_by_endpoint_and_status(gateway: MemoryGateway, http: httpx.AsyncClient):
    await http.post("/v1/log_event", content=BODY, headers=HEADER)
    await http.post("/v1/log_event", content=b"", headers=HEADER)
    await http.get("/nowhere")
    for endpoint, status in (("log", "202"), ("log", "400"), ("unknown", "404")):
        assert gateway.count("headrace_gateway_requests_total", endpoint=endpoint, status=status) == 1


async def test_request_ids_are_never_given_twice(http: httpx.AsyncClient):
    answers = [await http.get("/nowhere") for _ in range(20)]
    assert len({answer.headers["x-headrace-request-id"] for answer in answers}) == 20
