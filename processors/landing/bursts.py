"""The burst guard over the batches of a lander: one guard for each partition of the public topics."""

from aiokafka import TopicPartition

from processors.burst_guard import BurstGuard, why_stopped
from processors.landing.batch import Rejected
from processors.landing.gather import Gathered


class Bursts:
    """Counts what became of every record that was read."""

    def __init__(self) -> None:
        self._guards: dict[TopicPartition, BurstGuard] = {}
        self._counted: dict[TopicPartition, int] = {}
        """Up to which offset of a partition records were counted."""

    def judge(self, gathered: Gathered, rejected: list[Rejected]) -> str | None:
        """Count a batch; return why the lander must stop, None when it may go on. A batch that stops it comes again.

        What comes again because its partition was taken away for a while is counted already.
        """
        refused = {id(one.record): one for one in rejected}
        for partition, found in gathered.records.items():
            counted = self._counted.get(partition, 0)
            records = found if found[0].offset >= counted else [one for one in found if one.offset >= counted]
            self._counted[partition] = max(counted, found[-1].offset + 1)
            guard = self._guards.setdefault(partition, BurstGuard())
            failed = [(at, refused[id(one)]) for at, one in enumerate(records) if id(one) in refused] if refused else []
            if guard.take(len(records), ((at, one.reason) for at, one in failed)):
                self._guards.clear()
                self._counted.clear()
                return f"{partition.topic}: {why_stopped(partition.partition, failed[-1][1].message)}"
        return None
