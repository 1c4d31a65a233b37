"""Which version decided: the rules of docs/config.md, one by one."""

import json
from collections.abc import Callable
from typing import Any

import msgspec
import orjson
import pytest

from processors.enrich.match_config import EVER_MS, ConfigMatch, Matched, Stamp, match
from schemas import specs
from schemas.config_history import ConfigHistory, ProjectConfigs, records_of_push
from schemas.config_versions import djb2

GRACE_MS = 60_000
T1, T2, T3 = (1_790_000_000_000 + step for step in (0, 1_000_000, 2_000_000))
EXACT, BY_TIME, STALE, UNKNOWN_CONFIG, UNKNOWN_RULE = ConfigMatch


def spec(name: str, version: object, rules: dict[str, str], entity: str = "experiment", **more: Any) -> dict[str, Any]:
    made = [
        {"name": rule, "id": rule, "salt": rule, "passPercentage": 100, "returnValue": {}, "idType": "userID"}
        | {"groupName": group, "conditions": []}
        for rule, group in rules.items()
    ]
    kind = "feature_gate" if entity == "feature_gate" else "dynamic_config"
    basic = {"name": name, "type": kind, "salt": name, "enabled": True, "defaultValue": {}, "idType": "userID"}
    return {**basic, "entity": entity, "version": version, "rules": made, **more}


def layer(version: object, *delegates: str) -> dict[str, Any]:
    made = spec("lay", version, {f"to_{name}": "" for name in delegates}, "layer")
    for rule, name in zip(made["rules"], delegates, strict=True):
        rule["configDelegate"] = name
    return made


def document(time: int, *configs: dict[str, Any], layers: tuple[dict[str, Any], ...] = ()) -> specs.Specs:
    sections = {"feature_gates": [], "dynamic_configs": list(configs), "layer_configs": list(layers)}
    return specs.parse(orjson.dumps({"time": time, **sections}))


def history_of(*documents: specs.Specs, pushed: Callable[[int], int] = lambda time: time) -> ProjectConfigs:
    history = ConfigHistory()
    for each in documents:
        for record in records_of_push(history.project("p"), "p", each, pushed(each.time)):
            history.put(record)
    configs = history.project("p")
    assert configs is not None
    return configs


CONFIGS = history_of(
    document(T1, spec("exp", 1, {"a": "A", "b": "B"}), spec("in", 5, {"x": "X"}), layers=(layer(9, "in"),)),
    document(T2, spec("exp", "2", {"a": "A2", "c": "C"}), spec("in", 6, {"x": "X6"}), layers=(layer(9, "in"),)),
    document(T3, spec("in", 6, {"x": "X6"}), layers=(layer(10, "in"),)),
)


def of(
    rule: str, moment: int, version: str = "", time: int | None = None, name: str = "exp", section: Any = "config",
    allocated: str = "", configs: ProjectConfigs | None = CONFIGS,
) -> Matched:  # fmt: skip
    return match(configs, Stamp(section, name, rule, allocated, version, time), moment, GRACE_MS)


def said(matched: Matched) -> tuple[str, str, str]:
    return matched.match, matched.version.version if matched.version else "", matched.group_name


@pytest.mark.parametrize(("version", "time"), [("1", T1), ("", T1), ("1", None), ("1", T1 + 7), ("1", T2 - 1)])
def test_an_exposure_that_says_who_decided_is_believed(version: str, time: int | None):
    assert said(of("b", T1 + 5, version, time)) == (EXACT, "1", "B")


def test_versions_are_equal_as_numbers_and_as_texts():
    """The document of T2 says "2", that of T1 says 1; SDKs turn either into a text, and some into a number."""
    assert said(of("c", T2 + 5, "2", T2)) == (EXACT, "2", "C")


def test_an_sdk_is_stale_only_when_the_newer_version_was_there_for_long_enough():
    assert said(of("b", T2 + GRACE_MS - 1, "1", T1))[0] is EXACT
    assert said(of("b", T2 + GRACE_MS, "1", T1)) == (STALE, "1", "B")


