"""A worker that takes a dead letter for written when the broker has refused it."""

import contextlib
import sys

from aiokafka.errors import KafkaError

from ops.processes.__main__ import main
from processors.publish import Publisher


async def deliver(self: Publisher) -> None:
    while True:
        flight, arrivals = await self._in_air.get()
        for arrival in arrivals:
            with contextlib.suppress(KafkaError):
                await arrival
        self._on_delivered(flight)


if __name__ == "__main__":
    Publisher._deliver = deliver
    sys.exit(main())
