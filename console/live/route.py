"""`/api/exposures/stream`: exposures as they happen."""

import asyncio
from collections.abc import AsyncIterator, Callable, Sequence
from dataclasses import dataclass, field
from typing import Final

import orjson
import structlog
from aiokafka import ConsumerRecord
from aiokafka.errors import KafkaError
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route
from starlette.types import Receive, Scope, Send

from console.access import MAY_STILL_READ
from console.answers import RefusedError
from console.live import sse
from console.live.decode import Exposure
from console.live.filters import FIELDS, Filter, filter_from
from console.live.hub import Hub
from console.live.look import Look
from console.live.positions import Positions, from_id
from console.live.replay import Replay
from console.live.viewer import Viewer
from schemas.limits import MIB

log = structlog.get_logger()

HEARTBEAT_S: Final = 10.0
VIEWERS_MAX: Final = 500
RECENT_MAX: Final = 500
_BEFORE_BYTES_MAX: Final = 8 * MIB
"""Of what was before, the newest; what does not fit counts as missed."""
_RETRY_S: Final = 1.0

_OTHER_PARAMETERS: Final = ("rate", "recent", "last_event_id")


@dataclass(frozen=True)
class Asked:
    """What a viewer asked for."""

    wanted: Filter
    rate_max: float | None
    recent: int
    resume: Positions
    may_still_read: Callable[[], bool] = lambda: True
    """Whether its key is still valid: a stream may go on for days."""


def asked(request: Request) -> Asked:
    """Read a request. Raises RefusedError (400) that names what cannot be understood."""
    unknown = set(request.query_params) - set(FIELDS) - set(_OTHER_PARAMETERS)
    if unknown:
        raise RefusedError(
            400,
            "unknown_parameter",
            f"There is no parameter {min(unknown)[:60]!r}.",
            f"There are {', '.join([*FIELDS, *_OTHER_PARAMETERS])}.",
        )
    last = request.headers.get("last-event-id") or request.query_params.get("last_event_id", "")
    try:
        resume = from_id(last) if last else {}
    except ValueError as error:
        raise RefusedError(400, "unknown_position", f"{error}.", "Begin again without Last-Event-ID.") from error
    rate = _number(request, "rate", 100_000)
    recent = _number(request, "recent", RECENT_MAX)
    may_still_read = request.scope.get(MAY_STILL_READ, lambda: True)
    return Asked(filter_from(request.query_params.multi_items()), rate or None, int(recent), resume, may_still_read)


def _number(request: Request, name: str, largest: int) -> float:
    text = request.query_params.get(name, "")
    try:
        number = float(text or 0)
    except ValueError:
        number = -1
    if not 0 <= number <= largest:
        raise RefusedError(
            400, "not_a_number", f"{name}={text[:40]!r} is not understood.", f"Give a number from 0 to {largest}."
        )
    return number


