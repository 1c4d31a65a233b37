"""The envelope of a dead letter: whatever was refused fits into it."""

from collections.abc import Mapping
from typing import Any, cast

import pytest

from schemas.avro import DEAD_LETTER, unframe
from schemas.dead_letter import DeadLetter
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
