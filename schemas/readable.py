"""What can be read of an event that was refused: for people, and for the filters of a replay."""

from typing import Any, Final, NamedTuple

import msgspec

from schemas.limits import DEAD_LETTER_NAME_CHARS
from schemas.wire import Event, exposure_of, peek_of, text_of

_decode_event: Final = msgspec.json.Decoder(Event).decode
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


class Readable(NamedTuple):
    """Names of an event, cut to `DEAD_LETTER_NAME_CHARS`; "" where there is none."""

    event_name: str = ""
    experiment: str = ""
    rule_id: str = ""
    unit_id: str = ""


def readable_of(event: bytes, request_stable_id: str) -> Readable:
    """Return what an event says of itself. Never raises: what cannot be read has no names."""
    device, user_id = peek_of(event)
    unit_id = _short(user_id or device or request_stable_id)
    try:
        read = _decode_event(event)
    except _UNREADABLE:
        return Readable(unit_id=unit_id)
    name = _short(text_of(read.eventName))
    try:
        shown: Any = exposure_of(read.metadata)
    except _UNREADABLE:
        return Readable(name, unit_id=unit_id)
    experiment = text_of(shown.gate) or text_of(shown.config)
    return Readable(name, _short(experiment), _short(text_of(shown.ruleID)), unit_id)


def _short(text: str) -> str:
    # A lone surrogate, which a lenient reader lets through, has no place in a record.
    return text[:DEAD_LETTER_NAME_CHARS].encode("utf-8", "replace").decode()
