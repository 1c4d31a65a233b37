"""The ledger on a whole stack: balanced while everything is killed, and red for one row that is tampered with."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Sequence
from typing import Any, Self

import httpx
import orjson
import pytest
from support.commands import Headrace
from support.waiting import until

from console.ledger.balance import LARGEST_INDEX
from ops.kafka import publish
from ops.output import ExitCode
from ops.settings import Settings
from ops.stack import record
from ops.stack.local import LocalStack, environment_of, why_not_ready
from schemas import keys
from schemas.keys import KeyKind
from schemas.limits import METADATA_KEYS
from schemas.reasons import Reason
from schemas.topics import KEYS

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400)]

PATIENCE_S = 120.0
WORKER_KILLS = 3

# The embedded engine allows one process per folder, so this runs while the store is down.
_TAMPER = """
import json
from ops import settings

place = "origin_log, origin_partition, origin_offset, origin_index"
client = settings.load().store.connect()
rows = client.query(f"SELECT {place}, key_id FROM custom_events ORDER BY rand() LIMIT 3").result_rows
deleted, doubled, invented = ({"origin": row[:4], "key_id": row[4]} for row in rows)
client.command(f"ALTER TABLE custom_events DELETE WHERE ({place}) = {deleted['origin']} SETTINGS mutations_sync = 2")
client.command(f"INSERT INTO custom_events SELECT * FROM custom_events WHERE ({place}) = {doubled['origin']}")
model = f"SELECT * FROM custom_events WHERE ({place}) = {invented['origin']}"
another = f"SELECT * REPLACE (4294967295 AS origin_index) FROM ({model})"
client.command(f"INSERT INTO custom_events {another}")
print(json.dumps([deleted, doubled, invented]))
"""


class Store:
    """`headrace store` as a child of the test, which may end it when it wants."""

    def __init__(self, settings: Settings) -> None:
        self._settings = settings
        self._environment = {**os.environ, **environment_of(settings)}
        self._process: subprocess.Popen[bytes] | None = None

    async def start(self) -> None:
        with (self._settings.data_dir / "store.log").open("ab") as log:
            command = [sys.executable, "-P", "-m", "ops.processes", "store"]
            self._process = subprocess.Popen(command, env=self._environment, stdout=log, stderr=log)
        port = self._settings.admin_port("store")
        await until(lambda: why_not_ready("127.0.0.1", port) == "", PATIENCE_S, "the store is not ready")

    async def end(self, how: signal.Signals) -> None:
        assert self._process is not None
        self._process.send_signal(how)
        await asyncio.to_thread(self._process.wait, PATIENCE_S)

    async def tamper(self) -> list[dict[str, Any]]:
        """Delete a row, double one, and invent one; return origin and key id of each, of the last its model's."""
        run = await asyncio.create_subprocess_exec(
            sys.executable, "-c", _TAMPER, env=self._environment, stdout=subprocess.PIPE
        )
        said, _ = await run.communicate()
        assert run.returncode == 0
        rows: list[dict[str, Any]] = orjson.loads(said)
        return rows

    async def __aenter__(self) -> Self:
        await self.start()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.wait()


