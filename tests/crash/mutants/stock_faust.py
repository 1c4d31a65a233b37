"""A worker on Faust as it is: no measure of `faust_measures.py`, its claims in a table, and 1.5 s to index them."""

import asyncio
import sys
from typing import Any

from faust.transport.drivers import aiokafka as driver

from ops.processes.__main__ import main
from processors import faust_measures, worker

_REBUILD_S = 1.5
_PARTITIONS = 4
_compose = worker.Worker._compose


class StockThread(driver.AIOKafkaConsumerThread):
    """Faust's own; the worker's watchdog asks it what is committed."""

    def __post_init__(self) -> None:
        super().__post_init__()
        self.committed: dict[Any, int] = {}


class StockConsumer(driver.Consumer):
    """Faust's own; what the worker acknowledges, it takes as it takes all else."""

    def _new_consumer_thread(self) -> Any:
        return StockThread(self, loop=self.loop, beacon=self.beacon)

    def acknowledge(self, message: Any) -> bool:
        return bool(self.ack(message))


async def on_rebalance_complete(self: Any, *_: object, **__: object) -> None:
    """Rebuild, and trust the position that the consumer has by then."""
    assigned = {tp for tp in self._app.consumer.assignment() if tp.topic == self._topic}
    await self._rebuild({tp.partition for tp in assigned})
    self.generation = self._app.consumer_generation_id


def compose(self: worker.Worker) -> Any:
    """Have the claims recovered by Faust too, which is what pauses and resumes partitions."""
    app = _compose(self)
    app.Table("claims", partitions=_PARTITIONS, key_type=bytes, value_type=bytes).on_recover(index)
    return app


async def index() -> None:
    """Take the time that the index of some million claims takes."""
    await asyncio.sleep(_REBUILD_S)


async def no_self_test(*_: object) -> None:
    """It would refuse to start."""


if __name__ == "__main__":
    worker.run_self_test = no_self_test
    worker.Worker._compose = compose
    faust_measures.Recovery.on_rebalance_complete = on_rebalance_complete
    faust_measures.Guard.is_current = lambda *_: True
    faust_measures.Guard.admit = lambda *_: None
    faust_measures.MeasuredTransport.Consumer = StockConsumer
    sys.exit(main())
