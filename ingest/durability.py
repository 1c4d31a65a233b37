"""What an answer of 202 rests on, and the seam behind which that is decided."""

from collections.abc import Sequence
from enum import StrEnum
from typing import NamedTuple, Protocol


class Durability(StrEnum):
    """Where what was acknowledged stands; the value of the header `x-headrace-durability`."""

    KAFKA = "kafka"
    SPILL = "spill"


class LogUnavailableError(Exception):
    """The log cannot be written to at the moment."""


class Lane(NamedTuple):
    """What keeps its order: one partition of one topic."""

    topic: str
    partition: int


class Record(NamedTuple):
    """The value of one record of `events.raw`, how many events are in it, and when it was spilled.

    `spilled_ms` is in ms since the epoch, 0 for a record that never was in an outbox.
    """

    value: bytes
    events: int
    spilled_ms: int = 0


class DurableLog(Protocol):
    """Where events go. Returning from an append means: a crash of anything does not lose it."""

    @property
    def problem(self) -> str:
        """Why nothing can be taken, "" when it can."""

    @property
    def topic(self) -> str:
        """The topic that events are appended to now; what was cut for another goes there, as long as it is taken."""

    @property
    def partitions(self) -> int:
        """How many partitions it has, as far as it was ever known; 0 before."""

    async def append(self, lane: Lane, records: Sequence[Record]) -> Durability:
        """Append chunks to a partition, in order. Raises LogUnavailableError."""

    async def append_dead_letter(self, partition: int, value: bytes) -> Durability:
        """Append to `dlq.ingest`. Raises LogUnavailableError."""
