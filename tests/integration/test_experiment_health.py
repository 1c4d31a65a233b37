"""Health against a generator that keeps its own books: what the API says is what SQL says is what was generated."""

import asyncio
import io
import time
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from typing import Any

import fastavro
import httpx
import orjson
import pytest
from clickhouse_connect.driver.client import Client
from jsonschema import Draft202012Validator
from support.experiment_truth import ARMS, DAY_MS, LAYER, NAME, Books, document
from support.exposures import exposure
from support.waiting import until

from console.config import ConsoleConfig
from console.console import Console
from console.openapi import DOCUMENT
from processors.landing.config_rows import COLUMNS, row_of
from processors.roller import Roller, rest_s
from processors.rollups.roll import clean_up, turn
from processors.rollups.statements import TABLES, make_scratch
from schemas import migrations, specs
from schemas.avro import EXPOSURE
from schemas.config_history import records_of_push
from schemas.kafka import KafkaConnection
from schemas.metrics import ConsoleMetrics, RollupMetrics
from schemas.store import StoreAddress

Json = dict[str, Any]

SEED = 8
DEAD = {"A": 150, "B": 8, "C": 6}
"""Units of refused exposures by group."""


@pytest.fixture(scope="module")
def address(tmp_path_factory: pytest.TempPathFactory) -> StoreAddress:
    return StoreAddress(path=tmp_path_factory.mktemp("health") / "store")


@pytest.fixture(scope="module")
def client(address: StoreAddress) -> Iterator[Client]:
    client = address.connect()
    migrations.apply(client)
    yield client
    client.close()


@pytest.fixture(scope="module")
def books(client: Client) -> Books:
    print(f"seed {SEED}")
    begins_ms = int(time.time() * 1000) // DAY_MS * DAY_MS - 4 * DAY_MS
    books = Books(SEED, begins_ms).fill()
    land_configs(client, books)
    land(client, books.rows)
    land_dead_letters(client, books)
    roll(client)
    return books


@pytest.fixture
async def api(address: StoreAddress, books: Books) -> AsyncIterator[httpx.AsyncClient]:
    assert books.rows
    console = Console(ConsoleConfig(KafkaConnection("127.0.0.1:1"), address), ConsoleMetrics())
    transport = httpx.ASGITransport(app=console.app)
    async with httpx.AsyncClient(transport=transport, base_url="http://127.0.0.1") as client:
        yield client
    await console.stop()


def land(client: Client, rows: list[Json]) -> None:
    block = io.BytesIO()
    fastavro.writer(block, EXPOSURE.json, rows)
    client.raw_insert("exposures", column_names=EXPOSURE.columns, insert_block=block.getvalue(), fmt="Avro")


def land_configs(client: Client, books: Books) -> None:
    for version in ARMS:
        time_ms = books.version_time_ms(version)
        pushed = specs.parse(orjson.dumps(document(version, time_ms)))
        lines = [orjson.dumps(row_of(record, time_ms)) for record in records_of_push(None, "default", pushed, time_ms)]
        block = b"\n".join(lines)
        client.raw_insert("config_versions", column_names=list(COLUMNS), insert_block=block, fmt="JSONEachRow")


def land_dead_letters(client: Client, books: Books) -> None:
    """Refuse exposures of some units, twice each; of some more that have landed since nothing is lost."""
    lines = []
    for arm, units in DEAD.items():
        for number in range(2 * units):
            lines.append(_dead(len(lines), f"dead_{arm}_{number // 2}", f"rule_{arm}", f"{len(lines):032x}"))
    for row in books.counted[:20]:
        event_id = row["event_id_bytes"].hex()
        lines.append(_dead(len(lines), row["unit_id"], row["rule_id"], event_id, received_at=row["received_at"] / 1000))
    block = b"\n".join(map(orjson.dumps, lines))
    client.raw_insert("dead_letters", column_names=list(lines[0]), insert_block=block, fmt="JSONEachRow")


def _dead(offset: int, unit: str, rule: str, event_id: str, received_at: float = 0.0) -> Json:
    return {
        "stage": "worker",
        "dlq_offset": offset,
        "event_id": event_id,
        "project": "default",
        "environment": "production",
        "experiment": LAYER if offset % 3 == 0 else NAME,
        "rule_id": rule,
        "unit_id": unit,
        "received_at": received_at,
    }


