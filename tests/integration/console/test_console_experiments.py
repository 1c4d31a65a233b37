"""Experiments and the pipeline: the numbers of the answers are those of the truth, and of SQL."""

from collections.abc import Callable
from typing import Any
from urllib.parse import quote

import httpx
import pytest
from support.console_truth import HOSTILE_NAME, UNITS, arms, truth
from support.waiting import until

Ask = Callable[..., httpx.Response]


def _arms(entity: dict[str, Any], arm: str = "group") -> dict[str, tuple[int, int]]:
    return {each[arm]: (each["units"], each["exposures"]) for each in entity["arms"]}


def test_the_list_tells_units_and_exposures_of_every_arm_as_they_are(api: httpx.Client):
    found = {entity["name"]: entity for entity in api.get("/api/experiments").json()["experiments"]}
    assert set(found) == {each["name"] for each in truth()} | {"price_test"}  # which a layer allocated
    assert _arms(found["checkout"]) == arms("checkout")
    assert _arms(found["search"], "value") == arms("search", "value")
    assert found["checkout"]["units"] == UNITS  # the unit in two arms is one unit
    assert found["checkout"]["exposures"] == UNITS + 1
    assert found["prices"]["arms"][0]["allocated_experiment"] == "price_test"
    assert found["checkout"]["first_seen"] <= found["checkout"]["last_seen"]


def test_sql_says_the_same(api: httpx.Client, ask: Ask):
    query = "SELECT group_name, uniqExact(unit_id), count() FROM exposures WHERE name = 'checkout' GROUP BY 1"
    by_sql = {group: (units, exposures) for group, units, exposures in ask(query).json()["rows"]}
    assert by_sql == _arms(api.get("/api/experiments/checkout").json())


@pytest.mark.parametrize(
    ("parameters", "names"),
    [
        ({"kind": "gate"}, {"search"}),
        ({"kind": "layer"}, {"prices"}),
        ({"tier": "staging"}, {"checkout", "search"}),
        ({"environment": "nowhere"}, set()),
        ({"project": "default", "kind": "gate", "window": "1h"}, {"search"}),
    ],
)
def test_the_list_is_narrowed_by_its_parameters(api: httpx.Client, parameters: dict[str, str], names: set[str]):
    found = api.get("/api/experiments", params=parameters).json()["experiments"]
    assert {entity["name"] for entity in found} == names


def test_a_tier_narrows_the_counts(api: httpx.Client):
    found = api.get("/api/experiments/checkout", params={"tier": "staging"}).json()
    assert _arms(found) == arms("checkout", tier="staging")


def test_one_entity_tells_its_course_versions_sdks_and_units_in_several_arms(api: httpx.Client):
    found = api.get("/api/experiments/checkout").json()
    assert sum(point["exposures"] for point in found["course"]["points"]) == UNITS + 1
    assert [version["version"] for version in found["config_versions"]] == ["7"]
    assert [(sdk["type"], sdk["units"]) for sdk in found["sdks"]] == [("statsig-python-core", UNITS)]
    assert found["units_in_several_arms"] == 1
    assert found["other_kinds"] == []


def test_a_name_may_hold_anything(api: httpx.Client):
    found = api.get(f"/api/experiments/{quote(HOSTILE_NAME, safe='')}").json()
    assert found["name"] == HOSTILE_NAME
    assert _arms(found) == {HOSTILE_NAME: (1, 1)}


@pytest.mark.parametrize("name", ["nothing", "' OR 1 = 1 --", "../../etc/passwd", "{name:String}"])
def test_an_unknown_name_is_not_found_and_the_answer_says_how_to_go_on(api: httpx.Client, name: str):
    answer = api.get(f"/api/experiments/{quote(name, safe='')}")
    assert answer.status_code == 404
    assert answer.json()["error"]["reason"] == "unknown_experiment"
    assert "window" in answer.json()["error"]["remedy"]


async def test_the_pipeline_tells_what_has_landed_and_how_far_the_log_is(api: httpx.Client):
    def both_asked() -> dict[str, Any] | None:
        pipeline: dict[str, Any] = api.get("/api/pipeline").json()
        return pipeline if pipeline["store"]["state"] == pipeline["log"]["state"] == "ok" else None

    pipeline = await until(both_asked)
    assert pipeline["tables"]["exposures"]["rows"] == len(truth())
    assert pipeline["tables"]["exposures"]["last_landed_at"]
    assert pipeline["tables"]["custom_events"] == {
        "rows": 0,
        "last_landed_at": None,
        "rows_last_minute": 0,
        "delay_p50_ms": None,
        "delay_p99_ms": None,
    }
    assert set(pipeline["log"]["lag"]) == {"worker", "lander"}
    assert set(pipeline["log"]["dead_letters"]) == {"dlq.ingest", "dlq.worker", "dlq.lander"}
