"""Bringing together what the log and the store say, chunk by chunk. Pure."""

from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from itertools import groupby, islice
from typing import Final

from console.ledger.balance import NOTHING, Accepted, Balance, Coordinate, Indexes, Landed, accepted
from schemas import ledger

_CHUNKS_A_SLICE: Final = 20_000

Place = tuple[int, int]
"""A log, and a partition of it."""


@dataclass(slots=True)
class LogSide:
    """All that the log has to say about a window."""

    ends: dict[Place, int] = field(default_factory=dict)
    """Where the logs ended; what is beyond came later."""
    judged: dict[Place, int] = field(default_factory=dict)
    """Where their workers have to go on."""
    ledger: dict[int, dict[bytes, bytes]] = field(default_factory=dict)
    """Key and value of the ledger's records, by partition of their chunk."""
    unrecorded: list[Accepted] = field(default_factory=list)
    """Chunks that have no record in the ledger."""
    refused_at_gateway: list[Accepted] = field(default_factory=list)
    on_the_way: dict[bytes, Indexes] = field(default_factory=dict)
    """Indexes that stand in the public topics where the lander has yet to commit, by chunk."""
    dropped: dict[bytes, Indexes] = field(default_factory=dict)
    """Indexes that the lander dropped because their events had landed under other origins, by chunk."""
    refused_at_lander: dict[bytes, dict[str, Indexes]] = field(default_factory=dict)


def slices(side: LogSide) -> Iterator[list[Accepted]]:
    """Yield all chunks, by log and partition in the order of the log, some thousands at a time."""
    others = {chunk.at: chunk for chunk in (*side.unrecorded, *side.refused_at_gateway)}
    recorded = (Coordinate(*ledger.coordinate_of(key)) for records in side.ledger.values() for key in records)
    places = sorted({*others, *(at for at in recorded if not _is_later(side, at))})
    for _, of_partition in groupby(places, lambda at: at[:2]):
        while some := list(islice(of_partition, _CHUNKS_A_SLICE)):
            yield [others.get(at) or _recorded(side, at) for at in some]


def _is_later(side: LogSide, at: Coordinate) -> bool:
    """Whether a chunk was appended after the ends were taken; the next balance has it."""
    return at[:2] in side.ends and at.offset >= side.ends[at[:2]]


def _recorded(side: LogSide, at: Coordinate) -> Accepted:
    record = ledger.decode(side.ledger[at.partition][ledger.key_of(*at)])
    return accepted(at, record, is_judged=at[:2] not in side.judged or at.offset < side.judged[at[:2]])


def weigh(balance: Balance, side: LogSide, chunks: Sequence[Accepted], landed: dict[int, Landed]) -> None:
    """Settle the chunks of one slice; `landed` has the rows from the first to the last of them, by offset."""
    for chunk in chunks:
        key = ledger.key_of(*chunk.at)
        found = landed.pop(chunk.at.offset, NOTHING)
        if dropped := side.dropped.get(key):
            chunk = replace(chunk, copies=chunk.copies | dropped)  # noqa: PLW2901 - the same chunk, and what more is known
        balance.add(chunk, found, side.on_the_way.get(key, 0), side.refused_at_lander.get(key))
    log, partition, _ = chunks[0].at
    if (log, partition) in side.ends:
        # Offsets have no holes, so that every chunk between two that are known is known.
        for offset, rows in landed.items():
            balance.add_unknown(Coordinate(log, partition, offset), rows)
