"""From a record of a dead-letter topic to the rejected exposure that a viewer reads. Pure.

An event that the gateway could not read waits with its secrets in it, so every text of it is masked.
"""

from typing import Any, Final

from console.live.as_sent import KIND_OF, Names, event_of, fields_of
from console.live.decode import SHOWN, Exposure, Outcome, UnreadableRecordError, decode, framed, iso_time
from schemas import dead_letter
from schemas.dead_letter import Envelope
from schemas.limits import EVENT_BYTES
from schemas.masking import masked
from schemas.origin import Origin
from schemas.reasons import Stage
from schemas.topics import DEAD_LETTERS

_CHARS_MAX: Final = 1_000


def rejected(record: Any, names: Names) -> Exposure | None:
    """Return the exposure that a dead letter is about; None when it is about another event.

    An event without a readable name may be an exposure, and is shown. Raises UnreadableRecordError.
    """
    try:
        letter = dead_letter.read(record.value)
    except dead_letter.EnvelopeError as error:
        raise UnreadableRecordError(str(error)) from error
    if letter.event_name and letter.event_name not in KIND_OF:
        return None
    said = _said(letter, names)
    told = {
        "event_id": letter.event_id.hex() if letter.event_id else "",
        "origin": _origin_of(letter, record),
        "record": {"topic": record.topic, "partition": record.partition, "offset": record.offset},
        "name": said.get("name") or letter.experiment,
        "rule_id": said.get("rule_id") or letter.rule_id,
        "unit_id": said.get("unit_id") or letter.unit_id,
        "project": letter.project,
        "environment": letter.environment,
        "request_id": letter.request_id,
        "sdk_type": letter.sdk_type,
        "sdk_version": letter.sdk_version,
        "received_at": iso_time(letter.received_at or letter.last_failed_at),
        "rejected_at": letter.stage or DEAD_LETTERS[record.topic],
        "rejected_for": letter.reason,
        "rejected_why": letter.message,
    }
    return framed(Outcome.REJECTED, _safe({**said, **told}), record.timestamp)


def _said(letter: Envelope, names: Names) -> dict[str, Any]:
    """Return what can be read of the event itself."""
    if letter.stage == Stage.LANDER:
        try:
            fields = decode(letter.original, 0, 0).fields
            return {name: fields[name] for name in SHOWN}
        except UnreadableRecordError:
            return {}
    event = event_of(letter.original) if len(letter.original) <= EVENT_BYTES else None
    if event is None:
        return {}
    return names.complete(fields_of(event, ""))


def _origin_of(letter: Envelope, record: Any) -> str:
    if letter.origin is None:
        return f"{record.topic}/{record.partition}/{record.offset}"
    try:
        return "/".join(map(str, Origin.unpack(letter.origin)))
    except ValueError:
        return ""


def _safe(fields: dict[str, Any]) -> dict[str, Any]:
    return {name: _safe_value(value) for name, value in fields.items()}


def _safe_value(value: Any) -> Any:
    if isinstance(value, str):
        return masked(value[:_CHARS_MAX].encode("utf-8", "surrogatepass"))
    if isinstance(value, dict):
        return {_safe_value(key): _safe_value(each) for key, each in value.items()}
    return value
