"""What became of a replay: waiting until worker and lander have passed it, and then asking the store."""

import asyncio
import time
from collections import Counter
from collections.abc import Callable, Sequence
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient

from ops.dlq.choose import quoted
from ops.dlq.landed import Store
from ops.kafka import admin_client
from schemas.kafka import KafkaConnection
from schemas.logs import read_logs
from schemas.topics import (
    CUSTOM_EVENTS,
    DEAD_LETTERS,
    EXPOSURES,
    LANDER_GROUP,
    SHADOW_GROUP,
    SHADOWS,
    worker_group,
)

_POLL_S: Final = 0.2
_STANDSTILL_S: Final = 60.0
"""How long nothing may move before it is given up."""


class NotSettledError(Exception):
    """A stage does not get on; the message says which."""


async def wait_until_passed(kafka: KafkaConnection, store: Store, on_wait: Callable[[str], None]) -> None:
    """Return when everything that is in the log now has been worked, landed, or has its dead letter in the store.

    Raises NotSettledError, KafkaError, StoreError, TransportError.
    """
    async with admin_client(kafka) as admin:
        consumer = AIOKafkaConsumer(**kafka.client_settings(), enable_auto_commit=False)
        try:
            await consumer.start()
            waiting = _Waiting(admin, consumer, on_wait)
            logs = await read_logs(kafka)
            for record in logs.to_process:
                await waiting.for_group("the worker", worker_group(record.topic), (record.topic,))
            await waiting.for_group("the lander", LANDER_GROUP, (EXPOSURES, CUSTOM_EVENTS))
            await waiting.for_dead_letters(store, logs.incarnation)
        finally:
            await consumer.stop()


async def wait_until_shadowed(kafka: KafkaConnection, on_wait: Callable[[str], None]) -> None:
    """Return when everything that is in the shadow topics now has landed. Raises NotSettledError, KafkaError."""
    async with admin_client(kafka) as admin:
        consumer = AIOKafkaConsumer(**kafka.client_settings(), enable_auto_commit=False)
        try:
            await consumer.start()
            waiting = _Waiting(admin, consumer, on_wait)
            await waiting.for_group("the lander of shadows", SHADOW_GROUP, tuple(SHADOWS.values()))
        finally:
            await consumer.stop()


class _Waiting:
    def __init__(self, admin: AIOKafkaAdminClient, consumer: Any, on_wait: Callable[[str], None]) -> None:
        self._admin = admin
        self._consumer = consumer
        self._on_wait = on_wait

    async def for_group(self, who: str, group: str, topics: Sequence[str]) -> None:
        ends = await self._ends(topics)

        async def behind() -> int:
            offsets = await self._admin.list_consumer_group_offsets(group)
            at = {tp: offsets[tp].offset if tp in offsets else 0 for tp in ends}
            return sum(max(0, end - at[tp]) for tp, end in ends.items())

        await self._until_none(who, behind)

    async def for_dead_letters(self, store: Store, log: int) -> None:
        ends = await self._ends(tuple(DEAD_LETTERS))
        wanted = {(DEAD_LETTERS[tp.topic].value, tp.partition): end for tp, end in ends.items() if end}
        statement = (
            f"SELECT stage, dlq_partition, max(dlq_offset) FROM dead_letters WHERE log = {log} "  # noqa: S608
            "GROUP BY stage, dlq_partition"
        )

        async def behind() -> int:
            rows = await asyncio.to_thread(store.rows, statement)
            at = {(str(stage), int(str(number))): int(str(last)) + 1 for stage, number, last in rows}
            return sum(max(0, end - at.get(place, 0)) for place, end in wanted.items())

        await self._until_none("the landing of dead letters", behind)

    async def _ends(self, topics: Sequence[str]) -> dict[TopicPartition, int]:
        known = await self._consumer._client.fetch_all_metadata()
        wanted = [TopicPartition(topic, n) for topic in topics for n in known.partitions_for_topic(topic) or ()]
        ends: dict[TopicPartition, int] = await self._consumer.end_offsets(wanted)
        return ends

    async def _until_none(self, who: str, behind: Callable[[], Any]) -> None:
        least, moved_s = -1, time.monotonic()
        while left := await behind():
            self._on_wait(f"{who} has {left:,} records to go")
            if least < 0 or left < least:
                least, moved_s = left, time.monotonic()
            elif time.monotonic() - moved_s > _STANDSTILL_S:
                raise NotSettledError(f"{who} has {left:,} records to go and does not get on")
            await asyncio.sleep(_POLL_S)


async def outcome_of(store: Store, replay: str, event_ids: Sequence[bytes], *, is_resumed: bool) -> dict[str, int]:
    """Return what became of the events that were sent: landed, dead by reason, else a copy of what others own.

    Of a replay that was gone on with, `event_ids` are all that it selected, and only landed and dead are told.
    """
    landed = await asyncio.to_thread(store.landed, event_ids)
    rows = await asyncio.to_thread(
        store.rows,
        "SELECT reason, uniqExact(event_id) FROM dead_letters "  # noqa: S608
        f"WHERE replay = {quoted(replay)} AND stage != 'ingest' GROUP BY reason",
    )
    dead = Counter({str(reason): int(str(count)) for reason, count in rows})
    different = len(set(event_ids))
    found = {"landed": len(landed)}
    if is_resumed:
        return found | _dead(dead)
    if copies := len(event_ids) - different:
        found["copies"] = copies
    if elsewhere := different - len(landed) - dead.total():
        found["owned elsewhere"] = elsewhere
    return found | _dead(dead)


def _dead(reasons: Counter[str]) -> dict[str, int]:
    return {f"dead: {reason}": count for reason, count in sorted(reasons.items())}
