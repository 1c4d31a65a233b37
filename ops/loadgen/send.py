"""Sends the load: at full speed as answers come, or at a rate whether they come or not."""

import asyncio
import contextlib
import random
import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from ops.loadgen.bodies import Encoding, RequestMaker
from ops.loadgen.connection import Connection
from ops.loadgen.ledger import LedgerWriter
from ops.loadgen.summary import Summary

_ANSWER_TIMEOUT_S: Final = 10.0
_FIRST_PAUSE_S: Final = 1.0
_LONGEST_PAUSE_S: Final = 8.0
_RECONNECT_S: Final = 0.5
_PROGRESS_S: Final = 0.5
# What SDKs send again; other 4xx they drop.
_RETRIED: Final = frozenset({408, 500, 502, 503, 504, 522, 524, 599})


@dataclass(frozen=True)
class Load:
    """What to send. `rate` 0 means full speed; `seconds` and `events` 0 mean no such limit.

    `copies` is the share of requests that are sent a second time, byte for byte, after their
    acknowledgement. `drain_s` is how long to wait at the end for what is not yet acknowledged.
    """

    host: str
    port: int
    key: str
    run: str
    batch: int = 50
    users: int = 100_000
    connections: int = 16
    rate: float = 0.0
    seconds: float = 10.0
    events: int = 0
    copies: float = 0.0
    encoding: Encoding = "identity"
    ledger: Path | None = None
    drain_s: float = 30.0


@dataclass(slots=True)
class _Request:
    number: int
    events: int
    due: float
    is_copy: bool = False
    tries: int = 0
    content: bytes = b""
    written: float = field(default=0.0)


