"""The audit: what is checked, what is not and why. That buckets agree with SDKs is shown in tests/sdk."""

import json
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from processors.enrich import decide
from processors.enrich.catalog import Enriching, Enrichment
from processors.enrich.decide import Decider
from processors.map_event import EventMapper, RequestContext
from processors.unit import Ids
from schemas import avro, specs
from schemas.chunk import RequestPart
from schemas.config_history import ConfigHistory, records_of_push
from schemas.wire import Event, ExposureMetadata

V1: dict[str, Any] = json.loads(Path(__file__).parents[2].joinpath("data", "specs.json").read_bytes())
T = V1["time"]
GROUPS = {"grp_control": "Control", "grp_green": "Green", "grp_red": "Red"}


def history_of(document: dict[str, Any] = V1) -> ConfigHistory:
    history = ConfigHistory()
    for record in records_of_push(None, "p", specs.parse(orjson.dumps(document)), T):
        history.put(record)
    return history


def row(
    metadata: dict[str, Any], user: str = "u1", kind: str = "config", enriching: Enriching | None = None,
    event_id: bytes = bytes(16), history: ConfigHistory | None = None,
) -> dict[str, Any]:  # fmt: skip
    mapper = EventMapper(history or history_of(), enriching)
    event = {
        "eventName": f"statsig::{kind}_exposure",
        "time": T + 5,
        "user": {"userID": user},
        "metadata": {"lcut": str(T), "reason": "Network:Recognized", **metadata},
    }
    context = RequestContext(RequestPart("p", "production", "k", "r", T + 10), 1, 0, 1)
    mapped = mapper.map(msgspec.json.decode(orjson.dumps(event), type=Event), event_id, 0, context)
    return avro.EXPOSURE.decode(avro.unframe(mapped.value)[1])


def said(told: dict[str, Any]) -> tuple[str, str]:
    return told["assignment"], told["expected_group"]


def button(rule: str, **more: Any) -> dict[str, Any]:
    return {"config": "button_color_exp", "ruleID": rule, **more}


def test_a_unit_is_in_one_group_and_in_no_other():
    for number in range(50):
        outcomes = {rule: said(row(button(rule), f"u{number}")) for rule in (*GROUPS, "rule_exp_holdout")}
        matching = [rule for rule, outcome in outcomes.items() if outcome[0] == "match"]
        assert len(matching) == 1
        group = {**GROUPS, "rule_exp_holdout": "Holdout"}[matching[0]]
        assert {outcome for rule, outcome in outcomes.items() if rule != matching[0]} == {("mismatch", group)}


def test_a_gate_that_says_pass_where_the_percentage_fails_is_a_mismatch():
    for number in range(20):
        asked = {"gate": "gate_half", "ruleID": "rule_half"}
        passed, failed = (said(row({**asked, "gateValue": value}, f"u{number}", "gate")) for value in ("true", "false"))
        assert {passed, failed} in ({("match", ""), ("mismatch", "false")}, {("match", ""), ("mismatch", "true")})


