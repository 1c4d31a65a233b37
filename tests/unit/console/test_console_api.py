"""What holds for the API as a whole, without log or store."""

import re
from collections import deque
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any

import httpx
import pytest
from aiokafka import TopicPartition
from starlette.applications import Starlette

from console.answers import RefusedError
from console.config import ConsoleConfig
from console.console import Console
from console.experiments import bucket_of, gather
from console.log_watch import LANDER_GROUP, Sample, rate
from console.openapi import DOCUMENT
from console.pages import assets
from console.questions import window_s
from console.shield import SECURITY_HEADERS, host_name, is_loopback
from schemas.kafka import KafkaConnection
from schemas.metrics import ConsoleMetrics
from schemas.store import StoreAddress

_NOBODY = KafkaConnection("127.0.0.1:1")


def _console(path: Path) -> Console:
    return Console(ConsoleConfig(_NOBODY, StoreAddress(path=path)), ConsoleMetrics())


@pytest.fixture
async def ask(tmp_path: Path) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=_console(tmp_path).app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


def _paths(tmp_path: Path) -> Iterator[tuple[str, set[str]]]:
    starlette: Any = _console(tmp_path).app
    app: Starlette = starlette._app
    for route in app.routes:
        path = re.sub(r":path\}", "}", route.path)  # type: ignore[attr-defined]
        yield path, {method.lower() for method in route.methods} - {"head"}  # type: ignore[attr-defined]


def test_the_description_names_every_route_and_no_other(tmp_path: Path):
    served = {path: methods for path, methods in _paths(tmp_path) if path.startswith("/api/")}
    described = {path: set(methods) for path, methods in DOCUMENT["paths"].items()}
    assert described == served


def test_every_reference_of_the_description_leads_somewhere():
    def references(node: Any) -> Iterator[str]:
        if isinstance(node, dict):
            for key, value in node.items():
                if key == "$ref":
                    yield value
                yield from references(value)
        elif isinstance(node, list):
            for item in node:
                yield from references(item)

    for reference in references(DOCUMENT):
        name = reference.removeprefix("#/components/schemas/")
        assert name in DOCUMENT["components"]["schemas"]


def test_every_answer_of_the_description_says_how_it_refuses():
    for path, methods in DOCUMENT["paths"].items():
        for method, operation in methods.items():
            for status, answer in operation["responses"].items():
                assert answer["description"], (path, method, status)


async def test_every_file_of_the_page_is_served_with_its_type_and_not_sent_twice(ask: httpx.AsyncClient):
    for name, asset in assets().items():
        path = "/" if name == "index.html" else f"/{name}"
        first = await ask.get(path)
        assert first.status_code == 200
        assert first.content == asset.body
        assert first.headers["content-type"] == asset.media_type
        again = await ask.get(path, headers={"if-none-match": first.headers["etag"]})
        assert again.status_code == 304
        assert not again.content


@pytest.mark.parametrize("path", ["/", "/api/nothing", "/api/sql?format=xlsx", "/openapi.json"])
async def test_every_answer_carries_the_security_headers(ask: httpx.AsyncClient, path: str):
    answer = await ask.get(path)
    assert {name: answer.headers.get(name) for name in SECURITY_HEADERS} == SECURITY_HEADERS


@pytest.mark.parametrize(
    ("method", "path", "status", "reason"),
    [
        ("GET", "/api/nothing", 404, "not_found"),
        ("DELETE", "/api/sql", 405, "method_not_allowed"),
        ("GET", "/api/sql", 400, "empty_query"),
        ("GET", "/api/sql?query=SELECT+1&format=xlsx", 400, "unknown_format"),
        ("GET", "/api/experiments?kind=cat", 400, "unknown_kind"),
        ("GET", "/api/experiments?window=soon", 400, "unknown_window"),
        ("GET", "/api/experiments?sort=up", 400, "unknown_parameter"),
        ("GET", "/api/ledger?since=1h", 400, "unknown_parameter"),
        ("GET", "/api/ledger?window=soon", 400, "unknown_window"),
        ("GET", "/api/ledger?window=8d", 400, "window_too_wide"),
        ("GET", "/api/exposures/stream?nam=x", 400, "unknown_parameter"),
        ("GET", "/api/exposures/stream?rate=fast", 400, "not_a_number"),
        ("GET", "/api/exposures/stream?rate=nan", 400, "not_a_number"),
        ("GET", "/api/exposures/stream?last_event_id=x", 400, "unknown_position"),
    ],
)
async def test_whatever_is_refused_says_why_and_what_to_do(
    ask: httpx.AsyncClient, method: str, path: str, status: int, reason: str
):
    answer = await ask.request(method, path)
    assert answer.status_code == status
    error = answer.json()["error"]
    assert error["reason"] == reason
    assert error["message"]
    assert error["remedy"]