class Sender:
    """Sends one load once."""

    def __init__(self, load: Load, on_progress: Callable[[Summary], None] | None = None) -> None:
        self._load = load
        self._on_progress = on_progress
        self._summary = Summary(run=load.run, batch=load.batch)
        self._ledger = LedgerWriter(load.ledger, load.run, load.batch) if load.ledger else None
        self._makers: dict[int, RequestMaker] = {}
        self._dice = random.Random(load.run)  # noqa: S311 - which requests are copied, not a secret
        self._idle: list[Connection] = []
        self._waiting: deque[_Request] = deque()
        self._in_flight: dict[Connection, _Request] = {}
        self._open = 0  # requests begun and neither acknowledged nor given up
        self._reconnects: set[asyncio.Task[None]] = set()
        self._made = 0
        self._planned = 0
        self._started = 0.0
        self._last_answer = 0.0
        self._is_ending = False
        self._step = asyncio.Event()  # something was planned or finished that is waited for

    async def run(self) -> Summary:
        """Send everything and return what happened. Raises OSError when nothing listens at the start."""
        load = self._load
        connections = [await self._connect() for _ in range(load.connections)]
        cpu_started = time.process_time()
        self._started = self._last_answer = time.monotonic()
        self._summary.began_at_ms = time.time_ns() // 1_000_000
        watch = asyncio.create_task(self._watch())
        pace = asyncio.create_task(self._pace()) if load.rate else None
        for connection in connections:
            self._go_on(connection)
        try:
            if pace is not None:
                await pace
            else:
                await self._wait_until(self._is_all_planned, load.seconds or None)
            self._is_ending = True
            await self._wait_until(self._is_all_done, load.drain_s)
        finally:
            watch.cancel()
            await asyncio.gather(watch, return_exceptions=True)
            self._close()
        self._summary.refused = self._summary.sent - self._summary.acked
        self._summary.seconds = self._last_answer - self._started
        self._summary.cpu_seconds = time.process_time() - cpu_started
        self._tell()
        return self._summary

    async def _wait_until(self, holds: Callable[[], bool], most_s: float | None) -> None:
        """Wait until `holds`, at most `most_s`."""
        with contextlib.suppress(TimeoutError):
            async with asyncio.timeout(most_s):
                while not holds():
                    self._step.clear()
                    await self._step.wait()

    def _is_all_done(self) -> bool:
        return not self._open

    def _is_all_planned(self) -> bool:
        return bool(self._load.events) and self._planned >= self._load.events

    def _plan(self, due: float) -> _Request | None:
        """Return the next new request, None when there is none left to begin."""
        if self._is_ending or self._is_all_planned():
            return None
        room = self._load.events - self._planned if self._load.events else self._load.batch
        request = _Request(self._made, min(self._load.batch, room), due)
        self._made += 1
        self._planned += request.events
        self._open += 1
        if self._is_all_planned():
            self._step.set()
        return request

    async def _pace(self) -> None:
        """Begin requests when they are due, not when the gateway has time."""
        load = self._load
        events = 0
        # Events are counted, for adding up pauses would drift from the rate, and by a request at the end.
        while not load.seconds or events < load.rate * load.seconds:
            due = self._started + events / load.rate
            if due > time.monotonic():
                await asyncio.sleep(due - time.monotonic())
            request = self._plan(due)
            if request is None:
                return
            self._waiting.append(request)
            events += request.events
            if self._idle:
                self._go_on(self._idle.pop())

    def _go_on(self, connection: Connection) -> None:
        """Give an idle connection its next request."""
        now = time.monotonic()
        request = self._waiting.popleft() if self._waiting else None
        if request is None and not self._load.rate:
            request = self._plan(now)
        if request is None:
            self._idle.append(connection)
            return
        if not request.content:
            request.content = self._content(request)
        request.written = now
        self._in_flight[connection] = request
        connection.send(request.content)

    def _content(self, request: _Request) -> bytes:
        load = self._load
        maker = self._makers.get(request.events)
        if maker is None:
            host = f"{load.host}:{load.port}"
            maker = RequestMaker(host, load.key, load.run, request.events, load.users, load.encoding)
            self._makers[request.events] = maker
        if self._ledger is not None:
            self._ledger.sent(request.number, request.events)
        self._summary.sent += request.events
        return maker.make(request.number, time.time_ns() // 1_000_000)

    def _on_answer(self, connection: Connection, status: int) -> None:
        request = self._in_flight.pop(connection, None)
        if request is None:
            return  # a word before the peer closes an idle connection
        self._last_answer = time.monotonic()
        self._summary.statuses[status] += 1
        if 200 <= status < 300:
            self._on_acknowledged(request)
        elif status in _RETRIED:
            self._retry(request)
        else:
            self._finish()
        self._go_on(connection)

    def _on_acknowledged(self, request: _Request) -> None:
        if request.is_copy:
            self._summary.copies += request.events
            self._finish()
            return
        self._summary.acked += request.events
        self._summary.answers_ms.append((self._last_answer - request.due) * 1000)
        if self._ledger is not None:
            self._ledger.acked(request.number, request.events)
        if self._load.copies and self._dice.random() < self._load.copies:
            request.is_copy = True
            self._waiting.append(request)
        else:
            self._finish()

    def _retry(self, request: _Request) -> None:
        pause = min(_FIRST_PAUSE_S * 2**request.tries, _LONGEST_PAUSE_S)
        request.tries += 1
        self._summary.retried_requests += 1
        asyncio.get_running_loop().call_later(pause, self._again, request)

    def _again(self, request: _Request) -> None:
        self._waiting.append(request)
        if self._idle:
            self._go_on(self._idle.pop())

    def _finish(self) -> None:
        self._open -= 1
        if not self._open:
            self._step.set()

    def _on_lost(self, connection: Connection) -> None:
        self._summary.lost_connections += 1
        if connection in self._idle:
            self._idle.remove(connection)
        request = self._in_flight.pop(connection, None)
        if request is not None:
            self._retry(request)
        task = asyncio.create_task(self._reconnect())
        self._reconnects.add(task)
        task.add_done_callback(self._reconnects.discard)

    async def _reconnect(self) -> None:
        while True:
            await asyncio.sleep(_RECONNECT_S)
            try:
                connection = await self._connect()
            except OSError:
                continue
            self._go_on(connection)
            return

    async def _connect(self) -> Connection:
        loop = asyncio.get_running_loop()
        _, connection = await loop.create_connection(
            lambda: Connection(self._on_answer, self._on_lost), self._load.host, self._load.port
        )
        return connection

    async def _watch(self) -> None:
        """Cut requests that get no answer, and tell how far it is."""
        while True:
            await asyncio.sleep(_PROGRESS_S)
            self._tell()
            late = [
                c for c, request in self._in_flight.items() if time.monotonic() - request.written > _ANSWER_TIMEOUT_S
            ]
            for connection in late:
                connection.close()
                self._on_lost(connection)

    def _tell(self) -> None:
        if self._on_progress is not None:
            self._summary.seconds = time.monotonic() - self._started
            self._on_progress(self._summary)

    def _close(self) -> None:
        for task in self._reconnects:
            task.cancel()
        for connection in [*self._idle, *self._in_flight]:
            connection.close()
        if self._ledger is not None:
            self._ledger.close()