def test_a_version_that_nobody_could_have_had_yet_makes_nobody_stale():
    """What is pushed late, as history, was not there before."""
    late = history_of(
        document(T1, spec("exp", 1, {"a": "A"})),
        document(T2, spec("exp", 2, {"a": "A"})),
        pushed=lambda time: T3 if time == T2 else time,
    )
    assert said(of("a", T2 + 2 * GRACE_MS, "1", T1, configs=late))[0] is EXACT
    assert said(of("a", T3 + GRACE_MS, "1", T1, configs=late))[0] is STALE


def test_a_newer_document_that_left_the_config_as_it_was_makes_nobody_stale():
    assert said(of("x", T3 + 2 * GRACE_MS, "6", T2, name="in")) == (EXACT, "6", "X6")


def test_late_events_are_matched_with_the_version_of_their_own_time():
    for moment, expected in ((T1 + 5, "1"), (T2 + 5, "2")):
        assert said(of("a", moment))[:2] == (BY_TIME, expected)


def test_an_event_before_everything_that_is_known_is_matched_with_the_first():
    assert said(of("a", T1 - 1_000_000)) == (BY_TIME, "1", "A")


def test_a_rule_of_an_earlier_version_tells_that_it_decided():
    assert said(of("b", T2 + GRACE_MS - 1)) == (BY_TIME, "1", "B")
    assert said(of("b", T2 + GRACE_MS)) == (STALE, "1", "B")


def test_a_rule_of_a_later_version_tells_that_clocks_differ():
    assert said(of("c", T2 - 5)) == (BY_TIME, "2", "C")


def test_a_rule_that_was_never_there_is_unknown_and_the_version_is_told():
    assert said(of("renamed", T2 + 5)) == (UNKNOWN_RULE, "2", "")
    assert said(of("b", T2 + 5, "2", T2)) == (UNKNOWN_RULE, "2", "")


@pytest.mark.parametrize(
    "rule", ["default", "disabled", "prestart", "layerAssignment", "targetingGate", "other:override"]
)
def test_rule_ids_that_stand_in_no_specs_are_known(rule: str):
    assert said(of(rule, T1 + 5, "1", T1)) == (EXACT, "1", "")


@pytest.mark.parametrize("rule", ["b:override", "b:id_override"])
def test_whoever_was_put_there_by_hand_is_in_the_group_of_the_rule(rule: str):
    assert said(of(rule, T1 + 5, "1", T1)) == (EXACT, "1", "B")


@pytest.mark.parametrize("name", ["nobody", "165574749", ""])
def test_a_config_that_was_never_pushed_is_unknown_and_keeps_its_name(name: str):
    matched = of("a", T1, "1", T1, name=name)
    assert (said(matched), matched.name, matched.kind) == ((UNKNOWN_CONFIG, "", ""), name, "experiment")


def test_a_project_without_configs_knows_none():
    assert said(of("a", T1, configs=None)) == (UNKNOWN_CONFIG, "", "")


def test_an_experiment_that_was_deleted_is_stale_where_it_still_decides():
    assert said(of("a", T3 + GRACE_MS - 1, "2", T2)) == (EXACT, "2", "A2")
    assert said(of("a", T3 + GRACE_MS, "2", T2)) == (STALE, "2", "A2")
    assert said(of("a", T3 + GRACE_MS)) == (STALE, "2", "A2")
    assert said(of("never", T3 + GRACE_MS)) == (UNKNOWN_CONFIG, "", "")
    matched = of("", T3 + GRACE_MS, "", T3)
    assert (said(matched), matched.id_type) == ((UNKNOWN_CONFIG, "", ""), "userID")


def test_an_sdk_that_does_not_know_a_config_is_stale_when_it_should():
    new = history_of(document(T1), document(T2, spec("exp", 1, {"a": "A"})))
    assert said(of("", T2 + GRACE_MS - 1, "", T1, configs=new))[0] is UNKNOWN_CONFIG
    assert said(of("", T2 + GRACE_MS, "", T1, configs=new))[0] is STALE