def roll(client: Client) -> int:
    turns = 0
    while turn(client) is not None:
        turns += 1
    return turns


def contents(client: Client) -> dict[str, int]:
    return {table: client.query(f"SELECT sum(cityHash64(*)), count() FROM {table}").result_rows[0] for table in TABLES}


async def health(api: httpx.AsyncClient) -> Json:
    answer = await api.get(f"/api/experiments/{NAME}/health")
    assert answer.status_code == 200, answer.text
    found: Json = answer.json()
    return found


def signal(found: Json, key: str) -> Json:
    return next(each for each in found["signals"] if each["key"] == key)


async def test_the_units_of_every_version_and_group_are_the_truth(api: httpx.AsyncClient, books: Books):
    found = await health(api)
    by_version = {
        each["version"]: Counter({group["group"]: group["units"] for group in each["groups"]})
        for each in found["srm"]["versions"]
    }
    assert by_version == books.units_of_version()
    for each in found["srm"]["versions"]:
        assert {group["group"]: group["planned_share"] for group in each["groups"]} == pytest.approx(
            ARMS[each["version"]]
        )
        assert each["path"][-1]["units"] == each["units"]
    newcomers = books.newcomers()
    groups = {group["group"]: group["units"] for group in found["population"]["groups"]}
    assert groups == Counter(row["group_name"] for row in newcomers.values())
    assert found["population"]["units"] == len(newcomers)
    assert found["population"]["checks"] == len(books.counted)


async def test_what_does_not_count_is_told_by_its_reason(api: httpx.AsyncClient, books: Books):
    found = await health(api)
    assert {each["reason"]: each["checks"] for each in found["population"]["excluded"]} == dict(books.excluded)


def test_sql_says_the_same(client: Client, books: Books):
    by_group = client.query(
        f"SELECT group_name, count() FROM first_exposures WHERE experiment = '{NAME}' GROUP BY ALL"
    ).result_rows
    newcomers = books.newcomers()
    assert dict(by_group) == Counter(row["group_name"] for row in newcomers.values())
    firsts = client.query(
        "SELECT unit_id, toUnixTimestamp64Milli(first_exposed_at), layer FROM first_exposures "
        f"WHERE experiment = '{NAME}'"
    ).result_rows
    assert {unit: (at, layer) for unit, at, layer in firsts} == {
        unit: (row["corrected_time"], LAYER if row["kind"] == "layer" else "") for unit, row in newcomers.items()
    }


def test_the_rollups_are_what_one_statement_over_all_rows_gives(client: Client, books: Books):
    assert books.rows
    raw = client.query("""
        SELECT config_version, arm, count() FROM (
            SELECT config_version, unit_id,
                argMin(arm, (
                    day, exposed_at, received_at,
                    origin_log, origin_partition, origin_offset, origin_index, origin_part
                )) AS arm
            FROM experiment_exposures WHERE excluded = '' GROUP BY config_version, unit_id
        ) GROUP BY ALL ORDER BY ALL
    """).result_rows
    rolled = client.query("""
        SELECT config_version, group_name, sum(units) FROM experiment_units WHERE axis = 'received'
        GROUP BY ALL ORDER BY ALL
    """).result_rows
    assert raw == rolled
    for axis in ("exposed", "sdk", "country"):
        assert (
            rolled
            == client.query(f"""
            SELECT config_version, group_name, sum(units) FROM experiment_units WHERE axis = '{axis}'
            GROUP BY ALL ORDER BY ALL
        """).result_rows
        )


async def test_signals_count_what_was_generated(api: httpx.AsyncClient, books: Books):
    found = await health(api)
    newcomers = books.newcomers()
    checks = len(books.counted)
    crossed = signal(found, "crossover")
    assert (crossed["count"], crossed["of"]) == (books.crossed(), len(newcomers))
    stale = sum(row["config_match"] == "stale" for row in books.counted)
    assert (signal(found, "stale_config")["count"], signal(found, "stale_config")["of"]) == (stale, checks)
    mismatched = sum(row["assignment"] == "mismatch" for row in books.counted)
    assert signal(found, "assignment_mismatch")["count"] == mismatched
    assert signal(found, "assignment_mismatch")["light"] == "red"
    assert signal(found, "bots")["count"] == sum(row["is_bot"] for row in books.counted)
    assert signal(found, "duplicates")["count"] == 0
    late = Counter(row["group_name"] for row in newcomers.values() if row["lateness_ms"] > 3_600_000)
    assert {each["group"]: each["late"] for each in signal(found, "late")["by_group"]} == late
    slowest = sorted(row["lateness_ms"] for row in books.counted)[int(0.999 * checks)]
    assert slowest * 0.99 <= signal(found, "lateness")["value"] <= slowest * 1.2


