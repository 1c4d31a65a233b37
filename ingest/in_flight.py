"""Bytes of requests that a gateway has in hand, so that its memory has a bound whoever sends."""

from ingest.refusal import Refusal
from schemas.limits import GATEWAY_IN_FLIGHT_BYTES
from schemas.reasons import Reason


class InFlight:
    """What is received and not yet whole, decompressed, or not yet acknowledged, in bytes, up to a limit."""

    __slots__ = ("_most_bytes", "held_bytes")

    def __init__(self, most_bytes: int = GATEWAY_IN_FLIGHT_BYTES) -> None:
        self._most_bytes = most_bytes
        self.held_bytes = 0

    def take(self, size: int) -> None:
        """Count so many more bytes. Raises Refusal (503), and counts nothing, where they would be too many."""
        if self.held_bytes + size > self._most_bytes:
            raise Refusal(Reason.OVERLOADED, "the gateway holds as much as it may; try again")
        self.held_bytes += size

    def give_back(self, size: int) -> None:
        """Count so many bytes less."""
        self.held_bytes -= size


class Hold:
    """The bytes of one request, given back together."""

    __slots__ = ("_in_flight", "_size")

    def __init__(self, in_flight: InFlight) -> None:
        self._in_flight = in_flight
        self._size = 0

    def take(self, size: int) -> None:
        """Count so many more bytes. Raises Refusal (503)."""
        self._in_flight.take(size)
        self._size += size

    def give_back(self) -> None:
        """Count all of them no more."""
        self._in_flight.give_back(self._size)
        self._size = 0
