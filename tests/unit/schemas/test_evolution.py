"""Public schemas may grow: whoever reads with a version reads everything that was written with it or before.

Avro calls that BACKWARD_TRANSITIVE. The last version here is one that does not exist yet.
"""

import itertools
from importlib.resources import files
from typing import Any

import orjson
import pytest
from support.exposures import exposure
from support.landing import FakeRecord, custom_event_at, exposure_at

from console.live import decode as live
from processors.landing.batch import Batch, read
from processors.landing.tables import Landing
from schemas import avro, topics
from schemas.avro import RecordSchema, unframe
from schemas.origin import HEADER, Origin

ORIGIN = Origin(1, 2, 30, 4)

HEAD = ["event_id_bytes", "origin_index", "origin_part", "origin_log", "origin_partition", "origin_offset"]
"""What the lander reads without decoding stands first in every version there will be."""

RELEASED = {"exposure": [2119875849], "custom_event": [1546035045]}
"""Ids of the versions that were written to anybody's log, newest last."""

NEW_FIELDS = [
    {"name": "note", "type": ["null", "string"], "default": None, "block": "new"},
    {"name": "hops", "type": "int", "default": 7, "block": "new"},
]


def files_of(name: str) -> list[Any]:
    """Return every version that stands in the repository, oldest first."""
    folder = files("schemas").joinpath("avsc")
    numbered = [
        folder.joinpath(f"{name}.{number}.avsc")
        for number in itertools.takewhile(
            lambda number: folder.joinpath(f"{name}.{number}.avsc").is_file(), itertools.count(1)
        )
    ]
    return [orjson.loads(path.read_bytes()) for path in [*numbered, folder.joinpath(f"{name}.avsc")]]


def versions(name: str) -> list[Any]:
    """Return all versions, two that are still to come included: one more field each."""
    known = files_of(name)
    for field in NEW_FIELDS:
        known.append({**known[-1], "fields": [*known[-1]["fields"], field]})
    return known


def values_of(schema: RecordSchema) -> dict[str, Any]:
    every = exposure(event_name="purchase", value_number=1.5, value_string="", note="hello", hops=1)
    return {name: every[name] for name in schema.columns}


PAIRS = [
    (name, writer, reader)
    for name in RELEASED
    for writer, reader in itertools.product(range(len(versions(name))), repeat=2)
]


@pytest.mark.parametrize(("name", "writer", "reader"), PAIRS)
def test_every_reader_reads_what_it_or_anybody_before_it_wrote_and_knows_when_it_is_too_old(
    name: str, writer: int, reader: int
):
    every = versions(name)
    writes, reads = RecordSchema(every[writer]), RecordSchema(every[reader], every[:reader])
    values = values_of(writes)
    schema_id, body = unframe(writes.encode(values))
    if writer == reader:
        found = reads.decode(body)
    elif writer < reader:
        modern = reads.modern(schema_id, body)
        assert modern is not None
        found = reads.decode(unframe(modern)[1])
    else:
        assert reads.modern(schema_id, body) is None, "the lander asks the registry, and stops: it is too old"
        return
    defaults = {field["name"]: field.get("default") for field in every[reader]["fields"]}
    assert found == {column: values.get(column, defaults[column]) for column in reads.columns}


@pytest.mark.parametrize("name", RELEASED)
def test_a_version_that_was_released_is_never_changed_or_forgotten(name: str):
    """Changing `<name>.avsc`? Keep what it was as `<name>.1.avsc` (the next free number) and add its id here."""
    assert [avro.schema_id(schema) for schema in files_of(name)] == RELEASED[name]


@pytest.mark.parametrize("name", RELEASED)
def test_versions_only_add_fields_with_defaults_and_never_touch_what_the_lander_reads_unseen(name: str):
    every = versions(name)
    for earlier, later in itertools.pairwise(every):
        before = {field["name"]: field["type"] for field in earlier["fields"]}
        after = {field["name"]: field["type"] for field in later["fields"]}
        assert {column: after.get(column) for column in before} == before
        assert all("default" in field for field in later["fields"] if field["name"] not in before)
    assert all([field["name"] for field in schema["fields"]][: len(HEAD)] == HEAD for schema in every)


@pytest.mark.parametrize("broken", ["cut off", "followed"])
def test_a_damaged_record_of_an_earlier_version_is_a_dead_letter(broken: str):
    older, newer = versions("exposure")[-2:]
    value = RecordSchema(older).encode(values_of(RecordSchema(older)))
    value = value[:-1] if broken == "cut off" else value + b"x"
    batch = Batch()
    landing = Landing(topics.EXPOSURES, "exposures", RecordSchema(newer, [older]))
    read([FakeRecord(value, headers=((HEADER, ORIGIN.pack()),))], landing, into=batch)
    assert (batch.rows, batch.unknown, len(batch.rejected)) == ([], [], 1)


@pytest.mark.parametrize("topic", [topics.EXPOSURES, topics.CUSTOM_EVENTS])
def test_after_an_upgrade_the_lander_takes_old_and_new_records_side_by_side(topic: str):
    """What was written before stands in the log for days."""
    name, old_value = (
        ("exposure", exposure_at(ORIGIN)) if topic == topics.EXPOSURES else ("custom_event", custom_event_at(ORIGIN))
    )
    every = versions(name)
    landing = Landing(topic, topic, RecordSchema(every[-1], every[:-1]))
    new_value = landing.schema.encode(
        {**landing.schema.decode(unframe(landing.schema.modern(*unframe(old_value)) or b"")[1]), "note": "new"}
    )
    headers = ((HEADER, ORIGIN.pack()),)
    batch = Batch()
    records = [FakeRecord(value, headers, partition=ORIGIN.partition) for value in (old_value, new_value)]
    read(records, landing, into=batch)
    assert [row.origin for row in batch.rows] == [ORIGIN.pack()] * 2
    assert [landing.schema.decode(row.body)["note"] for row in batch.rows] == [None, "new"]
    assert batch.rows[0].record.value == old_value, "a dead letter would keep the bytes as they came"


def test_the_console_shows_what_an_earlier_worker_wrote(monkeypatch: pytest.MonkeyPatch):
    value = exposure_at(ORIGIN)
    every = versions("exposure")
    monkeypatch.setattr(live, "EXPOSURE", RecordSchema(every[-1], every[:-1]))
    assert live.decode(value, 0, 0).fields["event_id"] == value[5:21].hex()
