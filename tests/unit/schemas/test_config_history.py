"""The history of configs: whatever is pushed, in whatever order, each time is answered as its document says."""

import json
import random
from pathlib import Path
from typing import Any

import pytest

from schemas import config_versions, specs
from schemas.config_history import ConfigHistory, in_force, records_of_push, spec_of
from schemas.specs import Specs

V1: dict[str, Any] = json.loads(Path(__file__).parents[2].joinpath("data", "specs.json").read_bytes())
SECTIONS = ("feature_gates", "dynamic_configs", "layer_configs")
PUSHED_MS = 1_800_000_000_000


def parse(document: dict[str, Any]) -> Specs:
    return specs.parse(json.dumps(document).encode())


def push(history: ConfigHistory, document: Specs, project: str = "p") -> None:
    for record in records_of_push(history.project(project), project, document, PUSHED_MS):
        history.take(config_versions.key_of(record), config_versions.encode(record))


def contents(document: Specs) -> dict[tuple[str, str], Any]:
    return {(section, name): spec for section, name, _, _, spec in document.entities_as_v1()}


def state(history: ConfigHistory, time: int) -> dict[tuple[str, str], Any]:
    configs = history.project("p")
    return {} if configs is None else {at: spec_of(record) for at, record in configs.state_at(time).items()}


def random_document(rng: random.Random, time: int) -> Specs:
    """A document whose entities come, go, and change, sometimes back to what they were."""
    document = {key: value for key, value in V1.items() if key not in SECTIONS} | {"time": time}
    for section in SECTIONS:
        kept = [spec for spec in V1[section] if rng.random() < 0.8]
        document[section] = [
            {**spec, "salt": f"s{rng.randrange(3)}", "version": rng.choice([1, "1", 2.0])} for spec in kept
        ]
    return parse(document)


@pytest.mark.parametrize("seed", range(20))
def test_each_time_is_answered_as_the_document_of_that_time_whatever_the_order_of_pushes(seed: int):
    rng = random.Random(seed)
    documents = [random_document(rng, 1000 * (place + 1)) for place in range(6)]
    rng.shuffle(documents)
    history = ConfigHistory()
    for document in documents:
        push(history, document)
        push(history, document)  # again changes nothing
    for document in documents:
        assert state(history, document.time) == contents(document)
        assert state(history, document.time + 999) == contents(document)
    assert state(history, 999) == {}


def test_only_what_changed_is_written_again():
    history = ConfigHistory()
    push(history, parse(V1))
    later = json.loads(json.dumps(V1))
    later["time"] += 1
    later["feature_gates"][1]["salt"] = "other"
    records = records_of_push(history.project("p"), "p", parse(later), PUSHED_MS)
    assert [(record.kind, record.name) for record in records] == [("gate", "gate_half"), ("document", "")]


def test_both_formats_of_a_document_are_one_history():
    history = ConfigHistory()
    push(history, parse(V1))
    v2 = json.loads(parse(V1).as_format("dcs-v2")) | {"time": V1["time"] + 1}
    assert [record.kind for record in records_of_push(history.project("p"), "p", parse(v2), 1)] == ["document"]


def test_an_entity_that_is_gone_is_known_to_be_gone_since_then():
    history = ConfigHistory()
    push(history, parse(V1))
    push(history, parse(V1 | {"time": V1["time"] + 5, "feature_gates": V1["feature_gates"][1:]}))
    configs = history.project("p")
    assert configs is not None
    name = V1["feature_gates"][0]["name"]
    was, then = (in_force(configs.timeline("gate", name), V1["time"] + at) for at in (4, 5))
    assert was is not None
    assert then is not None
    assert (bool(was.spec), bool(then.spec)) == (True, False)


def test_half_a_document_was_never_in_force():
    """A push that is cut off leaves records without the document's own; the next push finishes or undoes it."""
    history = ConfigHistory()
    *most, last = records_of_push(None, "p", parse(V1), PUSHED_MS)
    for record in most:
        history.put(record)
    assert history.project("p") is None
    assert len(history.unfinished("p", V1["time"])) == len(most)
    history.put(last)
    assert state(history, V1["time"]) == contents(parse(V1))


@pytest.mark.parametrize("is_first", [True, False])
def test_what_a_push_that_was_cut_off_left_behind_and_was_taken_back_never_comes_into_force(is_first: bool):
    history = ConfigHistory()
    if not is_first:
        push(history, parse(V1 | {"time": V1["time"] - 1}))
    cut_off = json.loads(json.dumps(V1))
    cut_off["feature_gates"][0]["name"] = "gone_again"
    for record in records_of_push(history.project("p"), "p", parse(cut_off), PUSHED_MS)[:-1]:
        history.take(config_versions.key_of(record), config_versions.encode(record))
    for left in history.unfinished("p", V1["time"]):
        history.take(config_versions.key_of(left), None)
    push(history, parse(V1))
    assert state(history, V1["time"]) == contents(parse(V1))


def test_projects_do_not_know_each_others_configs():
    history = ConfigHistory()
    push(history, parse(V1), "other")
    assert history.project("p") is None


def test_a_tombstone_forgets_what_its_key_names_and_no_more():
    history = ConfigHistory()
    push(history, parse(V1))
    push(history, parse(V1 | {"time": V1["time"] + 1, "layer_configs": []}))
    revision = history.revision
    for record in records_of_push(None, "p", parse(V1), PUSHED_MS):
        if record.name == "gate_public":
            history.take(config_versions.key_of(record), None)
    configs = history.project("p")
    assert configs is not None
    assert not configs.timeline("gate", "gate_public")
    assert all(configs.timeline(*at) for at in configs.entities())
    assert not configs.name_of_hash("gate", config_versions.djb2("gate_public"))
    assert configs.timeline("gate", "gate_half")
    assert len(configs.timeline("layer", "checkout_layer")) == 2
    history.take(config_versions.key_of(config_versions.document_record("p", parse(V1), 0)), None)
    assert V1["time"] not in configs.documents
    assert history.revision > revision


@pytest.mark.parametrize(
    ("key", "value"), [(b"", b""), (b"", b"{}"), (b"x", None), (b"{}", b"[1]"), (b"", b'{"kind":"king"}')]
)
def test_a_record_that_is_none_changes_nothing(key: bytes, value: bytes | None):
    history = ConfigHistory()
    push(history, parse(V1))
    revision = history.revision
    history.take(key, value)
    assert history.revision == revision


@pytest.mark.parametrize(
    ("name", "hashed"), [("gate_public", "165574749"), ("checkout_copy_exp", "1294080300"), ("", "0")]
)
def test_names_are_found_by_the_hash_that_js_client_sends(name: str, hashed: str):
    """Vectors as statsig-node and statsig-node-core made them."""
    assert config_versions.djb2(name) == hashed


def test_a_name_of_any_language_has_the_hash_that_javascript_gives():
    """`[..."grün 🎉"]` by charCodeAt, reckoned in Node."""
    assert config_versions.djb2("grün 🎉") == "425130160"
