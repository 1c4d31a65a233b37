"""Names of arms and kinds come from the newest document of the project."""

from importlib.resources import files
from typing import Any

import orjson

from processors.entities import NewestSpecs
from schemas.specs import record_key

DEMO: dict[str, Any] = orjson.loads(files("ops.demo").joinpath("specs.json").read_bytes())


def pushed(newest: NewestSpecs, time: int, project: str = "default", **changes: object) -> None:
    newest.take(record_key(project, time), orjson.dumps(DEMO | {"time": time} | changes))


def test_an_arm_is_known_by_its_rule():
    newest = NewestSpecs()
    pushed(newest, 5)
    experiments = [spec for spec in DEMO["dynamic_configs"] if spec["entity"] == "experiment"]
    assert experiments
    for spec in experiments:
        entity = newest.find("default", "config", spec["name"])
        assert entity is not None
        assert (entity.kind, entity.id_type) == ("experiment", spec["idType"])
        groups = {rule["id"]: rule["groupName"] for rule in spec["rules"] if rule.get("groupName")}
        assert groups.items() <= dict(entity.rules).items()


def test_projects_do_not_know_each_others_configs():
    newest = NewestSpecs()
    pushed(newest, 5, project="other")
    assert newest.find("default", "gate", DEMO["feature_gates"][0]["name"]) is None


def test_an_older_document_that_arrives_later_changes_nothing():
    newest = NewestSpecs()
    name = DEMO["feature_gates"][0]["name"]
    pushed(newest, 5)
    revision = newest.revision
    pushed(newest, 4, feature_gates=[])
    assert newest.revision == revision
    assert newest.find("default", "gate", name) is not None
    pushed(newest, 6, feature_gates=[])
    assert newest.revision > revision
    assert newest.find("default", "gate", name) is None


def test_a_record_that_is_no_document_changes_nothing():
    newest = NewestSpecs()
    pushed(newest, 5)
    revision = newest.revision
    for key, value in ((b"", b"{}"), (record_key("default", 9), b"not json"), (record_key("default", 9), None)):
        newest.take(key, value)
    assert newest.revision == revision
