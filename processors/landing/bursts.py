"""The burst guard over the batches of a lander: one guard for each partition of the public topics."""

from aiokafka import TopicPartition

from processors.burst_guard import BurstGuard, why_stopped
from processors.landing.batch import Rejected
from processors.landing.gather import Gathered


class Bursts:
    """Counts what became of every record that was read."""

    def __init__(self) -> None:
        self._guards: dict[TopicPartition, BurstGuard] = {}

    def judge(self, gathered: Gathered, rejected: list[Rejected]) -> str | None:
        """Count a batch; return why the lander must stop, None when it may go on. A batch that stops it comes again."""
        refused = {id(one.record): one for one in rejected}
        for partition, records in gathered.records.items():
            guard = self._guards.setdefault(partition, BurstGuard())
            failed = [(at, refused[id(one)]) for at, one in enumerate(records) if id(one) in refused] if refused else []
            if guard.take(len(records), ((at, one.reason) for at, one in failed)):
                self._guards.clear()
                return f"{partition.topic}: {why_stopped(partition.partition, failed[-1][1].message)}"
        return None
