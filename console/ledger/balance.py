"""The balance: accepted = landed + duplicate + dead + in flight, per key and minute, to the event.

Pure. Sets of a chunk's indexes are whole numbers, bit n for index n: a chunk of a thousand events is
settled with a dozen operations, and nothing is counted that was not compared one by one.
"""

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass, field, fields
from enum import StrEnum
from typing import Final, NamedTuple

from schemas.ledger import LedgerRecord, Run

GAPS_LISTED: Final = 1_000
"""Ranges that are named; all of them are counted."""

LARGEST_INDEX: Final = (1 << 16) - 1
"""Above all that a chunk can have; larger ones, which only a stranger writes, stand for this one."""

Indexes = int
"""A set of a chunk's indexes: bit n stands for index n."""


class Coordinate(NamedTuple):
    """Where a chunk stands: a record of `events.raw`, or (log 255) one of `dlq.ingest`."""

    log: int
    partition: int
    offset: int


@dataclass(frozen=True, slots=True)
class Accepted:
    """One chunk that was appended, and what is known of its events.

    `is_judged`: the worker has committed past it, so that everything it emitted is in the log.
    """

    at: Coordinate
    runs: Sequence[Run]
    copies: Indexes = 0
    dead: Mapping[str, Indexes] = field(default_factory=dict)
    is_judged: bool = True


@dataclass(frozen=True, slots=True)
class Landed:
    """The rows of one chunk: which indexes have one, and which have more than one."""

    once: Indexes = 0
    doubled: Indexes = 0


NOTHING: Final = Landed()


class Flaw(StrEnum):
    """What is wrong with a range."""

    MISSING = "missing"
    """Accepted, and neither landed nor a duplicate nor dead nor in flight."""
    DOUBLED = "doubled"
    """Landed more than once under one origin."""
    NEVER_ACCEPTED = "never_accepted"
    """Landed under an origin that was never given."""


@dataclass(frozen=True, slots=True)
class Gap:
    """A range of indexes of one chunk, both ends included, that does not balance; and whose it is, if known."""

    flaw: Flaw
    at: Coordinate
    first: int
    last: int
    run: Run | None

    def __str__(self) -> str:
        last = f"-{self.last}" if self.last != self.first else ""
        return f"{self.at.log}/{self.at.partition}/{self.at.offset}/{self.first}{last}"


@dataclass(slots=True)
class Counts:
    """Events by what became of them; `accepted` is the sum of all others."""

    accepted: int = 0
    landed: int = 0
    duplicate: int = 0
    dead: int = 0
    in_flight: int = 0
    missing: int = 0

    def add(self, other: "Counts") -> None:
        """Count `other` in."""
        for one in fields(self):
            setattr(self, one.name, getattr(self, one.name) + getattr(other, one.name))


Line = tuple[str, str, str, int]
"""Project, environment, key id, minute of receipt."""


class Balance:
    """Adds chunk to chunk. Each chunk must be given once."""

    def __init__(self, since_minute: int) -> None:
        self._since_minute = since_minute
        self.lines: dict[Line, Counts] = {}
        self.dead_reasons: dict[str, int] = {}
        self.gaps: list[Gap] = []
        self.flaws: dict[Flaw, int] = dict.fromkeys(Flaw, 0)
        """Events by flaw; of those in `gaps` and of those that were too many to be listed."""

    @property
    def is_balanced(self) -> bool:
        """Whether every event that was accepted is somewhere, once."""
        return not any(self.flaws.values())

    def add(
        self, chunk: Accepted, landed: Landed, on_the_way: Indexes, refused: Mapping[str, Indexes] | None = None
    ) -> None:
        """Settle the events of a chunk.

        `on_the_way` is what of it stands in the public topics where the lander has yet to commit,
        `refused` what the lander dead-lettered, by reason. Each event counts as the first that holds
        of landed, duplicate, dead, in flight.
        """
        dead = dict.fromkeys((*chunk.dead, *(refused or ())), 0)
        for source in (chunk.dead, refused or {}):
            for reason, indexes in source.items():
                dead[reason] |= indexes
        in_flight = on_the_way if chunk.is_judged else -1
        first = 0
        for run in chunk.runs:
            mine = _range(first, run.events)
            first += run.events
            if run.minute >= self._since_minute:
                self._settle(chunk, run, mine, landed, dead, in_flight)
        # A row beyond the chunk's end has an origin that nobody gave.
        self._report(Flaw.NEVER_ACCEPTED, chunk.at, landed.once & ~_range(0, first), None)

    def add_unknown(self, at: Coordinate, landed: Landed) -> None:
        """Report the rows of a chunk that was never appended."""
        self._report(Flaw.NEVER_ACCEPTED, at, landed.once, None)

    def _settle(
        self, chunk: Accepted, run: Run, mine: Indexes, landed: Landed, dead: dict[str, Indexes], in_flight: Indexes
    ) -> None:
        counts = self.lines.setdefault((run.project, run.environment, run.key_id, run.minute), Counts())
        counts.accepted += run.events
        rest = mine & ~landed.once
        counts.landed += run.events - rest.bit_count()
        if rest:
            counts.duplicate += (rest & chunk.copies).bit_count()
            rest &= ~chunk.copies
            for reason, indexes in dead.items():
                if died := (rest & indexes).bit_count():
                    counts.dead += died
                    self.dead_reasons[reason] = self.dead_reasons.get(reason, 0) + died
                    rest &= ~indexes
            counts.in_flight += (rest & in_flight).bit_count()
            missing = rest & ~in_flight
            counts.missing += missing.bit_count()
            self._report(Flaw.MISSING, chunk.at, missing, run)
        self._report(Flaw.DOUBLED, chunk.at, landed.doubled & mine, run)

    def _report(self, flaw: Flaw, at: Coordinate, indexes: Indexes, run: Run | None) -> None:
        if not indexes:
            return
        self.flaws[flaw] += indexes.bit_count()
        for first, last in ranges(indexes):
            if len(self.gaps) == GAPS_LISTED:
                return
            self.gaps.append(Gap(flaw, at, first, last, run))

    def totals(self) -> Counts:
        """Return the sum of all lines."""
        total = Counts()
        for counts in self.lines.values():
            total.add(counts)
        return total


def accepted(at: Coordinate, record: LedgerRecord, *, is_judged: bool) -> Accepted:
    """Return the chunk that a record of the ledger speaks of."""
    copies = 0
    for first, count in record.copied():
        copies |= _range(first, count)
    dead: dict[str, Indexes] = {}
    for letters in record.dead:
        dead[letters.reason] = dead.get(letters.reason, 0) | _range(letters.first, letters.count)
    return Accepted(at, record.runs, copies, dead, is_judged)


def _range(first: int, count: int) -> Indexes:
    return ((1 << count) - 1) << first


def ranges(indexes: Indexes) -> Iterator[tuple[int, int]]:
    """Yield the first and last index of each unbroken range."""
    at = 0
    while indexes:
        gap = (indexes & -indexes).bit_length() - 1
        indexes >>= gap
        at += gap
        length = (~indexes & (indexes + 1)).bit_length() - 1
        yield at, at + length - 1
        indexes >>= length
        at += length
