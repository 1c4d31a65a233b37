"""A server that real SDKs take for Statsig: each key is given its own specs, and what it logs is kept."""

import time
from collections import defaultdict
from collections.abc import Iterator
from dataclasses import dataclass
from typing import Any, Self

import msgspec
import orjson
from starlette.requests import Request
from starlette.responses import Response
from starlette.types import Receive, Scope, Send

from ingest.body import decode
from ops.http_server import HttpServer, bind
from processors.claims import ClaimsIndex
from processors.map_event import EventMapper
from processors.process_chunk import SourceRecord, process
from schemas import avro, chunk, specs
from schemas.chunk import RequestPart
from schemas.limits import CHUNK_EVENTS
from schemas.topics import EXPOSURES
from schemas.wire import RequestBody

_NO_UPDATES = b'{"has_updates":false}'


@dataclass(frozen=True)
class Logged:
    """A log request as it came."""

    body: RequestBody
    received_ms: int


class SpecsLab:
    """Answers as the gateway does; use as a context."""

    def __init__(self) -> None:
        self.logged: dict[str, list[Logged]] = defaultdict(list)
        self._specs: dict[str, specs.Specs] = {}
        self._server = HttpServer(self, bind("127.0.0.1", 0, "no setting"), drain_s=1)

    async def __aenter__(self) -> Self:
        await self._server.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        await self._server.stop()

    @property
    def url(self) -> str:
        """Where it listens."""
        return f"http://127.0.0.1:{self._server.port}"

    def serve(self, key: str, document: dict[str, Any]) -> None:
        """Give a key these specs from now on."""
        self._specs[key] = specs.parse(orjson.dumps(document))

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request."""
        request = Request(scope, receive)
        key = request.headers.get("statsig-api-key") or request.query_params.get("k", "")
        body = await request.body()
        if "/download_config_specs" in request.url.path:
            answer = Response(self._document(key, request), media_type="application/json")
        elif request.url.path in ("/v1/log_event", "/v1/rgstr"):
            decoded = decode(body, request.headers.get("content-encoding", "").encode())
            content = msgspec.json.decode(decoded, type=RequestBody)
            self.logged[key].append(Logged(content, time.time_ns() // 1_000_000))
            answer = Response(b'{"success":true}', 202, media_type="application/json")
        else:
            answer = Response(b"{}", media_type="application/json")
        await answer(scope, receive, send)

    def _document(self, key: str, request: Request) -> bytes:
        document = self._specs[key]
        if int(request.query_params.get("sinceTime", "0")) == document.time:
            return _NO_UPDATES
        return document.as_format("dcs-v2" if request.url.path.startswith("/v2/") else "dcs-v1")

    def rows(self, key: str, mapper: EventMapper) -> Iterator[dict[str, Any]]:
        """Yield the exposures that a key logged, as the worker makes them.

        The sender's clock at send is left out: it is the one of this machine, and what lies between it and
        the receipt is how busy that is.
        """
        for number, logged in enumerate(self.logged[key]):
            for first in range(0, len(logged.body.events), CHUNK_EVENTS):
                part = RequestPart(
                    "p",
                    "production",
                    key,
                    f"r{number}",
                    logged.received_ms,
                    statsigMetadata=logged.body.statsigMetadata,
                    events=logged.body.events[first : first + CHUNK_EVENTS],
                )
                value = chunk.encode(chunk.Chunk([part]))
                record = SourceRecord(1, 0, number, logged.received_ms, {}, value)
                done = process(record, ClaimsIndex(1000), mapper, logged.received_ms)
                assert not done.dead, done.dead
                for mapped, _ in done.emitted:
                    if mapped.topic == EXPOSURES:
                        yield avro.EXPOSURE.decode(avro.unframe(mapped.value)[1])
