"""Dead letters of every reason on a whole stack: mended and replayed, cut off, replayed at once and again."""

import asyncio
import os
import random
import signal
import sys
from collections import Counter
from collections.abc import AsyncIterator, Callable
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from support.commands import Headrace
from support.exposures import exposure
from support.waiting import until

from ops.dlq.choose import Choice
from ops.dlq.landed import Store
from ops.dlq.predict import Fate
from ops.dlq.reenter import reenter
from ops.dlq.replay import Order, forecast
from ops.dlq.scan import Scan
from ops.dlq.send import Sender
from ops.dlq.settle import wait_until_passed
from ops.kafka import publish, read_compacted
from ops.settings import Settings
from ops.stack.local import LocalStack, environment_of
from schemas import chunk, keys, replays
from schemas.avro import CUSTOM_EVENT
from schemas.dead_letter import DeadLetter
from schemas.ids import EventIds, partition_key, partition_of
from schemas.kafka import PRODUCER, KafkaConnection
from schemas.keys import KeyKind
from schemas.limits import EVENT_BYTES, METADATA_KEYS
from schemas.origin import HEADER, Origin
from schemas.reasons import Reason, Stage
from schemas.replays import ReplayRecord
from schemas.topics import CUSTOM_EVENTS, DLQ_LANDER, DLQ_WORKER, EVENTS_RAW, KEYS, REPLAYS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PATIENCE_S = 120.0
PARTITIONS = 2
EVENTS = 3_000
KILLS = 10
CHUNKS_A_KILL = 3
RATE = 60
"""Events a second of a replay that is to be killed on its way."""

TIME_MS = 1_763_740_000_000
SENDER = {"sdkType": "py-server", "sessionID": "one"}

RULES = """
rule = [
    { op = "cut", path = "/metadata", length = 256, reason = "too_many_metadata_keys" },
    { op = "cut", path = "/metadata/text", length = 10, reason = "event_too_large" },
    { op = "remove", path = "/metadata/deep", reason = "event_too_deep" },
    { op = "set", path = "/value", value = 0, reason = "malformed_event" },
    { op = "rename", path = "/time/text", to = "/text", reason = "invalid_time" },
    { op = "rename", path = "/text", to = "/time", reason = "invalid_time" },
    { op = "cast", path = "/time", to = "time_ms", reason = "invalid_time" },
    { op = "set", path = "/eventName", value = "named", reason = "missing_event_name" },
    { op = "rename", path = "/metadata/name", to = "/metadata/config", reason = "invalid_exposure" },
    { op = "set", path = "/user", value = {}, reason = "invalid_event" },
]
"""


def good(number: int) -> bytes:
    return orjson.dumps({"eventName": "buy", "user": {"userID": f"u{number % 97}"}, "time": TIME_MS + number})


def deep(levels: int) -> Any:
    nested: Any = 1
    for _ in range(levels):
        nested = [nested]
    return nested


def poison(number: int) -> tuple[Reason, bytes]:
    """Return an event of one of eight kinds that are refused, by the gateway or by the worker."""
    event: dict[str, Any] = {"eventName": "buy", "user": {"userID": f"u{number % 97}"}, "time": TIME_MS + number}
    match number % 40 if number % 40 == 0 else number % 7 + 1:
        case 0:
            return Reason.EVENT_TOO_LARGE, orjson.dumps({**event, "metadata": {"text": "x" * EVENT_BYTES}})
        case 1:
            return Reason.TOO_MANY_METADATA_KEYS, orjson.dumps(
                {**event, "metadata": {f"{n}": n for n in range(METADATA_KEYS + 1)}}
            )
        case 2:
            return Reason.EVENT_TOO_DEEP, orjson.dumps({**event, "metadata": {"deep": deep(40)}})
        case 3:
            return Reason.MALFORMED_EVENT, orjson.dumps(event)[:-1] + b',"value":NaN}'
        case 4:
            return Reason.INVALID_TIME, orjson.dumps({**event, "time": {"text": f"2026-01-01T00:00:00.{number:06d}"}})
        case 5:
            return Reason.MISSING_EVENT_NAME, orjson.dumps({**event, "eventName": None})
        case 6:
            exposed = {**event, "eventName": "statsig::config_exposure", "metadata": {"name": "button"}}
            return Reason.INVALID_EXPOSURE, orjson.dumps(exposed)
    return Reason.INVALID_EVENT, orjson.dumps({**event, "user": number})


def id_of(event: bytes) -> bytes:
    return EventIds("default", "production", "one", "").of(event, 0, has_time=True)