@pytest.mark.parametrize(
    ("metadata", "kind", "assignment"),
    [
        (button("grp_green", lcut=None), "config", "skipped:not_stamped"),
        (button("grp_green", lcut=T + 1), "config", "skipped:not_stamped"),
        (button("renamed"), "config", "skipped:no_version"),
        ({"config": "nobody", "ruleID": "a"}, "config", "skipped:no_version"),
        (button(""), "config", "skipped:no_version"),
        (button("grp_green:override"), "config", "skipped:override"),
        (button("grp_green", reason="LocalOverride:Recognized"), "config", "skipped:override"),
        (button("grp_green", reason="Persisted"), "config", "skipped:persisted"),
        (button("grp_green", reason="Bootstrap:Recognized"), "config", "skipped:bootstrap"),
        (button("grp_green", reason="Cache:Recognized"), "config", "skipped:cache"),
        (button("prestart"), "config", "skipped:not_auditable"),
        ({"config": "banner_config", "ruleID": "rule_canada"}, "config", "skipped:condition"),
        ({"gate": "gate_private_plan", "ruleID": "rule_gold", "gateValue": "true"}, "gate", "skipped:condition"),
        ({"gate": "gate_disabled", "ruleID": "disabled", "gateValue": "false"}, "gate", "match"),
        ({"gate": "gate_public", "ruleID": "rule_everyone", "gateValue": "true"}, "gate", "match"),
        ({"gate": "gate_public", "ruleID": "default", "gateValue": "false"}, "gate", "mismatch"),
        ({"gate": "gate_disabled", "ruleID": "default", "gateValue": "false"}, "gate", "mismatch"),
    ],
)
def test_what_cannot_be_checked_says_why(metadata: dict[str, Any], kind: str, assignment: str):
    assert row(metadata, kind=kind)["assignment"] == assignment


def test_a_config_that_leads_to_itself_costs_no_exposure():
    document = json.loads(json.dumps(V1))
    half, nested = (next(g for g in document["feature_gates"] if g["name"] == n) for n in ("gate_half", "gate_nested"))
    half["rules"][0]["conditions"] = [{**nested["rules"][0]["conditions"][0], "targetValue": "gate_nested"}]
    nested["rules"][0]["conditions"][0]["targetValue"] = "gate_half"
    asked = {"gate": "gate_half", "ruleID": "rule_half", "gateValue": "true"}
    assert row(asked, kind="gate", history=history_of(document))["assignment"] == "skipped:not_auditable"


def test_gates_that_lead_to_each_other_ever_more_often_cost_no_time():
    document = json.loads(json.dumps(V1))
    nested = next(g for g in document["feature_gates"] if g["name"] == "gate_nested")
    chain = [{**nested, "name": f"g{step}", "rules": [{**nested["rules"][0], "id": "r"}]} for step in range(12)]
    for step, gate in enumerate(chain):
        gate["rules"][0]["conditions"] = [{**nested["rules"][0]["conditions"][0], "targetValue": f"g{step + 1}"}] * 10
    document["feature_gates"] += chain
    asked = {"gate": "g0", "ruleID": "r", "gateValue": "true"}
    assert row(asked, kind="gate", history=history_of(document))["assignment"] == "skipped:not_auditable"


@pytest.mark.parametrize(("default", "returned"), [(False, False), (True, True), (True, False)])
def test_a_gate_whose_value_is_not_that_of_its_percentage_is_checked_for_its_rule_only(default: bool, returned: bool):
    """Core SDKs log such a gate's value, legacy SDKs whether its percentage passed."""
    document = json.loads(json.dumps(V1))
    gate = next(g for g in document["feature_gates"] if g["name"] == "gate_half")
    gate["defaultValue"], gate["rules"][0]["returnValue"] = default, returned
    for value in ("true", "false"):
        asked = {"gate": "gate_half", "ruleID": "rule_half", "gateValue": value}
        assert said(row(asked, kind="gate", history=history_of(document))) == ("match", "")
    assert row({"gate": "gate_half", "ruleID": "default"}, kind="gate", history=history_of(document))["assignment"] == (
        "mismatch"
    )


def test_a_unit_that_a_layer_did_not_allocate_for_what_no_exposure_tells_is_where_it_should_be():
    document = json.loads(json.dumps(V1))
    layer = document["layer_configs"][0]
    rule = next(rule for rule in layer["rules"] if rule.get("configDelegate"))
    (experiment,) = (e for e in document["dynamic_configs"] if e["name"] == rule["configDelegate"])
    country = {"type": "user_field", "field": "country", "operator": "any", "targetValue": ["CA"], "idType": "userID"}
    rule["conditions"] = [{**rule["conditions"][0], **country}]
    layer["rules"] = [rule]
    history = history_of(document)
    for number in range(20):
        asked = {"config": layer["name"], "parameterName": "p", "allocatedExperiment": ""}
        assert said(row({**asked, "ruleID": "default"}, f"u{number}", "layer", history=history)) == ("match", "")
        groups = [
            said(row({**asked, "ruleID": each["id"]}, f"u{number}", "layer", history=history))
            for each in experiment["rules"]
        ]
        assert sorted(groups) == [("match", "")] + [("mismatch", "")] * (len(groups) - 1)


