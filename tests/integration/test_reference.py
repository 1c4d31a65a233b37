"""Following a compacted topic on a real broker."""

import asyncio
from uuid import uuid4

from aiokafka.admin import NewTopic
from support.waiting import until

from ops.kafka import admin_client, publish
from schemas.kafka import KafkaConnection
from schemas.reference import ReferenceReader


async def test_a_record_that_cannot_be_used_keeps_back_none_that_follow(broker: KafkaConnection):
    """A reader that ended in silence would accept a key for ever that was revoked."""
    topic = f"reference-{uuid4().hex}"
    async with admin_client(broker) as admin:
        await admin.create_topics([NewTopic(topic, 1, 1)])
    taken: list[bytes] = []

    def take(key: bytes, value: bytes | None) -> None:
        if value == b"bad":
            raise RecursionError
        taken.append(key)

    await publish(broker, topic, [(b"a", b"good"), (b"b", b"bad"), (b"c", b"good")])
    reader = ReferenceReader(broker, topic, take)
    await reader.start()
    try:
        await reader.wait_caught_up(60)
        assert taken == [b"a", b"c"]
        await publish(broker, topic, [(b"d", b"bad"), (b"e", b"good")])

        async def is_followed() -> bool:
            return taken == [b"a", b"c", b"e"]

        await until(is_followed, 60)
    finally:
        await asyncio.wait_for(reader.stop(), 60)
