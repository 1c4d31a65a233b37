"""A proxy between an SDK and the gateway: it writes down what passes, and may keep an answer for itself for a while."""

import asyncio
from collections import Counter
from dataclasses import dataclass, field
from urllib.parse import parse_qs

import httpx
import msgspec
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ingest.body import decode
from ops.http_server import HttpServer, bind
from schemas.wire import RequestBody

LOG_PATHS = ("/v1/log_event", "/v1/rgstr")
SPECS_PATH = "/download_config_specs"
_HOP_BY_HOP = {"host", "connection", "content-length", "transfer-encoding", "keep-alive", "date", "server"}


@dataclass
class Seen:
    """What one key's requests looked like: how often each path, status and encoding was there."""

    paths: Counter[str] = field(default_factory=Counter)
    log_statuses: Counter[int] = field(default_factory=Counter)
    encodings: Counter[str] = field(default_factory=Counter)
    content_types: Counter[str] = field(default_factory=Counter)
    specs: Counter[int] = field(default_factory=Counter)
    """How often it was sent the config specs of each time."""
    beacons: int = 0
    events: Counter[bytes] = field(default_factory=Counter)
    in_one_request: Counter[bytes] = field(default_factory=Counter)

    @property
    def copies(self) -> int:
        """How many events came again in a later request, byte for byte."""
        return (self.events - self.in_one_request).total()

    def take(self, events: Counter[bytes]) -> None:
        """Count the events of one more log request."""
        self.events += events
        self.in_one_request |= events


class FaultProxy:
    """Forwards to `upstream`. `hold_first_answer_s` delays the first answer to a log request of each key."""

    def __init__(self, upstream: str) -> None:
        self.hold_first_answer_s = 0.0
        self._seen: dict[str, Seen] = {}
        self._held: set[str] = set()
        self._server = HttpServer(self, bind("127.0.0.1", 0, "no setting"), drain_s=1)
        limits = httpx.Limits(max_connections=None, max_keepalive_connections=None)
        self._client = httpx.AsyncClient(base_url=upstream, timeout=None, limits=limits, trust_env=False)

    async def start(self) -> None:
        """Begin to accept."""
        await self._server.start()

    async def stop(self) -> None:
        """Stop; answers that are still held are let go."""
        await self._server.stop()
        await self._client.aclose()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.port}"

    def seen(self, key: str) -> Seen:
        """Return what passed under a key."""
        return self._seen.setdefault(key, Seen())

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Forward one request."""
        request = Request(scope, receive)
        body = await request.body()
        headers = {name: value for name, value in request.headers.items() if name not in _HOP_BY_HOP}
        key = headers.get("statsig-api-key") or parse_qs(request.url.query).get("k", [""])[0]
        seen = self.seen(key)
        path = request.url.path.replace(key, "<key>") if key else request.url.path
        seen.paths[f"{request.method} {path}"] += 1
        is_log = request.method == "POST" and path in LOG_PATHS
        if is_log:
            seen.encodings[headers.get("content-encoding", "none")] += 1
            seen.content_types[headers.get("content-type", "none").lower()] += 1
            seen.take(_events_of(body, headers))
            seen.beacons += headers.get("sec-fetch-mode") == "no-cors"
        target = httpx.URL(path=request.url.path, query=request.url.query.encode())
        answer = await self._client.request(request.method, target, content=body, headers=headers)
        if is_log:
            seen.log_statuses[answer.status_code] += 1
            if self.hold_first_answer_s and key not in self._held:
                self._held.add(key)
                await asyncio.sleep(self.hold_first_answer_s)
        if SPECS_PATH in path and (document := answer.json()).get("has_updates"):
            seen.specs[document["time"]] += 1
        kept = {name: value for name, value in answer.headers.items() if name not in _HOP_BY_HOP}
        await Response(answer.content, answer.status_code, kept)(scope, receive, send)


def _events_of(body: bytes, headers: dict[str, str]) -> Counter[bytes]:
    decoded = decode(body, headers.get("content-encoding", "").encode())
    return Counter(bytes(event) for event in msgspec.json.decode(decoded, type=RequestBody).events)