@pytest.mark.parametrize(
    "conditions",
    [
        [{"type": "user_bucket"}],
        [
            {
                "type": "user_bucket",
                "operator": "any",
                "targetValue": ["x"],
                "additionalValues": {"salt": "s"},
                "idType": "userID",
            }
        ],
        [{"type": "user_bucket", "operator": "lt", "targetValue": None, "additionalValues": None, "idType": "userID"}],
        [{"type": "user_bucket", "operator": "lt", "targetValue": 5, "additionalValues": [1], "idType": "userID"}],
        [{"type": "user_bucket", "operator": "lt", "targetValue": 5, "additionalValues": "salt", "idType": "userID"}],
        [{"type": "pass_gate", "targetValue": {}}],
        [{"type": "no_such_condition"}],
    ],
)
def test_a_condition_of_any_shape_costs_no_exposure(conditions: list[Any]):
    document = json.loads(json.dumps(V1))
    document["dynamic_configs"][1]["rules"][1]["conditions"] = conditions
    told = row(button("grp_control"), history=history_of(document))
    assert told["config_match"] == "exact"
    assert told["assignment"].startswith(("skipped:", "match", "mismatch"))


def test_a_user_id_that_no_sdk_can_have_hashed_costs_no_exposure():
    history = history_of()
    decider = Decider(history)
    shown = ExposureMetadata(config="button_color_exp", ruleID="grp_green", lcut=str(T))
    decision = decider.decision("p", "config", shown, 0, T)
    assert b"skipped:not_auditable" in decider.columns(decision, Ids("\ud800", "", {}), bytes(16))


def test_the_share_that_is_checked_is_the_one_that_is_set_and_the_same_again():
    half = Enriching(audit_rate=0.5)
    rows = [row(button("grp_green"), enriching=half, event_id=bytes([number]) * 16) for number in range(256)]
    checked = [bool(each["assignment"]) for each in rows]
    assert checked == [number < 128 for number in range(256)]
    assert {each["config_match"] for each in rows} == {"exact"}


@pytest.mark.parametrize("rate", [0.0, 1.0])
def test_none_or_all_can_be_checked(rate: float):
    for event_id in (bytes(16), b"\xff" * 16):
        told = row(button("grp_green"), enriching=Enriching(audit_rate=rate), event_id=event_id)
        assert bool(told["assignment"]) is bool(rate)


def test_each_enrichment_can_be_left_out_and_groups_are_named_all_the_same():
    no_audit = row(button("grp_green"), enriching=Enriching(off=frozenset({Enrichment.ASSIGNMENT_AUDIT})))
    assert (no_audit["config_match"], no_audit["assignment"], no_audit["group_name"]) == ("exact", "", "Green")
    neither = row(button("grp_green"), enriching=Enriching(off=frozenset({Enrichment.CONFIG_MATCH})))
    assert (neither["config_match"], neither["config_version"], neither["config_time"]) == ("", "", None)
    assert (neither["assignment"], neither["group_name"], neither["kind"]) == ("", "Green", "experiment")


def test_what_comes_out_is_counted_and_handed_over_once():
    mapper = EventMapper(history_of())
    context = RequestContext(RequestPart("p", "production", "k", "r", T + 10), 1, 0, 1)
    metadata = {"lcut": str(T), "gate": "gate_public", "ruleID": "rule_everyone", "gateValue": "true"}
    event = {"eventName": "statsig::gate_exposure", "time": T, "metadata": metadata}
    for _ in range(3):
        mapper.map(msgspec.json.decode(orjson.dumps(event), type=Event), bytes(16), 0, context)
    told: list[tuple[str, str, int]] = []
    for _ in range(2):
        mapper.decider.report(lambda *what: told.append(what))
    assert told == [("config_match", "exact", 3), ("assignment_audit", "match", 3)]


