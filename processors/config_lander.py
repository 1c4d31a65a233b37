"""Config versions from their topic into the table `config_versions`: last record per key.

Every lander process does it, for it is little, and a row that is there twice is one: the table replaces by
key. What stands in the table already is asked once and not written again.
"""

import asyncio
import contextlib
import time
from typing import Final

import msgspec
import orjson
import structlog
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError

from processors.landing.config_rows import COLUMNS, record_of_key, row_of
from processors.landing.store_thread import StoreThread
from schemas.config_versions import RecordError, VersionRecord, decode
from schemas.kafka import KafkaConnection
from schemas.metrics import ConfigLanderMetrics
from schemas.reference import ReferenceReader
from schemas.store import StoreAddress
from schemas.topics import CONFIG_VERSIONS

log = structlog.get_logger()

_ROWS: Final = 2_000
_RETRY_S: Final = 1.0

_KNOWN: Final = (
    "SELECT project, kind, name, version, toUnixTimestamp64Milli(time), sha256, toUnixTimestamp64Milli(pushed_at) "
    "FROM config_versions FINAL"
)


class ConfigLander:
    """Lands config versions beside the lander. When the store is away it waits and says so."""

    def __init__(self, kafka: KafkaConnection, store: StoreAddress, metrics: ConfigLanderMetrics) -> None:
        self._metrics = metrics
        self.registry = metrics.registry
        self._store = StoreThread(store)
        self._reader = ReferenceReader(kafka, CONFIG_VERSIONS, self._take)
        self._pending: dict[bytes, bytes | None] = {}
        self._known: set[tuple[object, ...]] | None = None
        self._came = asyncio.Event()
        self._waiting_for: dict[str, str] = {}
        self._task: asyncio.Task[None] | None = None

    async def start(self) -> None:
        """Begin to land in the background."""
        await self._reader.start()
        self._task = asyncio.create_task(self._run(), name="config_versions")

    async def stop(self) -> None:
        """Stop; what was not written is written after the next start."""
        await self._reader.stop()
        if self._task is not None:
            self._task.cancel()
            await asyncio.gather(self._task, return_exceptions=True)
        await self._store.close()

    def readiness(self) -> dict[str, str]:
        """Return why config versions do not land, {} when they do."""
        return dict(self._waiting_for)

    def _take(self, key: bytes, value: bytes | None) -> None:
        # The last record of a key counts, wherever it stood before.
        self._pending.pop(key, None)
        self._pending[key] = value
        self._came.set()

    async def _run(self) -> None:
        await self._reader.wait_caught_up()
        while True:
            await self._came.wait()
            self._came.clear()
            while self._pending:
                try:
                    await self._land_some()
                    self._waiting_for = {}
                except (ClickHouseError, OSError) as error:
                    self._waiting_for = {"config_versions": f"they do not land: {error}"}
                    log.warning("config_versions_disturbed", error=str(error))
                    await asyncio.sleep(_RETRY_S)

    async def _land_some(self) -> None:
        if self._known is None:
            self._known = await self._store.run(_read_known)
        batch = dict(list(self._pending.items())[:_ROWS])
        landed_ms = time.time_ns() // 1_000_000
        lines = [line for key, value in batch.items() if (line := self._line(key, value, landed_ms))]
        if lines:
            await self._store.run(lambda client: _insert(client, b"\n".join(lines)))
            self._metrics.landed.inc(len(lines))
        for key, value in batch.items():
            # Another record of the key may have come meanwhile.
            if self._pending.get(key, b"") == value:
                del self._pending[key]

    def _line(self, key: bytes, value: bytes | None, landed_ms: int) -> bytes:
        """Return the row as JSON, b"" for what is there already or cannot be read."""
        # Whatever somebody else wrote into the topic, what stands behind it must land.
        with contextlib.suppress(RecordError, msgspec.MsgspecError, ValueError, KeyError, TypeError):
            record = record_of_key(key) if value is None else decode(value)
            if value is None or _identity(record) not in (self._known or ()):
                return orjson.dumps(row_of(record, landed_ms, is_deleted=value is None))
            return b""
        log.warning("config_version_unreadable", key=key[:200])
        return b""


def _identity(record: VersionRecord) -> tuple[object, ...]:
    return record.project, record.kind, record.name, record.version, record.time, record.sha256, record.pushed_at


def _read_known(client: Client) -> set[tuple[object, ...]]:
    return {tuple(row) for row in client.query(_KNOWN).result_rows}


def _insert(client: Client, block: bytes) -> None:
    client.raw_insert("config_versions", column_names=list(COLUMNS), insert_block=block, fmt="JSONEachRow")
