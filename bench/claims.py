"""`python -m bench.claims`: what an id that the worker remembers costs, in bytes and in CPU time.

Each size runs in a process of its own, whose memory before and after is compared. `--restart` writes
the claims to the broker of HEADRACE_KAFKA_BOOTSTRAP, which must be an empty one, and starts a worker on it.
"""

import argparse
import asyncio
import gc
import multiprocessing
import os
import random
import sys
import time
from collections.abc import Iterator
from pathlib import Path
from typing import Final

from aiokafka import AIOKafkaProducer

from ops import settings as settings_module
from ops.topics import ensure_topics
from processors.claims import ClaimsIndex, Entry, encode_entry, entry_key
from processors.config import WorkerConfig
from processors.worker import Worker
from schemas.ids import EVENT_ID_BYTES
from schemas.kafka import PRODUCER, KafkaConnection
from schemas.limits import CLAIMS_WINDOW_MS, KIB
from schemas.metrics import WorkerMetrics
from schemas.topics import CLAIMS_CHANGELOG

_PAGE_BYTES: Final = os.sysconf("SC_PAGE_SIZE")
_LOOK_S: Final = 0.05
_MEASURED: Final = 200_000
"""New ids that are judged and claimed once an index has its size."""


def records(count: int, ids_a_chunk: int, first_offset: int, seed: int) -> Iterator[tuple[int, list[bytes]]]:
    """Yield (offset, ids) of records that claim `count` ids together."""
    chance = random.Random(seed)
    for number in range(count // ids_a_chunk):
        packed = chance.randbytes(ids_a_chunk * EVENT_ID_BYTES)
        ids = [packed[at : at + EVENT_ID_BYTES] for at in range(0, len(packed), EVENT_ID_BYTES)]
        yield first_offset + number, ids


def measure_index(ids: int, ids_a_chunk: int, partitions: int, seed: int) -> dict[str, float]:
    """Return bytes an id, and µs an id to rebuild, to judge and claim, and to find a copy."""
    gc.set_threshold(50_000, 20, 1000)  # the worker's
    before = _resident_bytes()
    indexes = []
    rebuild_s = 0.0
    for partition in range(partitions):
        mine = records(ids // partitions, ids_a_chunk, 0, seed + partition)
        entries = [Entry(offset, offset, b"".join(some)) for offset, some in mine]
        began = time.process_time()
        indexes.append(ClaimsIndex.rebuild(entries, CLAIMS_WINDOW_MS))
        rebuild_s += time.process_time() - began
        del entries
    held = sum(len(index) for index in indexes)
    resident = _resident_bytes() - before
    fresh = list(records(_MEASURED, ids_a_chunk, ids, seed + partitions))
    began = time.process_time()
    for number, (offset, some) in enumerate(fresh):
        index = indexes[number % partitions]
        index.copies(offset, offset, some)
        index.claim(offset, offset, some)
    claim_s = time.process_time() - began
    began = time.process_time()
    for number, (offset, some) in enumerate(fresh):
        assert len(indexes[number % partitions].copies(offset + ids, offset, some)) == len(some)
    copy_s = time.process_time() - began
    measured = sum(len(some) for _, some in fresh)
    return {
        "ids": held,
        "bytes an id": resident / held,
        "rebuild µs": rebuild_s / held * 1e6,
        "judge and claim µs": claim_s / measured * 1e6,
        "copy µs": copy_s / measured * 1e6,
    }


async def measure_restart(connection: KafkaConnection, ids: int, ids_a_chunk: int, partitions: int) -> str:
    """Write claims, and return how long a worker takes from its start to its readiness."""
    await ensure_topics(connection, partitions, store_log=0)
    producer = AIOKafkaProducer(**connection.client_settings(), **PRODUCER, max_batch_size=512 * KIB, linger_ms=50)
    await producer.start()
    now_ms = time.time_ns() // 1_000_000
    for partition in range(partitions):
        for offset, some in records(ids // partitions, ids_a_chunk, 0, partition):
            value = encode_entry(now_ms, some)
            await producer.send(CLAIMS_CHANGELOG, value, key=entry_key(1, partition, offset), partition=partition)
    await producer.stop()
    began_s, began_cpu_s = time.perf_counter(), time.process_time()
    worker = Worker(WorkerConfig(connection), WorkerMetrics())
    await worker.start()
    try:
        while worker.readiness():  # noqa: ASYNC110 - it is asked, as from outside
            await asyncio.sleep(_LOOK_S)
        took_s, cpu_s = time.perf_counter() - began_s, time.process_time() - began_cpu_s
        held = int(worker.registry.get_sample_value("headrace_worker_claims") or 0)
    finally:
        await worker.stop()
    return f"ready with {held:,} ids after {took_s:.1f} s, {cpu_s:.1f} s of CPU"


def _resident_bytes() -> int:
    gc.collect()
    return int(Path("/proc/self/statm").read_text().split()[1]) * _PAGE_BYTES


def main() -> int:
    """Print a line for each size."""
    parser = argparse.ArgumentParser(prog="python -m bench.claims", description=__doc__)
    parser.add_argument("--ids", type=int, nargs="+", default=[1_000_000, 10_000_000], help="how many are remembered")
    parser.add_argument("--chunk", type=int, nargs="+", default=[13, 50], help="ids of one record")
    parser.add_argument("--partitions", type=int, default=4)
    parser.add_argument("--seed", type=int, default=1)
    parser.add_argument("--restart", action="store_true", help="write claims to Kafka and read them back")
    asked = parser.parse_args()
    if asked.restart:
        kafka = settings_module.load().kafka
        for ids, chunk in zip(asked.ids, asked.chunk, strict=False):
            sys.stdout.write(asyncio.run(measure_restart(kafka, ids, chunk, asked.partitions)) + "\n")
        return 0
    for ids in asked.ids:
        for chunk in asked.chunk:
            with multiprocessing.get_context("spawn").Pool(1) as alone:
                found = alone.apply(measure_index, (ids, chunk, asked.partitions, asked.seed))
            figures = "  ".join(f"{name} {value:.2f}" for name, value in found.items() if name != "ids")
            sys.stdout.write(f"{found['ids']:>12,.0f} ids in chunks of {chunk:>3}: {figures}\n")
            sys.stdout.flush()
    return 0


if __name__ == "__main__":
    sys.exit(main())
