"""Where a stream stands: the next offset of each partition, as the `id:` of the stream."""

from collections.abc import Mapping
from typing import Final

from aiokafka import TopicPartition

from schemas.topics import DLQ_INGEST, DLQ_LANDER, DLQ_WORKER, EXPOSURES, LEDGER

Positions = dict[TopicPartition, int]
"""Partition → offset of the record that comes next."""

FOLLOWED: Final = {EXPOSURES: "", DLQ_INGEST: "i", DLQ_WORKER: "w", DLQ_LANDER: "l", LEDGER: "b"}
"""What a stream is made of: what was accepted, what was refused, and the book that names the copies. Each
with the letter that stands for it in a position."""

_TOPICS: Final = {letter: topic for topic, letter in FOLLOWED.items()}


def to_id(positions: Mapping[TopicPartition, int]) -> str:
    """Write positions as one word: `0-1042.1-998.w0-3`."""
    return ".".join(f"{FOLLOWED[at.topic]}{at.partition}-{offset}" for at, offset in sorted(positions.items()))


def from_id(text: str) -> Positions:
    """Read what `to_id` wrote. Raises ValueError for anything else."""
    positions: Positions = {}
    for part in text.split("."):
        letter = part[:1] if part[:1].isalpha() else ""
        partition, dash, offset = part[len(letter) :].partition("-")
        if letter not in _TOPICS or not (dash and _is_number(partition) and _is_number(offset)):
            raise ValueError(f"{text[:80]!r} is no position in the stream")
        positions[TopicPartition(_TOPICS[letter], int(partition))] = int(offset)
    return positions


def _is_number(text: str) -> bool:
    return text.isascii() and text.isdecimal()
