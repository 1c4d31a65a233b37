"""Which rows of a batch may have landed already, and which of them are new. Pure.

The log's coordinates only grow: a row whose origin is above all that landed of its partition is
new, and needs no look at the store. All others are looked up, exactly.
"""

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Final

from processors.landing.batch import Row
from schemas.origin import REFUSED_AT_GATEWAY_LOG, Origin

Prefix = bytes
"""The first bytes of a packed origin: log and partition."""

PREFIX_BYTES: Final = 5
_GATEWAY: Final = REFUSED_AT_GATEWAY_LOG


class LogReplacedError(Exception):
    """Two events claim one origin: the log is not the one whose events the store holds."""


@dataclass(frozen=True)
class Landed:
    """What the store says of the suspects: event ids by origin, and origins by event id."""

    event_ids: Mapping[bytes, bytes] = field(default_factory=dict)
    origins: Mapping[bytes, bytes] = field(default_factory=dict)


@dataclass(frozen=True)
class Decision:
    """Every row of a batch is in exactly one of the two."""

    new: list[Row]
    repeats: list[Row]


class HighWater:
    """The highest origin landed, per log and partition; unknown until it is read from the store."""

    def __init__(self) -> None:
        self._marks: dict[Prefix, bytes] = {}

    def forget(self) -> None:
        """Know nothing: after a new assignment, or an insert that may or may not have happened."""
        self._marks.clear()

    def unknown(self, rows: Iterable[Row]) -> list[Prefix]:
        """Return the log and partition of each row whose mark must be read first."""
        met = {row.origin[:PREFIX_BYTES] for row in rows}
        return sorted(prefix for prefix in met if prefix[0] != _GATEWAY and prefix not in self._marks)

    def learn(self, marks: Mapping[Prefix, bytes]) -> None:
        """Take what the store says; an empty value means that nothing landed."""
        self._marks.update(marks)

    def raise_to(self, rows: Iterable[Row]) -> None:
        """Rows have landed. Replays count too: a mark below something that landed would be a lie."""
        for row in rows:
            prefix = row.origin[:PREFIX_BYTES]
            if row.origin > self._marks.get(prefix, b"\xff"):
                self._marks[prefix] = row.origin

    def is_above(self, row: Row) -> bool:
        """Tell whether nothing with this row's origin can have landed."""
        mark = self._marks.get(row.origin[:PREFIX_BYTES])
        return mark is not None and row.origin > mark


def suspects(rows: Sequence[Row], marks: HighWater) -> list[Row]:
    """Return the rows that must be looked up in the store."""
    return [row for row in rows if row.by_event_id or row.astray or not marks.is_above(row)]


def decide(rows: Sequence[Row], landed: Landed) -> Decision:
    """Split a batch into what is new and what has landed, given the look-up of its suspects.

    Of rows with one origin in the batch the first counts. Raises LogReplacedError when an origin is
    taken by another event.
    """
    decision = Decision([], [])
    seen: dict[bytes, bytes] = {}
    seen_ids: set[bytes] = set()
    for row in rows:
        owner = landed.event_ids.get(row.origin) or seen.get(row.origin)
        if owner is not None and owner != row.event_id:
            raise LogReplacedError(
                f"origin {Origin.unpack(row.origin)} of event {row.event_id.hex()} is already that of event "
                f"{owner.hex()}: the log was replaced or rewound under a store that holds its earlier events"
            )
        repeated = owner is not None or (
            row.by_event_id and (row.event_id in landed.origins or row.event_id in seen_ids)
        )
        if repeated:
            decision.repeats.append(row)
            continue
        decision.new.append(row)
        seen[row.origin] = row.event_id
        seen_ids.add(row.event_id)
    return decision
