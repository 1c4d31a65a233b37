"""Reading the claims back from their changelog.

The changelog is compacted, one record per record of `events.raw`; reading it whole is the recovery
of a worker. Read by a consumer of our own: a Faust table took 100 µs a record and swallowed errors.
"""

from collections.abc import Callable, Iterable
from typing import Any, Final, NamedTuple

from aiokafka import AIOKafkaConsumer, TopicPartition

from processors.claims import Entry, Place, decode_entry, named, place_of
from schemas.crash_points import CrashPoint, reach
from schemas.kafka import KafkaConnection
from schemas.limits import MIB
from schemas.topics import CLAIMS_CHANGELOG

_POLL_MS: Final = 1000
_POLL_RECORDS: Final = 5_000

OnProgress = Callable[[int, int], None]


class Claims(NamedTuple):
    """Live entries, and the keys of those that stand under a key without their log."""

    entries: dict[Place, list[Entry]]
    without_log: set[bytes]


async def read_claims(
    connection: KafkaConnection, partitions: Iterable[int], first_log: int, on_progress: OnProgress
) -> Claims:
    """Return the live entries of every log that stand in these partitions, up to what was there when reading began.

    Entries that name no log, which earlier versions wrote, are of `first_log`. `on_progress(read, total)` is told
    the offsets passed. Raises KafkaError when the broker goes away, CorruptClaimsError when an entry is not what a
    worker wrote.
    """
    wanted = [TopicPartition(CLAIMS_CHANGELOG, number) for number in partitions]
    live: dict[Place, dict[bytes, Entry]] = {}
    without_log: set[bytes] = set()
    if not wanted:
        return Claims({}, without_log)
    consumer = AIOKafkaConsumer(
        **connection.client_settings(),
        enable_auto_commit=False,
        auto_offset_reset="earliest",
        max_partition_fetch_bytes=8 * MIB,
        fetch_max_wait_ms=100,
    )
    try:
        await consumer.start()
        consumer.assign(wanted)
        beginnings = await consumer.beginning_offsets(wanted)
        ends = await consumer.end_offsets(wanted)
        total = sum(ends[tp] - beginnings[tp] for tp in wanted)
        behind = {tp for tp in wanted if ends[tp] > beginnings[tp]}
        while behind:
            batches = await consumer.getmany(timeout_ms=_POLL_MS, max_records=_POLL_RECORDS)
            for records in batches.values():
                _apply(live, without_log, first_log, records)
            read = 0
            for tp in wanted:
                position = await consumer.position(tp)
                read += min(position, ends[tp]) - beginnings[tp]
                if position >= ends[tp]:
                    behind.discard(tp)
            on_progress(read, total)
    finally:
        await consumer.stop()
    reach(CrashPoint.WORKER_IN_RECOVERY)
    return Claims({place: list(entries.values()) for place, entries in live.items()}, without_log)


def _apply(
    live: dict[Place, dict[bytes, Entry]], without_log: set[bytes], first_log: int, records: Iterable[Any]
) -> None:
    for record in records:
        key, value = named(record.key, first_log), record.value
        if key is not record.key:
            if value is None:
                without_log.discard(key)
                continue
            without_log.add(key)
        entries = live.setdefault(place_of(key), {})
        if value is None:
            entries.pop(key, None)
        else:
            entries[key] = decode_entry(key, value)
