"""A day in the archive on a whole stack: rows that were lost come back, and nothing comes twice."""

import asyncio
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import httpx
import msgspec
import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from support.commands import Headrace
from support.waiting import until

from ops.dlq.landed import Store
from ops.dlq.settle import wait_until_passed
from ops.kafka import publish
from ops.settings import Settings
from ops.stack.local import LocalStack, environment_of
from schemas import chunk, keys
from schemas.archive import Archive, ArchivedRecord
from schemas.chunk import RequestPart
from schemas.kafka import PRODUCER
from schemas.keys import KeyKind
from schemas.topics import EVENTS_RAW, KEYS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PATIENCE_S = 120.0
PARTITIONS = 2
EVENTS = 2_000
BATCH = 40
SENDER = {"sdkType": "py-server", "sessionID": "one"}
DAY_MS = 86_400_000
RULES = '[[rule]]\nop = "set"\npath = "/eventName"\nvalue = "mended"\nreason = "missing_event_name"\n'


def event_of(number: int) -> dict[str, Any]:
    user = {"userID": f"u{number % 97}", "customIDs": {"stableID": f"s{number % 53}"}}
    event = {"eventName": "buy", "value": number, "user": user, "time": int(time.time() * 1000)}
    if number % 25 == 0:
        return {**event, "eventName": None}
    if number % 40 == 1:
        return {**event, "time": {"no": "time"}}
    if number % 3:
        shown = {"config": "button", "ruleID": f"arm{number % 2}", "rulePassed": "true"}
        seen = [{"gate": f"gate{number % 5}", "gateValue": "true", "ruleID": "r"}] if number % 7 == 0 else []
        return {**event, "eventName": "statsig::config_exposure", "metadata": shown, "secondaryExposures": seen}
    return event


