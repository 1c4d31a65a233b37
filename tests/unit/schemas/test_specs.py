"""Config specs: what is refused and where, and that both formats say the same."""

import copy
import json
from pathlib import Path
from typing import Any

import pytest

from schemas import specs
from schemas.limits import SPECS_BYTES
from schemas.specs import Format, SpecsError

V1 = json.loads(Path(__file__).parents[2].joinpath("data", "specs.json").read_bytes())
V2 = json.loads(Path(__file__).parents[2].joinpath("data", "specs.v2.json").read_bytes())


def parse(document: object) -> specs.Specs:
    return specs.parse(json.dumps(document).encode())


def rules_with_conditions(document: dict) -> dict:
    """Say what a document means whatever its format: conditions in place, entities by name."""
    meaning = {}
    for section in ("feature_gates", "dynamic_configs", "layer_configs"):
        content = document[section]
        named = content.items() if isinstance(content, dict) else [(spec["name"], spec) for spec in content]
        for name, spec in named:
            told = {key: value for key, value in copy.deepcopy(spec).items() if key not in ("name", "isDeviceBased")}
            for rule in told["rules"]:
                rule.pop("isDeviceBased", None)
                placed = [c if isinstance(c, dict) else document["condition_map"][c] for c in rule["conditions"]]
                rule["conditions"] = [{k: v for k, v in c.items() if k != "isDeviceBased"} for c in placed]
            meaning[section, name] = told
    return meaning


@pytest.mark.parametrize("document", [V1, V2], ids=["dcs-v1", "dcs-v2"])
@pytest.mark.parametrize("wanted", ["dcs-v1", "dcs-v2"])
def test_either_format_is_made_from_either(document: dict[str, Any], wanted: Format):
    made = json.loads(parse(document).as_format(wanted))
    assert made["response_format"] == wanted
    assert made["has_updates"] is True
    assert made["time"] == V1["time"]
    assert isinstance(made["feature_gates"], list if wanted == "dcs-v1" else dict)
    assert ("condition_map" in made) == (wanted == "dcs-v2")
    assert rules_with_conditions(made) == rules_with_conditions(V1)


def test_converting_there_and_back_changes_nothing():
    there = specs.parse(parse(V1).as_format("dcs-v2"))
    assert json.loads(there.as_format("dcs-v1")) == json.loads(parse(V1).as_format("dcs-v1"))


def test_equal_conditions_are_kept_once():
    made = json.loads(parse(V1).as_format("dcs-v2"))
    conditions = [json.dumps(condition, sort_keys=True) for condition in made["condition_map"].values()]
    assert len(set(conditions)) == len(conditions)


def test_experiments_of_layers_are_told_where_the_document_does_not():
    document = {key: value for key, value in V1.items() if key != "experiment_to_layer"}
    assert json.loads(parse(document).as_format("dcs-v2"))["experiment_to_layer"] == V1["experiment_to_layer"]


def test_the_hash_of_another_key_is_not_served():
    document = {**V1, "hashed_sdk_key_used": "123"}
    assert "hashed_sdk_key_used" not in json.loads(parse(document).as_format("dcs-v1"))


@pytest.mark.parametrize("document", [V1, V2], ids=["dcs-v1", "dcs-v2"])
def test_entities_are_found_by_what_exposures_call_them(document: dict[str, Any]):
    parsed = parse(document)
    gate, layer = parsed.entity("gate", "gate_half"), parsed.entity("layer", "checkout_layer")
    experiment, config = parsed.entity("config", "button_color_exp"), parsed.entity("config", "banner_config")
    assert gate is not None
    assert layer is not None
    assert experiment is not None
    assert config is not None
    assert (gate.kind, layer.kind, experiment.kind, config.kind) == ("gate", "layer", "experiment", "dynamic_config")
    assert experiment.id_type == "userID"
    assert experiment.version == str(
        next(s["version"] for s in V1["dynamic_configs"] if s["name"] == "button_color_exp")
    )
    assert config.rules == {"rule_canada": "Canada"}
    assert parsed.entity("experiment", "button_color_exp") == experiment
    assert parsed.entity("gate", "no_such_gate") is None
    assert parsed.entity("parameter_store", "gate_half") is None
    assert gate in list(parsed.entities())


def without(path: str) -> dict:
    document = copy.deepcopy(V1)
    *parents, last = path.split(".")
    place = document
    for parent in parents:
        place = place[int(parent)] if parent.isdigit() else place[parent]
    del place[last]
    return document


