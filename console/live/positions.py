"""Where a stream stands: the next offset of each partition, as the `id:` of the stream."""

from collections.abc import Mapping

Positions = dict[int, int]
"""Partition → offset of the record that comes next."""


def to_id(positions: Mapping[int, int]) -> str:
    """Write positions as one word: `0-1042.1-998`."""
    return ".".join(f"{partition}-{offset}" for partition, offset in sorted(positions.items()))


def from_id(text: str) -> Positions:
    """Read what `to_id` wrote. Raises ValueError for anything else."""
    positions: Positions = {}
    for part in text.split("."):
        partition, dash, offset = part.partition("-")
        if not (dash and partition.isascii() and partition.isdecimal() and offset.isascii() and offset.isdecimal()):
            raise ValueError(f"{text[:80]!r} is no position in the stream")
        positions[int(partition)] = int(offset)
    return positions
