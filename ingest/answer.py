"""Answers: always JSON to SDKs, which send a batch again when an answer is empty or is not."""

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
from starlette.types import Send

from ingest.durability import Durability
from ingest.receive import Request
from ingest.refusal import Refusal
from ingest.split import Refused

Header = tuple[bytes, bytes]
Headers = tuple[Header, ...]

_JSON: Final[Header] = (b"content-type", b"application/json")
_encode: Final = msgspec.json.Encoder().encode


class Answer(NamedTuple):
    """What is sent back: a status, JSON unless it says otherwise (nothing with 204 and 304), and further headers."""

    status: int
    content: bytes = b""
    headers: Headers = ()
    content_type: Header = _JSON


SUCCESS: Final = Answer(202, b'{"success":true}')
"""The request was taken, and there is nothing in it to keep."""

_KEPT: Final = {
    durability: Answer(*SUCCESS[:2], headers=((b"x-headrace-durability", durability.value.encode()),))
    for durability in Durability
}


def accepted(refused: Sequence[Refused], durability: Durability) -> Answer:
    """Answer a request whose events are all kept, or in the dead letters as listed; `durability` says where."""
    kept = _KEPT[durability]
    if not refused:
        return kept
    listed = [{"index": item.position, "reason": item.verdict.reason} for item in refused]
    return kept._replace(content=_encode({"success": True, "refused": listed}))


def refusing(refusal: Refusal) -> Answer:
    """Answer why a request was not taken."""
    return Answer(refusal.status, _encode({"success": False, "reason": refusal.reason, "message": refusal.message}))


def headers_of(answer: Answer, request: Request) -> list[tuple[bytes, bytes]]:
    """Return all headers of an answer."""
    headers = [(b"x-headrace-request-id", request.id.encode()), *request.cors, *answer.headers]
    if answer.status not in (204, 304):
        headers += (answer.content_type, (b"content-length", b"%d" % len(answer.content)))
    return headers


async def send_by_asgi(send: Send, request: Request, answer: Answer) -> None:
    """Send an answer as ASGI does it."""
    await send({"type": "http.response.start", "status": answer.status, "headers": headers_of(answer, request)})
    await send({"type": "http.response.body", "body": answer.content})