class Traffic:
    """Requests with new events, copies of earlier ones, and two kinds of dead ones; it knows what it sent."""

    def __init__(self, settings: Settings, senders: Sequence[str], seed: int) -> None:
        self._url = f"http://127.0.0.1:{settings.gateway_port}/v1/log_event"
        self._senders = senders
        self._chance = random.Random(seed)
        self.fresh: list[bytes] = []
        self.copies = self.dead_at_worker = self.dead_at_gateway = self.sent_again = 0

    async def run(self, stopped: asyncio.Event) -> None:
        async with httpx.AsyncClient(trust_env=False, timeout=30) as client:
            while not stopped.is_set():
                sender = self._chance.randrange(len(self._senders))
                await self._send(client, self._senders[sender], self._batch(sender))

    def _batch(self, sender: int) -> bytes:
        """Copies come with the key they came with at first: another key of another environment is another event."""
        fresh = [self._event(sender, len(self.fresh) + n) for n in range(self._chance.randrange(1, 30))]
        earlier = [event for event in self.fresh[-200:] if b'"sender":%d' % sender in event]
        copies = self._chance.sample(earlier, min(len(earlier), self._chance.randrange(4)))
        self.fresh += fresh
        self.copies += len(copies)
        events = fresh + copies
        if self._chance.random() < 0.5:
            self.dead_at_worker += 1
            events.append(orjson.dumps({"eventName": "purchase", "time": f"day {len(self.fresh)}"}))
        if self._chance.random() < 0.5:
            self.dead_at_gateway += 1
            too_many = {f"{n}": len(self.fresh) for n in range(METADATA_KEYS + 1)}
            events.append(orjson.dumps({"eventName": "purchase", "time": 1, "metadata": too_many}))
        self._chance.shuffle(events)
        return b'{"events":[%b],"statsigMetadata":{"sdkType":"py-server","sessionID":"one"}}' % b",".join(events)

    def _event(self, sender: int, number: int) -> bytes:
        time_ms = time.time_ns() // 1_000_000
        name, metadata = "purchase", {"sender": sender, "number": number}
        if number % 2:
            name, metadata = "statsig::config_exposure", {"config": "button", "ruleID": "a", **metadata}
        user = {"userID": f"user-{number % 31}"}
        return orjson.dumps({"eventName": name, "user": user, "time": time_ms, "metadata": metadata})

    async def _send(self, client: httpx.AsyncClient, key: str, body: bytes) -> None:
        while True:
            try:
                answer = await client.post(self._url, content=body, headers={"statsig-api-key": key})
            except httpx.TransportError:
                answer = None
            if answer is not None and answer.status_code == 202:
                return
            assert answer is None or answer.status_code in (401, 503), answer.text  # 401 until the key is known
            if answer is None or answer.status_code == 503:
                self.sent_again += 1
            await asyncio.sleep(0.05)


class Auditor:
    """Asks for the balance again and again, whatever happens to the stack meanwhile."""

    def __init__(self, settings: Settings) -> None:
        self._address = settings.console_address
        self.answers = self.most_in_flight = 0

    async def ask(self) -> dict[str, Any] | None:
        """Return the balance; None while it cannot be asked."""
        async with httpx.AsyncClient(base_url=self._address, trust_env=False, timeout=PATIENCE_S) as client:
            try:
                answer = await client.get("/api/ledger")
            except httpx.TransportError:
                return None
        if answer.status_code == 503:
            return None
        assert answer.status_code == 200, answer.text
        self.answers += 1
        body: dict[str, Any] = answer.json()
        self.most_in_flight = max(self.most_in_flight, body["totals"]["in_flight"])
        return body

    async def run(self, stopped: asyncio.Event) -> None:
        while not stopped.is_set():
            answer = await self.ask()
            assert answer is None or answer["balanced"], answer["gaps"]
            await asyncio.sleep(0.05)

    async def settled(self) -> dict[str, Any]:
        """Return the balance once nothing is in flight."""

        async def is_settled() -> dict[str, Any] | None:
            answer = await self.ask()
            return answer if answer is not None and not answer["totals"]["in_flight"] else None

        return await until(is_settled, PATIENCE_S, "something stays in flight")


async def kill(settings: Settings, part: str) -> None:
    """SIGKILL a part of the stack, and wait until its successor works."""
    running = record.read(settings.data_dir)
    assert running is not None
    killed = running.children[part]
    os.kill(killed.pid, signal.SIGKILL)

    def is_replaced() -> bool:
        now = record.read(settings.data_dir)
        return now is not None and part in now.children and now.children[part] != killed

    await until(is_replaced, PATIENCE_S)
    await until(lambda: why_not_ready("127.0.0.1", settings.admin_port(part)) == "", PATIENCE_S)


