"""Dead letters in the store: everything that is known of them, and nothing that must not be shown."""

from dataclasses import dataclass
from typing import Any

import orjson
import pytest

from processors.landing.dead_letter_rows import SHOWN_BYTES, row_of
from schemas.dead_letter import DeadLetter
from schemas.erasures import ErasureList
from schemas.origin import Origin
from schemas.reasons import Reason, Stage


@dataclass
class FakeRecord:
    value: bytes | None
    partition: int = 2
    offset: int = 7
    timestamp: int = 1_763_740_000_123


def row(value: bytes | None, stage: str = "worker") -> dict[str, Any]:
    found: dict[str, Any] = orjson.loads(row_of(FakeRecord(value), 1, stage, ErasureList()))
    return found


def letter(original: bytes, **fields: Any) -> bytes:
    stage = fields.pop("stage", Stage.WORKER)
    return DeadLetter(stage, Reason.INVALID_TIME, "why", original, failed_at=1_500, **fields).encode()


def test_what_the_gateway_refused_has_the_place_of_its_dead_letter_as_its_origin():
    found = row(letter(b"{}", stage=Stage.INGEST), "ingest")
    assert [found[f"origin_{name}"] for name in Origin._fields] == [255, 2, 7, 0, 0]


def test_a_letter_without_an_origin_says_so():
    assert row(letter(b""), "lander")["has_origin"] is False
    assert row(letter(b"", origin=Origin(1, 0, 5, 3)), "lander")["has_origin"] is True


def test_keys_and_private_attributes_never_reach_the_store():
    event = b'{"user":{"privateAttributes":{"ssn":"123-45"}},"url":"secret-abcdefgh12345"'
    found = row(letter(event, request=b'{"key":"secret-abcdefgh12345"}', chunk_headers={"k": b"secret-abcdefgh12345"}))
    assert not {word for word in ("123-45", "abcdefgh12345") if word in orjson.dumps(found).decode()}


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_of_a_large_original_its_beginning_is_shown_and_its_size_told(over: int):
    found = row(letter(b"x" * (SHOWN_BYTES + over)))
    assert len(found["original"]) == min(SHOWN_BYTES, SHOWN_BYTES + over)
    assert found["original_bytes"] == SHOWN_BYTES + over


@pytest.mark.parametrize(
    ("failed_at", "shown"),
    [
        (1_500, "1970-01-01 00:00:01.500"),
        (-5, "1970-01-01 00:00:00.000"),
        (2**62, "2299-12-31 23:59:59.999"),
    ],
)
def test_every_time_is_one_that_the_store_can_hold(failed_at: int, shown: str):
    value = DeadLetter(Stage.WORKER, Reason.INVALID_TIME, "why", b"", failed_at=failed_at).encode()
    assert row(value)["last_failed_at"] == shown


@pytest.mark.parametrize("value", [None, b"", b"\xff\xfe", letter(b"{}")[:-4]])
def test_what_is_no_envelope_is_a_row_that_says_why(value: bytes | None):
    found = row(value)
    assert (found["reason"], found["dlq_offset"]) == ("unreadable_envelope", 7)
    assert found["message"]
    assert found["last_failed_at"] == "2025-11-21 15:46:40.123"
