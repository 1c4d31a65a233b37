"""HTTP as uvicorn speaks it, with what it lacks: limits on time and on headers, and a shorter way.

uvicorn waits for the rest of a request for ever, takes headers of any size and says in plain text
what is wrong with them. And for each request it makes a task and two writes, more work than a request
of a few events is: so a small log request is taken in the moment in which it is whole, and answered
in the moment in which its last record is acknowledged.
"""

import asyncio
import functools
import heapq
import resource
from functools import partial
from typing import Any, Final, NamedTuple, cast

import httptools
import structlog
from starlette.types import Scope
from uvicorn._types import ASGI3Application
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT
from uvicorn.protocols.http.httptools_impl import STATUS_LINE, HttpToolsProtocol, RequestResponseCycle

from ingest.answer import Answer, headers_of, refusing
from ingest.auth import KnownKey
from ingest.in_flight import Hold
from ingest.log_events import Taken, takes_long
from ingest.receive import Request, RequestIds, length_of
from ingest.refusal import Refusal
from ingest.routes import GatewayApp
from schemas.limits import (
    CONNECTIONS,
    DRAIN_S,
    HEADER_BLOCK_BYTES,
    IDLE_KEEP_ALIVE_S,
    UNFINISHED_REQUEST_S,
    WIRE_BODY_BYTES,
)
from schemas.reasons import Reason

log = structlog.get_logger()

_OTHER_FILES: Final = 100
"""Left to everything that is no connection of a client."""

_SEPARATORS_BYTES: Final = len(b": \r\n")

_refused_ids: Final = RequestIds()
"""For what is refused before it has become a request."""
_FRAMING: Final = (b"content-length", b"transfer-encoding")


class _Short(NamedTuple):
    """A log request that goes the shorter way, while its body is coming in."""

    app: GatewayApp
    cycle: RequestResponseCycle
    request: Request
    known: KnownKey
    body: list[bytes]


class _RestOfRequest:
    """What a parser calls that reads the body of one request, and nothing behind it."""

    def __init__(self, protocol: "GatewayProtocol") -> None:
        self._protocol = protocol
        self._is_over = False

    def on_body(self, body: bytes) -> None:
        if not self._is_over:
            self._protocol.on_body(body)

    def on_message_complete(self) -> None:
        if not self._is_over:
            self._is_over = True
            self._protocol.on_message_complete()