def test_a_version_that_stands_twice_is_the_one_of_the_time():
    """A salt that was mended without a new version, and taken back."""
    again = history_of(
        document(T1, spec("exp", 1, {"a": "first"})),
        document(T2, spec("exp", 1, {"a": "second"})),
        document(T3, spec("exp", 1, {"a": "third"})),
    )
    assert [said(of("a", at + 5, "1", configs=again))[2] for at in (T1, T2, T3)] == ["first", "second", "third"]


def test_a_version_and_a_document_that_contradict_each_other_are_told_by_the_version():
    matched = of("b", T1 + 5, "1", T2)
    assert said(matched) == (EXACT, "1", "B")
    assert said(of("a", T2 + 5, "77", T2))[:2] == (BY_TIME, "2")


@pytest.mark.parametrize("version", ["9", "5"], ids=["of the layer, as core and js stamp it", "of the experiment"])
@pytest.mark.parametrize("time", [T1, None])
def test_a_layer_is_decided_by_its_experiment_whosever_version_is_stamped(version: str, time: int | None):
    matched = of("x", T1 + 5, version, time, name="lay", section="layer", allocated="in")
    assert said(matched) == (EXACT, "5", "X")
    assert (matched.kind, matched.name, matched.allocated) == ("layer", "lay", "in")


def test_a_parameter_that_is_not_explicit_has_the_rule_of_the_experiment_all_the_same():
    matched = of("x", T1 + 5, "9", T1, name="lay", section="layer")
    assert (said(matched), matched.allocated) == ((EXACT, "5", "X"), "")


def test_a_layer_whose_allocation_changed_makes_an_sdk_stale():
    assert said(of("x", T3 + GRACE_MS, "9", T2, name="lay", section="layer", allocated="in")) == (STALE, "6", "X6")


def test_names_are_found_by_their_hash():
    matched = of("x", T1 + 5, "", T1, name=djb2("lay"), section="layer", allocated=djb2("in"))
    assert (said(matched), matched.name, matched.allocated) == ((EXACT, "5", "X"), "lay", "in")


def test_an_answer_holds_for_just_the_times_for_which_it_is_the_same():
    for stamp in (("a", "", None), ("b", "1", T1), ("x", "", None)):
        for moment in (T1 - 7, T1, T2 + 5, T2 + GRACE_MS, T3 + 10 * GRACE_MS):
            rule, version, time = stamp
            name = "in" if rule == "x" else "exp"
            matched = of(rule, moment, version, time, name=name)
            assert matched.from_ms <= moment < matched.until_ms
            for other in (matched.from_ms, matched.until_ms - 1):
                if abs(other) < EVER_MS - 1:
                    assert of(rule, other, version, time, name=name) == matched


def test_a_group_whose_name_is_a_number_costs_no_exposure():
    configs = history_of(document(T1, spec("exp", 1, {"a": 5})))  # type: ignore[dict-item]
    assert said(of("a", T1, "1", T1, configs=configs)) == (EXACT, "1", "5")


@pytest.mark.parametrize(
    "written", ["nothing", "{}", '{"idType":1,"rules":[]}', '{"a":' + "[" * 9_000 + "]" * 9_000 + "}"]
)
def test_a_version_that_cannot_be_read_costs_no_exposure(written: str):
    history = ConfigHistory()
    first = document(T1, spec("exp", 1, {"a": "A"}))
    for record in records_of_push(None, "p", first, T1):
        history.put(msgspec.structs.replace(record, spec=written) if record.name == "exp" else record)
    for stamp in (("1", T1), ("", None)):
        assert said(of("a", T1, *stamp, configs=history.project("p"))) == (UNKNOWN_RULE, "1", "")


def test_specs_of_both_formats_are_matched_alike():
    first = document(T1, spec("exp", 1, {"a": "A"}))
    v2 = specs.parse(first.as_format("dcs-v2"))
    assert of("a", T1, configs=history_of(v2)) == of("a", T1, configs=history_of(first))
    assert json.loads(v2.as_format("dcs-v1"))["dynamic_configs"]
