"""The envelope of an event that could not be processed."""

import io
from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version
from typing import Any, Final

import fastavro
import msgspec

from schemas import avro
from schemas.limits import DEAD_LETTER_MESSAGE_CHARS, DEAD_LETTER_NAME_CHARS, PARTITION_KEY_BYTES
from schemas.origin import Origin
from schemas.reasons import Reason, Stage, blame_of


def _code_version() -> str:
    try:
        return version("headrace")
    except PackageNotFoundError:
        return "unknown"


CODE_VERSION = _code_version()


class EnvelopeError(ValueError):
    """A record of a dead-letter topic is no envelope that this code can read."""


@dataclass(frozen=True)
class DeadLetter:
    """One refused event with everything that a replay needs. Times are ms since the epoch.

    `origin` is None at the gateway, where the dead letter's own coordinate is the origin. `request`
    is the JSON of the request part it came with, without its events. A `partition_key` above
    `PARTITION_KEY_BYTES` is not written; `schemas.ids.partition_key` finds it in `original` again.
    `replay` is the id of the replay in which it failed again, and `attempt` counts these.
    """

    stage: Stage
    reason: Reason
    message: str
    original: bytes
    failed_at: int
    origin: Origin | None = None
    event_id: bytes | None = None
    occurrence: int = 0
    request: bytes = b"{}"
    chunk_headers: Mapping[str, bytes] = field(default_factory=dict)
    partition_key: bytes = b""
    project: str = ""
    environment: str = ""
    key_id: str = ""
    request_id: str = ""
    sdk_type: str = ""
    sdk_version: str = ""
    event_name: str = ""
    experiment: str = ""
    rule_id: str = ""
    unit_id: str = ""
    received_at: int = 0
    attempt: int = 1
    first_failed_at: int = 0
    replay: str = ""

    def encode(self) -> bytes:
        """Return the record's value: Avro, framed."""
        return avro.DEAD_LETTER.encode(
            {
                "stage": self.stage.value,
                "reason": self.reason.value,
                "blame": self.reason.blame,
                "message": self.message[:DEAD_LETTER_MESSAGE_CHARS].encode("utf-8", "replace").decode(),
                "event_id": self.event_id,
                "origin": self.origin.pack() if self.origin else None,
                "occurrence": self.occurrence,
                "original": self.original,
                "request": self.request.decode("utf-8", "replace"),
                # Kafka knows headers without a value.
                "chunk_headers": {name: value or b"" for name, value in self.chunk_headers.items()},
                "partition_key": self.partition_key if len(self.partition_key) <= PARTITION_KEY_BYTES else b"",
                "project": self.project,
                "environment": self.environment,
                "key_id": self.key_id,
                "request_id": self.request_id,
                "sdk_type": self.sdk_type,
                "sdk_version": self.sdk_version,
                "event_name": self.event_name[:DEAD_LETTER_NAME_CHARS],
                "experiment": self.experiment[:DEAD_LETTER_NAME_CHARS],
                "rule_id": self.rule_id[:DEAD_LETTER_NAME_CHARS],
                "unit_id": self.unit_id[:DEAD_LETTER_NAME_CHARS],
                "received_at": self.received_at,
                "attempt": self.attempt,
                "first_failed_at": self.first_failed_at or self.failed_at,
                "last_failed_at": self.failed_at,
                "code_version": CODE_VERSION,
                "replay": self.replay,
            }
        )


class Envelope(msgspec.Struct, frozen=True, gc=False):
    """A dead letter as it was read: of this version or an earlier one, its stage and reason perhaps unknown here."""

    stage: str
    reason: str
    blame: str
    message: str
    event_id: bytes | None
    origin: bytes | None
    occurrence: int
    original: bytes
    request: str
    chunk_headers: dict[str, bytes]
    partition_key: bytes
    project: str
    environment: str
    key_id: str
    request_id: str
    sdk_type: str
    sdk_version: str
    event_name: str
    experiment: str
    rule_id: str
    unit_id: str
    received_at: int
    attempt: int
    first_failed_at: int
    last_failed_at: int
    code_version: str
    replay: str = ""

    @property
    def is_ours(self) -> bool:
        """Whether a burst of its reason points at us and not at a sender."""
        return blame_of(self.reason) == "ours"


def read(value: bytes | None) -> Envelope:
    """Read a record's value. Raises EnvelopeError, which says what is wrong with it."""
    if value is None:
        raise EnvelopeError("a tombstone: there is no value")
    try:
        schema_id, body = avro.unframe(value)
    except avro.NotFramedError as error:
        raise EnvelopeError(str(error)) from error
    parsed = _WRITERS.get(schema_id)
    if parsed is None:
        raise EnvelopeError(f"it is of schema {schema_id}, and this code knows {sorted(_WRITERS)}")
    stream = io.BytesIO(body)
    try:
        record: Any = fastavro.schemaless_reader(stream, parsed, None)
    except Exception as error:
        raise EnvelopeError(f"the envelope is cut off or damaged: {error!r}") from error
    if left := len(body) - stream.tell():
        raise EnvelopeError(f"{left} bytes follow the envelope")
    return Envelope(**record)


def _plain(node: Any) -> Any:
    """Leave out logical types, so that times are read as ms."""
    if isinstance(node, dict):
        return {key: _plain(value) for key, value in node.items() if key != "logicalType"}
    return [_plain(item) for item in node] if isinstance(node, list) else node


_WRITERS: Final[dict[int, Any]] = {
    schema_id: fastavro.parse_schema(_plain(schema))
    for schema_id, schema in ((avro.DEAD_LETTER.id, avro.DEAD_LETTER.json), *avro.DEAD_LETTER.earlier.items())
}
"""By schema id: every version that ever was written. Dead letters are kept for ever, so none is ever left out."""