class GatewayProtocol(HttpToolsProtocol):
    """One connection, for `uvicorn.Config(http=GatewayProtocol)`.

    `UNFINISHED_REQUEST_S` after its first byte a request has arrived whole or is answered 408;
    a head of more than `HEADER_BLOCK_BYTES` is answered 431; a connection on which nothing happens
    is closed after `IDLE_KEEP_ALIVE_S`, the first request or a later one awaited, and earlier where
    there are more than `CONNECTIONS`. Of a request that is answered already the rest is read and
    forgotten, `WIRE_BODY_BYTES` of it at the most. Who takes no byte of an answer for `UNFINISHED_REQUEST_S`
    is cut off. A client that says it will send no more gets its answer.
    """

    def __init__(self, *args: Any, **kwargs: Any) -> None:
        super().__init__(*args, **kwargs)
        self._began_s = 0.0  # 0: no request is on its way in
        self._heard_s = 0.0
        self._piece_bytes = 0
        self._first_piece_bytes = 0  # the piece in which the request began; it may hold other things
        self._more_head_bytes = 0  # pieces that hold nothing but more of its head
        self._in_head = False
        self._hosts = 0
        self._forgotten_bytes = 0
        self._bodiless_bytes = 0  # pieces that hold nothing of a body: sizes of chunks, trailers
        self._hold = Hold(self.app.log_events.in_flight) if isinstance(self.app, GatewayApp) else None
        self._short: _Short | None = None
        self._refusal: Refusal | None = None
        self._asks_for_upgrade = False
        self._is_last = False
        self._watch: asyncio.TimerHandle | None = None
        self._drain: asyncio.TimerHandle | None = None
        self._abort: asyncio.TimerHandle | None = None
        self._unsent_bytes = 0

    def connection_made(self, transport: asyncio.Transport) -> None:  # type: ignore[override]
        """Begin to watch the connection."""
        super().connection_made(transport)
        self._heard_s = self.loop.time()
        self._watch = self.loop.call_later(UNFINISHED_REQUEST_S, self._check)
        if len(self.server_state.connections) > most_connections():
            self._make_room()

    def connection_lost(self, exc: Exception | None) -> None:
        """Stop to watch the connection."""
        for timer in (self._watch, self._drain, self._abort):
            if timer is not None:
                timer.cancel()
        if self._hold is not None:
            self._hold.give_back()
        super().connection_lost(exc)

    def eof_received(self) -> bool:  # type: ignore[override]
        """Keep the connection for the answer to what came whole; what did not will never be."""
        cycle: RequestResponseCycle | None = self.cycle
        if cycle is None or cycle.response_complete or cycle.more_body:
            return False
        self._is_last = True
        if not self.pipeline:
            cycle.keep_alive = False
        return True

    def shutdown(self) -> None:
        """Close, once a request that is on its way in has been answered: two SDKs drop what is cut off.

        What has not come after `DRAIN_S` is answered 503.
        """
        self._is_last = True
        if not self._in_head:
            super().shutdown()
        if not self.transport.is_closing():
            self._drain = self.loop.call_later(DRAIN_S, self._end)

    def _end(self) -> None:
        if not self.transport.is_closing():
            self._refuse(Refusal(Reason.DRAINING, "this gateway is stopping; try again"))

    def data_received(self, data: bytes) -> None:
        """Parse what came in."""
        if self._refusal is not None:
            return  # it was answered, and the connection is being closed
        self._heard_s = self.loop.time()
        self._piece_bytes = len(data)
        if self._in_head:
            self._more_head_bytes += len(data)
        self._unset_keepalive_if_required()
        self._bodiless_bytes += len(data)
        self._parse(data)
        if self._in_head and self._more_head_bytes > HEADER_BLOCK_BYTES:
            self._refuse(_headers_too_large())
        elif self._began_s and not self._in_head and self._bodiless_bytes > HEADER_BLOCK_BYTES:
            self._end_bodiless()
        elif self._hold is not None and (self._in_head or self._short is not None):
            self._count_unfinished(self._hold, len(data))

    def _end_bodiless(self) -> None:
        """End a request that goes on without more of its body: trailers, or what may stand behind a chunk's size."""
        if self._is_answering():
            self._refuse(_headers_too_large())
        else:
            self._close()

    def _count_unfinished(self, hold: Hold, size: int) -> None:
        try:
            hold.take(size)
        except Refusal as refusal:
            if self._short is None:
                self._refuse(refusal)
                return
            app, cycle, request, *_ = self._short
            self._short = None
            hold.give_back()
            self._answer(app, cycle, request, app.explain(refusal, request))

    def _parse(self, data: bytes) -> None:
        try:
            self.parser.feed_data(data)
        except httptools.HttpParserError:
            self.send_400_response("Invalid HTTP request received.")
        except httptools.HttpParserUpgrade as upgrade:
            self._go_on_without_upgrade(data[upgrade.args[0] :])

    def _go_on_without_upgrade(self, rest: bytes) -> None:
        """Take the body of a request that asks for another protocol, which a server may pass over.

        (RFC 9110, 7.8.) Java's own client asks for HTTP/2 with each first request. The parser stops
        behind such a head, so another one reads the body; then the connection is closed.
        """
        framing = [b"%b: %b\r\n" % field for field in self.headers if field[0] in _FRAMING]
        self.parser = httptools.HttpRequestParser(_RestOfRequest(self))
        self._parse(b"POST / HTTP/1.1\r\n%b\r\n%b" % (b"".join(framing), rest))

    def on_message_begin(self) -> None:
        """Start the request's clock."""
        super().on_message_begin()
        self._began_s = self._heard_s
        self._first_piece_bytes = self._piece_bytes
        self._more_head_bytes = 0
        self._forgotten_bytes = 0
        self._hosts = 0
        self._in_head = True

    def on_header(self, name: bytes, value: bytes) -> None:
        """Take one header."""
        if not self._in_head:
            return  # a trailer, which nobody reads (RFC 9110, 6.5.1)
        name = name.lower()
        if name == b"host":
            self._hosts += 1
        elif name == b"expect" and value.lower() == b"100-continue":
            self.expect_100_continue = True
        self.headers.append((name, value))

    def on_headers_complete(self) -> None:
        """Check the head and go on."""
        self._in_head = False
        self._bodiless_bytes = 0
        at_most = self._first_piece_bytes + self._more_head_bytes
        if at_most > HEADER_BLOCK_BYTES and self._head_bytes() > HEADER_BLOCK_BYTES:
            self._refusal = _headers_too_large()
            raise self._refusal  # the parser stops, and `send_400_response` says why
        if self._hosts != 1 and (self._hosts or self.parser.get_http_version() == "1.1"):
            self._refusal = Refusal(Reason.MALFORMED_REQUEST, "a request names its host once (RFC 9112, 3.2)")
            raise self._refusal
        self._asks_for_upgrade = self.parser.should_upgrade()
        super().on_headers_complete()

    def _head_bytes(self) -> int:
        return len(self.url) + sum(len(name) + len(value) + _SEPARATORS_BYTES for name, value in self.headers)

    def on_body(self, body: bytes) -> None:
        """Keep a piece of the body, or forget it if the request is answered."""
        self._bodiless_bytes = 0
        if self._short is not None:
            self._short.body.append(body)  # most come in one piece, which need not be copied
        elif self.cycle.response_complete:
            self._forgotten_bytes += len(body)
            if self._forgotten_bytes > WIRE_BODY_BYTES:
                self._close()
        else:
            super().on_body(body)

    def on_message_complete(self) -> None:
        """Stop the request's clock; take the request if it goes the shorter way."""
        if self.parser.should_upgrade():
            return  # this parser did not look at the body
        self._began_s = 0.0
        if self._hold is not None:
            self._hold.give_back()
        super().on_message_complete()
        if self._short is not None:
            short, self._short = self._short, None
            self._take(short)

    def send_400_response(self, msg: str) -> None:
        """Answer what could not be parsed, and close. `msg` is uvicorn's; ours is JSON."""
        self._refuse(self._refusal or Refusal(Reason.MALFORMED_REQUEST, f"this is not HTTP/1.1: {msg}"))

    def on_response_complete(self) -> None:
        """Go on with the connection. `_check` sees it idle, which spares a timer for every answer."""
        self.server_state.total_requests += 1
        if self.transport.is_closing():
            return
        self.flow.resume_reading()
        if self.pipeline:
            cycle, app = self.pipeline.pop()
            self._start_asgi_task(cycle, app)

    def _start_asgi_task(self, cycle: RequestResponseCycle, app: ASGI3Application) -> None:
        if (self._asks_for_upgrade or self._is_last) and cycle is self.cycle:
            cycle.keep_alive = False
        request = self._short_request(cycle, app)
        if request is None or not isinstance(app, GatewayApp):
            super()._start_asgi_task(cycle, app)
            return
        try:
            known = app.log_events.admit(request)
        except Exception as error:  # noqa: BLE001 - `explain` logs what is not a refusal
            self._answer(app, cycle, request, app.explain(error, request))
        else:
            self._short = _Short(app, cycle, request, known, [])

    def _short_request(self, cycle: RequestResponseCycle, app: ASGI3Application) -> Request | None:
        """Return a log request whose body is small and coming in now, None for every other."""
        if cycle is not self.cycle or not cycle.more_body or cycle.body:
            return None  # it was pipelined behind another one, and has come in whole or in part
        if cycle.waiting_for_100_continue or self.flow.write_paused:
            return None
        scope = cast("Scope", cycle.scope)
        if not isinstance(app, GatewayApp) or not app.is_log_request(scope):
            return None
        request = app.new_request(scope)
        return request if 0 <= length_of(request) <= HIGH_WATER_LIMIT else None

    def _take(self, short: _Short) -> None:
        app, cycle, request, known, pieces = short
        try:
            body = app.log_events.decoded(request, pieces[0] if len(pieces) == 1 else b"".join(pieces))
            if takes_long(request, body):
                task = self.loop.create_task(self._take_large(short, body))
                self.tasks.add(task)
                task.add_done_callback(self.tasks.discard)
                return
            taken = app.log_events.take(request, known, body)
        except Exception as error:  # noqa: BLE001 - `explain` logs what is not a refusal
            self._answer(app, cycle, request, app.explain(error, request))
        else:
            taken.ticket.settled.add_done_callback(partial(self._finish, app, cycle, request, taken))

    async def _take_large(self, short: _Short, body: bytes) -> None:
        app, cycle, request, known, _ = short
        try:
            answer = await app.log_events.log_long(request, known, body)
        except Exception as error:  # noqa: BLE001 - `explain` logs what is not a refusal
            answer = app.explain(error, request)
        self._answer(app, cycle, request, answer)

    def _finish(
        self, app: GatewayApp, cycle: RequestResponseCycle, request: Request, taken: Taken, _: asyncio.Future[bool]
    ) -> None:
        try:
            answer = app.log_events.finish(taken)
        except Refusal as refusal:
            answer = app.explain(refusal, request)
        self._answer(app, cycle, request, answer)

    def _answer(self, app: GatewayApp, cycle: RequestResponseCycle, request: Request, answer: Answer) -> None:
        app.count(answer.status)
        cycle.response_started = cycle.response_complete = True
        if cycle.disconnected or self.transport.is_closing():
            return
        headers = [*self.server_state.default_headers, *headers_of(answer, request)]
        self.transport.write(_render(answer, headers, keep_alive=cycle.keep_alive))
        if not cycle.keep_alive:
            self._close()
        self.on_response_complete()

    def _refuse(self, refusal: Refusal) -> None:
        """Answer outside of any request, and close: what comes next on the connection means nothing."""
        self._refusal = refusal
        self._in_head = False
        self._began_s = 0.0
        self._short = None
        if self._hold is not None:
            self._hold.give_back()
        request_id = _refused_ids.next()
        log.info("request_refused", reason=refusal.reason.value, status=refusal.status, request_id=request_id)
        if not self.transport.is_closing():
            answer = self.app.refuse(refusal) if isinstance(self.app, GatewayApp) else refusing(refusal)
            headers = [
                (b"x-headrace-request-id", request_id.encode()),
                (b"content-type", b"application/json"),
                (b"content-length", b"%d" % len(answer.content)),
            ]
            self.transport.write(_render(answer, headers, keep_alive=False))
            self._close()

    def _make_room(self) -> None:
        """Close those that have been idle longest, some at once: to find them, all have to be looked at."""
        connections = cast("set[GatewayProtocol]", self.server_state.connections)
        open_ones = [one for one in connections if not one.transport.is_closing()]
        if len(open_ones) <= most_connections():
            return
        idle = [one for one in open_ones if one is not self and not one._began_s and not one._is_answering()]
        if not idle:
            self._refuse(Refusal(Reason.OVERLOADED, "there are as many connections as there may be; try again"))
        for one in heapq.nsmallest(max(1, most_connections() // 100), idle, key=lambda one: one._heard_s):
            one._close()

    def _check(self) -> None:
        now_s = self.loop.time()
        if self._began_s:
            due_s = self._began_s + UNFINISHED_REQUEST_S
            if due_s <= now_s:
                if not self._in_head and not self._is_answering():
                    self._close()  # it was answered before it came whole
                    return
                message = f"the request did not arrive whole within {UNFINISHED_REQUEST_S} s"
                self._refuse(Refusal(Reason.UNFINISHED_REQUEST, message))
                return
        elif self._is_answering():
            unsent_bytes = self.transport.get_write_buffer_size()
            if unsent_bytes and unsent_bytes == self._unsent_bytes:
                self.transport.abort()  # it waits for a client that takes no byte of an earlier answer
                return
            self._unsent_bytes = unsent_bytes
            due_s = now_s + UNFINISHED_REQUEST_S
        else:
            due_s = self._heard_s + IDLE_KEEP_ALIVE_S
            if due_s <= now_s:
                self._close()
                return
        # A request may begin at any moment, and then its time counts.
        self._watch = self.loop.call_at(min(due_s, now_s + UNFINISHED_REQUEST_S), self._check)

    def _close(self) -> None:
        """Close when the client has taken what was written for it; if it does not, cut the connection."""
        if self.transport.get_write_buffer_size():
            self._abort = self.loop.call_later(UNFINISHED_REQUEST_S, self.transport.abort)
        self.transport.close()

    def _is_answering(self) -> bool:
        cycle: RequestResponseCycle | None = self.cycle
        return cycle is not None and not cycle.response_complete


@functools.cache
def most_connections() -> int:
    """Return how many connections there may be, given the files that this process may open."""
    files, _ = resource.getrlimit(resource.RLIMIT_NOFILE)
    return min(CONNECTIONS, max(1, files - _OTHER_FILES))


def _headers_too_large() -> Refusal:
    return Refusal(Reason.HEADERS_TOO_LARGE, f"the request line and headers have more than {HEADER_BLOCK_BYTES} bytes")


def _render(answer: Answer, headers: list[tuple[bytes, bytes]], *, keep_alive: bool) -> bytes:
    lines = [STATUS_LINE[answer.status]]
    for name, value in headers:
        lines += (name, b": ", value, b"\r\n")
    lines.append(b"\r\n" if keep_alive else b"connection: close\r\n\r\n")
    lines.append(answer.content)
    return b"".join(lines)
