"""Config versions in the store, and what the view makes of exposures with them."""

import random
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any
from uuid import uuid4

import msgspec
import orjson
import pytest
from clickhouse_connect.driver.client import Client
from support.landing import FakeRecord
from support.many_configs import document_of
from support.waiting import until

from ops.config import registry
from ops.kafka import publish
from processors.config_lander import ConfigLander
from processors.enrich.catalog import Enriching
from processors.landing.batch import Row
from processors.landing.config_rows import COLUMNS, row_of
from processors.landing.insert import Inserter
from processors.landing.tables import BY_TOPIC
from processors.map_event import EventMapper, RequestContext
from schemas import avro, migrations, specs
from schemas.chunk import RequestPart
from schemas.config_history import ConfigHistory, records_of_push
from schemas.config_versions import VersionRecord, djb2, document_record, encode, key_of
from schemas.kafka import KafkaConnection
from schemas.metrics import ConfigLanderMetrics
from schemas.origin import Origin
from schemas.store import StoreAddress
from schemas.topics import CONFIG_VERSIONS
from schemas.wire import Event

FIRST_MS = 1_790_000_000_000
STEP_MS = 600_000
VERSIONS = 5
SEED = 5


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> StoreAddress:
    return StoreAddress(path=tmp_path_factory.mktemp("configs") / "store")


@pytest.fixture(scope="module")
def client(address: StoreAddress) -> Iterator[Client]:
    client = address.connect()
    migrations.apply(client)
    yield client
    client.close()


@pytest.fixture
async def lander(broker: KafkaConnection, address: StoreAddress, client: Client) -> AsyncIterator[ConfigLander]:
    client.command("TRUNCATE TABLE config_versions")
    lander = ConfigLander(broker, address, ConfigLanderMetrics())
    await lander.start()
    yield lander
    await lander.stop()


def parsed(version: int, **changes: Any) -> specs.Specs:
    return specs.parse(orjson.dumps(document_of(version, FIRST_MS + version * STEP_MS, SEED) | changes))


def count(client: Client, where: str, table: str = "config_versions FINAL") -> int:
    return int(client.query(f"SELECT count() FROM {table} WHERE {where}").result_rows[0][0])


@pytest.mark.usefixtures("lander")
async def test_the_table_has_the_last_record_of_each_key(
    broker: KafkaConnection, address: StoreAddress, client: Client
):
    project = uuid4().hex
    history = await registry.read_history(broker)
    own = f"project = '{project}'"
    gone = {"layer_configs": []}
    for document in (parsed(1), parsed(2, **gone)):
        await registry.push(broker, history, project, document, FIRST_MS)
    configs = history.project(project)
    assert configs is not None
    expected = len(configs.documents) + sum(len(configs.timeline(*at)) for at in configs.entities())
    await until(lambda: count(client, own) == expected, 60)
    assert count(client, f"{own} AND is_gone AND kind = 'layer'") == 2
    assert count(client, f"{own} AND name = 'gate_0' AND groups['gate_0_p'] = 'Group of gate_0_p'") <= 2
    # A second lander, or the next start, writes nothing that is there.
    metrics = ConfigLanderMetrics()
    again = ConfigLander(broker, address, metrics)
    await again.start()
    await publish(broker, CONFIG_VERSIONS, [(b"no key", b"no record")])
    record = document_record(project, parsed(3), FIRST_MS)
    await publish(broker, CONFIG_VERSIONS, [(key_of(record), encode(record))])
    await until(lambda: count(client, own) == expected + 1, 60)
    await again.stop()
    assert metrics.landed._value.get() <= 1
    tombstone = [(CONFIG_VERSIONS, key_of(record), None)]
    await registry._write(broker, tombstone)
    await until(lambda: count(client, own) == expected, 60)


def random_exposure(rng: random.Random, documents: dict[int, dict[str, Any]]) -> dict[str, Any]:
    """An exposure as some SDK or a plain client may send it, of some time, with or without stamps."""
    version = rng.randrange(1, VERSIONS + 1)
    document = documents[version]
    section, kind = rng.choice(
        (
            ("feature_gates", "gate"),
            ("dynamic_configs", "config"),
            ("layer_configs", "layer"),
            ("layer_configs", "layer"),
        )
    )
    spec = rng.choice(document[section])
    decider, allocated = spec, ""
    if kind == "layer" and rng.random() < 0.8:
        name = rng.choice(spec["rules"])["configDelegate"]
        decider = next(each for each in document["dynamic_configs"] if each["name"] == name)
        allocated = rng.choice(("", name, djb2(name), "nobody's"))
    rules = [rule["id"] for rule in decider["rules"]]
    rule = rng.choice((*rules, *rules, *rules, "default", "", "renamed", f"{rules[0]}:override"))
    name = rng.choice((spec["name"], spec["name"], spec["name"], djb2(spec["name"]), "nobody's"))
    metadata = {"gate" if kind == "gate" else "config": name, "ruleID": rule}
    if rng.random() < 0.7:
        metadata["configVersion"] = rng.choice((str(version), version, str(rng.randrange(1, VERSIONS + 1)), "77"))
    if rng.random() < 0.7:
        metadata["lcut"] = str(document["time"] + rng.choice((0, 0, 0, 7)))
    if allocated:
        metadata["allocatedExperiment"] = allocated
    if rng.random() < 0.1:
        metadata["overrideConfigName"] = rng.choice((spec["name"], djb2(spec["name"]), "nobody's", ""))
    return {
        "eventName": f"statsig::{kind}_exposure",
        "time": FIRST_MS + rng.randrange(VERSIONS + 2) * STEP_MS + rng.choice((1, 30_000, 59_999, 60_000, 61_000)),
        "user": {"userID": f"u{rng.randrange(100)}"},
        "metadata": metadata,
    }


