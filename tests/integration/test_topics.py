"""Topics and log numbers, against a real broker."""

from collections.abc import Callable
from uuid import uuid4

import pytest
from aiokafka.admin import AIOKafkaAdminClient, NewTopic
from support.waiting import until

from ops.kafka_metadata import describe
from ops.topics import TopicsError, current_log, ensure_topics, next_log, unfit
from schemas.kafka import KafkaConnection
from schemas.logs import LogRecord
from schemas.topics import EVENTS_RAW, TOPICS

_SETTINGS = next(topic.settings for topic in TOPICS if topic.name == EVENTS_RAW)


async def _admin(connection: KafkaConnection) -> AIOKafkaAdminClient:
    admin = AIOKafkaAdminClient(**connection.client_settings())
    await admin.start()
    return admin


async def _topic_is_there(admin: AIOKafkaAdminClient, expected: bool) -> bool:
    return (EVENTS_RAW in (await describe(admin, [EVENTS_RAW])).topics) is expected


async def test_all_topics_exist_with_their_partitions(broker: KafkaConnection):
    admin = await _admin(broker)
    try:
        found = {topic["topic"]: len(topic["partitions"]) for topic in await admin.describe_topics()}
    finally:
        await admin.close()
    assert {topic.name: 4 if topic.partitioned else 1 for topic in TOPICS}.items() <= found.items()


async def test_ensuring_topics_again_changes_nothing(broker: KafkaConnection):
    once = await ensure_topics(broker, 4, store_log=0)
    twice = await ensure_topics(broker, 4, store_log=0)
    assert once == twice
    assert await current_log(broker) == once.log


async def test_another_number_of_partitions_is_refused_with_the_setting_that_agrees(broker: KafkaConnection):
    with pytest.raises(TopicsError, match="4 partitions, and 8 are wanted") as refused:
        await ensure_topics(broker, 8, store_log=0)
    assert "HEADRACE_PARTITIONS=4" in refused.value.remedy


@pytest.mark.slow
async def test_a_topic_created_anew_is_a_new_log_and_a_wiped_broker_goes_on_from_the_store(
    new_broker: Callable[[], KafkaConnection],
):
    connection = new_broker()
    with pytest.raises(TopicsError, match="no topics of ours"):
        await current_log(connection)
    # The broker is empty, as after a wipe, and the store remembers log 6.
    assert (await ensure_topics(connection, 4, store_log=6)).log == 7
    admin = await _admin(connection)
    try:
        await admin.delete_topics([EVENTS_RAW])
        await until(lambda: _topic_is_there(admin, False))
        await admin.create_topics([NewTopic(EVENTS_RAW, 4, 1, topic_configs=_SETTINGS)])
        await until(lambda: _topic_is_there(admin, True))
    finally:
        await admin.close()
    with pytest.raises(TopicsError, match="created by somebody else"):
        await current_log(connection)
    assert (await ensure_topics(connection, 4, store_log=6)).log == 8
    assert await current_log(connection) == 8


@pytest.mark.slow
async def test_a_topic_of_somebody_else_that_would_lose_events_is_refused_with_the_command_that_mends_it(
    new_broker: Callable[[], KafkaConnection],
):
    connection = new_broker()
    admin = await _admin(connection)
    try:
        await admin.create_topics([NewTopic(EVENTS_RAW, 4, 1, topic_configs={"cleanup.policy": "compact"})])
        await until(lambda: _topic_is_there(admin, True))
    finally:
        await admin.close()
    with pytest.raises(TopicsError, match=r"events\.raw has cleanup\.policy=compact") as refused:
        await ensure_topics(connection, 4, store_log=0)
    assert "--add-config 'cleanup.policy=[delete],message.timestamp.type=[LogAppendTime]'" in refused.value.remedy


@pytest.mark.parametrize(
    ("found", "wrong"),
    [
        ({"cleanup.policy": "delete,compact", "max.message.bytes": "100", "retention.ms": "1"}, {}),
        ({"cleanup.policy": "compact,delete", "max.message.bytes": "101"}, {}),
        ({"cleanup.policy": "compact,delete", "max.message.bytes": "99"}, {"max.message.bytes": "100"}),
        ({"cleanup.policy": "compact", "max.message.bytes": "100"}, {"cleanup.policy": "compact,delete"}),
        ({}, {"cleanup.policy": "compact,delete", "max.message.bytes": "100"}),
    ],
)
def test_only_settings_that_lose_or_misdate_records_must_be_as_ours(found: dict[str, str], wrong: dict[str, str]):
    wanted = {"cleanup.policy": "compact,delete", "max.message.bytes": "100", "retention.ms": "86400000"}
    assert unfit(wanted, found) == wrong


def test_the_clock_of_a_topic_matters_where_it_was_chosen():
    assert unfit({"message.timestamp.type": "LogAppendTime"}, {"message.timestamp.type": "CreateTime"})
    assert not unfit({}, {"message.timestamp.type": "CreateTime"})


def test_a_known_topic_keeps_its_log_number():
    known = [_record(3), _record(9), _record(4)]
    assert next_log(known, known[0].topic_id, store_log=200) == 3


def test_a_new_topic_gets_a_number_above_all_that_are_known_to_log_and_store():
    assert next_log([], str(uuid4()), store_log=0) == 1
    assert next_log([_record(3), _record(9)], str(uuid4()), store_log=5) == 10
    assert next_log([_record(3)], str(uuid4()), store_log=12) == 13


def test_the_number_of_events_refused_at_the_gateway_is_never_given_to_a_log():
    assert next_log([_record(253)], str(uuid4()), store_log=0) == 254
    with pytest.raises(TopicsError, match="no number left"):
        next_log([_record(254)], str(uuid4()), store_log=0)


def _record(log: int) -> LogRecord:
    return LogRecord(log, EVENTS_RAW, str(uuid4()), 4, 0)
