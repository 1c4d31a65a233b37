"""The plan of the demo: who visits, what they do, and how each event is recognised."""

from collections.abc import Iterator

import msgspec

from ops.demo.plan import EXPERIMENT, OWN_ID, READS, SPECS_FILE, Item, Run, actions, visitor
from ops.demo.summary import groups
from schemas import specs

RUN = Run("abcd1234", seed=7)


def everything_logged(run: Run, visitors: int, group: str = "Green") -> Iterator[Item]:
    for number in range(visitors):
        who = visitor(run, number)
        yield from (who.exposure(read) for read in READS)
        yield from (action.item for action in actions(run, number, group))


def test_the_same_run_and_seed_give_the_same_visits():
    assert [visitor(RUN, n) for n in range(50)] == [visitor(RUN, n) for n in range(50)]
    assert actions(RUN, 3, "Red") == actions(RUN, 3, "Red")


def test_another_seed_gives_other_visitors():
    other = Run(RUN.name, seed=8)
    assert [visitor(RUN, n) for n in range(50)] != [visitor(other, n) for n in range(50)]


def test_no_two_events_of_a_run_are_recognised_by_the_same_name():
    items = list(everything_logged(RUN, 500))
    assert len(set(items)) == len(items)


def test_two_runs_share_no_event():
    assert not set(everything_logged(RUN, 50)) & set(everything_logged(Run("ffff0000", 7), 50))


def test_user_ids_sort_as_their_numbers_do():
    ids = [RUN.user_id(number) for number in (0, 1, 9, 10, 99, 100, 12_345, 999_999)]
    assert ids == sorted(ids)


def test_every_visitor_does_something_and_says_its_own_id_in_the_metadata():
    for number in range(100):
        done = actions(RUN, number, "Control")
        assert done
        assert all(action.metadata[OWN_ID] == action.own_id for action in done)


def test_every_entity_that_is_read_stands_in_the_specs():
    known = {entity.name: entity for entity in specs.parse(SPECS_FILE.read_bytes()).entities()}
    for read in READS:
        entity = known[read.name]
        assert entity.kind == {"config": "dynamic_config"}.get(read.kind, read.kind)
        assert (entity.id_type == "stableID") == read.by_device


def test_the_experiment_has_three_arms_with_names():
    assert sorted(groups().values()) == ["Control", "Green", "Red"]


def test_the_specs_name_every_field_that_some_sdk_cannot_do_without():
    """The table in `wire.md` §8: a missing field costs the entity, or the document, without a word."""
    document = msgspec.json.decode(SPECS_FILE.read_bytes())
    assert {"feature_gates", "dynamic_configs", "layer_configs", "time", "has_updates", "experiment_to_layer"} <= set(
        document
    )
    of_spec = {"name", "type", "entity", "salt", "enabled", "defaultValue", "idType", "rules", "version"}
    of_rule = {"id", "name", "salt", "passPercentage", "returnValue", "conditions", "idType", "groupName"}
    of_condition = {"type", "targetValue", "operator", "additionalValues", "idType", "field"}
    for section in ("feature_gates", "dynamic_configs", "layer_configs"):
        for spec in document[section]:
            assert of_spec <= set(spec), spec["name"]
            for rule in spec["rules"]:
                assert of_rule <= set(rule), rule["id"]
                for condition in rule["conditions"]:
                    assert of_condition <= set(condition)
    layered = next(spec for spec in document["dynamic_configs"] if spec["name"] == "checkout_copy")
    assert len(layered["explicitParameters"]) == 2
    assert EXPERIMENT in {spec["name"] for spec in document["dynamic_configs"]}
