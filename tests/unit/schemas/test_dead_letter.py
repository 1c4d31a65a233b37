"""The envelope of a dead letter: whatever was refused fits into it."""

from collections.abc import Mapping
from dataclasses import replace
from importlib.resources import files
from typing import Any, cast

import orjson
import pytest

from schemas import dead_letter
from schemas.avro import DEAD_LETTER, RecordSchema, unframe
from schemas.dead_letter import DeadLetter, EnvelopeError
from schemas.limits import DECODED_BODY_BYTES, ENVELOPE_BYTES, KIB, PARTITION_KEY_BYTES, REQUEST_METADATA_BYTES
from schemas.reasons import Reason, Stage


def letter_of(original: bytes = b"{}", **fields: Any) -> DeadLetter:
    return DeadLetter(Stage.INGEST, Reason.EVENT_TOO_LARGE, "too large", original, failed_at=5, **fields)


def read(letter: DeadLetter) -> dict[str, Any]:
    return DEAD_LETTER.decode(unframe(letter.encode())[1])


@pytest.mark.parametrize("key", ["the event itself", "a user id as long as the event"])
def test_the_largest_event_that_a_request_can_hold_fits_into_an_envelope(key: str):
    """A gateway that cannot write a dead letter answers 503, and the sender comes again for ever."""
    original = b'{"eventName":"' + b"x" * (DECODED_BODY_BYTES - 16) + b'"}'
    partition_key = original if key == "the event itself" else original[:-100]
    letter = letter_of(original, partition_key=partition_key, request=b"m" * REQUEST_METADATA_BYTES)
    assert len(letter.encode()) < ENVELOPE_BYTES - 256 * KIB
    assert read(letter)["original"] == original


@pytest.mark.parametrize(("over", "kept"), [(-1, True), (0, True), (1, False)])
def test_a_long_partition_key_is_left_out(over: int, kept: bool):
    key = b"k" * (PARTITION_KEY_BYTES + over)
    assert read(letter_of(partition_key=key))["partition_key"] == (key if kept else b"")


def test_a_header_without_a_value_is_kept_as_an_empty_one():
    """Kafka has them, and a record that carries one must be a dead letter like any other."""
    headers = cast("Mapping[str, bytes]", {"trace": None, "n": b"1"})
    assert read(letter_of(chunk_headers=headers))["chunk_headers"] == {"trace": b"", "n": b"1"}


def test_an_envelope_of_the_first_version_is_read_as_one_that_no_replay_has_touched():
    earlier = RecordSchema(orjson.loads(files("schemas").joinpath("avsc", "dead_letter.1.avsc").read_bytes()))
    values = read(letter_of(b"bytes"))
    del values["replay"]
    found = dead_letter.read(earlier.encode(values))
    assert (found.original, found.reason, found.attempt, found.replay) == (b"bytes", "event_too_large", 1, "")


def test_what_is_written_is_what_is_read():
    message = "\ud800" + "x" * 5_000
    letter = replace(letter_of(b"\xff", event_id=bytes(16), replay="r", attempt=3), message=message)
    found = dead_letter.read(letter.encode())
    assert (found.original, found.event_id, found.replay, found.attempt) == (b"\xff", bytes(16), "r", 3)
    assert len(found.message) == 1_000


@pytest.mark.parametrize("value", [None, b"", b"{}", bytes(5), letter_of().encode()[:-3], letter_of().encode() + b"x"])
def test_what_is_no_envelope_is_said_to_be_none(value: bytes | None):
    with pytest.raises(EnvelopeError, match=r"."):
        dead_letter.read(value)