RESOLVED = ("kind", "name", "group_name", "allocated_experiment", "config_version", "config_time", "config_match")


def test_the_view_says_of_each_exposure_what_the_worker_would_say_now(client: Client):
    """One set of rules, in two languages; whatever lands, in whatever order, is read as one would want it."""
    rng = random.Random(SEED)
    history = ConfigHistory()
    documents = {v: document_of(v, FIRST_MS + v * STEP_MS, SEED) for v in range(1, VERSIONS + 1)}
    documents[4]["feature_gates"] = [gate for gate in documents[4]["feature_gates"] if gate["name"] != "gate_3"]
    client.command("TRUNCATE TABLE config_versions")
    for version, document in documents.items():
        pushed_at = FIRST_MS + version * STEP_MS + 5_000
        records = records_of_push(history.project("p"), "p", specs.parse(orjson.dumps(document)), pushed_at)
        lines = b"\n".join(orjson.dumps(row_of(record, FIRST_MS)) for record in records)
        client.raw_insert("config_versions", column_names=list(COLUMNS), insert_block=lines, fmt="JSONEachRow")
        for record in records:
            history.put(record)
    mapper, ignorant = EventMapper(history, Enriching()), EventMapper(ConfigHistory())
    context = RequestContext(RequestPart("p", "production", "k", "r", FIRST_MS + 8 * STEP_MS), 1, 0, 1)
    rows, wanted, sent = [], {}, {}
    for index in range(3_000):
        event = random_exposure(rng, documents)
        decoded = msgspec.json.decode(orjson.dumps(event), type=Event)
        event_id = index.to_bytes(16, "big")
        told = avro.EXPOSURE.decode(avro.unframe(mapper.map(decoded, event_id, index, context).value)[1])
        wanted[event_id.hex()] = {name: told[name] for name in RESOLVED}
        sent[event_id.hex()] = event
        # What landed before anything was pushed.
        value = ignorant.map(decoded, event_id, index, context).value
        rows.append(Row(Origin(1, 0, 1, index).pack(), value, FakeRecord(value), 0))
    Inserter(BY_TOPIC["exposures"], embedded=True).insert(client, rows, "q")
    columns = ", ".join("toUnixTimestamp64Milli(config_time)" if c == "config_time" else c for c in RESOLVED)
    answer = client.query(f"SELECT event_id, {columns} FROM exposures_resolved").result_rows
    assert len(answer) == len(rows)
    found = {event_id: dict(zip(RESOLVED, rest, strict=True)) for event_id, *rest in answer}
    differ = [(sent[at], found[at], wanted[at]) for at in wanted if found[at] != wanted[at]]
    assert differ == []
    assert {each["config_match"] for each in wanted.values()} == {
        "exact", "by_time", "stale", "unknown_config", "unknown_rule",
    }  # fmt: skip


def test_half_a_document_was_never_in_force_in_the_store_either(client: Client):
    """Its push was cut off, and then the document was given another time: what it left is of no document."""
    client.command("TRUNCATE TABLE config_versions")
    *most, last = records_of_push(None, "p", parsed(1), FIRST_MS)

    def land(records: list[VersionRecord]) -> None:
        lines = b"\n".join(orjson.dumps(row_of(record, FIRST_MS)) for record in records)
        client.raw_insert("config_versions", column_names=list(COLUMNS), insert_block=lines, fmt="JSONEachRow")

    land(most)
    assert count(client, "1", "config_versions_in_force") == count(client, "1", "config_names") == 0
    land([last])
    assert count(client, "1", "config_versions_in_force") == len(most)


def test_the_view_has_the_columns_of_the_table(client: Client):
    def columns(table: str) -> list[str]:
        return sorted(row[0] for row in client.query(f"DESCRIBE TABLE {table}").result_rows)

    assert columns("exposures_resolved") == columns("exposures_current")


def test_a_store_that_is_migrated_again_is_as_it_was(client: Client, tmp_path: Path):
    assert migrations.apply(client) == []
    assert not list(tmp_path.iterdir())
