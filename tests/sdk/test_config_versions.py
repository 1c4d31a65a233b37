"""Real SDKs through five successive config versions: each exposure names the one that decided, and faults are told.

The SDKs talk to a server that gives each its specs and keeps what it logs; the exposures then go through the
worker's own code. That the rest of the path carries them is shown by `test_sdks.py`.
"""

import asyncio
import time
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import AsyncExitStack
from typing import Any, NamedTuple

import orjson
import pytest
import pytest_asyncio
from support.many_configs import VERSION_GATE, document_of, names_of
from support.sdk_bench import visitor
from support.sdk_programs import PATIENCE_S, ProcessProgram, skip_without_parts, values_for
from support.specs_lab import SpecsLab
from support.waiting import until

from processors.enrich.catalog import Enriching
from processors.map_event import EventMapper
from schemas import specs
from schemas.config_history import ConfigHistory, records_of_push
from schemas.config_versions import djb2

pytestmark = [pytest.mark.slow, pytest.mark.timeout(300), pytest.mark.asyncio(loop_scope="module")]

VERSIONS = 5
USERS = 14
SEED = 20261121
FIRST_MS = 1_790_000_000_000

WELL = {
    "python-core": "py_core.py",
    "python-legacy": "py_legacy.py",
    "node-core": "node_core.mjs",
    "node-legacy": "node_legacy.mjs",
}
STALE, CACHED, SALTED, IN_BROWSER = "stale", "cached", "salted", "in-browser"
DRIVERS = {**WELL, STALE: "py_core.py", CACHED: "node_legacy.mjs", SALTED: "py_legacy.py"}

Row = dict[str, Any]


class Ran(NamedTuple):
    """What the SDKs did, and what the worker made of it."""

    rows: dict[str, list[Row]]
    documents: dict[int, dict[str, Any]]


def document_for(name: str, version: int) -> dict[str, Any]:
    """Return what an SDK is given when `version` is the newest."""
    given = {STALE: min(version, 2), CACHED: {4: 3, 5: 5}.get(version, version)}.get(name, version)
    return document_of(given, FIRST_MS + given, SEED, salt="wrong-" if name == SALTED and version >= 3 else "")


def key_of(name: str) -> str:
    return f"client-{name}" if name == IN_BROWSER else f"secret-{name}"


def users_at(version: int) -> list[dict[str, str]]:
    return [visitor(f"v{version}-u{number}", "CA" if number % 2 else "DE") for number in range(USERS)]


async def has_version(program: ProcessProgram, version: int) -> bool:
    unit = f"poll-{version}"
    await program.do("gate", gate=VERSION_GATE, users=[visitor(unit, "CA")])
    return any(seen.rule == f"rule_v{version}" and seen.unit == unit for seen in program.said.exposures)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def ran() -> AsyncIterator[Ran]:
    skip_without_parts()
    documents = {version: document_of(version, FIRST_MS + version, SEED) for version in range(1, VERSIONS + 1)}
    history = ConfigHistory()
    programs = {name: ProcessProgram(driver) for name, driver in DRIVERS.items()}
    async with SpecsLab() as lab, AsyncExitStack() as ending:
        for version, document in documents.items():
            for name in DRIVERS:
                lab.serve(key_of(name), document_for(name, version))
            if version == 1:
                for program in programs.values():
                    ending.push_async_callback(program.end)
                await asyncio.gather(*[start(programs[name], lab, name, document) for name in programs])
            for name, program in programs.items():
                expected = document_for(name, version)["time"] - FIRST_MS
                await until(lambda p=program, v=expected: has_version(p, v), PATIENCE_S, f"{name} has no {version}")
            push(history, document)
            await asyncio.gather(*[program.do("see", users=users_at(version)) for program in programs.values()])
            if version == 3:
                await visit_in_browser(lab)
        await asyncio.gather(*[program.do("flush") for program in programs.values()])
        await asyncio.gather(*[program.do("stop") for program in programs.values()])
        rows = {
            name: list(lab.rows(key_of(name), EventMapper(history, Enriching(stale_after_ms=0))))
            for name in (*DRIVERS, IN_BROWSER)
        }
        yield Ran(rows, documents)


async def start(program: ProcessProgram, lab: SpecsLab, name: str, document: dict[str, Any]) -> None:
    await program.start({"gateway": lab.url, "secret_key": key_of(name), "sync_s": 1, **names_of(document)})


async def visit_in_browser(lab: SpecsLab) -> None:
    """js-client, from values that a server SDK made, as long as these are the newest."""
    lab.serve("secret-maker", document_of(3, FIRST_MS + 3, SEED))
    keys = {"secret_key": "secret-maker", "client_key": key_of(IN_BROWSER)}
    job = {
        "gateway": lab.url,
        **keys,
        "users": users_at(3)[:5],
        **names_of(document_of(3, FIRST_MS + 3, SEED)),
        "events": [],
    }
    program = ProcessProgram("js_node.mjs")
    try:
        await program.start({**job, "values": await values_for(job)})
        await program.do("all")
        await program.do("stop")
    finally:
        await program.end()


