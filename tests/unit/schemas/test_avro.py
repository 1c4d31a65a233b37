"""Splicing framed records into a container without decoding them."""

import io
from typing import Any

import fastavro
import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.landing import custom_event_at, exposure_at

from processors.landing.tables import LANDINGS, store_type
from schemas.avro import CUSTOM_EVENT, EXPOSURE, FRAME_BYTES, LONGEST_WORD, Container, Vocabulary, string, varint
from schemas.ids import EVENT_ID_BYTES
from schemas.origin import Origin

texts = st.text(max_size=20)
MARK = b"-a mark-"


def read_back(container: bytes) -> list[dict[str, Any]]:
    return [dict(record) for record in fastavro.reader(io.BytesIO(container))]


@given(st.lists(st.tuples(st.integers(0, 2**62), texts, texts, st.dictionaries(texts, texts, max_size=3)), max_size=5))
def test_what_is_spliced_is_read_back_record_by_record(cases: list[tuple[int, str, str, dict[str, str]]]):
    values = [
        exposure_at(Origin(1, 2, offset, 3), name=name, metadata=metadata, custom_ids=ids, stamped_time=offset % 2**40)
        for offset, name, metadata, ids in cases
    ]
    found = read_back(Container(EXPOSURE.json).splice(values, MARK))
    assert [(r["origin_offset"], r["name"], r["metadata"], r["custom_ids"]) for r in found] == cases
    assert [(r["frame"], r["mark"]) for r in found] == [(EXPOSURE.frame, MARK)] * len(cases)


def test_custom_events_are_spliced_as_well():
    [found] = read_back(
        Container(CUSTOM_EVENT.json).splice([custom_event_at(Origin(1, 0, 1, 0), value_number=None)], MARK)
    )
    assert found["value_number"] is None


@pytest.mark.parametrize("cut", [-1, 1, 300])
@pytest.mark.parametrize("position", [0, 1, 2])
def test_a_value_that_is_not_exactly_one_record_spoils_a_mark_or_the_decoding(cut: int, position: int):
    """Avro has no lengths: without the mark, the records that follow would be read shifted."""
    one = exposure_at(Origin(1, 0, 1, 0))
    values = [one, one]
    values.insert(position, one[:cut] if cut < 0 else one + one[:cut])
    try:
        marks = [record["mark"] for record in read_back(Container(EXPOSURE.json).splice(values, MARK))]
    except Exception:  # noqa: BLE001 - whatever the decoder stumbles over
        return
    assert set(marks) != {MARK}


def test_a_container_may_be_empty():
    assert read_back(Container(EXPOSURE.json).splice([], MARK)) == []


@pytest.mark.parametrize("landing", LANDINGS, ids=lambda landing: landing.topic)
def test_the_event_id_and_then_the_origin_stand_at_the_beginning_of_a_record(landing: Any):
    """Readers find them there without decoding."""
    origin = Origin(1, 300, 2**40, 4_000, 5)
    value = (exposure_at if landing.topic == "exposures" else custom_event_at)(origin, event_id_bytes=b"e" * 16)
    place = varint(origin.index) + varint(origin.part)
    chunk = varint(origin.log) + varint(origin.partition) + varint(origin.offset)
    assert value[FRAME_BYTES:].startswith(b"e" * EVENT_ID_BYTES + place + chunk)


def test_a_type_that_no_column_has_is_refused():
    with pytest.raises(ValueError, match="no column type"):
        store_type({"type": "array", "items": "string"})


def test_a_vocabulary_keeps_common_words_and_no_long_ones():
    """Ten thousand event names of 250 KiB each would be all of a worker's memory."""
    vocabulary = Vocabulary(kept=2)
    texts = ["purchase", "x" * LONGEST_WORD, "x" * (LONGEST_WORD + 1), "\ud800", "purchase"]
    assert [vocabulary.string(text) for text in texts] == [string(text) for text in texts]
    assert vocabulary.string("purchase") is vocabulary.string("purchase")
    assert vocabulary.string(texts[2]) is not vocabulary.string(texts[2])
