"""The init process: what must exist before the others start. It ends by itself.

It runs before them because the embedded engine allows one process per folder.
"""

import asyncio
import time
from typing import Final

import structlog
from aiokafka.errors import KafkaError
from clickhouse_connect.driver.exceptions import Error as StoreError

from ops import logs
from ops.kafka import answers
from ops.settings import Settings
from ops.topics import TopicsError, ensure_topics
from schemas import migrations
from schemas.kafka import KafkaConnection
from schemas.logs import LogRecord
from schemas.origin import REFUSED_AT_GATEWAY_LOG
from schemas.store import StoreAddress

log = structlog.get_logger()

KAFKA_PATIENCE_S: Final = 90
_POLL_S: Final = 0.1

INIT_ERRORS: Final = (TopicsError, KafkaError, StoreError, migrations.ChangedMigrationError, TimeoutError, OSError)
"""What `initialise` raises when something outside is wrong."""

_LARGEST_LOG: Final = "SELECT max(origin_log) FROM {table} WHERE origin_log < {refused}"
_LANDING_TABLES: Final = ("exposures", "custom_events")


def archived_log(location: str) -> int:
    """Return the largest log number of any file of the archive, 0 when there is none. Raises OSError."""
    if not location:
        return 0
    from schemas.archive import Archive  # noqa: PLC0415 - half a second, for those who archive

    return max((file.place.log for file in Archive(location).files()), default=0)


def prepare_store(address: StoreAddress) -> int:
    """Apply the migrations, and return the largest log number of any row, 0 when there is none.

    Raises clickhouse_connect's Error and schemas.migrations.ChangedMigrationError.
    """
    client = address.connect()
    try:
        for migration in migrations.apply(client):
            log.info("migration_applied", name=migration.name)
        found = 0
        for table in _LANDING_TABLES:
            query = _LARGEST_LOG.format(table=table, refused=REFUSED_AT_GATEWAY_LOG)
            found = max(found, int(client.query(query).result_rows[0][0] or 0))
        return found
    finally:
        client.close()


async def wait_for_kafka(connection: KafkaConnection, patience_s: float) -> None:
    """Return when the cluster serves clients. Raises TimeoutError with what it said last."""
    until = time.monotonic() + patience_s
    while why_not := await answers(connection):
        if time.monotonic() > until:
            raise TimeoutError(f"Kafka at {connection.bootstrap}: {why_not}")
        await asyncio.sleep(_POLL_S)


def initialise(settings: Settings, kafka_patience_s: float = KAFKA_PATIENCE_S) -> LogRecord:
    """Bring store and topics to what this version needs; repeating it changes nothing.

    Raises `INIT_ERRORS`.
    """
    known_log = max(prepare_store(settings.store), archived_log(settings.archive))

    async def topics() -> LogRecord:
        await wait_for_kafka(settings.kafka, kafka_patience_s)
        return await ensure_topics(settings.kafka, settings.partitions, known_log)

    return asyncio.run(topics())


def remedy_of(error: Exception) -> str:
    """Return what to do about an error of `initialise`."""
    if isinstance(error, TopicsError):
        return error.remedy
    if isinstance(error, migrations.ChangedMigrationError):
        return "Install the version of headrace that made this store, or start with another HEADRACE_DATA_DIR."
    if isinstance(error, StoreError):
        return "Correct HEADRACE_CLICKHOUSE, or stop the stack that holds HEADRACE_DATA_DIR."
    return "Start Kafka, or correct HEADRACE_KAFKA_BOOTSTRAP or HEADRACE_KAFKA_PORT."


def run(settings: Settings) -> int:
    """Initialise as a child of the stack; return the exit code."""
    logs.configure(settings.log_level, "init")
    try:
        record = initialise(settings)
    except INIT_ERRORS as error:
        log.critical("init_failed", error=str(error) or repr(error), remedy=remedy_of(error))
        return 1
    log.info("initialised", log=record.log, topic_id=record.topic_id, partitions=record.partitions)
    return 0
