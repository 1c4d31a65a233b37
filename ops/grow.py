"""Giving the log more partitions: a new log beside the old one, which is sealed and then drained.

Each step leaves a state in which everything works, and every step that was done is seen and passed by: who is
killed anywhere calls again. Between the switch and the seal gateways append to both topics; nothing of
the new one is processed before the old one is sealed and all of it is.
"""

import asyncio
import time
from collections.abc import Callable
from typing import Any, Final

from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, NewPartitions
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import MessageSizeTooLargeError, for_code

from ops.kafka import admin_client, publish
from ops.kafka_metadata import describe
from ops.topics import TopicsError, create, known_logs, next_log, settled, topics_with
from schemas import chunk, logs
from schemas.crash_points import CrashPoint, reach
from schemas.kafka import KafkaConnection
from schemas.logs import LogRecord, Logs
from schemas.topics import LOGS, raw_topic, worker_group

_QUIET_S: Final = 2.0
"""How long nothing has to come into the old topic before it is sealed: gateways that were slow to switch."""
_QUIET_PATIENCE_S: Final = 20.0
"""Longer than any answer takes; whatever still comes then is refused, and sent again to the new topic."""
_SEALED_PATIENCE_S: Final = 60.0
_REPLICATED_S: Final = 35.0
"""A record may be in a leader and not be told of as long as a replica may lag (replica.lag.time.max.ms, 30 s)."""
_POLL_S: Final = 0.2
_NOBODY: Final = chunk.encode(chunk.Chunk([]))
"""A chunk without events: what proves that a partition takes nothing."""

OnStep = Callable[[str], None]


async def grow(connection: KafkaConnection, partitions: int, on_step: OnStep) -> LogRecord:
    """Let events be appended to a log of `partitions` partitions from now on, and return it.

    Goes on where an earlier call was cut off; changes nothing where the log has as many. Returns when the old
    log is sealed; workers drain it. Raises TopicsError, and KafkaError or TimeoutError when the cluster does
    not serve us.
    """
    async with admin_client(connection) as admin:
        known = await known_logs(admin, connection)
        newest = known.newest
        if newest is None:
            raise TopicsError(f"{connection.bootstrap} has no log yet.", "Run `headrace init`.")
        if partitions < newest.partitions:
            raise TopicsError(
                f"Log {newest.log} has {newest.partitions} partitions, and a log cannot lose any.",
                f"Ask for more than {newest.partitions}.",
            )
        if partitions > newest.partitions:
            _check_drained(known)
            newest = await _switch(admin, connection, known, newest, partitions, on_step)
        before = known.known.get(newest.after)
        if before is not None and before.log not in known.ends:
            await _seal(admin, connection, before, on_step)
        return newest


def _check_drained(known: Logs) -> None:
    if len(known.to_process) > 1:
        old = known.to_process[0]
        raise TopicsError(
            f"Log {old.log} is not drained yet, so that there cannot be a third.",
            f"Call `headrace topics grow --partitions {known.to_process[-1].partitions}`, which waits until it is.",
        )


async def _switch(
    admin: AIOKafkaAdminClient,
    connection: KafkaConnection,
    known: Logs,
    before: LogRecord,
    partitions: int,
    on_step: OnStep,
) -> LogRecord:
    """Make the new topic, let the others grow with it, and tell gateways to append there."""
    number = next_log(known.known.values(), "", 0)
    wanted = topics_with(raw_topic(number))
    raw, *others = [topic for topic in wanted if topic.partitioned]
    cluster = await describe(admin, [topic.name for topic in wanted])
    if raw.name not in cluster.topics:
        on_step(f"creating {raw.name} with {partitions} partitions")
        await create(admin, [raw], partitions, cluster.brokers)
    reach(CrashPoint.GROW_AFTER_CREATE)
    for topic in others:
        if topic.name not in cluster.topics:
            raise TopicsError(f"The topic {topic.name} is missing.", "Run `headrace init`.")
        if cluster.topics[topic.name].partitions < partitions:
            on_step(f"growing {topic.name} to {partitions} partitions")
            await admin.create_partitions({topic.name: NewPartitions(partitions)})
    state = (await settled(admin, wanted)).topics[raw.name]
    if state.partitions != partitions:
        raise TopicsError(
            f"The topic {raw.name} is there already, with {state.partitions} partitions.",
            f"An earlier growth was cut off: call it again with --partitions {state.partitions}, or delete the topic.",
        )
    reach(CrashPoint.GROW_AFTER_PUBLIC)
    on_step(f"switching to log {number}")
    record = LogRecord(number, raw.name, str(state.topic_id), partitions, int(time.time() * 1000), before.log)
    await publish(connection, LOGS, [logs.created(record)])
    reach(CrashPoint.GROW_AFTER_SWITCH)
    return record


