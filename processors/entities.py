"""What the newest config specs say, for the worker."""

import structlog

from processors.map_event import Entity
from schemas.kafka import KafkaConnection
from schemas.reference import ReferenceReader
from schemas.topics import CONFIG_SPECS

log = structlog.get_logger()


class ConfigEntities:
    """Follows `config.specs` and answers from the newest document of each project."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._reader = ReferenceReader(connection, CONFIG_SPECS, self._on_record)
        self._revision = 0

    @property
    def revision(self) -> int:
        """Number of documents read."""
        return self._revision

    async def start(self) -> None:
        """Read what is there, then follow."""
        await self._reader.start()
        await self._reader.wait_caught_up()

    async def stop(self) -> None:
        """Stop following."""
        await self._reader.stop()

    def find(self, project: str, section: str, name: str) -> Entity | None:
        """Return what the newest document says of an entity."""
        return None

    def _on_record(self, key: bytes, value: bytes | None) -> None:
        self._revision += 1
