"""The lander of a replay that is compared before it counts: the shadow topics into the shadow tables.

The lander's own code, beside it in the process. It never ends the process: events must land whatever
becomes of a comparison.
"""

from typing import Final

from processors.lander import Lander, LanderConfig
from schemas.kafka import KafkaConnection
from schemas.metrics import LanderMetrics
from schemas.store import StoreAddress
from schemas.topics import SHADOW_GROUP

_BATCH_ROWS: Final = 20_000


class ShadowLander:
    """A lander whose failure turns its health red and nothing else."""

    def __init__(self, kafka: KafkaConnection, store: StoreAddress) -> None:
        config = LanderConfig(kafka, store, _BATCH_ROWS, group=SHADOW_GROUP, burst_guard=False, is_shadow=True)
        self._lander = Lander(config, LanderMetrics())
        self.registry = self._lander.registry

    async def start(self) -> None:
        """Begin to land in the background."""
        await self._lander.start()

    async def stop(self) -> None:
        """Land and commit what is in hand."""
        await self._lander.stop()

    def readiness(self) -> dict[str, str]:
        """Return why shadows do not land, {} when they do."""
        return {f"shadow {part}": why for part, why in self._lander.readiness().items()}
