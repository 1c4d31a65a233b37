"""Sends a workload as SDKs do: one request at a time, again until it is taken, merged with newer events."""

import asyncio
import time
from collections import Counter

from crash.workload import SENDERS, Sending, Workload

_ANSWER_S = 8.0
_PAUSE_S = 0.15
_TAKEN = 202
_AGAIN = {401, 503}
"""401 until the gateway knows the key."""

_Connection = tuple[asyncio.StreamReader, asyncio.StreamWriter]


class Traffic:
    """Sends at a pace until told to stop, and then until nothing is owed."""

    def __init__(self, workload: Workload, port: int, per_second: float, enough: int, batch: int = 120) -> None:
        """`batch` new events are planned at once and go out in a request of each sender.

        Beyond `enough` events they come at a fifth of the pace: where all takes long, load is not what is wanted.
        """
        self.workload = workload
        self.statuses: Counter[str] = Counter()
        self._port = port
        self._per_second = per_second
        self._enough = enough
        self._batch = batch
        self._queues: list[asyncio.Queue[Sending]] = [asyncio.Queue() for _ in range(SENDERS)]
        self._under_way = 0
        self._ending = False
        self._tasks: list[asyncio.Task[None]] = []
        self._pacer: asyncio.Task[None] | None = None

    def start(self) -> None:
        """Begin to send."""
        self._tasks = [asyncio.create_task(self._send_on(number)) for number in range(SENDERS)]
        self._pacer = asyncio.create_task(self._pace())

    async def reach(self, events: int) -> None:
        """Wait until so many events have been planned; from now on as fast as answers come."""
        self._per_second = 50_000.0
        while self.workload.planned < events:
            self._raise()
            await asyncio.sleep(0.02)

    async def end(self, timeout_s: float = 120) -> None:
        """Plan nothing new, and return when all that was ever planned is acknowledged."""
        self._ending = True
        assert self._pacer is not None
        await self._pacer
        async with asyncio.timeout(timeout_s):
            while True:
                for sending in self.workload.rest():
                    self._put(sending)
                if not self._under_way:
                    break
                self._raise()
                await asyncio.sleep(0.02)
        await self.stop()
        self.workload.close()

    async def stop(self) -> None:
        """Send nothing more."""
        tasks = [*self._tasks, *([self._pacer] if self._pacer else [])]
        for task in tasks:
            task.cancel()
        await asyncio.gather(*tasks, return_exceptions=True)
        await asyncio.sleep(0)  # transports close in the next turn

    def _raise(self) -> None:
        for task in [*self._tasks, self._pacer]:
            if task is not None and task.done() and not task.cancelled():
                task.result()

    def _put(self, sending: Sending) -> None:
        self._under_way += 1
        self._queues[sending.sender].put_nowait(sending)

    async def _pace(self) -> None:
        began, done = time.monotonic(), 0.0
        while not self._ending:
            if sum(queue.qsize() for queue in self._queues) > 4 * SENDERS:
                # Nobody takes it: what was missed is not made up for, or an outage would end in a flood.
                await asyncio.sleep(0.02)
                began, done = time.monotonic(), 0.0
                continue
            for sending in self.workload.next(self._batch):
                self._put(sending)
            done += self._batch if self.workload.planned < self._enough else 5 * self._batch
            ahead = began + done / self._per_second - time.monotonic()
            await asyncio.sleep(max(0.0, ahead))

    async def _send_on(self, sender: int) -> None:
        connection: _Connection | None = None
        try:
            while True:
                sending = await self._queues[sender].get()
                status, sent_s = 0, time.monotonic()
                try:
                    async with asyncio.timeout(_ANSWER_S):
                        if connection is None:
                            connection = await asyncio.open_connection("127.0.0.1", self._port)
                        sent_s = time.monotonic()
                        status = await self._ask(*connection, sending)
                except (OSError, EOFError, TimeoutError):
                    self.statuses["no answer"] += 1
                    connection = _cut(connection)
                else:
                    self.statuses[str(status)] += 1
                if status == _TAKEN:
                    self.workload.acknowledged(sending, sent_s, time.monotonic())
                else:
                    assert status == 0 or status in _AGAIN, status
                    self.workload.again(sending)
                    await asyncio.sleep(_PAUSE_S)
                self._under_way -= 1
        finally:
            _cut(connection)

    async def _ask(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter, sending: Sending) -> int:
        body = self.workload.run.body(sending.sender, sending.numbers)
        head = (
            f"POST /v1/log_event HTTP/1.1\r\nhost: localhost\r\nstatsig-api-key: {self.workload.key}\r\n"
            f"statsig-sdk-type: py-server\r\ncontent-length: {len(body)}\r\n\r\n"
        )
        writer.write(head.encode() + body)
        await writer.drain()
        answer = (await reader.readuntil(b"\r\n\r\n")).lower()
        length = int(answer.partition(b"content-length:")[2].split(b"\r\n")[0])
        await reader.readexactly(length)
        return int(answer[9:12])


def _cut(connection: _Connection | None) -> None:
    if connection is not None:
        connection[1].transport.abort()
