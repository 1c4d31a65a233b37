"""What log, store and ledger hold, as the checker wants it."""

import asyncio
import os
import sys
from collections import defaultdict
from dataclasses import dataclass
from typing import Any

import orjson
from aiokafka import AIOKafkaConsumer, TopicPartition
from crash.checker import LandedRow
from crash.fleet import PATIENCE_S, Fleet
from crash.workload import EXPERIMENT, Run
from support.read_log import read_whole
from support.waiting import until

from ops.demo.landed import ConsoleError, ConsoleSql
from ops.kafka import admin_client
from schemas import avro, topics
from schemas.kafka import KafkaConnection
from schemas.logs import read_logs
from schemas.origin import HEADER, Origin

GARBAGE = b"no record at all"
"""What a storm writes into a public topic, so that the lander has something to refuse."""

_ORIGIN = "origin_log, origin_partition, origin_offset, origin_index"
_PUBLIC = (topics.EXPOSURES, topics.CUSTOM_EVENTS)


async def settle(fleet: Fleet, timeout_s: float = PATIENCE_S) -> None:
    """Wait until worker and lander have nothing left to do, whatever became of it."""
    lag: dict[str, int] = {}

    async def is_done() -> bool:
        logs = (await read_logs(fleet.kafka)).to_process
        lag["logs that are not drained"] = len(logs) - 1
        newest = logs[-1]
        lag["worker"] = await _lag(fleet, topics.worker_group(newest.topic), (newest.topic,), newest.partitions)
        lag["lander"] = await _lag(fleet, topics.LANDER_GROUP, _PUBLIC, newest.partitions)
        return not any(lag.values())

    try:
        await until(is_done, timeout_s)
    except AssertionError:
        raise AssertionError(f"not settled after {timeout_s} s: {lag}\n{fleet.said('worker')}") from None


async def _lag(fleet: Fleet, group: str, names: tuple[str, ...], count: int) -> int:
    partitions = [TopicPartition(name, n) for name in names for n in range(count)]
    consumer = AIOKafkaConsumer(**fleet.kafka.client_settings(), enable_auto_commit=False)
    try:
        await consumer.start()
        # The end is asked first: what is committed later than that may only be more.
        ends = await consumer.end_offsets(partitions)
        async with admin_client(fleet.kafka) as admin:
            committed = await admin.list_consumer_group_offsets(group)
    finally:
        await consumer.stop()
    return sum(max(0, ends[tp] - max(0, committed[tp].offset if tp in committed else 0)) for tp in partitions)


class Store:
    """Questions to the store through the console."""

    def __init__(self, fleet: Fleet) -> None:
        self._sql = ConsoleSql(fleet.settings.console_address)

    async def rows(self, run: Run) -> list[LandedRow]:
        """Return every row of a run."""
        where = f"startsWith(session_id, '{run.name}-')"
        columns = f"event_time_ms AS t, user_id AS u, [{_ORIGIN}] AS o"
        exposures = f"SELECT {columns}, concat(if(name = '{EXPERIMENT}', '', name), rule_id) AS a FROM exposures"
        customs = f"SELECT {columns}, '' AS a FROM custom_events"
        found: list[LandedRow] = []
        for question in (exposures, customs):
            lines = await self._lines(f"{question} WHERE {where}")
            # In a thread: the links of the fleet live on this loop.
            found += await asyncio.to_thread(_rows_of, lines, run.base_ms)
        return found

    async def received_since(self, when_ms: int) -> bool:
        """Whether anything has landed that was received later than that."""
        where = f"received_at > fromUnixTimestamp64Milli({when_ms})"
        try:
            [line] = await self._sql.lines(f"SELECT count() AS n FROM custom_events WHERE {where}")
        except ConsoleError:
            return False
        return int(orjson.loads(line)["n"]) > 0

    async def landed_by_partition(self) -> dict[tuple[str, int], int]:
        """Return how many origins of each table and partition have landed."""
        found = {}
        for table in _PUBLIC:
            question = f"SELECT origin_partition AS p, uniqExact({_ORIGIN}, origin_part) AS n FROM {table} GROUP BY p"
            for line in await self._lines(question):
                row = orjson.loads(line)
                found[table, int(row["p"])] = int(row["n"])
        return found

    async def _lines(self, question: str) -> list[bytes]:
        async def answered() -> tuple[list[bytes]] | None:
            try:
                return (await self._sql.lines(question),)
            except ConsoleError:
                return None

        (lines,) = await until(answered, PATIENCE_S, "the console does not answer")
        return lines

    async def close(self) -> None:
        """Let go of the connections."""
        await self._sql.close()


