"""Whether one event may enter the log: only size and readability are judged here.

What an event means (types, times, names) is the worker's to judge, so that such events are claimed
like all others and their retries are seen to be copies.
"""

from collections.abc import Sequence
from typing import Final, NamedTuple

import msgspec
import orjson
import simdjson

from ingest.cut import is_deeper_than
from schemas.limits import EVENT_BYTES, EVENT_DEPTH, METADATA_KEYS
from schemas.reasons import Reason


class Verdict(NamedTuple):
    """Why an event is refused; `message` is for a person."""

    reason: Reason
    message: str


class _Metadata(msgspec.Struct):
    metadata: msgspec.Raw = msgspec.Raw(b"")


_decode_metadata: Final = msgspec.json.Decoder(_Metadata).decode
_decode_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_decode: Final = msgspec.json.Decoder().decode

_SHORTEST_MEMBER: Final = len(b'"":0,')
_MAY_HAVE_MANY_KEYS_BYTES: Final = (METADATA_KEYS + 1) * _SHORTEST_MEMBER

_ALL_BUT_OPENING: Final = bytes(code for code in range(256) if code not in b"{[\x00")

_parse: Final = simdjson.Parser().parse


def certainly_good(body: bytes, events: Sequence[bytes]) -> bool:
    """Tell whether no event of a request can be one that `judge` refuses.

    Some 0.8 µs an event where `judge` takes 10. It may say False of good events, never True of a bad
    one. `events` are the elements of a list in `body`, and msgspec could skip over all of it.
    """
    try:
        # Encoding, surrogates and the range of numbers at once: numbers alone took 2 µs otherwise.
        _parse(body)
    except (ValueError, RuntimeError):
        return False
    # No event is deeper than it has opening brackets, those inside strings counted as well. JSON
    # cannot hold the byte 0, so it keeps the events apart.
    openings = b"\x00".join(events).translate(None, _ALL_BUT_OPENING)
    if len(openings) - len(events) >= EVENT_DEPTH and max(map(len, openings.split(b"\x00"))) > EVENT_DEPTH:
        return False
    return max(map(len, events), default=0) <= _MAY_HAVE_MANY_KEYS_BYTES or all(map(_certainly_few_keys, events))


def _certainly_few_keys(event: bytes) -> bool:
    size = len(event)
    return size <= _MAY_HAVE_MANY_KEYS_BYTES or (size <= EVENT_BYTES and event.count(b":") <= METADATA_KEYS)


def judge(event: bytes) -> Verdict | None:
    """Return why `event` is refused, None when it is accepted. `event` must be valid UTF-8."""
    if len(event) > EVENT_BYTES:
        return Verdict(Reason.EVENT_TOO_LARGE, f"{len(event)} bytes; the limit is {EVENT_BYTES}")
    if is_deeper_than(event, EVENT_DEPTH):
        return Verdict(Reason.EVENT_TOO_DEEP, f"more than {EVENT_DEPTH} levels deep")
    if event[:1] != b"{":
        return Verdict(Reason.MALFORMED_EVENT, "an event is a JSON object")
    if (problem := unreadable(event)) is not None:
        return Verdict(Reason.MALFORMED_EVENT, problem)
    keys = _metadata_keys(event)
    if keys > METADATA_KEYS:
        return Verdict(Reason.TOO_MANY_METADATA_KEYS, f"{keys} keys of metadata; the limit is {METADATA_KEYS}")
    return None


def unreadable(text: bytes) -> str | None:
    """Return why `text` is no JSON that every reader takes, None when it is.

    Two parsers are asked, because what one of them lets through (numbers beyond a double, lone
    surrogates) is what stops a reader further on.
    """
    try:
        orjson.loads(text)
        _decode(text)
    except (orjson.JSONDecodeError, msgspec.MsgspecError, RecursionError) as error:
        return str(error)
    return None


def _metadata_keys(event: bytes) -> int:
    if len(event) <= _MAY_HAVE_MANY_KEYS_BYTES:
        return 0
    metadata = bytes(_decode_metadata(event).metadata)
    return len(_decode_members(metadata)) if metadata[:1] == b"{" else 0