class Traffic:
    """Good events and poison, each in some requests; retries repeat events in whatever company."""

    def __init__(self, chance: random.Random) -> None:
        self.good = {id_of(event): event for event in map(good, range(EVENTS * 4 // 5))}
        found = [poison(number) for number in range(EVENTS // 5)]
        self.dead = {id_of(event): (reason, event) for reason, event in found}
        assert len(self.dead) == len(found)
        events = [*self.good.values(), *(event for _, event in found)]
        chance.shuffle(events)
        # Equal events within one request would be two events, so a retry has a request of its own.
        copies = chance.sample(events, EVENTS // 10)
        self.sent_twice = {id_of(event) for event in copies}
        self.sent = len(events) + len(copies)
        self._bodies = [
            b'{"events":[%b],"statsigMetadata":%b}' % (b",".join(some[at : at + 40]), orjson.dumps(SENDER))
            for some in (events, copies)
            for at in range(0, len(some), 40)
        ]
        chance.shuffle(self._bodies)

    async def send(self, settings: Settings, key: str) -> None:
        url = f"http://127.0.0.1:{settings.gateway_port}/v1/log_event"
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            for body in self._bodies:

                async def taken(body: bytes = body) -> bool:
                    answer = await client.post(url, content=body, headers={"statsig-api-key": key})
                    assert answer.status_code in (202, 401, 503), answer.text  # 401 until the key is known
                    return answer.status_code == 202

                await until(taken, PATIENCE_S, "the gateway takes nothing")


class Desk:
    """Whoever operates the stack: the command line as a process that can be killed, and questions."""

    def __init__(self, settings: Settings, rules: Path, patch: pytest.MonkeyPatch) -> None:
        self.settings = settings
        self._headrace = Headrace(patch)
        self.store = Store(settings)
        self._rules = rules
        self._environment = {**os.environ, **environment_of(settings)}
        for name, value in environment_of(settings).items():
            patch.setenv(name, value)

    async def start(self, *arguments: str) -> asyncio.subprocess.Process:
        return await asyncio.create_subprocess_exec(
            sys.executable, "-m", "ops.cli", "dlq", *arguments, env=self._environment, stdout=asyncio.subprocess.PIPE
        )

    async def run(self, *arguments: str) -> Any:
        """Run a command to its end in this process, and read what it prints."""
        command = arguments if arguments[0] == "where" else ("dlq", *arguments)
        result = await asyncio.to_thread(self._headrace, *command, "--json")
        assert result.exit_code == 0, result.output
        return orjson.loads(result.stdout)

    async def run_apart(self, *arguments: str) -> Any:
        """Run a command to its end as a process, so that another may run beside it."""
        process = await self.start(*arguments, "--json")
        said, _ = await process.communicate()
        assert process.returncode == 0
        return orjson.loads(said)

    async def replay(self, *arguments: str) -> Any:
        return await self.run("replay", "--all", "--fix", str(self._rules), *arguments)

    async def records(self) -> dict[str, ReplayRecord]:
        found = await read_compacted(self.settings.kafka, REPLAYS)
        return {key.decode(): replays.decode(value) for key, value in found.items()}

    async def killed_on_its_way(self, chunks: int, resume: str = "") -> str:
        """Start a slow replay, or go on with one, and kill it when it has sent so many more chunks; return its id."""
        async with running_consumer(self.settings.kafka) as consumer:
            return await self._killed_behind(consumer, chunks, resume)

    async def _killed_behind(self, consumer: AIOKafkaConsumer, chunks: int, resume: str) -> str:
        goal = chunks + await self._chunks(consumer)
        chosen = ["--resume", resume] if resume else ["--all", "--fix", str(self._rules)]
        known = set(await self.records()) - {resume}
        process = await self.start("replay", *chosen, *([] if resume else ["--rate", str(RATE)]))

        async def far_enough() -> bool:
            assert process.returncode is None, "the replay was over before it was killed"
            return await self._chunks(consumer) >= goal

        await until(far_enough, PATIENCE_S, "the replay does not get on")
        process.send_signal(signal.SIGKILL)
        await process.communicate()
        assert process.returncode == -signal.SIGKILL
        (name,) = set(await self.records()) - known
        return name

    async def _chunks(self, consumer: AIOKafkaConsumer) -> int:
        ends = await consumer.end_offsets([TopicPartition(EVENTS_RAW, n) for n in range(PARTITIONS)])
        return sum(ends.values())

    async def rows(self, statement: str) -> list[list[Any]]:
        return await asyncio.to_thread(self.store.rows, statement)

    async def landed(self) -> Counter[str]:
        """Return how many rows each event has."""
        found: Counter[str] = Counter()
        for digit in "0123456789abcdef":  # an answer has 10,000 rows
            question = " UNION ALL ".join(
                f"SELECT event_id, count() FROM {table} WHERE startsWith(event_id, '{digit}') GROUP BY event_id"
                for table in ("exposures", "custom_events")
            )
            for event_id, count in await self.rows(question):
                found[event_id] += int(count)
        return found

    async def asked(self, path: str) -> Any:
        """Return what the console answers."""
        async with httpx.AsyncClient(base_url=self.settings.console_address, trust_env=False, timeout=60) as client:
            return (await client.get(path)).json()

    async def settled(self) -> None:
        await wait_until_passed(self.settings.kafka, self.store, lambda _: None)


@asynccontextmanager
async def running_consumer(connection: KafkaConnection) -> AsyncIterator[AIOKafkaConsumer]:
    consumer = AIOKafkaConsumer(**connection.client_settings())
    try:
        await consumer.start()
        yield consumer
    finally:
        await consumer.stop()


async def write(settings: Settings, *records: tuple[str, int, bytes | None, dict[str, bytes]]) -> None:
    """Write (topic, partition, value, headers) straight into the log, as a stranger may."""
    producer = AIOKafkaProducer(**settings.kafka.client_settings(), **PRODUCER)
    await producer.start()
    for topic, partition, value, headers in records:
        await producer.send_and_wait(topic, value, key=b"k", partition=partition, headers=list(headers.items()))
    await producer.stop()


def record_of(event_id: bytes, origin: Origin) -> bytes:
    """Return a custom event as the worker writes it."""
    named = {f"origin_{name}": value for name, value in origin._asdict().items()}
    own = {"event_name": "buy", "value_number": 1.5, "value_string": "", "event_id_bytes": event_id}
    values = exposure(**{**named, **own})
    return CUSTOM_EVENT.encode({name: values[name] for name in CUSTOM_EVENT.columns})


async def refused_by_the_lander(desk: Desk, event_id: bytes) -> None:
    """Let an event of the gateway's dead letters be one that a replay brought as far as the lander."""
    question = f"SELECT origin_partition, origin_offset FROM dead_letters WHERE event_id = '{event_id.hex()}' LIMIT 1"
    ((partition, offset),) = await desk.rows(question)
    origin = Origin(255, int(partition), int(offset), 0)
    value = record_of(event_id, origin)
    letter = DeadLetter(
        Stage.LANDER,
        Reason.INSERT_REFUSED,
        "no such column",
        value,
        failed_at=TIME_MS,
        origin=origin,
        event_id=event_id,
        attempt=2,
        replay="earlier",
        chunk_headers={"source_topic": CUSTOM_EVENTS.encode(), "source_partition": partition.to_bytes(1, "big")},
    )
    earlier = ReplayRecord("earlier", "done", "somebody", TIME_MS, "1", {}, {})
    await publish(desk.settings.kafka, REPLAYS, [(b"earlier", replays.encode(earlier))])
    await write(desk.settings, (DLQ_LANDER, int(partition), letter.encode(), {}))


def predicted(forecasts: Any) -> Counter[str]:
    found: Counter[str] = Counter()
    for one in forecasts["predictions"]:
        found[one["fate"]] += one["events"]
    return found


async def test_every_dead_letter_lands_once_whatever_happens_to_its_replays(
    stack: Callable[..., LocalStack], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    key = keys.generate(KeyKind.SECRET)
    known = keys.record_of(key, KeyKind.SECRET, "default", "production", 0)
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    traffic = Traffic(chance)
    async with stack(partitions=PARTITIONS) as running:
        settings = running.settings
        await publish(settings.kafka, KEYS, [(known.key_hash.encode(), keys.encode(known))])
        desk = Desk(settings, rules, monkeypatch)
        await traffic.send(settings, key)
        garbage = (
            (EVENTS_RAW, 0, b"\xff no chunk", {}),
            (EVENTS_RAW, 1, b"{}", {chunk.VERSION_HEADER: b"9", chunk.COUNT_HEADER: b"7"}),
            (CUSTOM_EVENTS, 0, None, {}),
            (CUSTOM_EVENTS, 1, b"\x00\x00\x00\x00\x07unknown", {HEADER: Origin(1, 1, 2**39, 9).pack()}),
            (DLQ_WORKER, 0, b"no envelope", {}),
            (DLQ_WORKER, 1, None, {}),
        )
        await write(settings, *garbage)
        await desk.settled()

        # Every event is dead once, by its id; nothing of the rest is.
        dead = await desk.rows(
            "SELECT DISTINCT event_id, reason FROM dead_letters WHERE event_id != '' AND stage != 'lander'"
        )
        assert dict(dead) == {event_id.hex(): reason.value for event_id, (reason, _) in traffic.dead.items()}
        assert len(dead) == len(traffic.dead)
        landed = await desk.landed()
        assert set(landed) == {event_id.hex() for event_id in traffic.good}
        # The gateway refuses a copy under an origin of its own, which would be one hop more.
        once = {
            event_id: reason for event_id, (reason, _) in traffic.dead.items() if event_id not in traffic.sent_twice
        }
        at_lander = next(event_id for event_id, reason in once.items() if reason is Reason.EVENT_TOO_DEEP)
        await refused_by_the_lander(desk, at_lander)
        await desk.settled()
        listed = {row["by_reason"]: int(row["dead"]) for row in await desk.run("list", "--by", "reason")}
        of_events = Counter(reason.value for reason, _ in traffic.dead.values())
        assert listed[Reason.INVALID_TIME] == of_events[Reason.INVALID_TIME]
        assert listed[Reason.INSERT_REFUSED] == 1

        # What is said beforehand is what happens.
        forecasts = await desk.replay("--dry-run")
        fates = predicted(forecasts)
        assert fates[Fate.WOULD_SUCCEED] == len(traffic.dead)
        assert fates[Fate.STILL_FAILS] == fates[Fate.FIX_DOES_NOT_APPLY] == 0
        assert fates[Fate.CANNOT] == 4
        assert forecasts["unreadable"] == 2
        assert await desk.landed() == landed

        name = ""
        for _ in range(KILLS):
            name = await desk.killed_on_its_way(chance.randrange(1, CHUNKS_A_KILL), name)
        resumed, beside = await asyncio.gather(
            desk.run_apart("replay", "--resume", name),
            desk.run_apart("replay", "--all", "--fix", str(rules), "--note", "beside"),
        )
        assert (resumed["state"], beside["state"]) == ("done", "done")
        everything = {event_id.hex(): 1 for event_id in (*traffic.good, *traffic.dead)}
        assert await desk.landed() == everything

        again = await desk.replay()
        assert (again.get("sent", 0), again["passed_over"][Fate.ALREADY_LANDED]) == (0, again["selected"] - 4)
        assert await desk.landed() == everything
        assert {record.id for record in (await desk.records()).values()} == {"earlier", name, beside["id"], again["id"]}
        assert "rename" in (await desk.run("history", name))[0]["fix"]

        (found,) = (await desk.run("where", at_lander.hex()))["events"]
        assert [hop["hop"] for hop in found["hops"]] == ["accepted", "dead", "dead", "landed"]
        told = (await desk.asked("/api/dead-letters?by=reason&landed=1"))["groups"]
        assert sum(one["landed"] for one in told) == len(traffic.dead)
        balance = await desk.asked("/api/ledger")
        assert balance["balanced"], balance["gaps"]
        totals = balance["totals"]
        assert totals["landed"] == len(everything)
        assert totals["accepted"] == traffic.sent + 1 + 7
        assert totals["accepted"] == totals["landed"] + totals["duplicate"] + totals["dead"]

        await a_copy_that_landed_meanwhile_stays_the_only_row(desk)
        desk.store.close()


async def a_copy_that_landed_meanwhile_stays_the_only_row(desk: Desk) -> None:
    """The claims may have forgotten the event and nobody may have looked beforehand: the lander finds its copy."""
    event = orjson.dumps({"eventName": "late", "time": "never", "user": {"userID": "u"}})
    event_id, origin = id_of(event), Origin(1, 0, 2**40, 0)
    request = {
        "project": "default",
        "environment": "production",
        "key_id": "k",
        "request_id": "r",
        "received_at": TIME_MS,
    }
    partition = partition_of(partition_key(event, ""), PARTITIONS)
    letter = DeadLetter(
        Stage.WORKER,
        Reason.INVALID_TIME,
        "never",
        event.replace(b'"never"', b"1763740000000"),
        failed_at=TIME_MS,
        origin=origin,
        event_id=event_id,
        request=orjson.dumps(request),
    )
    copy = Origin(1, partition, 2**41, 0)
    await write(
        desk.settings,
        (DLQ_WORKER, 0, letter.encode(), {}),
        (CUSTOM_EVENTS, partition, record_of(event_id, copy), {HEADER: copy.pack()}),
    )
    await desk.settled()
    order = Order(Choice(event_ids=frozenset({event_id})))
    found = await forecast(desk.settings.kafka, desk.store, order, lambda *_: None)
    assert [prediction.fate for _, prediction in found.counts] == [Fate.ALREADY_LANDED]
    async with Scan(desk.settings.kafka) as scan, Sender(desk.settings.kafka, "unasked", EVENTS_RAW) as sender:
        await scan.find_ends()
        await scan.learn_newest()
        async for letters, _ in scan.letters():
            await sender.send(
                [reenter(one, [], "unasked", PARTITIONS) for one in letters if one.envelope.event_id == event_id]
            )
    await desk.settled()
    assert (await desk.landed())[event_id.hex()] == 1
