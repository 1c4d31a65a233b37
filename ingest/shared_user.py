"""A user that stands once beside the events instead of in each of them.

The documented HTTP API knows it; no SDK sends it. Each event without a user of its own becomes what
it would have been with this one, and has that event's id.
"""

from typing import Final

import msgspec

from ingest.cut import CutError, cut
from ingest.judge import unreadable
from ingest.refusal import Refusal
from schemas.limits import DECODED_BODY_BYTES
from schemas.reasons import Reason
from schemas.wire import NOTHING, RequestBody

_ABSENT: Final = (b"", b"null")
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class _Beside(msgspec.Struct):
    """What has to be looked at of nearly every request: decoding its events as well would cost twice as much."""

    user: msgspec.Raw = NOTHING


_find_user: Final = msgspec.json.Decoder(_Beside).decode

_decode_request: Final = msgspec.json.Decoder(RequestBody).decode
_decode_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode: Final = msgspec.json.Encoder().encode


def has_shared_user(body: bytes) -> bool:
    """Tell whether a user stands beside the events; True where the body is not read that easily."""
    try:
        return bytes(_find_user(body).user) not in _ABSENT
    except _UNREADABLE:
        return True


def with_shared_user(body: bytes) -> bytes:
    """Return a log request in which every event has its user. Raises Refusal (400, 413).

    A body that cannot be read is returned as it is: who splits it says why.
    """
    try:
        if bytes(_find_user(body).user) in _ABSENT:
            return body
        request = _decode_request(body)
        events, user, metadata = list(map(bytes, request.events)), bytes(request.user), bytes(request.statsigMetadata)
    except _UNREADABLE:
        try:
            events, others = cut(body)
        except CutError:
            return body
        user, metadata = others.get("user", b""), others.get("statsigMetadata", b"")
        if user in _ABSENT:
            return body
    _check(user)
    if sum(map(len, events)) + len(events) * len(user) > DECODED_BODY_BYTES:
        message = f"with the request's user in each event the body is larger than {DECODED_BODY_BYTES} bytes"
        raise Refusal(Reason.BODY_TOO_LARGE, message)
    completed = b",".join([_with_user(event, user) for event in events])
    return b'{"events":[%b],"statsigMetadata":%b}' % (completed, metadata or b"null")


def _check(user: bytes) -> None:
    if user[:1] != b"{":
        raise Refusal(Reason.UNDECODABLE_BODY, "user: not an object")
    if (problem := unreadable(user)) is not None:
        raise Refusal(Reason.UNDECODABLE_BODY, f"user: {problem}")


def _with_user(event: bytes, user: bytes) -> bytes:
    try:
        members = _decode_members(event)
    except _UNREADABLE:
        return event
    if bytes(members.get("user", msgspec.Raw())) not in _ABSENT:
        return event
    members["user"] = msgspec.Raw(user)
    return _encode(members)
