"""An archive writer in a process of its own.

Arguments: bootstrap servers, folder, seconds and bytes of a file, consumer group, name in it.
"""

import asyncio
import signal
import sys

import orjson
import uvloop

from ops import logs
from processors.archive_lander import ArchiveLander
from schemas.kafka import KafkaConnection
from schemas.metrics import ArchiveMetrics

SAYS_S = 0.1


async def run(bootstrap: str, folder: str, file_s: str, held_bytes: str, group: str, instance: str) -> None:
    """Archive until told to stop; say what /readyz and /metrics would, again and again."""
    stop = asyncio.Event()
    asyncio.get_running_loop().add_signal_handler(signal.SIGTERM, stop.set)
    metrics = ArchiveMetrics()
    stage = ArchiveLander(
        KafkaConnection(bootstrap), folder, float(file_s), metrics, int(held_bytes), group, instance or None
    )
    await stage.start()
    while not stop.is_set():
        lag = metrics.registry.get_sample_value("headrace_archive_lag_records")
        sys.stdout.buffer.write(orjson.dumps({"readiness": stage.readiness(), "lag": lag}) + b"\n")
        sys.stdout.buffer.flush()
        try:
            await asyncio.wait_for(stop.wait(), SAYS_S)
        except TimeoutError:
            continue
    await stage.stop()


if __name__ == "__main__":
    logs.configure("info", "archive")
    with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
        runner.run(run(*sys.argv[1:]))