@pytest.mark.parametrize(
    ("path", "field"),
    [
        ("time", "time"),
        ("feature_gates", "feature_gates"),
        ("dynamic_configs", "dynamic_configs"),
        ("layer_configs", "layer_configs"),
        ("feature_gates.0.name", "feature_gates[0].name"),
        *[
            (f"dynamic_configs.0.{field}", f"dynamic_configs.banner_config.{field}")
            for field in ("type", "salt", "enabled", "defaultValue", "idType", "entity", "rules")
        ],
        *[
            (f"dynamic_configs.0.rules.0.{field}", f"dynamic_configs.banner_config.rules[0].{field}")
            for field in ("id", "name", "passPercentage", "returnValue", "idType", "conditions")
        ],
        (
            "dynamic_configs.0.rules.0.conditions.0.type",
            "dynamic_configs.banner_config.rules[0].conditions[0].type",
        ),
    ],
)
def test_a_missing_field_is_named(path: str, field: str):
    with pytest.raises(SpecsError, match="missing") as refused:
        parse(without(path))
    assert refused.value.field == field


@pytest.mark.parametrize(
    ("change", "field"),
    [
        ({"time": "yesterday"}, "time"),
        ({"time": True}, "time"),
        ({"time": 0}, "time"),
        ({"time": 1.5}, "time"),
        ({"has_updates": False}, "has_updates"),
        ({"feature_gates": {}}, "document"),
        ({"feature_gates": [1]}, "feature_gates[0]"),
        ({"feature_gates": [V1["feature_gates"][0]] * 2}, f"feature_gates.{V1['feature_gates'][0]['name']}"),
        ({"feature_gates": "none"}, "feature_gates"),
    ],
)
def test_what_an_sdk_would_stumble_over_is_refused(change: dict[str, Any], field: str):
    with pytest.raises(SpecsError) as refused:
        parse({**V1, **change})
    assert refused.value.field == field


def test_a_rule_that_names_an_unknown_condition_is_refused():
    document = copy.deepcopy(V2)
    document["dynamic_configs"]["banner_config"]["rules"][0]["conditions"] = ["42"]
    with pytest.raises(SpecsError, match="42") as refused:
        parse(document)
    assert refused.value.field == "dynamic_configs.banner_config.rules[0].conditions[0]"
    del document["condition_map"]
    with pytest.raises(SpecsError, match="condition_map"):
        parse(document)


@pytest.mark.parametrize("source", [b"", b"nonsense", b"[]", b"null", b"\xff"])
def test_what_is_no_document_is_refused(source: bytes):
    with pytest.raises(SpecsError, match="document"):
        specs.parse(source)


@pytest.mark.parametrize(("size", "accepted"), [(SPECS_BYTES - 1, True), (SPECS_BYTES, True), (SPECS_BYTES + 1, False)])
def test_the_size_limit_is_inclusive(size: int, accepted: bool):
    small = json.dumps(V1).encode()
    source = small + b" " * (size - len(small))
    if accepted:
        assert specs.parse(source).time == V1["time"]
    else:
        with pytest.raises(SpecsError, match=str(SPECS_BYTES)):
            specs.parse(source)


def test_a_record_key_names_project_and_time():
    assert specs.record_key("default", 1767225600000) == b'{"project":"default","time":1767225600000}'
    assert specs.read_record_key(specs.record_key("grün", 5)) == ("grün", 5)
    for key in (b"", b"{}", b"[]", b'{"project":"p","time":null}'):
        with pytest.raises(ValueError, match="not the key"):
            specs.read_record_key(key)


@pytest.mark.parametrize("delegate", [["exp"], {"name": "exp"}, 7, True])
def test_a_rule_that_delegates_to_no_name_is_refused_when_it_is_pushed(delegate: object):
    """Later it would fail every SDK that asks for its specs."""
    document = copy.deepcopy(V1)
    document["layer_configs"][0]["rules"][0]["configDelegate"] = delegate
    with pytest.raises(SpecsError) as refused:
        parse(document)
    assert refused.value.field == f"layer_configs.{document['layer_configs'][0]['name']}.rules[0].configDelegate"


@pytest.mark.parametrize("delegate", [None, "", "exp"])
def test_a_rule_may_delegate_to_an_experiment_or_to_none(delegate: object):
    document = copy.deepcopy(V1)
    document["layer_configs"][0]["rules"][0]["configDelegate"] = delegate
    assert json.loads(parse(document).as_format("dcs-v2"))["has_updates"] is True
