"""Units in several arms, counted to the unit, of visitors whose every device and login is known."""

from collections.abc import Iterator
from typing import Any

import msgspec
import orjson
import pytest
from clickhouse_connect.driver.client import Client
from support.landing import FakeRecord
from support.population import EXPERIMENT, RULES, Population

from processors.claims import ClaimsIndex
from processors.enrich.identity import Identities
from processors.identity_lander import insert_links
from processors.landing.batch import Row
from processors.landing.config_rows import COLUMNS, row_of
from processors.landing.insert import Inserter
from processors.landing.tables import BY_TOPIC
from processors.map_event import EventMapper, Mapped
from processors.process_chunk import process
from processors.processed import SourceRecord
from schemas import chunk, identity_links, migrations, specs
from schemas.config_history import ConfigHistory, records_of_push
from schemas.store import StoreAddress
from schemas.topics import CUSTOM_EVENTS, EXPOSURES

NOW_MS = 1_790_000_000_000
CHUNK = 50
HELD = "held"


@pytest.fixture(scope="module")
def client(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Client]:
    client = StoreAddress(path=tmp_path_factory.mktemp("crossovers") / "store").connect()
    migrations.apply(client)
    yield client
    client.close()


def configs(client: Client) -> ConfigHistory:
    """One experiment on devices, known to the worker and in the store."""
    rules = [
        {"name": rule, "id": rule, "salt": rule, "passPercentage": 100, "returnValue": {}, "idType": "stableID"}
        | {"groupName": group, "conditions": []}
        for rule, group in RULES.items()
    ]
    holdout = {"type": "pass_gate", "targetValue": "held_back", "field": None, "idType": "stableID"}
    rules.insert(0, {**rules[0], "name": HELD, "id": HELD, "groupName": "", "conditions": [holdout]})
    experiment = {"name": EXPERIMENT, "type": "dynamic_config", "salt": "s", "enabled": True, "defaultValue": {}}
    experiment |= {"idType": "stableID", "entity": "experiment", "version": 1, "rules": rules}
    document = specs.parse(
        orjson.dumps({"time": 1, "feature_gates": [], "dynamic_configs": [experiment], "layer_configs": []})
    )
    history = ConfigHistory()
    records = records_of_push(None, "p", document, 1)
    for record in records:
        history.put(record)
    lines = b"\n".join(orjson.dumps(row_of(record, NOW_MS)) for record in records)
    client.raw_insert("config_versions", column_names=list(COLUMNS), insert_block=lines, fmt="JSONEachRow")
    return history


def work(events: list[dict[str, Any]], mapper: EventMapper, identities: Identities, log: int) -> tuple[Any, Any]:
    """Process events as the worker does; return what it emits, and the links that it tells."""
    index, emitted, told = ClaimsIndex(10**12), [], []
    for offset in range(0, len(events), CHUNK):
        raw = [msgspec.Raw(orjson.dumps(event)) for event in events[offset : offset + CHUNK]]
        part = chunk.RequestPart("p", "production", "k", "r", NOW_MS, events=raw)
        record = SourceRecord(log, 0, offset, NOW_MS, {}, chunk.encode(chunk.Chunk([part])))
        done = process(record, index, mapper, NOW_MS)
        index.claim(offset, NOW_MS, done.claimed, done.firsts)
        assert not done.dead
        emitted += done.emitted
        told += [link for link in done.links if identities.learn(link)]
    return emitted, told


def land(client: Client, emitted: list[tuple[Mapped, bytes]]) -> None:
    for topic in (EXPOSURES, CUSTOM_EVENTS):
        rows = [Row(origin, one.value, FakeRecord(one.value), 0) for one, origin in emitted if one.topic == topic]
        Inserter(BY_TOPIC[topic], embedded=True).insert(client, rows, "q")