def push(history: ConfigHistory, document: dict[str, Any]) -> None:
    parsed = specs.parse(orjson.dumps(document))
    for record in records_of_push(history.project("p"), "p", parsed, time.time_ns() // 1_000_000):
        history.put(record)


def of_users(rows: list[Row]) -> list[Row]:
    return [row for row in rows if row["unit_id"].startswith("v") and not row["origin_part"]]


def newest_at(row: Row) -> int:
    """The version that was the newest when the user came."""
    return int(row["unit_id"][1])


def matches(rows: list[Row]) -> Counter[str]:
    return Counter(row["config_match"] for row in rows)


@pytest.mark.parametrize("name", WELL)
async def test_every_exposure_carries_the_version_that_decided_and_is_in_its_bucket(ran: Ran, name: str):
    rows = of_users(ran.rows[name])
    assert len(rows) > VERSIONS * USERS * 30
    assert {(newest_at(row), row["config_version"], row["config_time"]) for row in rows} == {
        (version, str(version), FIRST_MS + version) for version in ran.documents
    }
    assert matches(rows) == {"exact": len(rows)}
    assert [row for row in rows if row["assignment"] == "mismatch"] == []
    skipped = {row["name"] for row in rows if row["assignment"] != "match"}
    assert {row["assignment"] for row in rows} <= {"match", "skipped:condition"}
    assert skipped < {row["name"] for row in rows}


async def test_ten_thousand_decisions_of_four_sdks_are_computed_again_and_agree(ran: Ran):
    outcomes = Counter(row["assignment"] for name in WELL for row in of_users(ran.rows[name]))
    assert outcomes["match"] >= 10_000
    assert set(outcomes) == {"match", "skipped:condition"}


@pytest.mark.parametrize("name", WELL)
async def test_gates_and_holdouts_on_the_way_are_rows_that_agree_too(ran: Ran, name: str):
    rows = [row for row in ran.rows[name] if row["origin_part"] and row["unit_id"].startswith("v")]
    primary = {row["event_id_bytes"] for row in ran.rows[name] if not row["origin_part"]}
    assert {"holdout", "half"} <= {row["name"] for row in rows}
    assert {row["parent_event_id_bytes"] for row in rows} <= primary
    assert {(row["config_match"], row["assignment"]) for row in rows} == {("exact", "match")}
    assert {row["config_version"] for row in rows} == {str(version) for version in ran.documents}


async def test_arms_are_named_as_the_specs_name_them(ran: Ran):
    rows = of_users(ran.rows["python-core"])
    groups = {
        (spec["name"], rule["id"], rule["groupName"])
        for section in ("dynamic_configs", "feature_gates")
        for spec in ran.documents[1][section]
        for rule in spec["rules"]
    }
    in_groups = [row for row in rows if row["group_name"] and row["kind"] in ("experiment", "gate")]
    assert len(in_groups) > len(rows) / 2
    assert {
        (row["name"], row["rule_id"], row["group_name"]) for row in in_groups if row["name"] != VERSION_GATE
    } <= groups


async def test_an_sdk_that_kept_old_specs_is_stale_and_only_from_then_on(ran: Ran):
    for row in of_users(ran.rows[STALE]):
        decided = min(newest_at(row), 2)
        assert row["config_version"] == str(decided)
        assert row["config_match"] == ("exact" if newest_at(row) <= 2 else "stale")
        assert row["assignment"] != "mismatch"


async def test_a_proxy_that_keeps_specs_too_long_makes_its_sdk_stale_for_so_long(ran: Ran):
    for row in of_users(ran.rows[CACHED]):
        behind = newest_at(row) == 4
        assert row["config_version"] == str(newest_at(row) - behind)
        assert row["config_match"] == ("stale" if behind else "exact")
        assert row["assignment"] != "mismatch"


async def test_a_wrong_salt_is_a_mismatch_for_whom_it_moved_and_for_nobody_else(ran: Ran):
    """The truth is what another SDK gave the same unit with the right salts."""
    truth = {(row["name"], row["parameter"], row["unit_id"]): row for row in of_users(ran.rows["python-legacy"])}
    outcomes: Counter[str] = Counter()
    expected: list[str] = []
    for row in of_users(ran.rows[SALTED]):
        right = truth[row["name"], row["parameter"], row["unit_id"]]
        moved = (row["rule_id"], row["value"]) != (right["rule_id"], right["value"])
        if row["assignment"] == "skipped:condition":
            continue
        outcomes[row["assignment"]] += 1
        assert row["assignment"] == ("mismatch" if moved else "match"), (row, right)
        if moved and row["rule_id"] != right["rule_id"]:
            expected.append(row["expected_group"])
            assert row["expected_group"] in ("", right["group_name"], right["rule_id"])
        elif moved:
            assert row["expected_group"] == right["value"]
        assert not moved or newest_at(row) >= 3
        assert row["config_match"] == "exact"
    assert outcomes["mismatch"] > 100
    assert expected.count("") < len(expected) / 10


async def test_a_hashed_experiment_of_a_browser_is_named(ran: Ran):
    rows = of_users(ran.rows[IN_BROWSER])
    layers = [row for row in rows if row["kind"] == "layer" and row["allocated_experiment"]]
    assert layers
    for row in layers:
        assert djb2(row["allocated_experiment"]) in row["metadata"]
        assert row["allocated_experiment"].startswith("inner_")
        assert row["group_name"]
    assert {row["config_version"] for row in rows} == {"3"}
    assert {row["config_match"] for row in rows} <= {"exact", "by_time"}
    assert {row["assignment"] for row in rows} <= {"skipped:bootstrap", "skipped:not_stamped"}
