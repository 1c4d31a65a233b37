"""The topic `erasures`: units that were erased, so that no replay and no file brings them back.

A record has a digest of the unit and not the unit. Whoever knows an id can look whether it is in the list; the
list tells nobody an id.
"""

import hashlib
from collections.abc import Iterable
from typing import Final

import msgspec
import structlog

log = structlog.get_logger()

_PERSON: Final = b"headrace-erase-1"
_DIGEST_BYTES: Final = 16

Unit = tuple[str, str]
"""Type and id, as in the columns `unit_type` and `unit_id`."""


class Erasure(msgspec.Struct, frozen=True):
    """One unit that was erased: of what was received before `at` (ms since the epoch)."""

    id: str
    project: str
    unit_type: str
    digest: str
    at: int
    who: str = ""


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(Erasure).decode


def digest_of(project: str, unit: Unit) -> str:
    """Return the digest by which a unit stands in the list."""
    digest = hashlib.blake2b(digest_size=_DIGEST_BYTES, person=_PERSON)
    for text in (project, *unit):
        encoded = text.encode("utf-8", "surrogatepass")
        digest.update(len(encoded).to_bytes(4, "little") + encoded)
    return digest.hexdigest()


def encode(erasure: Erasure) -> tuple[bytes, bytes]:
    """Return key and value of a record; the key is the digest, so that the last erasure of a unit counts."""
    return erasure.digest.encode(), _encode(erasure)


class ErasureList:
    """Every unit that was erased, as the topic's records tell it."""

    def __init__(self) -> None:
        self._until: dict[str, int] = {}
        self._types: set[str] = set()

    def __bool__(self) -> bool:
        return bool(self._until)

    def take(self, _key: bytes, value: bytes | None) -> None:
        """Take a record; what cannot be read is logged. There are no tombstones: what was erased stays erased."""
        if value is None:
            return
        try:
            erasure = _decode(value)
        except msgspec.MsgspecError as error:
            log.error("erasure_unreadable", error=str(error))  # noqa: TRY400 - no stack says more
            return
        self._until[erasure.digest] = max(erasure.at, self._until.get(erasure.digest, 0))
        self._types.add(erasure.unit_type)

    def covers(self, project: str, units: Iterable[Unit], received_ms: int) -> bool:
        """Tell whether an event of any of these units, received then, was erased."""
        return any(
            received_ms < self._until.get(digest_of(project, unit), 0)
            for unit in units
            if unit[0] in self._types and unit[1]
        )