def yesterday_ms() -> int:
    return (int(time.time()) // 86_400 - 1) * DAY_MS


def iso(ms: int) -> str:
    return datetime.fromtimestamp(ms / 1000, UTC).isoformat()


async def write_day(settings: Settings, chance: random.Random, first: int, count: int, **headers: bytes) -> None:
    """Append chunks that were received all over yesterday: retries, dead events and all."""
    producer = AIOKafkaProducer(**settings.kafka.client_settings(), **PRODUCER)
    await producer.start()
    sent: list[bytes] = []
    day_ms = yesterday_ms()
    for number in range(first, first + count):
        received_ms = day_ms + (number - first) * DAY_MS // count + chance.randrange(1000)
        events = [orjson.dumps({**event_of(number * 10 + n), "n": f"{number}.{n}"}) for n in range(10)]
        sent += events
        events += chance.sample(sent, min(len(sent), chance.randrange(4)))
        events = list(dict.fromkeys(events))
        part = RequestPart(
            "default", "production", "k", f"r{number}", received_ms, events=[msgspec.Raw(event) for event in events]
        )
        own = [*chunk.headers(len(events)), *headers.items()]
        value = chunk.encode(chunk.Chunk([part]))
        # A retry goes to the partition of the first, as it would by its device.
        await producer.send(EVENTS_RAW, value, partition=0, headers=own)
    await producer.flush()
    await producer.stop()


class Desk:
    """Whoever operates the stack: events sent, commands run, questions asked."""

    def __init__(self, settings: Settings, patch: pytest.MonkeyPatch) -> None:
        self.settings = settings
        self.store = Store(settings)
        self.key = keys.generate(KeyKind.SECRET)
        self._headrace = Headrace(patch)
        for name, value in environment_of(settings).items():
            patch.setenv(name, value)

    async def know_key(self) -> None:
        record = keys.record_of(self.key, KeyKind.SECRET, "default", "production", 0)
        await publish(self.settings.kafka, KEYS, [(record.key_hash.encode(), keys.encode(record))])

    async def run(self, *arguments: str, exit_code: int = 0) -> Any:
        result = await asyncio.to_thread(self._headrace, *arguments, "--json")
        assert result.exit_code == exit_code, result.output
        return orjson.loads(result.stdout) if result.stdout else None

    async def send(self, chance: random.Random, numbers: range) -> None:
        """Send events in batches; a third of the batches are sent again, merged with newer ones."""
        url = f"http://127.0.0.1:{self.settings.gateway_port}/v1/log_event"
        events = [orjson.dumps(event_of(number)) for number in numbers]
        async with httpx.AsyncClient(trust_env=False, timeout=60) as client:
            for start in range(0, len(events), BATCH):
                batch = events[start : start + BATCH]
                if chance.random() < 0.3:
                    again = events[max(0, start - BATCH) : start][: chance.randrange(BATCH)]
                    batch = [*again, *batch]
                body = b'{"events":[%b],"statsigMetadata":%b}' % (b",".join(batch), orjson.dumps(SENDER))

                async def taken(body: bytes = body) -> bool:
                    answer = await client.post(url, content=body, headers={"statsig-api-key": self.key})
                    assert answer.status_code in (202, 401, 503), answer.text  # 401 until the key is known
                    return answer.status_code == 202

                await until(taken, PATIENCE_S, "the gateway takes nothing")

    async def settled(self) -> None:
        await wait_until_passed(self.settings.kafka, self.store, lambda _: None)

    async def archived(self) -> None:
        """Wait until every chunk stands in a file."""
        archive = Archive(self.settings.archive)

        async def whole() -> bool:
            ends = {file.place.partition: file.last + 1 for file in archive.files()}
            return sum(ends.values()) == await self.appended()

        await until(whole, PATIENCE_S, "the archive does not catch up")

    async def appended(self) -> int:
        consumer = AIOKafkaConsumer(**self.settings.kafka.client_settings())
        try:
            await consumer.start()
            ends = await consumer.end_offsets([TopicPartition(EVENTS_RAW, number) for number in range(PARTITIONS)])
            return sum(ends.values())
        finally:
            await consumer.stop()

    async def asked(self, path: str) -> Any:
        async with httpx.AsyncClient(base_url=self.settings.console_address, trust_env=False, timeout=60) as client:
            return (await client.get(path)).json()

    async def rows(self, statement: str) -> list[list[Any]]:
        return await asyncio.to_thread(self.store.rows, statement)

    async def rows_since(self, ms: int) -> int:
        """Return how many rows were received at a time or later."""
        found = 0
        for table in ("exposures", "custom_events"):
            where = f"received_at >= fromUnixTimestamp64Milli({ms}, 'UTC')"
            found += int((await self.rows(f"SELECT count() FROM {table} WHERE {where}"))[0][0])
        return found

    async def events_of(self, user_id: str) -> set[str]:
        found = []
        for table in ("exposures", "custom_events"):
            found += await self.rows(f"SELECT event_id FROM {table} WHERE user_id = '{user_id}'")
        return {row[0] for row in found}

    async def landed(self) -> Counter[str]:
        found: Counter[str] = Counter()
        for table in ("exposures", "custom_events"):
            for event_id, count in await self.rows(f"SELECT event_id, count() FROM {table} GROUP BY event_id"):
                found[event_id] += int(count)
        return found


def lose_rows(settings: Settings) -> None:
    """Take some rows out of the tables of a stack that does not run, as a bad restore would."""
    program = (
        "import sys, pathlib; from schemas.store import StoreAddress\n"
        "client = StoreAddress(path=pathlib.Path(sys.argv[1])).connect()\n"
        "for table in ('exposures', 'custom_events'):\n"
        "    client.command(f'ALTER TABLE {table} DELETE WHERE cityHash64(event_id_bytes) % 3 = 0 "
        "SETTINGS mutations_sync = 2')\n"
        "client.close()\n"
    )
    subprocess.run([sys.executable, "-c", program, str(settings.data_dir / "store")], check=True)


async def test_what_was_lost_from_the_tables_comes_back_from_the_archive_once(
    stack: Callable[..., LocalStack], tmp_path: Path, monkeypatch: pytest.MonkeyPatch
):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    rules = tmp_path / "rules.toml"
    rules.write_text(RULES)
    running = stack(partitions=PARTITIONS, archive=str(tmp_path / "archive"), archive_file_s=0.5)
    async with running:
        desk = Desk(running.settings, monkeypatch)
        await desk.know_key()
        await desk.send(chance, range(EVENTS // 2))
        await desk.settled()
        await desk.run("dlq", "replay", "--reason", "missing_event_name", "--fix", str(rules))
        await desk.send(chance, range(EVENTS // 2, EVENTS))
        await write_day(running.settings, chance, 1_000, 60)
        await desk.settled()
        await desk.archived()
        whole = await desk.landed()
        assert set(whole.values()) == {1}
        since_ms = yesterday_ms() + DAY_MS
        since = ("--from-archive", "--since", iso(since_ms))
        nothing = await desk.run("replay", *since)
        assert (nothing.get("sent", 0), nothing["selected"]) == (0, await desk.rows_since(since_ms))
        assert nothing["passed_over"]["dead: invalid_time"] == EVENTS // 40
        ledger = await desk.asked("/api/ledger?window=3d")
        assert ledger["balanced"], ledger["gaps"]
        await a_day_in_the_shadow_is_the_day_whatever_hour_it_begins_at(desk)
    await asyncio.to_thread(lose_rows, running.settings)
    async with LocalStack(running.settings) as running:
        left = await desk.landed()
        assert len(whole) // 4 < len(whole) - len(left) < len(whole) // 2
        assert not (await desk.asked("/api/ledger?window=3d"))["balanced"]
        forecast = await desk.run("replay", *since, "--dry-run")
        assert (forecast["selected"], await desk.landed()) == (nothing["selected"], left)
        lost = forecast["sent"]
        back = await desk.run("replay", *since, "--note", "rows were lost")
        assert (back["state"], back["sent"], back["outcome"]) == ("done", lost, {"landed": lost})
        assert await desk.rows_since(since_ms) == nothing["selected"]
        late = await a_day_that_lost_rows_is_swapped_while_some_land(desk, chance)
        whole += late
        assert await desk.landed() == whole
        ledger = await desk.asked("/api/ledger?window=3d")
        assert ledger["balanced"], ledger["gaps"]
        await an_erased_unit_is_gone_and_nothing_brings_it_back(desk, chance, rules)
        desk.store.close()


async def a_day_in_the_shadow_is_the_day_whatever_hour_it_begins_at(desk: Desk) -> None:
    """Counts, variants and the digest of all that is the events' own."""
    day_ms = yesterday_ms()
    before = await desk.landed()
    for since_ms in (day_ms, day_ms + DAY_MS // 3 + 12_345):
        span = ("--since", iso(since_ms), "--until", iso(day_ms + DAY_MS))
        done = await desk.run("replay", "--from-archive", "--into", "shadow", *span)
        for table, compared in done["comparison"].items():
            assert compared["equal"], (table, compared)
            assert compared["live"]["rows"] == compared["live"]["origins"] > 50
            assert compared["variants"] == {}
    assert await desk.landed() == before


async def a_day_that_lost_rows_is_swapped_while_some_land(desk: Desk, chance: random.Random) -> Counter[str]:
    """Return what landed late in that day, after the shadow was made; no file has it at the swap."""
    day_ms = yesterday_ms()
    span = ("--since", iso(day_ms), "--until", iso(day_ms + DAY_MS))
    before = await desk.landed()
    refused = await desk.run("replay", "--from-archive", "--into", "shadow", *span, "--swap", exit_code=1)
    assert refused is None
    assert await desk.landed() == before
    (name,) = [one["id"] for one in (await desk.run("dlq", "history"))[-1:]]
    await write_day(desk.settings, chance, 2_000, 5, spilled=b"1")
    await desk.settled()
    late = await desk.landed() - before
    assert late
    swapped = await desk.run("replay", "--resume", name, "--swap", "--even-if-different")
    assert swapped["swapped"] == [f"{datetime.fromtimestamp(day_ms / 1000, UTC):%Y%m%d}"]
    assert swapped["outcome"]["sent again after the swap"] >= late.total()
    return late


async def an_erased_unit_is_gone_and_nothing_brings_it_back(desk: Desk, chance: random.Random, rules: Path) -> None:
    archive = Archive(desk.settings.archive)
    await desk.archived()
    before, ledger = await desk.landed(), await desk.asked("/api/ledger?window=3d")
    mine = await desk.events_of("u5")
    assert mine < set(before)
    unit = ("erase", "--unit", "userID:u5")
    forecast = await desk.run(*unit, "--dry-run")
    assert forecast["removed"]["store"]["exposures"] + forecast["removed"]["store"]["custom_events"] >= len(mine)
    assert await desk.landed() == before
    assert any(b'"userID":"u5"' in (record.value or b"") for record in every_record(archive))

    certificate = await desk.run(*unit, "--yes")
    assert {**certificate, "removed": forecast["removed"]}.keys() == forecast.keys()
    assert removed(certificate) == removed(forecast)
    assert min(removed(certificate)) > 0
    assert await desk.landed() == Counter({event_id: 1 for event_id in before if event_id not in mine})
    assert not any(b'"userID":"u5"' in (record.value or b"") for record in every_record(archive))
    assert sum(len(record.erased) for record in every_record(archive)) == certificate["removed"]["archive"]["events"]
    (left,) = (await desk.rows('SELECT count() FROM dead_letters WHERE position(original, \'"userID":"u5"\') > 0'))[0]
    assert int(left) == 0
    remains = {one["topic"]: one["until"] for one in certificate["remains"]["topics"]}
    assert remains[EVENTS_RAW] > certificate["at"]
    assert remains["dlq.worker"] is None
    assert certificate["remains"]["dead_letters"]["records"] > 0
    # Accepted is landed and duplicate and dead as before: what was erased has landed.
    after = await desk.asked("/api/ledger?window=3d")
    assert (after["balanced"], after["totals"]) == (True, ledger["totals"])

    # Neither the archive nor dead letters bring it back, and a second time there is nothing to do.
    nothing = await desk.run("replay", "--from-archive", "--since", iso(yesterday_ms()))
    assert nothing.get("sent", 0) == 0
    assert nothing["passed_over"]["erased"] > 0
    letters = await desk.run("dlq", "replay", "--reason", "invalid_time", "--fix", str(rules))
    assert letters["passed_over"]["erased"] > 0
    await desk.settled()
    assert await desk.events_of("u5") == set()
    again = await desk.run(*unit, "--yes")
    assert set(removed(again)) == {0}

    # Who comes back is somebody new.
    await desk.send(chance, range(97_005, 97_006))
    await desk.settled()
    assert len(await desk.events_of("u5")) == 1


def removed(certificate: Any) -> list[int]:
    """Return what went of all but the rollups, which are made anew all the while."""
    store, archive = certificate["removed"]["store"], certificate["removed"]["archive"]
    return [*(store[table] for table in ("exposures", "custom_events", "dead_letters")), *archive.values()]


def every_record(archive: Archive) -> list[ArchivedRecord]:
    return [record for file in archive.files() for record in archive.read(file)]
