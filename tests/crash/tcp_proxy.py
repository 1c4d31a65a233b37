"""A TCP proxy between two parts, and what may happen to a network: latency, crumbs, resets, silence, a thin line."""

import asyncio
import contextlib
import socket
import struct
from dataclasses import dataclass
from enum import StrEnum

_PIECE_BYTES = 64 * 1024
_CRUMBS = 400
"""So many bytes of each piece go one by one; all of a megabyte would stop everything for a minute."""
_RESET = struct.pack("ii", 1, 0)


class Trouble(StrEnum):
    """What a network does."""

    LATENCY = "latency"
    CRUMBS = "crumbs"
    RESET = "reset"
    HALF_OPEN = "half_open"
    THROTTLE = "throttle"


@dataclass(frozen=True)
class Fault:
    """One trouble, and how bad it is: seconds of latency, bytes until the reset, bytes per second."""

    trouble: Trouble
    amount: float = 0.0


class Link:
    """Forwards `port` to `upstream` on this machine; while a fault is set, badly."""

    def __init__(self, name: str, port: int, upstream: int) -> None:
        self.name = name
        self.port = port
        self.upstream = upstream
        self.resets = 0
        self._fault: Fault | None = None
        self._left_bytes = 0.0
        self._healed = asyncio.Event()
        self._healed.set()
        self._server: asyncio.Server | None = None
        self._pairs: set[tuple[asyncio.StreamWriter, asyncio.StreamWriter]] = set()
        self._tasks: set[asyncio.Task[None]] = set()

    async def start(self) -> None:
        """Begin to forward."""
        self._server = await asyncio.start_server(self._accept, "127.0.0.1", self.port, limit=_PIECE_BYTES)

    async def stop(self) -> None:
        """Cut everything."""
        if self._server is not None:
            self._server.close()
        self.heal()
        self.reset_all()
        # Cancelled, they would be taken for failed by the streams that started them.
        if self._tasks:
            await asyncio.wait(self._tasks, timeout=5)

    def suffer(self, fault: Fault) -> None:
        """Be bad from now on, to connections that are there and to new ones."""
        self._fault = fault
        self._left_bytes = fault.amount
        self._healed.clear()

    def heal(self) -> None:
        """Be good again. Whoever waited in silence is reset: what was withheld is gone."""
        was = self._fault
        self._fault = None
        self._healed.set()
        if was is not None and was.trouble is Trouble.HALF_OPEN:
            self.reset_all()

    def reset_all(self) -> None:
        """Reset every connection."""
        for pair in list(self._pairs):
            self._reset(pair)

    def _reset(self, pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter]) -> None:
        self.resets += 1
        for writer in pair:
            raw = writer.get_extra_info("socket")
            with contextlib.suppress(OSError, AttributeError):
                raw.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, _RESET)
            writer.transport.abort()

    async def _accept(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        task = asyncio.current_task()
        assert task is not None
        self._tasks.add(task)
        task.add_done_callback(self._tasks.discard)
        try:
            there, onward = await asyncio.open_connection("127.0.0.1", self.upstream, limit=_PIECE_BYTES)
        except OSError:
            writer.transport.abort()
            return
        pair = (writer, onward)
        self._pairs.add(pair)
        try:
            async with asyncio.TaskGroup() as ways:
                ways.create_task(self._forward(reader, onward, pair))
                ways.create_task(self._forward(there, writer, pair))
        except* (OSError, EOFError):
            pass
        finally:
            self._pairs.discard(pair)
            for each in pair:
                each.transport.abort()

    async def _forward(
        self,
        reader: asyncio.StreamReader,
        writer: asyncio.StreamWriter,
        pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
    ) -> None:
        while piece := await reader.read(_PIECE_BYTES):
            fault = self._fault
            if fault is None:
                writer.write(piece)
                await writer.drain()
            else:
                await self._forward_badly(piece, writer, pair, fault)
        raise EOFError  # one side has ended: the other way ends with it

    async def _forward_badly(
        self,
        piece: bytes,
        writer: asyncio.StreamWriter,
        pair: tuple[asyncio.StreamWriter, asyncio.StreamWriter],
        fault: Fault,
    ) -> None:
        match fault.trouble:
            case Trouble.LATENCY:
                await asyncio.sleep(fault.amount)
            case Trouble.CRUMBS:
                for at in range(min(_CRUMBS, len(piece))):
                    writer.write(piece[at : at + 1])
                    await asyncio.sleep(0)
                piece = piece[_CRUMBS:]
            case Trouble.RESET:
                self._left_bytes -= len(piece)
                if self._left_bytes < 0:
                    # What comes before the limit arrives, so that a request may be cut anywhere.
                    writer.write(piece[: max(0, int(self._left_bytes + len(piece)))])
                    with contextlib.suppress(OSError):
                        await writer.drain()
                    self._left_bytes = fault.amount
                    self._reset(pair)
                    raise EOFError
            case Trouble.HALF_OPEN:
                await self._healed.wait()
                raise EOFError
            case Trouble.THROTTLE:
                await asyncio.sleep(len(piece) / fault.amount)
        writer.write(piece)
        await writer.drain()