def test_a_newer_registry_changes_the_answer_at_once():
    history = history_of()
    mapper = EventMapper(history)
    context = RequestContext(RequestPart("p", "production", "k", "r", T + 10), 1, 0, 1)
    event = {
        "eventName": "statsig::gate_exposure",
        "time": T + 5,
        "metadata": {"gate": "new", "ruleID": "r", "lcut": T + 1},
    }

    def match_of_new() -> str:
        mapped = mapper.map(msgspec.json.decode(orjson.dumps(event), type=Event), bytes(16), 0, context)
        return str(avro.EXPOSURE.decode(avro.unframe(mapped.value)[1])["config_match"])

    assert match_of_new() == "unknown_config"
    rule = {**V1["feature_gates"][0]["rules"][0], "id": "r"}
    gate = {**V1["feature_gates"][0], "name": "new", "rules": [rule]}
    later = specs.parse(orjson.dumps(V1 | {"time": T + 1, "feature_gates": [gate]}))
    for record in records_of_push(history.project("p"), "p", later, T + 1):
        history.put(record)
    assert match_of_new() == "exact"


IMMUTABLE = (
    "event_id_bytes", "origin_log", "origin_partition", "origin_offset", "origin_index", "origin_part", "project",
    "environment", "key_id", "request_id", "received_at", "sdk_type", "sdk_version", "session_id", "tier", "event_time",
    "event_time_ms", "corrected_time", "time_flag", "lateness_ms", "user_id", "stable_id", "custom_ids", "country",
    "app_version", "is_bot", "weight", "metadata", "user", "parent_event_id_bytes", "value", "rule_id", "parameter",
    "wire_name", "stamped_version", "stamped_time", "reason", "is_manual",
)  # fmt: skip


@pytest.mark.parametrize(
    "metadata",
    [button("grp_green", configVersion="12"), button("renamed"), {"config": "1294080300", "ruleID": "cp_test"}],
)
def test_what_became_known_between_two_sendings_changes_no_column_that_is_not_about_it(metadata: dict[str, Any]):
    """A worker that is killed sends again, maybe after a push; rows of one origin must not contradict each other."""
    before, after = (row(metadata, history=known) for known in (ConfigHistory(), history_of()))
    assert {name: before[name] for name in IMMUTABLE} == {name: after[name] for name in IMMUTABLE}
    assert before["config_match"] == "unknown_config"
    assert set(before) - set(IMMUTABLE) == {
        "unit_type", "unit_id", "canonical_id", "kind", "name", "group_name", "allocated_experiment", "config_version",
        "config_time", "config_match", "assignment", "expected_group",
    }  # fmt: skip


def test_decisions_of_any_number_of_times_take_bounded_memory(monkeypatch: pytest.MonkeyPatch):
    """Late events of each version in turn are as many decisions as there are versions."""
    monkeypatch.setattr(decide, "DECISIONS_KEPT", 10)
    history = history_of()
    for later in range(1, 30):
        changed = V1 | {"time": T + later * 1000, "company_id": str(later), "feature_gates": [], "layer_configs": []}
        changed["dynamic_configs"] = [{**V1["dynamic_configs"][1], "version": later}]
        for record in records_of_push(history.project("p"), "p", specs.parse(orjson.dumps(changed)), T):
            history.put(record)
    decider = Decider(history)
    shown = ExposureMetadata(config="button_color_exp", ruleID="grp_green")
    for moment in range(T, T + 30_000, 500):
        assert decider.decision("p", "config", shown, 0, moment).match == "by_time"
        assert decider.kept <= 10
