"""Dead letters as a replay sees them: one for each event, whatever it went through. Pure.

An event that failed again in a replay has several envelopes under one origin. The newest says how it
stands (stage, reason, attempt); the first has the bytes as they were received. At the lander the
bytes are a record, so what failed there comes again from there.
"""

from dataclasses import dataclass, field
from typing import Final

import msgspec

from schemas.dead_letter import Envelope
from schemas.origin import PACKED_BYTES, REFUSED_AT_GATEWAY_LOG, Origin
from schemas.reasons import Stage
from schemas.topics import DEAD_LETTERS, DLQ_INGEST, DLQ_LANDER

_FIRST_ATTEMPT_ENDS: Final = 0
"""The last byte of an envelope that no replay has touched: the length of its last field, `replay`."""


class Place(msgspec.Struct, frozen=True, gc=False):
    """Where a dead letter stands."""

    topic: str
    partition: int
    offset: int

    def __str__(self) -> str:
        return f"{self.topic}/{self.partition}/{self.offset}"


class Letter(msgspec.Struct, frozen=True, gc=False):
    """An event that is dead: the envelope with its bytes, and `now`, the newest, which says how it stands."""

    place: Place
    origin: Origin | None
    envelope: Envelope
    now: Envelope

    @property
    def stage(self) -> str:
        """The stage at which it comes again."""
        return DEAD_LETTERS[self.place.topic].value


def may_have_failed_again(value: bytes | None) -> bool:
    """Tell cheaply whether an envelope may be of a second attempt; False is certain."""
    return bool(value) and value[-1] != _FIRST_ATTEMPT_ENDS  # type: ignore[index]  # it has a value


def origin_of(place: Place, envelope: Envelope) -> Origin | None:
    """Return the origin of an event: what its envelope says, or at the gateway the envelope's own place."""
    if envelope.origin is not None:
        return Origin.unpack(envelope.origin)
    if place.topic == DLQ_INGEST:
        return Origin(REFUSED_AT_GATEWAY_LOG, place.partition, place.offset, 0)
    return None


@dataclass(slots=True)
class Newest:
    """What is known of events that failed again: their newest envelope, without its bytes, by packed origin."""

    by_origin: dict[bytes, tuple[Stage, Envelope]] = field(default_factory=dict)

    def learn(self, place: Place, envelope: Envelope) -> None:
        """Take an envelope of a second or later attempt."""
        origin = origin_of(place, envelope)
        if origin is None:
            return
        packed = origin.pack()
        known = self.by_origin.get(packed)
        if known is None or _age(envelope) >= _age(known[1]):
            kept = msgspec.structs.replace(envelope, original=b"")
            self.by_origin[packed] = (DEAD_LETTERS[place.topic], kept)


def _age(envelope: Envelope) -> tuple[int, int]:
    return envelope.attempt, envelope.last_failed_at


class Letters:
    """Picks, of all envelopes in the order of `DEAD_LETTERS`, the one that speaks for each event."""

    def __init__(self, newest: Newest) -> None:
        self._newest = newest.by_origin
        self._met: set[bytes] = set()

    def take(self, place: Place, envelope: Envelope) -> Letter | None:
        """Return the letter that an envelope is, None where another one speaks for its event."""
        packed = envelope.origin
        if packed is None:
            origin = origin_of(place, envelope)
            if origin is None:
                return Letter(place, None, envelope, envelope)
            packed = origin.pack()
        _, now = newest = self._newest.get(packed, (DEAD_LETTERS[place.topic], envelope))
        is_at_lander = newest[0] is Stage.LANDER
        if is_at_lander != (place.topic == DLQ_LANDER) or packed in self._met:
            return None
        self._met.add(packed)
        return Letter(place, Origin.unpack(packed), envelope, now)


def parse_origin(text: str) -> bytes | None:
    """Read `log/partition/offset/index[.part]`, as tools print origins; None where it is none."""
    try:
        rest, _, part = text.partition(".")
        log, partition, offset, index = (int(number) for number in rest.split("/"))
        packed = Origin(log, partition, offset, index, int(part or 0)).pack()
    except (ValueError, OverflowError, ArithmeticError, msgspec.MsgspecError):
        return None
    except Exception:  # noqa: BLE001 - struct.error is no ValueError
        return None
    return packed if len(packed) == PACKED_BYTES else None
