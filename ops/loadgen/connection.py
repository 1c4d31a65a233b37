"""One keep-alive HTTP/1.1 connection that has at most one request in flight."""

import asyncio
from collections.abc import Callable
from typing import Final, cast

_LENGTH: Final = b"content-length:"
_HEAD_END: Final = b"\r\n\r\n"

OnAnswer = Callable[["Connection", int], None]
OnLost = Callable[["Connection"], None]


def read_answer(received: bytes) -> tuple[int, int] | None:
    """Return (status, length) of the first whole answer in `received`, None when it is not whole.

    Raises ValueError when it is no answer with a content length.
    """
    end = received.find(_HEAD_END)
    if end < 0:
        return None
    head = received[:end].lower()
    start = head.find(_LENGTH)
    if start < 0 or not head.startswith(b"http/1.1 "):
        raise ValueError(f"not an answer with a content-length: {received[:80]!r}")
    length = int(head[start + len(_LENGTH) :].split(b"\r\n", 1)[0])
    whole = end + len(_HEAD_END) + length
    return (int(head[9:12]), whole) if len(received) >= whole else None


class Connection(asyncio.Protocol):
    """Tells `on_answer` the status of each answer, and `on_lost` when the peer is gone."""

    def __init__(self, on_answer: OnAnswer, on_lost: OnLost) -> None:
        self._on_answer = on_answer
        self._on_lost = on_lost
        self._transport: asyncio.Transport | None = None
        self._received = b""

    def send(self, request: bytes) -> None:
        """Write a request. The connection must be idle."""
        if self._transport is None:
            raise RuntimeError("send on a connection that is not open")
        self._transport.write(request)

    def close(self) -> None:
        """Close without telling `on_lost`."""
        self._on_lost = _ignore
        if self._transport is not None:
            self._transport.close()

    def connection_made(self, transport: asyncio.BaseTransport) -> None:
        """Take the transport."""
        self._transport = cast("asyncio.Transport", transport)  # uvloop's is none by class

    def data_received(self, data: bytes) -> None:
        """Hand on each whole answer."""
        self._received += data
        answer = read_answer(self._received)
        if answer is not None:
            status, whole = answer
            self._received = self._received[whole:]
            self._on_answer(self, status)

    def connection_lost(self, exc: Exception | None) -> None:  # noqa: ARG002 - asyncio's signature
        """Say that the peer is gone."""
        self._on_lost(self)


def _ignore(_connection: Connection) -> None:
    return
