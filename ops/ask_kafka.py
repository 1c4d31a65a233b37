"""Asking Kafka from the command line: who may not answer, and what to do then."""

import asyncio
from collections.abc import Coroutine
from typing import Any, TypeVar

from aiokafka.errors import KafkaError

from ops.kafka import admin_client, answers
from ops.kafka_metadata import describe
from ops.output import ExitCode, fail
from ops.settings import Settings

T = TypeVar("T")


def ask(settings: Settings, topic: str, work: Coroutine[Any, Any, T]) -> T:
    """Run `work`, which uses `topic`, to its end; exit with cause and remedy when Kafka is not there."""
    connection = settings.kafka

    async def checked() -> T:
        if why_not := await answers(connection):
            work.close()
            fail(
                f"Kafka cannot be reached: {why_not}.",
                "Start the stack with `headrace up`, or correct HEADRACE_KAFKA_BOOTSTRAP or HEADRACE_KAFKA_PORT.",
                ExitCode.UNREACHABLE,
            )
        async with admin_client(connection) as admin:
            exists = topic in (await describe(admin, [topic])).topics
        if not exists:
            work.close()
            fail(f"Kafka at {connection.bootstrap} has no topic {topic}.", "Run `headrace init`.", ExitCode.UNREACHABLE)
        return await work

    try:
        return asyncio.run(checked())
    except (KafkaError, TimeoutError, OSError) as error:
        fail(f"Kafka at {connection.bootstrap} failed: {error!r}.", "Look at the broker's log.", ExitCode.UNREACHABLE)