@pytest.mark.parametrize("seed", [1, 2])
def test_crossovers_are_counted_exactly_before_and_after_devices_are_put_together(client: Client, seed: int):
    """Anonymous visitors who log in later, on several devices and on shared ones; kiosks, and a user called guest."""
    for table in ("exposures", "custom_events", "identity_links", "config_versions"):
        client.command(f"TRUNCATE TABLE {table}")
    population = Population(seed, NOW_MS)
    identities = Identities()
    history = configs(client)
    emitted, told = work(population.events, EventMapper(history, identities=identities), identities, 1)
    land(client, emitted)
    records = [FakeRecord(identity_links.encode(link), key=identity_links.key_of(link)) for link in told]
    insert_links(client, records, 1)

    def asked(question: str) -> set[Any]:
        return {row[0] if len(row) == 1 else row for row in client.query(question).result_rows}

    before = asked(f"SELECT unit_id FROM crossovers WHERE name = '{EXPERIMENT}'")
    after = asked(f"SELECT merged_id FROM crossovers_merged WHERE name = '{EXPERIMENT}'")
    assert before == population.crossed()
    assert after == population.crossed_merged()
    assert 0 < len(before) < len(after)
    resolved = "SELECT DISTINCT stable_id, user_id, canonical_id FROM exposures_resolved"
    whose = {(device, user, population.person(device, user)) for device, user, _ in population.exposed}
    assert asked(resolved) == whose
    # A worker that knows now what came later says of every row what the view says of it.
    client.command("TRUNCATE TABLE exposures")
    again, _ = work(population.events, EventMapper(history, identities=identities), identities, 2)
    land(client, again)
    assert asked(resolved.replace("exposures_resolved", "exposures")) == whose


def test_other_ids_lead_to_their_one_user_and_shared_ones_to_nobody(client: Client):
    for table in ("exposures", "identity_links"):
        client.command(f"TRUNCATE TABLE {table}")
    identities = Identities()

    def event(number: int, user: str = "", **custom: str) -> dict[str, Any]:
        metadata = {"gate": "g", "gateValue": "true", "ruleID": "r"}
        ids = {"userID": user, "customIDs": custom}
        return {"eventName": "statsig::gate_exposure", "time": NOW_MS - number, "user": ids, "metadata": metadata}

    events = [
        event(9, "u", visitorID="v", companyID="acme"),
        event(8, "w", companyID="acme", stableID="d"),
        event(1, visitorID="v", companyID="acme"),
        event(2, companyID="acme"),
        event(3, companyID="acme", stableID="d"),
        event(4, visitorID="v", stableID="nobody's"),
    ]
    emitted, told = work(events, EventMapper(ConfigHistory(), identities=identities), identities, 3)
    land(client, emitted)
    insert_links(client, [FakeRecord(identity_links.encode(link)) for link in told], 1)
    answer = "SELECT toUnixTimestamp64Milli(event_time) - {now}, canonical_id FROM exposures_resolved"
    found = dict(client.query(answer.format(now=NOW_MS)).result_rows)
    assert found == {-9: "u", -8: "w", -1: "u", -2: "", -3: "w", -4: "u"}


def test_who_was_held_back_and_then_put_into_an_arm_is_no_crossover(client: Client):
    for table in ("exposures", "identity_links", "config_versions"):
        client.command(f"TRUNCATE TABLE {table}")
    history = configs(client)

    def event(device: str, rule: str, number: int) -> dict[str, Any]:
        metadata = {"config": EXPERIMENT, "ruleID": rule, "rulePassed": "true"}
        user = {"customIDs": {"stableID": device}}
        return {"eventName": "statsig::config_exposure", "time": NOW_MS + number, "user": user, "metadata": metadata}

    events = [event("held-once", HELD, 1), event("held-once", "a", 2), event("twice", "a", 3), event("twice", "b", 4)]
    emitted, _ = work(events, EventMapper(history), Identities(), 4)
    land(client, emitted)
    assert client.query("SELECT unit_id, arms FROM crossovers").result_rows == [("twice", ["Control", "Treatment"])]
