"""One stack that every SDK sends to, with keys for each of them, and SQL to see what landed."""

import asyncio
import contextlib
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterable, Sequence
from dataclasses import dataclass
from pathlib import Path
from typing import Any

import httpx
import orjson
from aiokafka import AIOKafkaProducer
from support.sdk_programs import Custom, Exposure, Job, value_text
from support.waiting import until

from ops.config import registry
from ops.demo.landed import ConsoleSql
from ops.settings import Settings
from ops.stack.local import LocalStack, why_not_ready
from schemas import keys, specs
from schemas.ids import partition_of
from schemas.kafka import PRODUCER
from schemas.keys import KeyKind
from schemas.topics import KEYS

SPECS = Path(__file__).parents[1].joinpath("data", "specs.json").read_bytes()
PATIENCE_S = 60.0

_MARK = "marked"


@dataclass(frozen=True)
class KeyPair:
    """The keys of one client in one step; every row that came under one of them is this client's."""

    secret: str
    client: str

    @property
    def ids(self) -> list[str]:
        """The ids that rows carry."""
        return [_record(self.secret).key_id, _record(self.client).key_id]


@dataclass
class Landed:
    """All rows of a client, but what the SDK logged of itself."""

    exposures: Counter[Exposure]
    custom: Counter[Custom]
    values: dict[tuple[str, str], str]
    groups: dict[tuple[str, str, str], str]
    internal: Counter[str]
    senders: set[tuple[str, str]]
    text: str


class Bench:
    """The stack, and what is asked of it."""

    def __init__(self, stack: LocalStack) -> None:
        self._settings: Settings = stack.settings
        self._stack = stack
        self._sql = ConsoleSql(stack.settings.console_address)
        self._marker = keys.generate(KeyKind.SECRET)
        self._marks = 0
        self._http = httpx.AsyncClient(base_url=self.gateway, timeout=PATIENCE_S, trust_env=False)

    @property
    def gateway(self) -> str:
        """Where SDKs send to."""
        return f"http://127.0.0.1:{self._settings.gateway_port}"

    async def prepare(self) -> None:
        """Push the specs and wait until gateway and worker have them."""
        await self._push(orjson.loads(SPECS))
        await self.know([self._marker])
        await until(self._gateway_has_specs, PATIENCE_S)
        await until(self._worker_has_specs, PATIENCE_S)

    async def push_gate(self, name: str) -> int:
        """Push newer specs that have one more gate, which everybody passes; return their time."""
        document = orjson.loads(SPECS)
        (public,) = [gate for gate in document["feature_gates"] if gate["name"] == "gate_public"]
        document["feature_gates"].append({**public, "name": name, "salt": name})
        document["time"] += 1
        document["checksum"] = name
        await self._push(document)
        return int(document["time"])

    async def _push(self, document: dict[str, Any]) -> None:
        kafka = self._settings.kafka
        history = await registry.read_history(kafka)
        parsed = specs.parse(orjson.dumps(document))
        await registry.push(kafka, history, self._settings.project, parsed, _now_ms())

    async def close(self) -> None:
        """Let go of the connections."""
        await self._http.aclose()
        await self._sql.close()

    async def key_pairs(self, names: Sequence[str]) -> dict[str, KeyPair]:
        """Make a pair of keys for each name, and wait until the gateway takes them."""
        made = {name: KeyPair(keys.generate(KeyKind.SECRET), keys.generate(KeyKind.CLIENT)) for name in names}
        await self.know([key for pair in made.values() for key in (pair.secret, pair.client)])
        return made

    async def know(self, new: Iterable[str]) -> None:
        """Make keys known to the gateway."""
        records = [_record(key) for key in new]
        await self._write([(KEYS, record.key_hash.encode(), keys.encode(record)) for record in records])
        for key in new:
            await until(lambda key=key: self._takes(key), PATIENCE_S, "the gateway does not know a key")

    def process(self, name: str) -> int:
        """Return the process id of a part of the stack."""
        state = self._stack.state
        assert state is not None
        return state.children[name].pid

    async def has_replaced(self, name: str, process_id: int) -> bool:
        """Whether a process of ours has been started again, and is ready."""
        state = self._stack.state
        running = state.children.get(name) if state is not None else None
        return running is not None and running.pid != process_id and await self.is_ready(name)

    async def is_ready(self, name: str) -> bool:
        """Whether a process of ours says that it is ready."""
        return not await asyncio.to_thread(why_not_ready, "127.0.0.1", self._settings.admin_port(name))

    async def metric(self, process: str, name: str) -> float:
        """Return the sum of a counter."""
        port = self._settings.admin_port(process)
        answer = await self._http.get(f"http://127.0.0.1:{port}/metrics")
        lines = [line for line in answer.text.splitlines() if line.startswith((f"{name} ", f"{name}{{"))]
        return sum(float(line.rpartition(" ")[2]) for line in lines)

    async def settle(self) -> None:
        """Return when all that was accepted before has landed: what comes later stands behind it in every partition."""
        self._marks += 1
        mark = f"{_MARK}-{self._marks}"
        units = _one_for_each(self._settings.partitions, mark)
        exposures = [_gate_exposure(unit) for unit in units]
        custom = [{"eventName": mark, "user": {"userID": unit}, "time": _now_ms()} for unit in units]
        await self._post(exposures + custom)
        listed = ",".join(f"'{unit}'" for unit in units)

        async def have_landed() -> bool:
            found = [
                await self.count(f"SELECT count() AS n FROM {table} WHERE user_id IN ({listed})")
                for table in ("exposures", "custom_events")
            ]
            return found == [len(units), len(units)]

        await until(have_landed, PATIENCE_S, "the pipeline does not come to rest")

    async def landed(self, pair: KeyPair) -> Landed:
        """Return every row that came under these keys."""
        where = f"key_id IN ({','.join(repr(key_id) for key_id in pair.ids)})"
        exposures = await self._rows(f"SELECT * FROM exposures WHERE {where} AND origin_part = 0")
        custom = await self._rows(
            f"SELECT *, JSONExtractString(metadata, 'own_id') AS own_id FROM custom_events WHERE {where}"
        )
        own = [row for row in custom if not row["event_name"].startswith("statsig::")]
        return Landed(
            Counter(_exposure(row) for row in exposures),
            Counter(Custom(row["event_name"], row["own_id"], _value(row)) for row in own),
            {(row["name"], row["unit_id"]): row["value"] for row in exposures if row["kind"] == "gate"},
            {(row["name"], row["unit_id"], row["parameter"]): row["group_name"] for row in exposures},
            Counter(row["event_name"] for row in custom if row["event_name"].startswith("statsig::")),
            {(row["sdk_type"], row["sdk_version"]) for row in exposures + custom},
            repr(exposures + custom),
        )

    async def count(self, query: str) -> int:
        """Return the `n` of the one row that a query finds."""
        (row,) = await self._rows(query)
        return int(row["n"])

    async def _rows(self, query: str) -> list[dict[str, Any]]:
        return [orjson.loads(line) for line in await self._sql.lines(query)]

    async def _write(self, records: Iterable[tuple[str, bytes, bytes]]) -> None:
        producer = AIOKafkaProducer(**self._settings.kafka.client_settings(), **PRODUCER)
        try:
            await producer.start()
            for topic, key, value in records:
                await producer.send_and_wait(topic, value, key=key)
        finally:
            await producer.stop()

    async def _post(self, events: list[dict[str, Any]]) -> None:
        answer = await self._http.post(
            "/v1/log_event", json={"events": events}, headers={"statsig-api-key": self._marker}
        )
        assert answer.status_code == 202, answer.text

    async def _takes(self, key: str) -> bool:
        answer = await self._http.post("/v1/log_event", json={"events": []}, headers={"statsig-api-key": key})
        return answer.status_code == 202

    async def _gateway_has_specs(self) -> bool:
        answer = await self._http.get("/v2/download_config_specs", headers={"statsig-api-key": self._marker})
        return answer.status_code == 200

    async def _worker_has_specs(self) -> bool:
        await self._post([_gate_exposure(f"{_MARK}-early")])
        query = f"SELECT count() AS n FROM exposures WHERE unit_id = '{_MARK}-early' AND group_name != ''"
        return await self.count(query) > 0