async def _seal(admin: AIOKafkaAdminClient, connection: KafkaConnection, old: LogRecord, on_step: OnStep) -> None:
    """Let nobody append to a log any more, and write down where it ends."""
    partitions = [TopicPartition(old.topic, number) for number in range(old.partitions)]
    consumer = AIOKafkaConsumer(**connection.client_settings(), enable_auto_commit=False)
    try:
        await consumer.start()
        on_step(f"waiting until {old.topic} is quiet")
        await _still(consumer, partitions, _QUIET_S, _QUIET_PATIENCE_S)
        on_step(f"sealing {old.topic}")
        await _refuse_all(admin, old.topic)
        await _refused_by_all(connection, partitions)
        reach(CrashPoint.GROW_AFTER_REFUSAL)
        replicas = await _replicas(admin, old.topic)
        ends = await _still(consumer, partitions, _REPLICATED_S if replicas > 1 else 0.0, 10 * _REPLICATED_S)
    finally:
        await consumer.stop()
    await publish(connection, LOGS, [logs.sealed(old.log, [ends[tp] for tp in partitions])])
    reach(CrashPoint.GROW_AFTER_SEAL)


async def _still(
    consumer: AIOKafkaConsumer, partitions: list[TopicPartition], still_s: float, patience_s: float
) -> dict[TopicPartition, int]:
    """Return the ends once they have not moved for `still_s`, or after `patience_s`."""
    began_s = moved_s = time.monotonic()
    ends: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
    while time.monotonic() - moved_s < still_s and time.monotonic() - began_s < patience_s:
        await asyncio.sleep(_POLL_S)
        now: dict[TopicPartition, int] = await consumer.end_offsets(partitions)
        if now != ends:
            ends, moved_s = now, time.monotonic()
    return ends


async def _refuse_all(admin: AIOKafkaAdminClient, topic: str) -> None:
    """Let a topic take no record of any size. What else was set stays: setting one sets all."""
    resource = ConfigResource(ConfigResourceType.TOPIC, topic)
    [answer] = await admin.describe_configs([resource])
    [(_, _, _, _, entries)] = answer.resources
    # The fourth says where a value comes from; 1 is the topic itself.
    own = {entry[0]: entry[1] for entry in entries if entry[3] == 1 and not entry[4]}
    changed = ConfigResource(ConfigResourceType.TOPIC, topic, own | {"max.message.bytes": "0"})
    for response in await admin.alter_configs([changed]):
        for code, message, *_ in response.resources:
            if code:
                raise TopicsError(
                    f"{topic} cannot be sealed: {for_code(code).__name__} {message or ''}".rstrip(),
                    "Let this user alter the topic's max.message.bytes to 0, and call it again.",
                )


async def _refused_by_all(connection: KafkaConnection, partitions: list[TopicPartition]) -> None:
    """Return when no leader takes a record any more. Raises TopicsError."""
    # Not idempotent: what is refused would leave a hole in the sequence.
    producer = AIOKafkaProducer(**connection.client_settings(), acks="all", enable_idempotence=False)
    until_s = time.monotonic() + _SEALED_PATIENCE_S
    try:
        await producer.start()
        for tp in partitions:
            while await _takes(producer, tp):
                if time.monotonic() > until_s:
                    raise TopicsError(f"{tp.topic}/{tp.partition} does not close.", "Look at the brokers' logs.")
                await asyncio.sleep(_POLL_S)
    finally:
        await producer.stop()


async def _takes(producer: AIOKafkaProducer, tp: TopicPartition) -> bool:
    headers = list(chunk.headers(0))
    try:
        await producer.send_and_wait(tp.topic, _NOBODY, partition=tp.partition, headers=headers)
    except MessageSizeTooLargeError:
        return False
    return True


async def _replicas(admin: AIOKafkaAdminClient, topic: str) -> int:
    [found] = await admin.describe_topics([topic])
    return max(len(partition["replicas"]) for partition in found["partitions"])


async def undrained(connection: KafkaConnection, new: LogRecord) -> int:
    """Return how many records of the log before `new` its workers have to process; 0 once it is drained.

    Raises KafkaError.
    """
    async with admin_client(connection) as admin:
        known = await known_logs(admin, connection)
        if not new.after or new.after in known.drained:
            return 0
        old, ends = known.known[new.after], known.ends[new.after]
        offsets: Any = await admin.list_consumer_group_offsets(worker_group(old.topic))
    left = 0
    for number, end in enumerate(ends):
        at = offsets.get(TopicPartition(old.topic, number))
        left += max(0, end - max(0, at.offset if at else 0))
    return max(1, left)  # that the last is processed is told by the workers
