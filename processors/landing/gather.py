"""Taking records from the log until there are enough for one insert."""

import asyncio
from dataclasses import dataclass, field
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition

_IDLE_POLL_MS: Final = 250
"""How long a look at the log waits when there is nothing; a stop is noticed as late."""

_NAP_S: Final = 0.04
"""Between two looks while a batch fills: a look costs about as much as 60 records."""

LOOK_RECORDS: Final = 500
"""Records that one look takes at the most: how large they are is known afterwards, and what is fetched is compressed.
A look that yields so many is followed by the next at once: there is a backlog."""


@dataclass(frozen=True)
class Limits:
    """When a batch is cut: whichever comes first."""

    rows: int
    size_bytes: int
    age_s: float

    def leaves(self, gathered: "Gathered", age_s: float) -> int:
        """Return how many more records the batch may take; 0 when it is to be cut."""
        if gathered.size_bytes >= self.size_bytes or age_s >= self.age_s:
            return 0
        return max(0, self.rows - gathered.count)


@dataclass
class Gathered:
    """Records by partition, in order, and the offset to commit for each once they have landed."""

    records: dict[TopicPartition, list[Any]] = field(default_factory=dict)
    count: int = 0
    size_bytes: int = 0

    def add(self, found: dict[TopicPartition, list[Any]]) -> None:
        """Take what one look at the log yielded."""
        for partition, records in found.items():
            self.records.setdefault(partition, []).extend(records)
            self.count += len(records)
            self.size_bytes += sum(len(record.value or b"") for record in records)

    def first_offsets(self) -> dict[TopicPartition, int]:
        """Return the offset of the first record of each partition."""
        return {partition: records[0].offset for partition, records in self.records.items()}

    def next_offsets(self) -> dict[TopicPartition, int]:
        """Return the position after the last record of each partition: what is to be committed."""
        return {partition: records[-1].offset + 1 for partition, records in self.records.items()}


async def gather(consumer: AIOKafkaConsumer, limits: Limits) -> Gathered:
    """Return the next batch, or nothing when the log stays silent for a moment.

    The age counts from the first record, so that a lone event does not wait for company longer
    than `limits.age_s`. Raises KafkaError.
    """
    clock = asyncio.get_running_loop().time
    gathered = Gathered()
    gathered.add(await consumer.getmany(timeout_ms=_IDLE_POLL_MS, max_records=min(limits.rows, LOOK_RECORDS)))
    if not gathered.count:
        return gathered
    began = clock()
    last = gathered.count
    while room := limits.leaves(gathered, clock() - began):
        if last < LOOK_RECORDS:
            await asyncio.sleep(min(_NAP_S, max(0.0, limits.age_s - (clock() - began))))
        before = gathered.count
        gathered.add(await consumer.getmany(timeout_ms=0, max_records=min(room, LOOK_RECORDS)))
        last = gathered.count - before
    return gathered
