"""A worker that acknowledges a chunk when the producer has its output, and not the broker, as yet."""

import asyncio
import sys

from ops.processes.__main__ import main
from processors.publish import Flight, Publisher

_launch = Publisher.launch
_PRODUCER_TAKES_S = 2.0


def launch(self: Publisher, flight: Flight) -> None:
    self._on_delivered(flight)
    flight.sources = []
    asyncio.get_running_loop().call_later(_PRODUCER_TAKES_S, _launch, self, flight)


if __name__ == "__main__":
    Publisher.launch = launch
    sys.exit(main())
