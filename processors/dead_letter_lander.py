"""Dead letters from their topics into the table `dead_letters`."""

from typing import Final

from clickhouse_connect.driver.client import Client

from processors.landing.dead_letter_rows import row_of
from processors.topic_lander import Found, Landing, TopicLander
from schemas.kafka import KafkaConnection
from schemas.metrics import DeadLetterMetrics
from schemas.store import StoreAddress
from schemas.topics import DEAD_LETTER_GROUP, DEAD_LETTERS

_POSITIONS: Final = (
    "SELECT stage, dlq_partition, max(dlq_offset) FROM dead_letters WHERE log = {log:UInt8} "
    "GROUP BY stage, dlq_partition"
)
_TOPIC_OF: Final = {stage.value: topic for topic, stage in DEAD_LETTERS.items()}


class DeadLetterLander(TopicLander):
    """Lands dead letters beside the lander."""

    def __init__(self, kafka: KafkaConnection, store: StoreAddress, metrics: DeadLetterMetrics) -> None:
        super().__init__(
            kafka, store, metrics, Landing("dead_letters", tuple(DEAD_LETTERS), DEAD_LETTER_GROUP, _positions, _insert)
        )


def _positions(client: Client, log: int) -> dict[tuple[str, int], int]:
    answer = client.query(_POSITIONS, {"log": log}).result_rows
    return {(_TOPIC_OF[stage], partition): offset for stage, partition, offset in answer}


def _insert(client: Client, found: Found, log: int) -> None:
    block = b"\n".join(
        row_of(record, log, DEAD_LETTERS[tp.topic]) for tp, records in found.items() for record in records
    )
    client.raw_insert("dead_letters", insert_block=block, fmt="JSONEachRow")
