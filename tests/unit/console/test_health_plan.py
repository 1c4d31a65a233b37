"""The planned split is read from the config, or the answer says why it is not known."""

from pathlib import Path
from typing import Any

import orjson
import pytest
from support.many_configs import document_of

from console.health.plan import plan_of

SPECS = orjson.loads(Path(__file__).parents[2].joinpath("data", "specs.json").read_bytes())


def _rule(group: str, bound: Any, **more: Any) -> dict[str, Any]:
    condition = {"type": "user_bucket", "operator": "lt", "targetValue": bound, "additionalValues": {"salt": "s"}}
    fields = {"id": f"id_{group}", "groupName": group, "passPercentage": 100, "isExperimentGroup": True}
    return {**fields, "conditions": [{**condition, "idType": "userID"}], **more}


def _public(group: str) -> dict[str, Any]:
    return _rule(group, 0, conditions=[{"type": "public"}])


def test_the_shares_are_the_widths_of_the_buckets():
    experiment = next(each for each in SPECS["dynamic_configs"] if each["name"] == "button_color_exp")
    assert plan_of(experiment).shares == pytest.approx({"Control": 0.333, "Green": 0.334, "Red": 0.333})


@pytest.mark.parametrize(
    ("bounds", "shares"),
    [
        ((500, 1000), (0.5, 0.5)),
        ((900, 1000), (0.9, 0.1)),
        ((980, 990, 1000), (0.98, 0.01, 0.01)),
        ((100, 200), (0.5, 0.5)),
        ((250, 500, 900), (250 / 900, 250 / 900, 400 / 900)),
    ],
)
def test_they_are_of_those_in_the_experiment(bounds: tuple[int, ...], shares: tuple[float, ...]):
    rules = [_rule(f"g{number}", bound) for number, bound in enumerate(bounds)]
    assert list(plan_of({"rules": rules}).shares.values()) == pytest.approx(shares)


def test_a_rule_before_the_groups_takes_nothing_from_their_split():
    held = _rule("Held", 7, isExperimentGroup=False, conditions=[{"type": "pass_gate", "targetValue": "holdout"}])
    assert plan_of({"rules": [held, _rule("A", 500), _rule("B", 1000)]}).shares == {"A": 0.5, "B": 0.5}


def test_a_group_without_buckets_is_not_planned():
    assert plan_of({"rules": [_rule("A", 500), _rule("B", 1000), _rule("C", 1000)]}).shares == {"A": 0.5, "B": 0.5}


def test_every_experiment_of_a_generated_document_has_a_plan():
    for experiment in document_of(1, 1, seed=3)["dynamic_configs"]:
        plan = plan_of(experiment)
        if experiment["entity"] == "experiment":
            assert sum(plan.shares.values()) == pytest.approx(1)
            assert all(name.startswith("Group ") for name in plan.shares)
        else:
            assert plan.why_not


@pytest.mark.parametrize(
    ("rules", "why"),
    [
        ([], "fewer than two groups"),
        ([_rule("A", 1000)], "fewer than two groups"),
        ([_rule("A", 500), _public("B")], "'B' is not chosen by one bucket condition"),
        ([_rule("A", 500), _rule("B", [1, 2])], "'B' is not chosen by one bucket condition"),
        ([_rule("A", 500), _rule("B", True)], "'B' is not chosen by one bucket condition"),
        ([_rule("A", 500), _rule("B", 1000, passPercentage=50)], "'B' passes 50 %"),
        ([_rule("A", 500), _rule("B", 400)], "the bound 400"),
        ([_rule("A", 500), _rule("B", 1001)], "the bound 1001"),
        ([_rule("A", 0), _rule("B", 1000)], "one group"),
        (
            [
                _rule("A", 500),
                _rule("B", 1000, conditions=[{**_rule("B", 1000)["conditions"][0], "additionalValues": ["salt"]}]),
            ],
            "'B' is not chosen by one bucket condition",
        ),
        (
            [
                _rule("A", 500),
                _rule("B", 1000, conditions=[{**_rule("B", 1000)["conditions"][0], "additionalValues": {"salt": "t"}}]),
            ],
            "different salts",
        ),
    ],
)
def test_where_the_split_cannot_be_read_nothing_is_invented(rules: list[dict[str, Any]], why: str):
    plan = plan_of({"rules": rules})
    assert not plan.shares
    assert why.lower() in plan.why_not.lower()