@contextlib.asynccontextmanager
async def running_bench(stack: LocalStack) -> AsyncIterator[Bench]:
    """Run a stack with the specs of the tests in it."""
    async with stack:
        bench = Bench(stack)
        try:
            await bench.prepare()
            yield bench
        finally:
            await bench.close()


def job_of(prefix: str, gateway: str, pair: KeyPair) -> Job:
    """Return what a driver is told: where to send, who visits, and what each of them reads and logs."""
    return {
        "gateway": gateway,
        "secret_key": pair.secret,
        "client_key": pair.client,
        "users": [visitor(f"{prefix}-{number}", "CA" if number % 2 else "DE") for number in range(6)],
        "by_hand_user": visitor(f"{prefix}-hand", "DE"),
        "nobody": {**visitor(f"{prefix}-nobody", "DE"), "userID": ""},
        "gates": [
            ["gate_public", "userID"],
            ["gate_half", "userID"],
            ["gate_nested", "userID"],
            ["gate_private_plan", "userID"],
            ["gate_disabled", "userID"],
            ["gate_stable_half", "stableID"],
            ["no_such_gate", "anyID"],
        ],
        "configs": [["banner_config", "userID"]],
        "experiments": [["button_color_exp", "userID"], ["stable_exp", "stableID"]],
        "layers": [["checkout_layer", ["title", "subtitle"]]],
        "by_hand": ["gate_half", "button_color_exp", "banner_config", ["checkout_layer", "title"]],
        # Two of one kind, with nothing to tell them apart but that there are two.
        "events": [["purchase", 12.5], ["count", 7], ["add_to_cart", "SKU-1"], ["plain", None], ["plain", None]],
    }


def visitor(name: str, country: str) -> dict[str, str]:
    """Return a user of a driver."""
    return {"userID": name, "stableID": f"{name}-device", "anyID": name, "country": country, "secret": "gold"}


def _record(key: str) -> keys.KeyRecord:
    kind = KeyKind(key.partition("-")[0])
    return keys.record_of(key, kind, "default", "production", _now_ms(), "conformance")


def _exposure(row: dict[str, Any]) -> Exposure:
    return Exposure(row["kind"], row["name"], row["unit_id"], row["rule_id"], row["parameter"], row["is_manual"])


def _value(row: dict[str, Any]) -> str:
    return row["value_string"] or value_text(row["value_number"])


def _gate_exposure(unit: str) -> dict[str, Any]:
    metadata = {"gate": "gate_public", "gateValue": "true", "ruleID": "rule_everyone"}
    return {"eventName": "statsig::gate_exposure", "user": {"userID": unit}, "time": _now_ms(), "metadata": metadata}


def _one_for_each(partitions: int, prefix: str) -> list[str]:
    found: dict[int, str] = {}
    number = 0
    while len(found) < partitions:
        unit = f"{prefix}-{number}"
        found.setdefault(partition_of(unit.encode(), partitions), unit)
        number += 1
    return list(found.values())


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
