"""Many connections to a gateway that hardly do anything: idle ones, and ones that never finish a request."""

import asyncio
from types import TracebackType
from typing import Final, Self

from ops.loadgen.connection import Connection
from schemas.limits import UNFINISHED_REQUEST_S

_DRIP_S: Final = 1.0
_AT_ONCE: Final = 50


class Idle:
    """Connections that have been answered once each, and are then left alone."""

    def __init__(self, port: int, key: str, connections: int) -> None:
        body = b'{"events":[]}'
        head = f"POST /v1/log_event HTTP/1.1\r\nhost: bench\r\nstatsig-api-key: {key}\r\ncontent-length: {len(body)}"
        self._request = head.encode() + b"\r\n\r\n" + body
        self._port = port
        self._connections = connections
        self._open: list[Connection] = []
        self.lost = 0

    async def __aenter__(self) -> Self:
        """Connect, and return when every connection has had its answer."""
        loop = asyncio.get_running_loop()
        for _ in range(0, self._connections, _AT_ONCE):
            answered = asyncio.Semaphore(0)
            for _ in range(_AT_ONCE):
                _, made = await loop.create_connection(
                    lambda answered=answered: Connection(lambda *_: answered.release(), self._on_lost),
                    "127.0.0.1",
                    self._port,
                )
                self._open.append(made)
                made.send(self._request)
            for _ in range(_AT_ONCE):
                await answered.acquire()
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Hang up."""
        for connection in self._open:
            connection.close()

    def _on_lost(self, _connection: Connection) -> None:
        self.lost += 1


class Slow:
    """Connections that send a byte of a request each second; one that is cut is made anew."""

    def __init__(self, port: int, connections: int) -> None:
        self._port = port
        self._connections = connections
        self._tasks: list[asyncio.Task[None]] = []
        self.cut = 0

    async def __aenter__(self) -> Self:
        """Begin one after the other over as long as a request may take, so that not all are cut at once."""
        for number in range(self._connections):
            self._tasks.append(asyncio.create_task(self._drip(number)))
            await asyncio.sleep(UNFINISHED_REQUEST_S / self._connections)
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Hang up."""
        for task in self._tasks:
            task.cancel()
        await asyncio.gather(*self._tasks, return_exceptions=True)

    async def _drip(self, number: int) -> None:
        head = b"POST /v1/log_event HTTP/1.1\r\nhost: bench\r\nstatsig-api-key: " + b"x" * (number % 20)
        while True:
            reader, writer = await asyncio.open_connection("127.0.0.1", self._port)
            try:
                writer.write(head)
                answered = asyncio.ensure_future(reader.read(1))
                while not (await asyncio.wait([answered], timeout=_DRIP_S))[0]:
                    writer.write(b"x")
                self.cut += 1
            except ConnectionError:
                self.cut += 1
            finally:
                writer.close()