def _rows_of(lines: list[bytes], base_ms: int) -> list[LandedRow]:
    found = []
    for line in lines:
        row = orjson.loads(line)
        log, partition, offset, index = map(int, row["o"])
        found.append(LandedRow(int(row["t"]) - base_ms, row["a"], row["u"], (log, partition, offset, index)))
    return found


@dataclass
class PublicLog:
    """What stands in the public topics: records, and by topic and partition those that came in the log's order."""

    records: int
    in_order: dict[tuple[str, int], int]


class PublicLogReader:
    """Reads the public topics on from where it was, so that a soak reads nothing twice."""

    def __init__(self, connection: KafkaConnection) -> None:
        self._connection = connection
        self._positions: dict[TopicPartition, int] = {}
        self._highest: dict[TopicPartition, bytes] = defaultdict(bytes)
        self._log = PublicLog(0, defaultdict(int))

    async def read(self) -> PublicLog:
        """Return what is known once the present end is reached.

        A record counts as in order when its origin is above all before it: emitted again, it is not.
        So those are as many as landed, unless something was emitted behind its successor at first.
        """
        consumer = AIOKafkaConsumer(
            **self._connection.client_settings(), enable_auto_commit=False, auto_offset_reset="earliest"
        )
        for number in range((await read_logs(self._connection)).line[-1].partitions):
            for name in _PUBLIC:
                self._positions.setdefault(TopicPartition(name, number), 0)
        try:
            await consumer.start()
            consumer.assign(list(self._positions))
            ends = await consumer.end_offsets(list(self._positions))
            for tp, position in self._positions.items():
                consumer.seek(tp, position)
            while behind := [tp for tp in ends if self._positions[tp] < ends[tp]]:
                batches = await consumer.getmany(*behind, timeout_ms=500, max_records=5_000)
                for tp, records in batches.items():
                    self._take(tp, records)
                    self._positions[tp] = records[-1].offset + 1
        finally:
            await consumer.stop()
        return self._log

    def _take(self, tp: TopicPartition, records: list[Any]) -> None:
        for record in records:
            if record.value == GARBAGE:
                continue
            origin = dict(record.headers)[HEADER]
            self._log.records += 1
            if origin > self._highest[tp]:
                self._highest[tp] = origin
                self._log.in_order[tp.topic, tp.partition] += 1


async def dead_numbers(fleet: Fleet, run: Run) -> list[int]:
    """Return the numbers of a run's events in every dead-letter topic, each once per origin."""
    partitions = [
        TopicPartition(name, n)
        for name in (topics.DLQ_INGEST, topics.DLQ_WORKER, topics.DLQ_LANDER)
        for n in range((await read_logs(fleet.kafka)).line[-1].partitions)
    ]
    found: dict[tuple[int, object], None] = {}
    for record in await read_whole(fleet.kafka, partitions):
        letter = avro.DEAD_LETTER.decode(record.value[5:])
        if letter["original"] == GARBAGE:
            continue
        if record.topic == topics.DLQ_LANDER:
            where = Origin.unpack(letter["origin"]) if letter["origin"] else "no origin"
            raise AssertionError(f"the lander refused {where}: {letter['message']}")
        event = orjson.loads(letter["original"])
        if not event["user"]["userID"].startswith(f"{run.name}-"):
            continue
        when = event["time"]
        number = int(when.split()[1]) if isinstance(when, str) else when - run.base_ms
        # At the gateway the letter's own place is the origin; a crash writes a worker's twice under one.
        found[number, letter["origin"] or (record.partition, record.offset)] = None
    return [number for number, _ in found]


async def ledger(fleet: Fleet) -> dict[str, Any]:
    """Return what `headrace ledger --json` says of the last hours; its exit code is in `exit`."""
    environment = {**os.environ, "HEADRACE_CONSOLE_URL": fleet.settings.console_address}

    async def asked() -> dict[str, Any] | None:
        run = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ops.cli", "ledger", "--json", "--since", "24h"),
            env=environment,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.DEVNULL,
        )
        said, _ = await run.communicate()
        return {**orjson.loads(said), "exit": run.returncode} if run.returncode in (0, 1) and said else None

    return await until(asked, PATIENCE_S, "the ledger cannot be asked")


def totals_of(balance: dict[str, Any], key_id: str) -> dict[str, int]:
    """Add up a balance's lines of one key."""
    names = ("accepted", "landed", "duplicate", "dead", "in_flight", "missing")
    lines = [line for line in balance["lines"] if line["key_id"] == key_id]
    return {name: sum(line[name] for line in lines) for name in names}
