"""The hot route: a log request from its first byte to its answer."""

import asyncio
import time
from collections.abc import Callable
from typing import Final, NamedTuple

from ingest.answer import Answer, accepted
from ingest.auth import KeyDirectory, KnownKey, authenticate, charge, may_write
from ingest.body import decode
from ingest.chunks import RequestHead, parts_of
from ingest.dead_letters import dead_letters_of
from ingest.durability import Durability, DurableLog, Lane, LogUnavailableError
from ingest.in_flight import InFlight
from ingest.linger import Linger, Ticket
from ingest.receive import Request, body_of, number_of
from ingest.refusal import Refusal
from ingest.shared_user import has_shared_user, with_shared_user
from ingest.split import Refused, Split, split
from schemas.crash_points import CrashPoint, reach
from schemas.dead_letter import DeadLetter
from schemas.ids import partition_of
from schemas.keys import KeyKind
from schemas.limits import KIB, MIB
from schemas.metrics import GatewayMetrics
from schemas.reasons import Reason

_LARGE_BODY_BYTES: Final = MIB
"""Bodies above are taken apart in a thread, so that one of them does not hold up a thousand others."""

_SMALL_BODY_BYTES: Final = 2 * KIB
"""Whatever it is made into, a body below holds up nobody."""

_LARGE_TO_REWRITE_BYTES: Final = 16 * KIB
"""To rewrite an event takes a hundred times as long as to take it as it is."""


def is_large(body: bytes) -> bool:
    """Tell whether a body is too large to be decoded, or taken apart, while everybody waits."""
    return len(body) > _LARGE_BODY_BYTES


def takes_long(request: Request, body: bytes) -> bool:
    """Tell whether a decoded body is large, or becomes large by the user that stands beside its events."""
    if is_large(body):
        return True
    return len(body) > _SMALL_BODY_BYTES and not _is_of_sdk(request) and has_shared_user(body)


def _is_of_sdk(request: Request) -> bool:
    return b"statsig-sdk-type" in request.headers or b"st" in request.query


Rewrite = Callable[[bytes, KnownKey], bytes]
"""Turns a decoded body into that of a log request. Raises Refusal."""


class Kept(NamedTuple):
    """What became of a request's events: those that are refused wait in the dead letters."""

    refused: list[Refused]
    durability: Durability


class Taken(NamedTuple):
    """A request whose events are on their way into the log; `ticket` tells when they are there."""

    ticket: Ticket
    refused: list[Refused]
    held_bytes: int