async def test_an_arm_that_loses_more_exposures_than_others_is_red(api: httpx.AsyncClient):
    """Units are counted and not events, and what has landed since is not lost."""
    loss = signal(await health(api), "loss")
    assert {each["group"]: each["lost"] for each in loss["by_group"]} == DEAD
    assert loss["light"] == "red"


async def test_users_and_checks_add_up_to_the_truth(api: httpx.AsyncClient, books: Books):
    found = (await api.get(f"/api/experiments/{NAME}/users-and-checks", params={"window": "30d"})).json()
    users: Counter[str] = Counter()
    checks: Counter[str] = Counter()
    for point in found["course"]["points"]:
        users.update(point["users"])
        checks.update(point["checks"])
        ends = point["at"][:14] + "59:59"
        assert point["is_final"] == (ends < found["final_until"])
    assert users == Counter(row["group_name"] for row in books.newcomers().values())
    assert checks == Counter(row["group_name"] for row in books.counted)
    hours = Counter(row["corrected_time"] // 3_600_000 for row in books.newcomers().values())
    assert len([point for point in found["course"]["points"] if point["users"]]) == len(hours)


async def test_the_details_tell_the_timeline_with_the_plan_of_each_version(api: httpx.AsyncClient, books: Books):
    found = (await api.get(f"/api/experiments/{NAME}", params={"window": "30d"})).json()
    assert [each["version"] for each in found["timeline"]] == ["6", "7"]
    assert [{part["group"]: part["share"] for part in each["planned"]} for each in found["timeline"]] == [
        pytest.approx(plan) for plan in ARMS.values()
    ]
    assert [each["units"] for each in found["timeline"]] == [
        sum(units.values()) for _, units in sorted(books.units_of_version().items())
    ]
    assert found["crossover"]["units"] == books.crossed()
    assert found["health"]["light"] == "red"


async def test_the_list_shows_the_light_of_each_experiment(api: httpx.AsyncClient):
    async def lights() -> Json:
        found = (await api.get("/api/experiments", params={"window": "30d"})).json()["experiments"]
        return {each["name"]: each["health"] for each in found}

    while (light := (await lights())[NAME])["light"] == "unknown":
        assert "ask again" in light["why"]
    assert light["light"] == "red"
    assert (await lights())[LAYER] is None


async def test_an_experiment_without_exposures_is_known_by_its_config_and_another_is_not(api: httpx.AsyncClient):
    assert (await api.get("/api/experiments/nothing/health")).json()["error"]["reason"] == "unknown_experiment"
    assert (await api.get("/api/experiments/nothing/users-and-checks")).status_code == 404
    found = (await api.get(f"/api/experiments/{NAME}/health", params={"environment": "elsewhere"})).json()
    assert (found["light"], found["srm"]["versions"], found["signals"]) == ("unknown", [], [])


# --- the rollups themselves ---------------------------------------------------------------------


def test_a_row_that_lands_in_a_past_day_changes_that_day_and_all_that_build_on_it(client: Client, books: Books):
    before = contents(client)
    assert roll(client) == 0
    last = max(books.firsts().values(), key=lambda row: row["received_at"])
    books.expose(last["unit_id"], "B", 2, version=last["config_version"])
    land(client, books.rows[-1:])
    assert roll(client) >= 2
    after = contents(client)
    assert after != before
    units = client.query("""
        SELECT config_version, group_name, sum(units) FROM experiment_units WHERE axis = 'received' GROUP BY ALL
    """).result_rows
    assert {(version, group): count for version, group, count in units} == {
        (version, group): count for version, found in books.units_of_version().items() for group, count in found.items()
    }


def test_rollups_that_are_made_again_from_nothing_are_the_same(client: Client, books: Books):
    assert books.rows
    before = contents(client)
    for table in (*TABLES, "rollup_days"):
        client.command(f"TRUNCATE TABLE {table}")
    roll(client)
    assert contents(client) == before


def test_a_turn_that_was_cut_off_is_made_again_and_leaves_nothing_behind(client: Client, books: Books):
    assert books.rows
    before = contents(client)
    for statement in make_scratch("0123456789abcdef"):
        client.command(statement)
    client.command("ALTER TABLE exposed_units DROP PARTITION ID '20000101'")
    day = client.query("SELECT max(day) FROM rollup_days").result_rows[0][0]
    client.command(f"ALTER TABLE experiment_units DROP PARTITION '{day}'")
    client.command(f"ALTER TABLE rollup_days DELETE WHERE day = '{day}' SETTINGS mutations_sync = 2")
    assert turn(client) == day
    assert contents(client) == before
    clean_up(client, idle_s=0)
    left = client.query("SELECT count() FROM system.tables WHERE name LIKE 'rollup\\_%\\_today'").result_rows
    assert left == [(0,)]


def test_the_roller_rests_so_that_numbers_stay_fresh_and_the_pipeline_has_its_cores():
    assert rest_s(0.1, 10) == 10
    assert rest_s(5, 10) == 20
    assert rest_s(14, 10) == 16
    assert rest_s(20, 10) == 80


async def test_the_roller_keeps_up_while_rows_land(address: StoreAddress, client: Client, books: Books):
    roller = Roller(address, RollupMetrics(), every_s=0.2)
    await roller.start()
    try:
        books.expose("somebody new", "A", 4)
        land(client, books.rows[-1:])

        def is_counted() -> bool:
            found = client.query("SELECT count() FROM first_exposures WHERE unit_id = 'somebody new'").result_rows
            return bool(found[0][0])

        await until(is_counted)
    finally:
        await asyncio.wait_for(roller.stop(), 10)


async def test_an_export_holds_what_was_received_in_the_last_second_of_its_span(api: httpx.AsyncClient, client: Client):
    """Compared as whole seconds, a part of the table that holds nothing else was left out."""
    last_ms = 1_700_000_004_500
    land(client, [exposure(name="edge", received_at=last_ms, corrected_time=last_ms)])
    span = {"since": "2023-11-14T22:13:20Z", "until": "2023-11-14T22:13:25Z", "format": "csv"}
    answer = await api.get("/api/export/exposures", params=span)
    assert answer.headers["x-headrace-rows"] == "1"
    assert len(answer.text.splitlines()) == 2


@pytest.mark.parametrize(
    ("path", "schema"),
    [
        ("", "ExperimentDetails"),
        ("/health", "Health"),
        ("/users-and-checks", "UsersAndChecks"),
    ],
)
async def test_answers_are_what_the_description_says(api: httpx.AsyncClient, path: str, schema: str):
    """Every field is described, and none is of another type."""
    answer = (await api.get(f"/api/experiments/{NAME}{path}")).json()
    components = {"components": closed(DOCUMENT["components"])}
    validator = Draft202012Validator({"$ref": f"#/components/schemas/{schema}", **components})
    assert [f"{error.json_path}: {error.message[:200]}" for error in validator.iter_errors(answer)] == []


def closed(node: Any) -> Any:
    """Return a schema in which objects have no properties but those that are described."""
    if isinstance(node, list):
        return [closed(each) for each in node]
    if not isinstance(node, dict):
        return node
    found = {key: closed(value) for key, value in node.items()}
    if isinstance(node.get("properties"), dict) and "type" in node and node["properties"]:
        found.setdefault("additionalProperties", False)
        found["required"] = sorted(node["properties"])
    return found


async def test_a_roller_that_is_stopped_ends_the_statement_it_is_at(address: StoreAddress, client: Client):
    """One over a large day takes longer than a process is given to stop."""
    client.command("""
        INSERT INTO exposures (origin_log, origin_offset, received_at, corrected_time, time_flag, tier, kind, name,
            rule_id, unit_id)
        SELECT 1, number, toDateTime64('2024-01-01 00:00:00', 3, 'UTC') AS moment, moment, 'ok', 'production',
            'experiment', 'large', 'a', toString(number)
        FROM numbers(500000)
    """)
    scratch = "SELECT count() FROM system.tables WHERE match(name, '^rollup_[0-9a-f]{16}_')"
    roller = Roller(address, RollupMetrics(), every_s=0.01)
    await roller.start()
    await until(lambda: bool(client.query(scratch).result_rows[0][0]))
    await roller.stop()
    assert client.query(scratch).result_rows == [(0,)]
    assert client.query("SELECT count() FROM rollup_days WHERE day = '2024-01-01'").result_rows == [(0,)]
