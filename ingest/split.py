"""From a request's JSON to its events: those that are accepted, and those that are not, with why.

Accepted events keep the bytes they came as. Every event that was sent is in exactly one of the two
lists.
"""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final, NamedTuple

import msgspec

from ingest.cut import CutError, cut, is_deeper_than
from ingest.judge import Verdict, certainly_good, judge, unreadable
from ingest.mask import DIAGNOSTICS, Private, PrivateError, met, needs_masking
from ingest.refusal import Refusal
from schemas.ids import partition_key
from schemas.limits import EVENT_DEPTH, EVENTS_PER_REQUEST, REQUEST_METADATA_BYTES
from schemas.reasons import Reason
from schemas.wire import RequestBody, RequestMetadata, text_of

_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Refused(NamedTuple):
    """An event that is not accepted. `position` counts over the request."""

    position: int
    event: bytes
    key: bytes
    verdict: Verdict


@dataclass(slots=True)
class Split:
    """A request's events on two tracks, `keys` beside `events`: what decides each one's partition.

    `needs_masking` is False where no event holds anything that `ingest.mask` removes.
    """

    metadata: bytes
    sender: RequestMetadata
    events: list[bytes]
    keys: list[bytes]
    refused: list[Refused] = field(default_factory=list)
    needs_masking: bool = False


class _CustomIds(msgspec.Struct, gc=False):
    stableID: Any = None


class _User(msgspec.Struct, gc=False):
    userID: Any = None
    customIDs: _CustomIds | None = None
    privateAttributes: Private | None = None


class _Event(msgspec.Struct, gc=False):
    eventName: Any = None
    user: _User | None = None


class _Peek(msgspec.Struct):
    events: list[_Event]


_decode_request: Final = msgspec.json.Decoder(RequestBody).decode
_decode_sender: Final = msgspec.json.Decoder(RequestMetadata).decode
_peek: Final = msgspec.json.Decoder(_Peek, dec_hook=met).decode
_NOBODY: Final = RequestMetadata()
_NO_METADATA: Final = b"{}"


def split(body: bytes) -> Split:
    """Split a decoded request body. Raises Refusal where nothing of it can be used."""
    try:
        request = _decode_request(body)
    except _UNREADABLE:
        return _split_by_bytes(body)
    events = list(map(bytes, request.events))
    _check_count(len(events))
    try:
        peeked = _peek(body).events
    except (*_UNREADABLE, PrivateError):
        return _judged(body, events, bytes(request.statsigMetadata))
    if not certainly_good(body, events):
        return _judged(body, events, bytes(request.statsigMetadata))
    metadata, sender = _sender_of(bytes(request.statsigMetadata))
    keys, is_masked = _keys(peeked, events, text_of(sender.stableID))
    return Split(metadata, sender, events, keys, needs_masking=is_masked)


def _keys(peeked: Sequence[_Event], events: Sequence[bytes], stable_id: str) -> tuple[list[bytes], bool]:
    """Do for a whole request what `schemas.ids.partition_key` and `ingest.mask.needs_masking` do for one event.

    Private attributes are not among what was peeked at.
    """
    keys = []
    is_masked = False
    for event, raw in zip(peeked, events, strict=True):
        user = event.user
        if event.eventName == DIAGNOSTICS:
            is_masked = True
        if user is None:
            keys.append(stable_id.encode() or raw)
            continue
        ids = user.customIDs
        device = ids.stableID if ids is not None else None
        if device is not None and type(device) is not str:
            device = text_of(device)
        if device:
            keys.append(device.encode())
        elif stable_id:
            keys.append(stable_id.encode())
        else:
            user_id = user.userID
            keys.append((user_id if type(user_id) is str else text_of(user_id)).encode() or raw)
    return keys, is_masked


def _split_by_bytes(body: bytes) -> Split:
    try:
        pieces = cut(body)
    except CutError as error:
        raise Refusal(Reason.UNDECODABLE_BODY, f"{error}") from error
    _check_count(len(pieces.events))
    for name, value in pieces.others.items():
        _check_depth(name, value)
        if (problem := unreadable(value)) is not None:
            raise Refusal(Reason.UNDECODABLE_BODY, f"{name[:64]}: {problem}")
    return _judged(body, pieces.events, pieces.others.get("statsigMetadata", b""))


def _judged(body: bytes, events: Sequence[bytes], request_metadata: bytes) -> Split:
    """Judge event by event, which takes ten times as long as seeing that all of them are good."""
    _check_utf8(body)
    metadata, sender = _sender_of(request_metadata)
    stable_id = text_of(sender.stableID)
    accepted: list[bytes] = []
    keys: list[bytes] = []
    refused: list[Refused] = []
    for position, event in enumerate(events):
        verdict = judge(event)
        key = partition_key(event, stable_id)
        if verdict is None:
            accepted.append(event)
            keys.append(key)
        else:
            refused.append(Refused(position, event, key, verdict))
    return Split(metadata, sender, accepted, keys, refused, any(map(needs_masking, accepted)))


def _sender_of(metadata: bytes) -> tuple[bytes, RequestMetadata]:
    """Return the request's metadata as an object, and who it says is sending."""
    if metadata[:1] != b"{":
        return _NO_METADATA, _NOBODY  # absent, null, or no object: it says nothing
    if len(metadata) > REQUEST_METADATA_BYTES:
        message = f"statsigMetadata has {len(metadata)} bytes; the limit is {REQUEST_METADATA_BYTES}"
        raise Refusal(Reason.BODY_TOO_LARGE, message)
    _check_depth("statsigMetadata", metadata)
    try:
        return metadata, _decode_sender(metadata)
    except _UNREADABLE as error:
        raise Refusal(Reason.UNDECODABLE_BODY, f"statsigMetadata: {error}") from error


def _check_depth(name: str, value: bytes) -> None:
    if is_deeper_than(value, EVENT_DEPTH):
        raise Refusal(Reason.UNDECODABLE_BODY, f"{name[:64]} is more than {EVENT_DEPTH} levels deep")


def _check_utf8(body: bytes) -> None:
    try:
        body.decode()
    except UnicodeDecodeError as error:
        raise Refusal(Reason.UNDECODABLE_BODY, f"the body is not UTF-8: {error}") from error


def _check_count(events: int) -> None:
    if events > EVENTS_PER_REQUEST:
        raise Refusal(Reason.TOO_MANY_EVENTS, f"{events} events; the limit is {EVENTS_PER_REQUEST}")