class LogEvents:
    """Takes log requests. An answer of 202 means that every event is in the log, a dead letter, or spilled.

    A request is `admit`ted by its head, its body is `decoded`, it is `take`n and, when its ticket is
    settled, `finish`ed; a call of the object does all four.
    """

    def __init__(self, directory: KeyDirectory, events: DurableLog, linger: Linger, metrics: GatewayMetrics) -> None:
        self._directory = directory
        self._events = events
        self._linger = linger
        self._metrics = metrics
        self.in_flight = InFlight()
        self._letters: set[asyncio.Task[None]] = set()
        self.is_draining = False

    async def __call__(self, request: Request) -> Answer:
        """Answer one request. Raises Refusal, DisconnectedError."""
        return await self.log(request, None)

    async def log(self, request: Request, rewrite: Rewrite | None) -> Answer:
        """Answer a request whose body `rewrite` turns into that of a log request. Raises Refusal, DisconnectedError."""
        return accepted(*await self.keep(request, rewrite))

    async def keep(self, request: Request, rewrite: Rewrite | None) -> Kept:
        """Keep the events of a request and tell what became of them. Raises Refusal, DisconnectedError."""
        known = self.admit(request)
        received = await body_of(request)
        if is_large(received):
            body = await asyncio.to_thread(self.decoded, request, received)
        else:
            body = self.decoded(request, received)
        if request.hold is not None:
            request.hold.give_back()  # what it became counts from here
        return await self._keep_decoded(request, known, body, rewrite)

    async def log_long(self, request: Request, known: KnownKey, body: bytes) -> Answer:
        """Answer an admitted request whose decoded body takes long. Raises Refusal."""
        return accepted(*await self._kept(await self._take_in_thread(request, known, body, None)))

    async def _keep_decoded(self, request: Request, known: KnownKey, body: bytes, rewrite: Rewrite | None) -> Kept:
        if takes_long(request, body) if rewrite is None else len(body) > _LARGE_TO_REWRITE_BYTES:
            return await self._kept(await self._take_in_thread(request, known, body, rewrite))
        return await self._kept(self.take(request, known, body, rewrite))

    async def _take_in_thread(self, request: Request, known: KnownKey, body: bytes, rewrite: Rewrite | None) -> Taken:
        held_bytes = len(body)
        self.in_flight.take(held_bytes)
        try:
            body, found = await asyncio.to_thread(_read, request, known, body, rewrite)
        finally:
            self.in_flight.give_back(held_bytes)
        return self._put(request, known, body, found)

    async def _kept(self, taken: Taken) -> Kept:
        await taken.ticket.settled
        return self._settle(taken)

    def admit(self, request: Request) -> KnownKey:
        """Return the key of a request that may send events. Raises Refusal."""
        if self.is_draining:
            raise Refusal(Reason.DRAINING, "this gateway is stopping; try again")
        known = authenticate(self._directory, request, _now_ms())
        may_write(known)
        return known

    def decoded(self, request: Request, received: bytes) -> bytes:
        """Return the JSON of a request's body as it was received. Raises Refusal."""
        body = decode(received, request.headers.get(b"content-encoding", b""), request.query.get(b"se") == b"1")
        self._metrics.body_bytes.inc(len(received))
        return body

    def take(self, request: Request, known: KnownKey, body: bytes, rewrite: Rewrite | None = None) -> Taken:
        """Put the events of a decoded body on their way. Raises Refusal; then none of them is."""
        body, found = _read(request, known, body, rewrite)
        return self._put(request, known, body, found)

    def finish(self, taken: Taken) -> Answer:
        """Return the answer to a request whose ticket is settled. Raises Refusal."""
        return accepted(*self._settle(taken))

    def _settle(self, taken: Taken) -> Kept:
        self.in_flight.give_back(taken.held_bytes)
        if not taken.ticket.settled.result():
            raise Refusal(Reason.LOG_UNAVAILABLE, "the log did not acknowledge in time; try again")
        return Kept(taken.refused, taken.ticket.durability)

    def _put(self, request: Request, known: KnownKey, body: bytes, found: Split) -> Taken:
        if problem := self._events.problem:
            raise Refusal(Reason.LOG_UNAVAILABLE, problem)
        head = head_of(known, request, _now_ms())
        topic, partitions = self._events.topic, self._events.partitions
        parts = parts_of(head, found, partitions, key_of(request), len(body))
        stalled = self._linger.stalled
        if stalled and any(Lane(topic, part.partition) in stalled for part in parts):
            raise Refusal(Reason.LOG_UNAVAILABLE, "the log does not acknowledge; try again")
        self.in_flight.take(len(body))
        try:
            charge(known, len(found.events) + len(found.refused))
        except Refusal:
            self.in_flight.give_back(len(body))
            raise
        ticket = self._linger.put(parts, len(found.refused), topic)
        if found.refused:
            for letter in dead_letters_of(head, found, known.record):
                self._write_letter(letter, partition_of(letter.partition_key, partitions), ticket)
        return Taken(ticket, found.refused, len(body))

    def _write_letter(self, letter: DeadLetter, partition: int, ticket: Ticket) -> None:
        task = asyncio.create_task(self._append_letter(letter, partition, ticket))
        self._letters.add(task)
        task.add_done_callback(self._letters.discard)

    async def _append_letter(self, letter: DeadLetter, partition: int, ticket: Ticket) -> None:
        try:
            durability = await self._events.append_dead_letter(partition, letter.encode())
        except LogUnavailableError:
            ticket.fail()
        except Exception:
            ticket.fail()
            raise
        else:
            self._metrics.dead_letters.labels(letter.reason.value).inc()
            reach(CrashPoint.GATEWAY_AFTER_DEAD_LETTER)
            ticket.acknowledge(durability)

    def held_bytes(self) -> int:
        """Return how many bytes of requests are in hand."""
        return self.in_flight.held_bytes


def _read(request: Request, known: KnownKey, body: bytes, rewrite: Rewrite | None) -> tuple[bytes, Split]:
    """Return the JSON of a log request and its events. Raises Refusal."""
    if rewrite is not None:
        body = rewrite(body, known)
    elif not _is_of_sdk(request):
        # Every SDK says which it is, and none has a user beside its events: looking costs 0.5 µs an event.
        body = with_shared_user(body)
    return body, split(body)


def _now_ms() -> int:
    return time.time_ns() // 1_000_000


def key_of(request: Request) -> bytes:
    """Return the key a request came with, as it was sent."""
    return request.headers.get(b"statsig-api-key") or request.query.get(b"k", b"")


def head_of(known: KnownKey, request: Request, now_ms: int) -> RequestHead:
    """Return what a request says of itself, outside of its body."""
    headers = request.headers
    client_time = headers.get(b"statsig-client-time") or request.query.get(b"t", b"")
    # Browsers do not write it into their events; a server's own says nothing of the user.
    user_agent = headers.get(b"user-agent", b"") if known.record.kind is KeyKind.CLIENT else b""
    return RequestHead(
        known.head,
        known.record.project,
        known.record.environment,
        request.id,
        now_ms,
        number_of(client_time),
        headers.get(b"idempotency-key", b"").decode("latin-1"),
        user_agent.decode("latin-1"),
    )
