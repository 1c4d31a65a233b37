"""From an event to its record: extreme values cost no event, and no record is more than a broker takes."""

from typing import Any

import msgspec
import orjson
import pytest

from processors.map_event import EventMapper, Mapped, Rejected, RequestContext
from schemas import avro, specs
from schemas.chunk import RequestPart
from schemas.config_history import ConfigHistory, records_of_push
from schemas.config_versions import djb2
from schemas.limits import EVENT_BYTES, RECORD_BYTES
from schemas.reasons import Reason
from schemas.wire import Event

RECEIVED_MS = 1_763_740_001_000


def map_one(event: dict[str, Any] | bytes, mapper: EventMapper | None = None) -> Mapped:
    part = RequestPart("p", "e", "k", "r", RECEIVED_MS)
    decoded = msgspec.json.decode(event if isinstance(event, bytes) else orjson.dumps(event), type=Event)
    return (mapper or EventMapper(ConfigHistory())).map(decoded, bytes(16), 0, RequestContext(part, 1, 2, 3))


def gate_of(**metadata: Any) -> dict[str, Any]:
    return {"eventName": "statsig::gate_exposure", "time": RECEIVED_MS, "metadata": {"gate": "g"} | metadata}


def exposure_row(mapped: Mapped) -> dict[str, Any]:
    return avro.EXPOSURE.decode(avro.unframe(mapped.value)[1])


@pytest.mark.parametrize(
    ("lcut", "stamped_ms"),
    [
        (1_763_730_000_000, 1_763_730_000_000),
        ("1763730000000.5", 1_763_730_000_000),
        (10_413_791_999_999, 10_413_791_999_999),
        (10_413_792_000_000, None),
        (2**63 - 1, None),
        ("9223372036854775808", None),
        (1e300, None),
        ("-1e25", None),
        ("nan", None),
        ("inf", None),
        ("soon", None),
        ("0", None),
        (-1, None),
    ],
)
def test_a_config_time_that_no_clock_shows_costs_the_time_and_not_the_exposure(lcut: object, stamped_ms: int | None):
    assert exposure_row(map_one(gate_of(lcut=lcut)))["stamped_time"] == stamped_ms


def long_id_of(pad: int) -> dict[str, Any]:
    """An event below the limit, whose record has the bytes of its device's id five times."""
    user = {"customIDs": {"stableID": "d" * 204_000}}
    return {"eventName": "purchase", "time": RECEIVED_MS, "user": user, "metadata": {"pad": "x" * pad}}


def size_of(mapped: Mapped) -> int:
    return len(mapped.key) + len(mapped.value)


@pytest.mark.parametrize(("over", "accepted"), [(-1, True), (0, True), (1, False)])
def test_a_record_that_a_broker_does_not_take_is_a_dead_letter(over: int, accepted: bool):
    """One that is sent is refused, and the worker comes back to it for ever."""
    event = long_id_of(100 + RECORD_BYTES + over - size_of(map_one(long_id_of(100))))
    assert len(orjson.dumps(event)) <= EVENT_BYTES
    if accepted:
        assert size_of(map_one(event)) == RECORD_BYTES + over
        return
    with pytest.raises(Rejected) as rejected:
        map_one(event)
    assert rejected.value.reason is Reason.EVENT_TOO_LARGE


@pytest.mark.parametrize("field", ["value", "metadata"])
def test_the_largest_event_fits_unless_its_ids_make_it_large(field: str):
    text = "x" * (EVENT_BYTES - 100)
    event = {"eventName": "purchase", "time": RECEIVED_MS, field: text if field == "value" else {"a": text}}
    assert size_of(map_one(event)) <= RECORD_BYTES


def test_large_decisions_are_not_kept_in_memory():
    """Senders decide what stands in metadata; fifty thousand times 250 KiB would be all memory there is."""
    mapper = EventMapper(ConfigHistory())
    small, large = gate_of(ruleID="r"), gate_of(ruleID="r", lcut="x" * 10_000)
    assert exposure_row(map_one(large, mapper))["rule_id"] == "r"
    assert mapper.decider.kept == 0
    assert map_one(small, mapper).value == map_one(small, mapper).value
    assert mapper.decider.kept == 1


def experiment(name: str, rule: str, version: int) -> dict[str, Any]:
    told = {"name": rule, "id": rule, "salt": rule, "passPercentage": 100, "returnValue": {}, "idType": "userID"}
    spec = {
        "name": name,
        "type": "dynamic_config",
        "salt": name,
        "enabled": True,
        "defaultValue": {},
        "version": version,
    }
    rules = [told | {"groupName": f"Group of {rule}", "conditions": []}]
    return spec | {"idType": "userID", "entity": "experiment", "rules": rules}


def push(history: ConfigHistory, time: int, *configs: dict[str, Any]) -> None:
    document = {"time": time, "feature_gates": [], "dynamic_configs": [*configs], "layer_configs": []}
    for record in records_of_push(history.project("p"), "p", specs.parse(orjson.dumps(document)), time):
        history.put(record)


def config_of(**metadata: Any) -> dict[str, Any]:
    told = {"rulePassed": "true", "lcut": RECEIVED_MS - 10} | metadata
    return {"eventName": "statsig::config_exposure", "time": RECEIVED_MS, "user": {"userID": "u"}, "metadata": told}


def test_specs_that_arrive_after_an_exposure_cost_none_and_are_known_to_the_next():
    history = ConfigHistory()
    mapper, event = EventMapper(history), config_of(config="exp", ruleID="a", configVersion="1")
    before = exposure_row(map_one(event, mapper))
    push(history, RECEIVED_MS - 10, experiment("exp", "a", 1))
    after = exposure_row(map_one(event, mapper))
    told = ("name", "config_match", "config_version", "group_name")
    assert [before[column] for column in told] == ["exp", "unknown_config", "", ""]
    assert [after[column] for column in told] == ["exp", "exact", "1", "Group of a"]


def test_an_exposure_that_was_decided_under_another_config_is_that_ones():
    history = ConfigHistory()
    push(history, RECEIVED_MS - 10, experiment("asked", "a", 1), experiment("instead", "b", 7))
    mapper = EventMapper(history)
    for name in ("instead", djb2("instead")):
        row = exposure_row(map_one(config_of(config="asked", ruleID="b", overrideConfigName=name), mapper))
        assert (row["name"], row["wire_name"]) == ("instead", "asked")
        assert (row["config_match"], row["config_version"], row["group_name"]) == ("exact", "7", "Group of b")
        assert row["assignment"] == "match"
    for nothing in ("", None):
        row = exposure_row(map_one(config_of(config="asked", ruleID="a", overrideConfigName=nothing), mapper))
        assert (row["name"], row["config_match"]) == ("asked", "exact")
