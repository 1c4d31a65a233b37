"""Whether a schema id that this code does not have is known to anybody."""

from schemas import topics
from schemas.kafka import KafkaConnection
from schemas.reference import ReferenceReader


async def known_ids(connection: KafkaConnection) -> set[int]:
    """Return the ids in the topic `schemas`, read to its present end.

    Read anew each time: a worker publishes its schemas before its first record, so whoever met a
    record finds its schema there, which a reader that merely follows may not have seen yet.
    """
    ids: set[int] = set()

    def take(key: bytes, value: bytes | None) -> None:
        if value is not None and key.isdigit():
            ids.add(int(key))

    reader = ReferenceReader(connection, topics.SCHEMAS, take)
    await reader.start()
    try:
        await reader.wait_caught_up()
    finally:
        await reader.stop()
    return ids
