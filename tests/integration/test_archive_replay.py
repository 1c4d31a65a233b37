"""A day in the archive on a whole stack: rows that were lost come back, and nothing comes twice."""

import asyncio
import random
import subprocess
import sys
import time
from collections import Counter
from collections.abc import Callable
from pathlib import Path
from typing import Any

import httpx
import orjson
import pytest
from aiokafka import AIOKafkaConsumer, TopicPartition
from support.commands import Headrace
from support.waiting import until

from ops.dlq.landed import Store
from ops.dlq.settle import wait_until_passed
from ops.kafka import publish
from ops.settings import Settings
from ops.stack.local import LocalStack, environment_of
from schemas import keys
from schemas.archive import Archive
from schemas.keys import KeyKind
from schemas.topics import EVENTS_RAW, KEYS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PATIENCE_S = 120.0
PARTITIONS = 2
EVENTS = 2_000
BATCH = 40
SENDER = {"sdkType": "py-server", "sessionID": "one"}
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
        await consumer.start()
        try:
            ends = await consumer.end_offsets([TopicPartition(EVENTS_RAW, number) for number in range(PARTITIONS)])
            return sum(ends.values())
        finally:
            await consumer.stop()

    async def asked(self, path: str) -> Any:
        async with httpx.AsyncClient(base_url=self.settings.console_address, trust_env=False, timeout=60) as client:
            return (await client.get(path)).json()

    async def rows(self, statement: str) -> list[list[Any]]:
        return await asyncio.to_thread(self.store.rows, statement)

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
        await desk.settled()
        await desk.archived()
        whole = await desk.landed()
        assert set(whole.values()) == {1}
        since = ("--from-archive", "--since", "1h")
        nothing = await desk.run("replay", *since)
        assert (nothing.get("sent", 0), nothing["selected"]) == (0, len(whole))
        assert nothing["passed_over"]["dead: invalid_time"] == EVENTS // 40
        ledger = await desk.asked("/api/ledger")
        assert ledger["balanced"], ledger["gaps"]
    await asyncio.to_thread(lose_rows, running.settings)
    async with LocalStack(running.settings) as running:
        left = await desk.landed()
        lost = set(whole) - set(left)
        assert len(whole) // 4 < len(lost) < len(whole) // 2
        assert not (await desk.asked("/api/ledger"))["balanced"]
        forecast = await desk.run("replay", *since, "--dry-run")
        assert (forecast["sent"], await desk.landed()) == (len(lost), left)
        back = await desk.run("replay", *since, "--note", "rows were lost")
        assert (back["state"], back["sent"], back["outcome"]) == ("done", len(lost), {"landed": len(lost)})
        assert await desk.landed() == whole
        ledger = await desk.asked("/api/ledger")
        assert ledger["balanced"], ledger["gaps"]
        desk.store.close()
