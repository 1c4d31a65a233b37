"""Answers: always JSON, because SDKs send a batch again when an answer is empty or is not."""

from collections.abc import Sequence
from typing import Final

import msgspec

from ingest.receive import Request
from ingest.refusal import Refusal
from ingest.split import Refused

Headers = Sequence[tuple[bytes, bytes]]

SUCCESS: Final = b'{"success":true}'

_JSON: Final = (b"content-type", b"application/json")
_encode: Final = msgspec.json.Encoder().encode


async def accept(request: Request, refused: Sequence[Refused] = ()) -> int:
    """Answer 202: everything that was sent is in the log, or in the dead letters as listed."""
    if refused:
        listed = [{"index": item.position, "reason": item.verdict.reason} for item in refused]
        return await reply(request, 202, _encode({"success": True, "refused": listed}))
    return await reply(request, 202, SUCCESS)


async def refuse(request: Request, refusal: Refusal) -> int:
    """Answer why a request was not taken."""
    body = {"success": False, "reason": refusal.reason, "message": refusal.message}
    return await reply(request, refusal.status, _encode(body))


async def reply(request: Request, status: int, content: bytes, headers: Headers = ()) -> int:
    """Answer with JSON and return the status; 204 and 304 have no content."""
    head: list[tuple[bytes, bytes]] = [(b"x-headrace-request-id", request.id.encode()), *request.cors, *headers]
    if status not in (204, 304):
        head += (_JSON, (b"content-length", b"%d" % len(content)))
    await request.send({"type": "http.response.start", "status": status, "headers": head})
    await request.send({"type": "http.response.body", "body": content})
    return status