class _Stream(StreamingResponse):
    """A stream that lets go of its viewer however it ends: the generator alone may be left suspended."""

    def __init__(self, hub: Hub, past: "Past", question: Asked) -> None:
        self._hub = hub
        self._viewer = Viewer(question.wanted, question.rate_max)
        headers = {"cache-control": "no-store", "x-accel-buffering": "no"}
        super().__init__(_frames(hub, past, question, self._viewer), headers=headers, media_type=sse.MEDIA_TYPE)

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Send the stream until it ends, or until the viewer has been too slow for too long."""
        sending = asyncio.ensure_future(super().__call__(scope, receive, send))
        dropped = asyncio.ensure_future(self._viewer.dropped.wait())
        try:
            await asyncio.wait({sending, dropped}, return_when=asyncio.FIRST_COMPLETED)
            if sending.done():
                sending.result()
            else:
                log.warning("slow_viewer_dropped")
        finally:
            dropped.cancel()
            sending.cancel()
            self._hub.leave(self._viewer)
            await asyncio.gather(sending, dropped, return_exceptions=True)


@dataclass(frozen=True)
class Past:
    """What was before, and how to read it."""

    replay: Replay
    look: Look


def routes(hub: Hub, past: Past) -> list[Route]:
    """Return the routes of this surface."""

    async def stream(request: Request) -> Response:
        question = asked(request)
        if hub.viewer_count >= VIEWERS_MAX:
            raise RefusedError(
                503, "too_many_viewers", f"{VIEWERS_MAX} viewers watch already.", "Close a stream, or try again later."
            )
        return _Stream(hub, past, question)

    return [Route("/api/exposures/stream", stream, methods=["GET"])]


async def _frames(hub: Hub, past: Past, question: Asked, viewer: Viewer) -> AsyncIterator[bytes]:
    """Yield what was before, then what happens, until the viewer has gone or may not read, or the console stops."""
    yield b"retry: 1000\n\n"
    joined = hub.join(viewer)
    while not joined.done() and not viewer.is_closed and question.may_still_read():
        frames = await viewer.frames(HEARTBEAT_S, joined)
        if not joined.done():
            yield frames or sse.HEARTBEAT
    if joined.done():
        async for frames in _before(past, question, viewer, joined.result()):
            yield frames
        viewer.notify("status", {"state": "live", "message": ""})
    while not viewer.is_closed and question.may_still_read():
        yield await viewer.frames(HEARTBEAT_S) or sse.HEARTBEAT


@dataclass
class _Kept:
    """The newest of what was before that the filter wants."""

    wanted: Filter
    look: Look
    bytes_max: int
    found: list[Exposure] = field(default_factory=list)
    left_out: int = 0
    _bytes: int = 0

    async def take(self, records: Sequence[ConsumerRecord]) -> None:
        """Look at records, and keep what is wanted."""
        seen = [self.look.rejected(records), self.look.accepted(records), await self.look.duplicates(records)]
        mine = [each for one in seen for each in one.exposures if self.wanted.wants(each.fields)]
        self.found += mine
        self._bytes += sum(len(each.frame) for each in mine)
        if self._bytes > self.bytes_max:
            self._cut()
        await asyncio.sleep(0)  # the other viewers' turn

    def _cut(self) -> None:
        """Let go of the older half."""
        self.found.sort(key=lambda each: each.at_ms)
        half = len(self.found) // 2
        self._bytes -= sum(len(each.frame) for each in self.found[:half])
        self.left_out += half
        del self.found[:half]

    def frames(self, count_max: int | None) -> bytes:
        """Return the newest, oldest first; all unless a number is given."""
        self.found.sort(key=lambda each: each.at_ms)
        return b"".join([each.frame for each in (self.found if count_max is None else self.found[-count_max:])])


async def _before(past: Past, question: Asked, viewer: Viewer, until: Positions) -> AsyncIterator[bytes]:
    """Yield what the viewer missed while away, or the last few that it wants to begin with.

    A log that does not answer is asked again: going on without would leave out what was asked for.
    """
    if not question.resume and not question.recent:
        return
    while True:
        kept = _Kept(question.wanted, past.look, _BEFORE_BYTES_MAX)
        reading = asyncio.ensure_future(_read_before(past, question, until, kept))
        viewer.is_kept_waiting = True
        try:
            while not (await asyncio.wait({reading}, timeout=HEARTBEAT_S))[0]:
                yield sse.HEARTBEAT
            viewer.missed(reading.result())
            break
        except (KafkaError, TimeoutError, OSError) as error:
            trouble = str(error) or type(error).__name__
            log.warning("replay_failed", error=trouble)
            message = f"what was before cannot be read yet: {trouble}"
            yield sse.message("status", orjson.dumps({"state": "waiting", "message": message}))
            await asyncio.sleep(_RETRY_S)
        finally:
            reading.cancel()
            viewer.is_kept_waiting = False
        if viewer.is_closed:
            return
    yield kept.frames(None if question.resume else question.recent)


async def _read_before(past: Past, question: Asked, until: Positions, kept: _Kept) -> int:
    """Read what was before into `kept`; return how many of those that were missed are left out."""
    if question.resume:
        return await past.replay.between(question.resume, until, kept.take) + kept.left_out
    await past.replay.last(until, kept.take)
    return 0
