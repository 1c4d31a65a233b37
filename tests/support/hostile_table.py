"""The rows of the table of hostile input, and what they are made of."""

from typing import NamedTuple

from support.hostile_gateway import Pieces

FIRST_MS = 1767225600000


class Row(NamedTuple):
    """An input: its name, what goes over a connection, and what has to become of it.

    `landed` are rows in the store, `dead` the reasons of dead letters, at the gateway or the worker.
    `sent` may be several requests of the same fate. `why`: for whoever would have expected another.
    """

    name: str
    sent: bytes | Pieces | tuple[bytes, ...]
    status: int
    reason: str = ""
    landed: int = 0
    dead: tuple[str, ...] = ()
    closes: bool = False
    is_bomb: bool = False
    why: str = ""


def event(number: int, more: str = "") -> bytes:
    """Return a good event that no other one equals."""
    text = f'{{"eventName":"hostile","user":{{"userID":"u-{number}"}},"time":1767225600000,"value":{number}{more}}}'
    return text.encode("utf-8", "surrogatepass")


def body(*events: bytes, more: bytes = b"") -> bytes:
    """Return a log request's body."""
    return b'{"events":[' + b",".join(events) + b"]" + more + b"}"


def nested(levels: int) -> str:
    """Return arrays in arrays."""
    return "[" * levels + "]" * levels


_numbers = iter(range(10**9))


def good(more: str = "") -> bytes:
    """Return one more good event."""
    return event(next(_numbers), more)


def of_size(size: int) -> bytes:
    start = good(',"metadata":{"pad":"')
    start = start[:-1]
    return start + b"x" * (size - len(start) - 3) + b'"}}'
