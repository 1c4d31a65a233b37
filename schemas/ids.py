"""Identity of an event and the partition it belongs to.

SDK events carry no id. What every recorded retry of eight SDKs had in common was the bytes of the
event and the sender's stable identity, while the requests around the events changed; so those two
make the id. `tests/test_ids.py` holds golden vectors: changing anything here would make every retry
in flight during an upgrade a new event.
"""

import hashlib
import struct
import zlib
from collections.abc import Sequence
from typing import Final

from schemas.wire import peek_of

EVENT_ID_BYTES: Final = 16
_PERSON: Final = b"headrace-event-1"
_u32 = struct.Struct("<I").pack
_FIRST: Final = _u32(0)

# Client SDKs keep one session per page or app start and one stableID per device; a server SDK's
# session is one process, so it tells two servers apart that log the same event in the same ms.
_CLIENT_SDK_WORDS: Final = ("client", "-js", "js-", "react", "ios", "android", "expo", "unity", "dart", "roku")


def is_client_sdk(sdk_type: str) -> bool:
    """Tell whether `sdk_type` names an SDK that runs on an end user's device."""
    lowered = sdk_type.lower()
    if "server" in lowered or "node" in lowered:
        return False
    return any(word in lowered for word in _CLIENT_SDK_WORDS)


def scope_of(sdk_type: str, stable_id: str, session_id: str) -> str:
    """Return whose events these are, from the request's `statsigMetadata`.

    The stableID, else the session of a server SDK, else "". Two anonymous browsers that log equal
    bytes in one millisecond differ by it.
    """
    if stable_id:
        return stable_id
    return "" if is_client_sdk(sdk_type) else session_id


class EventIds:
    """Computes the event ids of one request.

    `without_time` is the `Idempotency-Key` of the request, else its request id: an event that has no
    `time` of its own is told apart by it.
    """

    __slots__ = ("_prefix", "_without_time")

    def __init__(self, project: str, environment: str, scope: str, without_time: str) -> None:
        self._prefix = hashlib.blake2b(digest_size=EVENT_ID_BYTES, person=_PERSON)
        for field in (project, environment, scope):
            encoded = field.encode("utf-8", "surrogatepass")
            self._prefix.update(_u32(len(encoded)) + encoded)
        self._without_time = without_time.encode("utf-8", "surrogatepass")

    def of(self, event: bytes | memoryview, occurrence: int, has_time: bool) -> bytes:
        """Return the 16 bytes that identify `event`, the bytes as they were received."""
        digest = self._prefix.copy()
        digest.update(b"".join((_u32(len(event)), event, _u32(occurrence) if occurrence else _FIRST)))
        if not has_time:
            digest.update(self._without_time)
        return digest.digest()


def secondary_id(parent: bytes, part: int) -> bytes:
    """Return the id of the `part`-th secondary exposure (from 1) of the event `parent`."""
    return hashlib.blake2b(parent + _u32(part), digest_size=EVENT_ID_BYTES, person=_PERSON).digest()


def occurrences(events: Sequence[bytes]) -> dict[int, int]:
    """Number the repeats of byte-equal events: {index: n} for the second (1), third (2), ….

    A loop that logs one event twice in a millisecond made two events; nothing but their multiplicity
    within the request tells them apart.
    """
    if len(set(events)) == len(events):
        return {}
    seen: dict[bytes, int] = {}
    repeats: dict[int, int] = {}
    for index, event in enumerate(events):
        count = seen.get(event, 0)
        if count:
            repeats[index] = count
        seen[event] = count + 1
    return repeats


def partition_key(event: bytes, request_stable_id: str) -> bytes:
    """Return what decides the partition: the device, else the user, else the event's bytes.

    The device first, so that the anonymous and the logged-in events of one device meet in one
    partition: `customIDs.stableID`, else the request's stableID, else `userID`.
    """
    device, user_id = peek_of(event)
    return (device or request_stable_id or user_id).encode("utf-8", "surrogatepass") or event


def partition_of(key: bytes, partitions: int) -> int:
    """CRC-32 modulo the count, as librdkafka's `consistent` partitioner does it."""
    return zlib.crc32(key) % partitions
