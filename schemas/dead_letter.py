"""The envelope of an event that could not be processed."""

from collections.abc import Mapping
from dataclasses import dataclass, field
from importlib.metadata import PackageNotFoundError, version

from schemas import avro
from schemas.limits import PARTITION_KEY_BYTES
from schemas.origin import Origin
from schemas.reasons import Reason, Stage


def _code_version() -> str:
    try:
        return version("headrace")
    except PackageNotFoundError:
        return "unknown"


CODE_VERSION = _code_version()


@dataclass(frozen=True)
class DeadLetter:
    """One refused event with everything that a replay needs. Times are ms since the epoch.

    `origin` is None at the gateway, where the dead letter's own coordinate is the origin. `request`
    is the JSON of the request part it came with, without its events. A `partition_key` above
    `PARTITION_KEY_BYTES` is not written; `schemas.ids.partition_key` finds it in `original` again.
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

    def encode(self) -> bytes:
        """Return the record's value: Avro, framed."""
        return avro.DEAD_LETTER.encode(
            {
                "stage": self.stage.value,
                "reason": self.reason.value,
                "blame": self.reason.blame,
                "message": self.message,
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
                "event_name": self.event_name,
                "experiment": self.experiment,
                "rule_id": self.rule_id,
                "unit_id": self.unit_id,
                "received_at": self.received_at,
                "attempt": self.attempt,
                "first_failed_at": self.first_failed_at or self.failed_at,
                "last_failed_at": self.failed_at,
                "code_version": CODE_VERSION,
            }
        )