async def test_the_ledger_balances_through_kills_and_names_each_row_that_was_tampered_with(
    stack: Callable[..., LocalStack], monkeypatch: pytest.MonkeyPatch
):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    senders = [keys.generate(KeyKind.SECRET) for _ in range(2)]
    records = [
        keys.record_of(key, KeyKind.SECRET, "default", environment, 0)
        for key, environment in zip(senders, ("production", "staging"), strict=True)
    ]
    async with stack(processes=("gateway", "worker"), partitions=2) as running, Store(running.settings) as store:
        settings = running.settings
        await publish(settings.kafka, KEYS, [(one.key_hash.encode(), keys.encode(one)) for one in records])
        traffic, auditor = Traffic(settings, senders, seed), Auditor(settings)
        stopped, audited = asyncio.Event(), asyncio.Event()
        async with asyncio.TaskGroup() as tasks:
            tasks.create_task(traffic.run(stopped))
            tasks.create_task(auditor.run(audited))
            for number in range(WORKER_KILLS):
                goal = len(traffic.fresh) + 500
                await until(lambda goal=goal: len(traffic.fresh) > goal, PATIENCE_S, "traffic has stopped")
                await kill(settings, "worker")
                if number == 0:
                    await store.end(signal.SIGKILL)
                    await store.start()
            stopped.set()
            audited.set()
        balance = await auditor.settled()
        assert auditor.answers > WORKER_KILLS
        assert auditor.most_in_flight > 0
        assert_exact(balance, traffic)
        assert {line["key_id"] for line in balance["lines"]} == {one.key_id for one in records}
        monkeypatch.setenv("HEADRACE_CONSOLE_URL", settings.console_address)
        headrace = Headrace(monkeypatch)
        said = await asyncio.to_thread(headrace, "ledger", "--since", "2h")
        assert said.exit_code == ExitCode.OK, said.output
        assert "It balances" in said.stdout

        await store.end(signal.SIGTERM)
        deleted, doubled, invented = await store.tamper()
        await store.start()
        broken = await auditor.settled()
        named = {(gap["flaw"], gap["range"], gap["key_id"]) for gap in broken["gaps"]}
        assert named == {
            ("missing", "/".join(map(str, deleted["origin"])), deleted["key_id"]),
            ("doubled", "/".join(map(str, doubled["origin"])), doubled["key_id"]),
            ("never_accepted", "/".join(map(str, [*invented["origin"][:3], LARGEST_INDEX])), None),
        }
        assert broken["totals"] == balance["totals"] | {"landed": len(traffic.fresh) - 1, "missing": 1}
        said = await asyncio.to_thread(headrace, "ledger")
        assert said.exit_code == ExitCode.FAILED
        assert all(place in said.stdout for _, place, _ in named)
        as_json = await asyncio.to_thread(headrace, "ledger", "--json")
        assert as_json.exit_code == ExitCode.FAILED
        assert orjson.loads(as_json.stdout)["gaps"] == broken["gaps"]


def assert_exact(balance: dict[str, Any], traffic: Traffic) -> None:
    totals = balance["totals"]
    assert balance["gaps"] == []
    assert totals["missing"] == 0
    assert min(totals["duplicate"], traffic.dead_at_worker, traffic.dead_at_gateway) > 0
    assert totals["landed"] == len(traffic.fresh)
    assert balance["dead_reasons"][Reason.INVALID_TIME] == traffic.dead_at_worker
    if not traffic.sent_again:
        # What was answered 503 and sent again may have been accepted twice.
        assert balance["dead_reasons"][Reason.TOO_MANY_METADATA_KEYS] == traffic.dead_at_gateway
        assert totals["duplicate"] == traffic.copies
        dead = traffic.dead_at_worker + traffic.dead_at_gateway
        assert totals["accepted"] == len(traffic.fresh) + traffic.copies + dead
    assert totals["accepted"] == totals["landed"] + totals["duplicate"] + totals["dead"]
