"""Secondary exposures: each gate and holdout on the way is a row of its own, that names its parent."""

import json
from pathlib import Path
from typing import Any

import msgspec
import orjson
import pytest

from processors.claims import ClaimsIndex
from processors.enrich.catalog import Enriching, Enrichment
from processors.map_event import EventMapper
from processors.process_chunk import process
from processors.processed import Processed, SourceRecord
from schemas import avro, chunk, specs
from schemas.chunk import RequestPart
from schemas.config_history import ConfigHistory, records_of_push
from schemas.config_versions import djb2
from schemas.ids import secondary_id
from schemas.limits import SECONDARY_EXPOSURES
from schemas.origin import Origin

V1: dict[str, Any] = json.loads(Path(__file__).parents[2].joinpath("data", "specs.json").read_bytes())
T = V1["time"]


def history() -> ConfigHistory:
    known = ConfigHistory()
    for record in records_of_push(None, "p", specs.parse(orjson.dumps(V1)), T):
        known.put(record)
    return known


def run(*secondaries: Any, off: frozenset[Enrichment] = frozenset(), mapper: EventMapper | None = None) -> Processed:
    """Process a chunk of events, each with one of these lists."""
    events = [
        {
            "eventName": "statsig::config_exposure",
            "time": T + number,
            "user": {"userID": f"u{number}", "customIDs": {"stableID": "d"}, "country": "FR"},
            "metadata": {"config": "button_color_exp", "ruleID": "grp_green", "configVersion": "12", "lcut": str(T)},
            "statsigMetadata": {"samplingRate": 5},
            "secondaryExposures": listed,
        }
        for number, listed in enumerate(secondaries)
    ]
    part = RequestPart(
        "p", "production", "k", "r", T + 10, events=[msgspec.Raw(orjson.dumps(event)) for event in events]
    )
    record = SourceRecord(1, 2, 7, T, {}, chunk.encode(chunk.Chunk([part])))
    return process(record, ClaimsIndex(1000), mapper or EventMapper(history(), Enriching(off=off)), T)


def rows(done: Processed) -> list[dict[str, Any]]:
    return [avro.EXPOSURE.decode(avro.unframe(mapped.value)[1]) for mapped, _ in done.emitted]


def gate(name: str, value: Any = "true", rule: str = "rule_half") -> dict[str, Any]:
    return {"gate": name, "gateValue": value, "ruleID": rule}


def test_each_gate_is_a_row_behind_its_parent_and_names_it():
    done = run([gate("exp_holdout", "false", "rule_holdout"), gate("gate_half")], [gate("gate_half")])
    parent, holdout, half, other, other_half = rows(done)
    assert [Origin.unpack(origin) for _, origin in done.emitted] == [
        Origin(1, 2, 7, index, part) for index, part in ((0, 0), (0, 1), (0, 2), (1, 0), (1, 1))
    ]
    for row, of, part in ((holdout, parent, 1), (half, parent, 2), (other_half, other, 1)):
        assert row["parent_event_id_bytes"] == of["event_id_bytes"]
        assert row["event_id_bytes"] == secondary_id(of["event_id_bytes"], part)
        assert (row["origin_index"], row["origin_part"]) == (of["origin_index"], part)
        assert all(
            row[name] == of[name] for name in ("unit_id", "event_time", "country", "weight", "stamped_time", "user_id")
        )
    assert parent["parent_event_id_bytes"] == bytes(16)
    assert (holdout["kind"], holdout["name"], holdout["value"], holdout["group_name"]) == (
        "gate", "exp_holdout", "false", "Holdout",
    )  # fmt: skip
    assert (half["config_match"], half["config_version"], half["stamped_version"]) == ("exact", "7", "")
    assert half["assignment"] in ("match", "mismatch")
    assert json.loads(half["metadata"]) == gate("gate_half")
    assert (half["user"], "FR" in parent["user"]) == ("", True)


def test_nothing_of_them_is_counted_as_an_event():
    done = run([gate("gate_half"), gate("gate_public")], None, [])
    assert (done.events, len(done.claimed), len(done.emitted), done.parts) == (3, 3, 5, 2)
    assert done.events == len(done.emitted) - done.parts + done.duplicates + len(done.dead)


def test_a_gate_that_is_listed_twice_is_one_row():
    done = run([gate("gate_half"), gate("gate_public"), gate("gate_half"), gate("gate_half", True)])
    assert [row["name"] for row in rows(done)] == ["button_color_exp", "gate_half", "gate_public"]


def test_a_gate_that_a_browser_hashed_is_named():
    *_, row = rows(run([gate(djb2("gate_half"))]))
    assert (row["name"], row["wire_name"], row["config_match"]) == ("gate_half", djb2("gate_half"), "exact")


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_so_many_are_kept_and_those_beyond_are_counted(over: int):
    mapper = EventMapper(history())
    done = run([gate(f"g{number}") for number in range(SECONDARY_EXPOSURES + over)], mapper=mapper)
    assert done.parts == min(SECONDARY_EXPOSURES + over, SECONDARY_EXPOSURES)
    told: dict[tuple[str, str], int] = {}
    mapper.decider.report(lambda *what: told.__setitem__(what[:2], what[2]))
    assert told["secondary_exposures", "expanded"] == done.parts
    assert told.get(("secondary_exposures", "left_out"), 0) == max(over, 0)


@pytest.mark.parametrize(
    "listed",
    [None, [], {}, "gates", 7, {"gate": "g"}, [None, 7, [], "g"], [{"gate": None}, {"gateValue": "true"}], [[[[]]]]],
)
def test_a_list_of_any_shape_costs_no_exposure(listed: Any):
    done = run(listed)
    assert (len(done.emitted), done.parts, done.dead) == (1, 0, [])


def test_they_can_be_left_out():
    assert run([gate("gate_half")], off=frozenset({Enrichment.SECONDARY_EXPOSURES})).parts == 0


def test_a_chunk_that_is_read_again_gives_the_same_rows():
    def once() -> list[tuple[bytes, bytes]]:
        return [(mapped.value, origin) for mapped, origin in run([gate("gate_half"), gate("gate_public")]).emitted]

    assert once() == once()
