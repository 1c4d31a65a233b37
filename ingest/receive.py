"""Reading a request: its headers and query by name, and its body up to the limit."""

import os
from itertools import count
from typing import Final
from urllib.parse import unquote_to_bytes

from starlette.types import Receive, Scope

from ingest.in_flight import Hold
from ingest.refusal import Refusal
from schemas.limits import WIRE_BODY_BYTES
from schemas.reasons import Reason

Fields = dict[bytes, bytes]

_NO_FIELDS: Final[Fields] = {}


class DisconnectedError(Exception):
    """The client went away before its request was whole."""


class RequestIds:
    """Ids that no other request has, of this gateway or another."""

    def __init__(self) -> None:
        self._prefix = os.urandom(8).hex()
        self._count = count(1)

    def next(self) -> str:
        """Return a new id."""
        return f"{self._prefix}-{next(self._count):x}"


class Request:
    """One request as every route sees it. `cors` are the headers that a browser wants on the answer.

    `receive` is how its body is read, and `hold` counts what is; both may be left out where the body is
    handed over apart.
    """

    __slots__ = ("cors", "headers", "hold", "id", "method", "path", "query", "receive")

    def __init__(self, scope: Scope, request_id: str, receive: Receive | None = None, hold: Hold | None = None) -> None:
        self.receive = receive
        self.hold = hold
        self.id = request_id
        self.method: str = scope["method"]
        self.path: str = scope["path"]
        self.headers: Fields = dict(scope["headers"])
        self.query = query_of(scope["query_string"])
        self.cors: list[tuple[bytes, bytes]] = []


def query_of(query_string: bytes) -> Fields:
    """Return the query parameters; of a name that stands there twice, the first."""
    if not query_string:
        return _NO_FIELDS
    fields: Fields = {}
    for pair in query_string.split(b"&"):
        name, _, value = pair.partition(b"=")
        if b"%" in value or b"+" in value:
            value = unquote_to_bytes(value.replace(b"+", b" "))
        fields.setdefault(name, value)
    return fields


def number_of(text: bytes) -> int:
    """Return a count or time that a client told, 0 when it is absent or no whole number."""
    return int(text) if text.isdigit() and len(text) < 16 else 0


def length_of(request: Request) -> int:
    """Return the length of the body that is declared, -1 when none is."""
    told = request.headers.get(b"content-length", b"")
    return int(told[:20]) if told.isdigit() else -1


async def body_of(request: Request) -> bytes:
    """Return the request's body as it came. Raises Refusal (413, 503), DisconnectedError.

    A length that is declared and too large is refused before anything is read.
    """
    if length_of(request) > WIRE_BODY_BYTES:
        raise _too_large()
    receive = request.receive
    assert receive is not None, "the body of this request is handed over apart"
    assert request.hold is not None, "nobody counts what is read of this request"
    message = await receive()
    if message["type"] == "http.disconnect":
        raise DisconnectedError
    body: bytes = message["body"]
    size = len(body)
    if not message["more_body"]:
        if size > WIRE_BODY_BYTES:
            raise _too_large()
        request.hold.take(size)
        return body
    request.hold.take(size)
    pieces = [body]
    while message["more_body"]:
        message = await receive()
        if message["type"] == "http.disconnect":
            raise DisconnectedError
        pieces.append(message["body"])
        size += len(pieces[-1])
        if size > WIRE_BODY_BYTES:
            raise _too_large()
        request.hold.take(len(pieces[-1]))
    return b"".join(pieces)


def _too_large() -> Refusal:
    return Refusal(Reason.BODY_TOO_LARGE, f"the body is larger than {WIRE_BODY_BYTES} bytes")
