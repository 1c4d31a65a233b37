"""Making the topics exist as `schemas.topics` says, and giving events.raw its log number."""

import asyncio
import time
from collections.abc import Iterable, Mapping
from dataclasses import replace
from typing import Any, Final

from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from aiokafka.errors import for_code

from ops.kafka import admin_client, publish, read_compacted
from ops.kafka_metadata import ClusterState, describe
from schemas import logs
from schemas.kafka import KafkaConnection
from schemas.logs import LogRecord, Logs
from schemas.origin import REFUSED_AT_GATEWAY_LOG
from schemas.topics import EVENTS_RAW, LOGS, TOPICS, Topic

_TOPIC_EXISTS: Final = 36
_SETTLE_S: Final = 20
_POLL_S: Final = 0.05
_REPLICAS: Final = 3


class TopicsError(Exception):
    """The topics are not, and cannot be made, what they must be. `remedy` says what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


def next_log(known: Iterable[LogRecord], topic_id: str, store_log: int) -> int:
    """Return the number of the log whose topic has this id.

    A number is never given twice, not even after the broker was wiped: store and archive remember the
    largest one that they hold, `store_log`. Raises TopicsError when none is left.
    """
    known = list(known)
    for record in known:
        if record.topic_id == topic_id:
            return record.log
    number = 1 + max([store_log, *(record.log for record in known)])
    if number >= REFUSED_AT_GATEWAY_LOG:
        raise TopicsError(
            f"events.raw has been created anew {number - 1} times, and origins have no number left.",
            "Start with a new store, or drop the oldest logs' rows and the store's record of them.",
        )
    return number


def unfit(wanted: Mapping[str, str], found: Mapping[str, str]) -> dict[str, str]:
    """Return the settings of a topic that must be other than they are, as they must be.

    How long a topic is kept is its operator's to say. What loses or misdates records is not: how it
    is cleaned up, whose clock dates it, and how large a record it takes.
    """
    wrong = {}
    for name, value in wanted.items():
        has = found.get(name, "")
        if name == "cleanup.policy":
            fits = set(has.split(",")) == set(value.split(","))
        elif name == "max.message.bytes":
            fits = has.isdigit() and int(has) >= int(value)
        else:
            fits = name != "message.timestamp.type" or has == value
        if not fits:
            wrong[name] = value
    return wrong


async def ensure_topics(connection: KafkaConnection, partitions: int, store_log: int) -> LogRecord:
    """Create the topics that are missing, and return the log that events are appended to.

    Existing topics are left as they are; one that would lose events is an error. `partitions` holds
    for events.raw and the topics that follow it, unless they have grown since; `store_log` is the largest
    log number of any row in the store and of any file of the archive, 0 when there is none. Raises
    TopicsError, and KafkaError or TimeoutError when the cluster does not serve us.
    """
    async with admin_client(connection) as admin:
        known = await known_logs(admin, connection)
        newest = known.newest
        if newest is not None and newest.after:
            partitions = newest.partitions
        wanted = topics_with(known.topic)
        cluster = await describe(admin, [topic.name for topic in wanted])
        _check_partitions(wanted, cluster, partitions)
        missing = [topic for topic in wanted if topic.name not in cluster.topics]
        if missing:
            await create(admin, missing, partitions, cluster.brokers)
        cluster = await settled(admin, wanted)
        await _check_settings(admin, wanted, connection)
    topic_id = str(cluster.topics[known.topic].topic_id)
    number = next_log(known.known.values(), topic_id, store_log)
    if number in known.known:
        return known.known[number]
    record = LogRecord(number, known.topic, topic_id, partitions, int(time.time() * 1000))
    await publish(connection, LOGS, [logs.created(record)])
    return record


async def current_log(connection: KafkaConnection) -> int:
    """Return the number of the log that events are appended to now. Raises TopicsError when it has none."""
    remedy = "Run `headrace init`."
    async with admin_client(connection) as admin:
        known = await known_logs(admin, connection)
        cluster = await describe(admin, [known.topic, LOGS])
    if known.topic not in cluster.topics or LOGS not in cluster.topics:
        raise TopicsError(f"{connection.bootstrap} has no topics of ours.", remedy)
    topic_id = str(cluster.topics[known.topic].topic_id)
    for record in known.known.values():
        if record.topic_id == topic_id:
            return record.log
    raise TopicsError(f"{known.topic} ({topic_id}) has no log number: it was created by somebody else.", remedy)


async def known_logs(admin: AIOKafkaAdminClient, connection: KafkaConnection) -> Logs:
    """Return what the topic `logs` tells; nothing where there is no such topic."""
    found = Logs()
    if LOGS in (await describe(admin, [LOGS])).topics:
        for key, value in (await read_compacted(connection, LOGS)).items():
            found.take(key, value)
    return found


def topics_with(raw: str) -> list[Topic]:
    """Return all topics as they must be while events are appended to the topic `raw`."""
    return [replace(topic, name=raw) if topic.name == EVENTS_RAW else topic for topic in TOPICS]


def _check_partitions(topics: list[Topic], cluster: ClusterState, partitions: int) -> None:
    for topic in topics:
        state = cluster.topics.get(topic.name)
        wanted = partitions if topic.partitioned else 1
        if state is None or state.partitions == wanted:
            continue
        if topic.partitioned and not topic.name.startswith(EVENTS_RAW) and state.partitions > wanted:
            continue  # it was made ready for a log with more of them
        raise TopicsError(
            f"The topic {topic.name} has {state.partitions} partitions, and {wanted} are wanted.",
            f"Set HEADRACE_PARTITIONS={state.partitions} if the topic is right; "
            f"`headrace topics grow --partitions {wanted}` gives it more"
            if topic.partitioned
            else "Delete the topic, or use another cluster.",
        )


async def _check_settings(admin: AIOKafkaAdminClient, topics: list[Topic], connection: KafkaConnection) -> None:
    names = [ConfigResource(ConfigResourceType.TOPIC, topic.name) for topic in topics]
    (answer,) = await admin.describe_configs(names)
    found = {name: {entry[0]: entry[1] for entry in entries} for _, _, _, name, entries in answer.resources}
    for topic in topics:
        if wrong := unfit(topic.settings, found[topic.name]):
            has = ", ".join(f"{name}={found[topic.name].get(name, '')}" for name in wrong)
            must = ",".join(f"{name}=[{value}]" for name, value in wrong.items())
            raise TopicsError(
                f"The topic {topic.name} has {has}, with which events would be lost or doubled.",
                f"kafka-configs.sh --bootstrap-server {connection.bootstrap} --alter --entity-type topics "
                f"--entity-name {topic.name} --add-config '{must}'",
            )


async def create(admin: AIOKafkaAdminClient, missing: list[Topic], partitions: int, brokers: int) -> None:
    """Create topics; one that somebody else has just created is left as it is. Raises TopicsError."""
    replicas = min(_REPLICAS, brokers)
    # acks=all with one in-sync replica would acknowledge what a single broken disk loses.
    common = {"min.insync.replicas": str(max(1, replicas - 1))}
    response: Any = await admin.create_topics(
        [
            NewTopic(
                topic.name, partitions if topic.partitioned else 1, replicas, topic_configs=common | topic.settings
            )
            for topic in missing
        ]
    )
    for name, code, *rest in response.topic_errors:
        if code not in (0, _TOPIC_EXISTS):
            raise TopicsError(
                f"The topic {name} could not be created: {for_code(code).__name__} {rest[0] if rest else ''}".rstrip(),
                "Check the cluster's logs, and that this user may create topics.",
            )


async def settled(admin: AIOKafkaAdminClient, topics: list[Topic]) -> ClusterState:
    """Wait until every topic can be written to. Raises TopicsError."""
    until = time.monotonic() + _SETTLE_S
    while True:
        cluster = await describe(admin, [topic.name for topic in topics])
        waiting = [t.name for t in topics if t.name not in cluster.topics or not cluster.topics[t.name].has_leaders]
        if not waiting:
            return cluster
        if time.monotonic() > until:
            raise TopicsError(f"These topics have no leader: {', '.join(waiting)}.", "Look at the brokers' logs.")
        await asyncio.sleep(_POLL_S)