async def test_a_ledger_without_a_store_says_so_and_weighs_nothing():
    console = Console(ConsoleConfig(_NOBODY, StoreAddress(url="http://127.0.0.1:1/default")), ConsoleMetrics())
    transport = httpx.ASGITransport(app=console.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        answer = await client.get("/api/ledger")
    assert answer.status_code == 503
    assert answer.json()["error"]["reason"] == "store_unavailable"


@pytest.mark.parametrize(
    ("body", "content_type", "reason"),
    [
        (b"\xff\xfe", "text/plain", "unreadable_body"),
        (b"{", "application/json", "unreadable_body"),
        (b'{"q":"SELECT 1"}', "application/json", "unreadable_body"),
        (b'["SELECT 1"]', "application/json", "unreadable_body"),
        (b"x" * (1024 * 1024 + 1), "text/plain", "query_too_long"),
        (b"SELECT '" + b"x" * (256 * 1024) + b"'", "text/plain", "query_too_long"),
        (b"", "text/plain", "empty_query"),
    ],
)
async def test_a_body_that_is_no_query_is_refused(ask: httpx.AsyncClient, body: bytes, content_type: str, reason: str):
    answer = await ask.post("/api/sql", content=body, headers={"content-type": content_type})
    assert answer.status_code == 400
    assert answer.json()["error"]["reason"] == reason


@pytest.mark.parametrize("host", ["evil.example", "127.0.0.1.evil.example", "", "10.0.0.1:8090"])
async def test_a_foreign_name_for_a_loopback_address_is_refused(tmp_path: Path, host: str):
    transport = httpx.ASGITransport(app=_console(tmp_path).app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        answer = await client.get("/", headers={"host": host})
    assert answer.status_code == 403
    assert answer.json()["error"]["reason"] == "foreign_host"


@pytest.mark.parametrize(
    ("host", "name", "is_own"),
    [
        ("localhost:8090", "localhost", True),
        ("127.0.0.1", "127.0.0.1", True),
        ("[::1]:8090", "::1", True),
        ("LOCALHOST.", "localhost", True),
        ("a.localhost", "a.localhost", True),
        ("0.0.0.0", "0.0.0.0", False),
        ("localhost.example", "localhost.example", False),
    ],
)
def test_only_names_of_this_machine_are_its_own(host: str, name: str, is_own: bool):
    assert host_name(host) == name
    assert is_loopback(name) is is_own


def test_a_console_that_nobody_answers_says_what_is_missing(tmp_path: Path):
    assert set(_console(tmp_path).readiness()) == {"store", "kafka"}


@pytest.mark.parametrize(("text", "seconds"), [("1m", 60), ("90m", 5400), ("24h", 86400), ("400d", 400 * 86400)])
def test_windows_are_written_as_people_do(text: str, seconds: int):
    assert window_s(text) == seconds


@pytest.mark.parametrize("text", ["", "0m", "401d", "1w", "-1h", "1.5h", "٣h", "999999m"])
def test_what_is_no_window_is_refused(text: str):
    with pytest.raises(RefusedError):
        window_s(text)


@pytest.mark.parametrize("text", ["1m", "1h", "24h", "7d", "30d", "400d"])
def test_a_course_has_a_readable_number_of_steps(text: str):
    assert 5 <= window_s(text) / bucket_of(window_s(text)) <= 120


def test_arms_come_under_their_entity_in_a_fixed_order():
    counts = {"units": 1, "exposures": 2, "first_ms": 0, "last_ms": 0, "layer": ""}
    arm = {"rule_id": "r", "answer": "", "allocated_experiment": "", **counts}
    found = gather(
        [
            {"whole": 1, "kind": "experiment", "name": "e", "group_name": "", **arm},
            {"whole": 0, "kind": "experiment", "name": "e", "group_name": "B", **arm},
            {"whole": 0, "kind": "experiment", "name": "e", "group_name": "A", **arm},
            {"whole": 0, "kind": "gate", "name": "left out by the limit", "group_name": "", **arm},
        ]
    )
    assert [(entity["name"], [each["group"] for each in entity["arms"]]) for entity in found] == [("e", ["A", "B"])]


def test_lag_counts_from_what_is_kept_where_nothing_was_committed():
    one, other = TopicPartition("exposures", 0), TopicPartition("exposures", 1)
    sample = Sample(0.0, {one: 100, other: 50}, {one: 10, other: 20}, {LANDER_GROUP: {one: 90}})
    assert sample.lag(LANDER_GROUP) == 10 + 30
    assert sample.lag("headrace-worker") is None
    assert sample.kept("exposures") == 120
    later = Sample(10.0, {one: 150, other: 50}, {}, {})
    assert rate(deque([sample, later]), "exposures") == 5.0
    assert rate(deque([sample]), "exposures") is None
