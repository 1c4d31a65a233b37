"""Where each partition must go on. Pure.

The public topics are neither compacted nor transactional: their offsets have no holes. So a batch
begins exactly where the last one ended, or records were deleted before they landed.
"""

from collections.abc import Iterable, Mapping

from aiokafka import TopicPartition


class RecordsLostError(Exception):
    """Records of a topic are gone that never landed."""


class Positions:
    """The next offset of each partition that was read or committed."""

    def __init__(self) -> None:
        self._next: dict[TopicPartition, int] = {}

    def forget(self) -> None:
        """Know nothing: the partitions were assigned anew."""
        self._next.clear()

    def unknown(self, partitions: Iterable[TopicPartition]) -> list[TopicPartition]:
        """Return the partitions whose committed offset must be learnt first."""
        return [partition for partition in partitions if partition not in self._next]

    def learn(self, partition: TopicPartition, committed: int | None, first: int) -> None:
        """Take the committed offset; without one, reading begins at `first`, whatever that is."""
        self._next[partition] = first if committed is None else committed

    def check(self, firsts: Mapping[TopicPartition, int]) -> None:
        """See that a batch begins where the last one ended. Raises RecordsLostError.

        A lower offset is a repeat (an operator rewound the group), which the look-up makes harmless.
        """
        for partition, first in firsts.items():
            expected = self._next[partition]
            if first > expected:
                raise RecordsLostError(
                    f"records {expected} to {first - 1} of {partition.topic}/{partition.partition} were deleted "
                    "before they landed: retention overtook the lander. To accept the loss, set the offset of its "
                    f"group to {first} with kafka-consumer-groups.sh and start it again"
                )

    def advance(self, nexts: Mapping[TopicPartition, int]) -> None:
        """A batch is committed: the next one begins at `nexts`."""
        self._next.update(nexts)
