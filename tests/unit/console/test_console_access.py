"""Who may read a console that listens beyond its machine: whoever has a console key, and no page of another site."""

import asyncio
from collections.abc import AsyncIterator
from pathlib import Path

import httpx
import pytest
from starlette.types import Message

from console.access import COOKIE
from console.config import ConsoleConfig
from console.console import Console
from console.live import route
from ops.settings import Settings
from schemas import keys
from schemas.kafka import KafkaConnection
from schemas.keys import KeyKind
from schemas.metrics import ConsoleMetrics
from schemas.store import StoreAddress

_KEY = keys.generate(KeyKind.CONSOLE)
_SECRET = keys.generate(KeyKind.SECRET)
_REVOKED = keys.generate(KeyKind.CONSOLE)


@pytest.fixture
async def console(tmp_path: Path) -> Console:
    config = ConsoleConfig(KafkaConnection("127.0.0.1:1"), StoreAddress(path=tmp_path), asks_for_keys=True)
    made = Console(config, ConsoleMetrics())
    known = made._keys
    assert known is not None
    known._reader._caught_up.set()
    for key in (_KEY, _SECRET, _REVOKED):
        kind = KeyKind.SECRET if key == _SECRET else KeyKind.CONSOLE
        record = keys.record_of(key, kind, "default", "production", 1)
        if key == _REVOKED:
            record = keys.KeyRecord(record.key_hash, record.key_id, kind, "default", "production", 1, revoked_at=2)
        known.on_record(record.key_hash.encode(), keys.encode(record))
    return made


@pytest.fixture
async def ask(console: Console) -> AsyncIterator[httpx.AsyncClient]:
    transport = httpx.ASGITransport(app=console.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client


@pytest.mark.parametrize(
    ("headers", "status", "reason"),
    [
        ({}, 401, "missing_key"),
        ({"authorization": "Bearer wrong"}, 401, "unknown_key"),
        ({"authorization": f"Basic {_KEY}"}, 401, "missing_key"),
        ({"authorization": f"Bearer {_REVOKED}"}, 401, "unknown_key"),
        ({"authorization": f"Bearer {_SECRET}"}, 403, "key_not_allowed"),
        ({"cookie": f"{COOKIE}=wrong"}, 401, "unknown_key"),
    ],
)
async def test_the_api_answers_nothing_without_a_console_key(
    ask: httpx.AsyncClient, headers: dict[str, str], status: int, reason: str
):
    for path in ("/api/experiments?window=x", "/api/sql", "/api/exposures/stream?nam=x", "/api/dead-letters/dry-run"):
        method = "POST" if path.endswith("run") else "GET"
        answer = await ask.request(method, path, headers=headers)
        assert (answer.status_code, answer.json()["error"]["reason"]) == (status, reason)
        assert answer.json()["error"]["remedy"]


@pytest.mark.parametrize("headers", [{"authorization": f"Bearer {_KEY}"}, {"cookie": f"a=b; {COOKIE}={_KEY}"}])
async def test_a_console_key_reads_from_a_header_or_from_the_cookie(ask: httpx.AsyncClient, headers: dict[str, str]):
    answer = await ask.get("/api/experiments?window=x", headers=headers)
    assert answer.json()["error"]["reason"] == "unknown_window"


async def test_the_page_itself_needs_no_key_and_holds_nothing(ask: httpx.AsyncClient):
    for path in ("/", "/app.js", "/experiments/checkout", "/openapi.json", "/vendor/chart.js"):
        assert (await ask.get(path)).status_code in (200, 307)


async def test_signing_in_keeps_the_key_where_no_script_and_no_other_site_finds_it(ask: httpx.AsyncClient):
    answer = await ask.post("/api/sign-in", json={"key": _KEY})
    assert answer.status_code == 200
    cookie = answer.headers["set-cookie"].lower()
    assert "httponly" in cookie
    assert "samesite=strict" in cookie
    assert (await ask.get("/api/experiments?window=x")).json()["error"]["reason"] == "unknown_window"
    await ask.post("/api/sign-out")
    assert (await ask.get("/api/experiments?window=x")).status_code == 401


@pytest.mark.parametrize(
    ("body", "status"),
    [(b"", 400), (b"[]", 400), (b'{"key":7}', 400), (b'{"key":"a;b"}', 400), (b'{"key":"a"}', 401), (b"x" * 9000, 413)],
)
async def test_signing_in_with_anything_else_sets_no_cookie(ask: httpx.AsyncClient, body: bytes, status: int):
    answer = await ask.post("/api/sign-in", content=body)
    assert answer.status_code == status
    assert "set-cookie" not in answer.headers


async def test_a_key_that_may_still_be_read_is_not_called_unknown(console: Console, ask: httpx.AsyncClient):
    assert console._keys is not None
    console._keys._reader._caught_up.clear()
    assert (await ask.get("/api/sql", headers={"authorization": "Bearer new"})).status_code == 503
    assert (await ask.get("/api/sql", headers={"authorization": f"Bearer {_KEY}"})).status_code == 400


@pytest.mark.parametrize(
    "headers",
    [{"origin": "https://elsewhere.example"}, {"sec-fetch-site": "cross-site"}, {"origin": "null"}],
)
async def test_a_page_of_another_site_cannot_make_a_browser_do_anything(
    ask: httpx.AsyncClient, headers: dict[str, str]
):
    headers = {**headers, "authorization": f"Bearer {_KEY}"}
    for path in ("/api/dead-letters/dry-run", "/api/sql", "/api/sign-in"):
        answer = await ask.post(path, headers=headers, content=b"SELECT 1")
        assert (answer.status_code, answer.json()["error"]["reason"]) == (403, "foreign_page")


@pytest.mark.parametrize(
    ("host", "console_keys", "asks"),
    [
        ("127.0.0.1", "auto", False),
        ("localhost", "auto", False),
        ("::1", "auto", False),
        ("0.0.0.0", "auto", True),
        ("10.0.0.7", "auto", True),
        ("127.0.0.1", "required", True),
    ],
)
def test_beyond_this_machine_a_key_is_asked_for(host: str, console_keys: str, asks: bool):
    assert Settings(host=host, console_keys=console_keys).asks_for_console_keys is asks  # type: ignore[arg-type]


async def test_a_stream_under_way_ends_when_its_key_is_revoked(console: Console, monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setattr(route, "HEARTBEAT_S", 0.01)
    known = console._keys
    assert known is not None
    sent: list[Message] = []
    has_begun = asyncio.Event()

    async def receive() -> Message:
        await asyncio.Event().wait()
        raise AssertionError

    async def send(message: Message) -> None:
        sent.append(message)
        if message.get("body"):
            has_begun.set()

    headers = [(b"authorization", f"Bearer {_KEY}".encode())]
    asked = {"type": "http", "method": "GET", "path": "/api/exposures/stream", "query_string": b"", "headers": headers}
    async with asyncio.timeout(20):
        stream = asyncio.create_task(console.app(asked, receive, send))  # type: ignore[arg-type]
        await has_begun.wait()
        assert not stream.done()
        record = keys.record_of(_KEY, KeyKind.CONSOLE, "default", "production", 1)
        known.on_record(record.key_hash.encode(), None)
        await stream
    assert sent[-1].get("more_body") is False
