"""Dead letters of the gateway and of the lander, as the balance counts them. Pure."""

from typing import Any

from console.ledger.balance import Accepted, Coordinate
from schemas import dead_letter
from schemas.dead_letter import Envelope
from schemas.ledger import Run, minute_of
from schemas.origin import REFUSED_AT_GATEWAY_LOG, Origin


def refused_at_gateway(record: Any) -> Accepted | None:
    """Return the event that a record of `dlq.ingest` holds: accepted and dead, its place there its origin.

    None for what has an origin from elsewhere: it was accepted there. What is no envelope is an event
    of nobody, received when it was written.
    """
    run, reason = Run("", "", "", minute_of(record.timestamp), 1), ""
    letter = _envelope(record.value)
    if letter is not None:
        if letter.origin is not None:
            return None
        head = (letter.project, letter.environment, letter.key_id)
        run, reason = Run(*head, minute_of(letter.received_at), 1), letter.reason
    return Accepted(Coordinate(REFUSED_AT_GATEWAY_LOG, record.partition, record.offset), [run], dead={reason: 1})


def refused_at_lander(record: Any) -> tuple[Origin, str] | None:
    """Return the origin and the reason of a record of `dlq.lander`; None where it names no event."""
    letter = _envelope(record.value)
    if letter is None or letter.origin is None:
        return None
    origin = Origin.unpack(letter.origin)
    return (origin, letter.reason) if origin.part == 0 else None


def _envelope(value: bytes | None) -> Envelope | None:
    try:
        return dead_letter.read(value)
    except dead_letter.EnvelopeError:
        return None
