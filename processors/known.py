"""What the worker knows beside its claims: the configs and the identity links, as their topics tell them."""

import asyncio
from typing import Final

import structlog

from processors.enrich.identity import Identities
from schemas.config_history import ConfigHistory
from schemas.kafka import KafkaConnection
from schemas.reference import ReferenceReader
from schemas.topics import CONFIG_VERSIONS, IDENTITY_LINKS

log = structlog.get_logger()

_READ_S: Final = 60.0
"""How long the first chunk waits for both."""


class Known:
    """Reads both topics for as long as the worker lives."""

    def __init__(self, kafka: KafkaConnection, links_kept: int) -> None:
        self.configs = ConfigHistory()
        self.identities = Identities(links_kept)
        self._readers = {
            CONFIG_VERSIONS: ReferenceReader(kafka, CONFIG_VERSIONS, self.configs.take),
            IDENTITY_LINKS: ReferenceReader(kafka, IDENTITY_LINKS, self.identities.take),
        }

    async def start(self) -> None:
        """Begin to read; return when all was read that was there, or when that takes longer than it may."""
        await asyncio.gather(*(reader.start() for reader in self._readers.values()))
        await asyncio.gather(*(self._caught_up(topic, reader) for topic, reader in self._readers.items()))

    async def _caught_up(self, topic: str, reader: ReferenceReader) -> None:
        try:
            await reader.wait_caught_up(_READ_S)
        except TimeoutError:
            # Late answers are better than none: rows say what was known when they landed.
            log.error("reference_not_read", seconds=_READ_S, topic=topic)  # noqa: TRY400 - no stack says more

    async def stop(self) -> None:
        """Stop reading."""
        await asyncio.gather(*(reader.stop() for reader in self._readers.values()))
