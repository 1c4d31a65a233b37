"""Dead letters from their topics into the table `dead_letters`."""

from typing import Final

from clickhouse_connect.driver.client import Client

from processors.landing.dead_letter_rows import row_of
from processors.topic_lander import Found, Landing, TopicLander
from schemas.erasures import ErasureList
from schemas.kafka import KafkaConnection
from schemas.logs import Logs
from schemas.metrics import DeadLetterMetrics
from schemas.reference import ReferenceReader
from schemas.store import StoreAddress
from schemas.topics import DEAD_LETTER_GROUP, DEAD_LETTERS, ERASURES

_POSITIONS: Final = (
    "SELECT stage, dlq_partition, max(dlq_offset) FROM dead_letters WHERE log = {log:UInt8} "
    "GROUP BY stage, dlq_partition"
)
_TOPIC_OF: Final = {stage.value: topic for topic, stage in DEAD_LETTERS.items()}


class DeadLetterLander(TopicLander):
    """Lands dead letters beside the lander; of erased units nothing but that there was a letter."""

    def __init__(self, kafka: KafkaConnection, store: StoreAddress, metrics: DeadLetterMetrics) -> None:
        topics = tuple(DEAD_LETTERS)
        super().__init__(
            kafka, store, metrics, Landing("dead_letters", topics, DEAD_LETTER_GROUP, _positions, self._insert)
        )
        self._erasures = ErasureList()
        self._erasures_reader = ReferenceReader(kafka, ERASURES, self._erasures.take)

    async def start(self) -> None:
        """Begin to land in the background."""
        await self._erasures_reader.start()
        await super().start()

    async def stop(self) -> None:
        """Finish the insert that is under way, leave the group, close the store."""
        await super().stop()
        await self._erasures_reader.stop()

    async def known_logs(self) -> Logs:
        """See `TopicLander`; not before every erasure until now is known."""
        await self._erasures_reader.wait_caught_up()
        return await super().known_logs()

    def _insert(self, client: Client, found: Found, log: int) -> None:
        block = b"\n".join(
            row_of(record, log, DEAD_LETTERS[tp.topic], self._erasures)
            for tp, records in found.items()
            for record in records
        )
        client.raw_insert("dead_letters", insert_block=block, fmt="JSONEachRow")


def _positions(client: Client, log: int) -> dict[tuple[str, int], int]:
    answer = client.query(_POSITIONS, {"log": log}).result_rows
    return {(_TOPIC_OF[stage], partition): offset for stage, partition, offset in answer}
