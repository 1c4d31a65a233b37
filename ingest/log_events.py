"""The hot route: a log request from its first byte to its answer."""

import asyncio
import time

from ingest.answer import accept
from ingest.auth import KeyDirectory, KnownKey, authenticate, may_write
from ingest.body import decode
from ingest.chunks import RequestHead, parts_of
from ingest.dead_letters import dead_letters_of
from ingest.linger import Linger, Ticket
from ingest.publish import LogUnavailableError, Publisher
from ingest.receive import Request, body_of, number_of
from ingest.refusal import Refusal
from ingest.split import Split, split
from schemas.dead_letter import DeadLetter
from schemas.ids import partition_of
from schemas.keys import KeyKind
from schemas.limits import GATEWAY_IN_FLIGHT_BYTES
from schemas.metrics import GatewayMetrics
from schemas.reasons import Reason


class LogEvents:
    """Takes log requests. An answer of 202 means that every event is in the log or a dead letter."""

    def __init__(self, directory: KeyDirectory, publisher: Publisher, linger: Linger, metrics: GatewayMetrics) -> None:
        self._directory = directory
        self._publisher = publisher
        self._linger = linger
        self._metrics = metrics
        self._in_flight_bytes = 0
        self._letters: set[asyncio.Task[None]] = set()
        self.is_draining = False

    async def __call__(self, request: Request) -> int:
        """Answer one request and return the status. Raises Refusal, DisconnectedError."""
        now_ms = time.time_ns() // 1_000_000
        known = self._authenticate(request, now_ms)
        received = await body_of(request)
        self._metrics.body_bytes.inc(len(received))
        body = decode(received, request.headers.get(b"content-encoding", b""), request.query.get(b"se") == b"1")
        self._admit(len(body))
        try:
            found = split(body)
            await self._publish(head_of(known, request, now_ms), known, found, body, key_of(request))
        finally:
            self._release(len(body))
        self._metrics.events.inc(len(found.events))
        return await accept(request, found.refused)

    def _authenticate(self, request: Request, now_ms: int) -> KnownKey:
        if self.is_draining:
            raise Refusal(Reason.DRAINING, "this gateway is stopping; try again")
        known = authenticate(self._directory, request, now_ms)
        may_write(known)
        return known

    def _admit(self, size: int) -> None:
        if self._in_flight_bytes + size > GATEWAY_IN_FLIGHT_BYTES:
            raise Refusal(Reason.OVERLOADED, "the gateway holds as much as it may; try again")
        self._in_flight_bytes += size
        self._metrics.in_flight_bytes.set(self._in_flight_bytes)

    def _release(self, size: int) -> None:
        self._in_flight_bytes -= size
        self._metrics.in_flight_bytes.set(self._in_flight_bytes)

    async def _publish(self, head: RequestHead, known: KnownKey, found: Split, body: bytes, key: bytes) -> None:
        partitions = self._publisher.partitions
        if problem := self._publisher.problem:
            raise Refusal(Reason.LOG_UNAVAILABLE, problem)
        parts = parts_of(head, found, partitions, key, body)
        stalled = self._linger.stalled
        if stalled and any(part.partition in stalled for part in parts):
            raise Refusal(Reason.LOG_UNAVAILABLE, "the log does not acknowledge; try again")
        ticket = self._linger.put(parts, len(found.refused))
        if found.refused:
            for letter in dead_letters_of(head, found, known.record):
                self._write_letter(letter, partition_of(letter.partition_key, partitions), ticket)
        if not await ticket.taken:
            raise Refusal(Reason.LOG_UNAVAILABLE, "the log did not acknowledge in time; try again")

    def _write_letter(self, letter: DeadLetter, partition: int, ticket: Ticket) -> None:
        task = asyncio.create_task(self._append_letter(letter, partition, ticket))
        self._letters.add(task)
        task.add_done_callback(self._letters.discard)

    async def _append_letter(self, letter: DeadLetter, partition: int, ticket: Ticket) -> None:
        try:
            await self._publisher.append_dead_letter(partition, letter.encode())
        except LogUnavailableError:
            ticket.fail()
        except Exception:
            ticket.fail()
            raise
        else:
            self._metrics.dead_letters.labels(letter.reason.value).inc()
            ticket.acknowledge()


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
