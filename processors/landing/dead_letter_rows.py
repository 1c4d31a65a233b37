"""Records of the dead-letter topics as rows of the table `dead_letters`. Pure.

What is shown is masked here, because everybody who may ask in SQL sees the table.
"""

from typing import Any, Final

import orjson

from processors.erase import is_erased_letter
from processors.landing.moments import moment
from schemas import dead_letter
from schemas.dead_letter import Envelope, EnvelopeError
from schemas.erasures import ErasureList
from schemas.limits import KIB
from schemas.masking import masked
from schemas.origin import REFUSED_AT_GATEWAY_LOG, Origin
from schemas.reasons import Reason

SHOWN_BYTES: Final = 64 * KIB
"""Of the original, in the table."""

_NO_ORIGIN: Final = Origin(0, 0, 0, 0)


_BLANK: Final = {"original": "", "request": "", "headers": {}, "unit_id": "", "message": "erased"}


def row_of(record: Any, log: int, stage: str, erasures: ErasureList) -> bytes:
    """Return the row of a record of `dlq.<stage>`, as a line of JSON; what is no envelope has a row that says so.

    Of an erased unit it has nothing but that there was a letter.
    """
    place = {"log": log, "stage": stage, "dlq_partition": record.partition, "dlq_offset": record.offset}
    try:
        letter = dead_letter.read(record.value)
    except EnvelopeError as error:
        return orjson.dumps({**place, **_unreadable(record, str(error))})
    row = {**place, **_read(record, letter)}
    return orjson.dumps(row | _BLANK if erasures and is_erased_letter(erasures, letter) else row)


def origin_of(letter: Envelope, stage: str, partition: int, offset: int) -> Origin | None:
    """Return the origin of a dead letter; at the gateway its own place gives it one, elsewhere it may have none."""
    if letter.origin is not None:
        return Origin.unpack(letter.origin)
    return Origin(REFUSED_AT_GATEWAY_LOG, partition, offset, 0) if stage == "ingest" else None


def _read(record: Any, letter: Envelope) -> dict[str, Any]:
    origin = origin_of(letter, letter.stage, record.partition, record.offset)
    log, partition, offset, index, part = origin or _NO_ORIGIN
    return {
        "event_id": letter.event_id.hex() if letter.event_id else "",
        "has_origin": origin is not None,
        "origin_log": log,
        "origin_partition": partition,
        "origin_offset": offset,
        "origin_index": index,
        "origin_part": part,
        "reason": letter.reason,
        "blame": letter.blame,
        "message": letter.message,
        "attempt": letter.attempt,
        "first_failed_at": moment(letter.first_failed_at),
        "last_failed_at": moment(letter.last_failed_at),
        "received_at": moment(letter.received_at),
        "code_version": letter.code_version,
        "replay": letter.replay,
        "project": letter.project,
        "environment": letter.environment,
        "key_id": letter.key_id,
        "request_id": letter.request_id,
        "sdk_type": letter.sdk_type,
        "sdk_version": letter.sdk_version,
        "event_name": letter.event_name,
        "experiment": letter.experiment,
        "rule_id": letter.rule_id,
        "unit_id": letter.unit_id,
        "original": masked(letter.original[:SHOWN_BYTES]),
        "original_bytes": len(letter.original),
        "request": masked(letter.request.encode("utf-8", "replace")),
        "headers": {name: masked(value) for name, value in letter.chunk_headers.items()},
    }


def _unreadable(record: Any, message: str) -> dict[str, Any]:
    value = record.value or b""
    failed_at = moment(record.timestamp)
    return {
        "reason": Reason.UNREADABLE_ENVELOPE.value,
        "blame": Reason.UNREADABLE_ENVELOPE.blame,
        "message": message,
        "attempt": 1,
        "first_failed_at": failed_at,
        "last_failed_at": failed_at,
        "received_at": failed_at,
        "original": masked(value[:SHOWN_BYTES]),
        "original_bytes": len(value),
    }
