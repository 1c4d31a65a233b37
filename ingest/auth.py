"""Whose request this is: the key decides project and environment, and nothing else does."""

import hashlib
import time
from collections.abc import Callable
from typing import Final

import msgspec
import structlog

from ingest.quota import Clock, Quota
from ingest.receive import Request
from ingest.refusal import Refusal
from schemas import keys
from schemas.keys import KeyKind, KeyRecord
from schemas.reasons import Reason

log = structlog.get_logger()

_SAID_AGAIN_NS: Final = 60 * 1_000_000_000
_WRITERS: Final = (KeyKind.SECRET, KeyKind.CLIENT)


class KnownKey:
    """A key's record, with the beginning of every chunk part that it sends, encoded once."""

    __slots__ = ("_said_ns", "head", "quota", "record")

    def __init__(self, record: KeyRecord, quota: Quota | None) -> None:
        self.record = record
        self.quota = quota
        self._said_ns = -_SAID_AGAIN_NS
        names = {"project": record.project, "environment": record.environment, "key_id": record.key_id}
        self.head = msgspec.json.encode(names)[:-1]

    def over_quota(self) -> Refusal:
        """Return what answers a request that the quota has no room for."""
        now_ns = time.monotonic_ns()
        if now_ns - self._said_ns >= _SAID_AGAIN_NS:
            self._said_ns = now_ns
            log.warning("key_over_quota", key_id=self.record.key_id, events_per_s=self.record.quota_events_per_s)
        per_s = self.record.quota_events_per_s
        return Refusal(Reason.OVER_QUOTA, f"this key may send {per_s} events a second; try again")


class KeyDirectory:
    """All keys of the topic `keys`, found by hash.

    A look-up by SHA-256 takes the same time however much of a key was guessed. What was read stays
    valid while Kafka is away.
    """

    def __init__(self, is_complete: Callable[[], bool], clock: Clock = time.monotonic_ns) -> None:
        """`is_complete` tells whether the topic has been read to its end once; quotas live by `clock`."""
        self._clock = clock
        self._by_hash: dict[bytes, KnownKey] = {}
        self.is_complete = is_complete

    def __len__(self) -> int:
        return len(self._by_hash)

    def on_record(self, record_key: bytes, value: bytes | None) -> None:
        """Take one record of the topic; a tombstone forgets the key."""
        try:
            digest = bytes.fromhex(record_key.decode("ascii"))
            if value is None:
                self._by_hash.pop(digest, None)
                return
            record = keys.decode(value)
        except (ValueError, msgspec.MsgspecError) as error:
            log.error("key_record_unreadable", error=str(error))  # noqa: TRY400 - what is wrong is in the data, not in a stack
            return
        self._by_hash[digest] = KnownKey(record, self._quota_of(digest, record))

    def _quota_of(self, digest: bytes, record: KeyRecord) -> Quota | None:
        known = self._by_hash.get(digest)
        if known is not None and known.record.quota_events_per_s == record.quota_events_per_s:
            return known.quota
        return Quota(record.quota_events_per_s, self._clock) if record.quota_events_per_s > 0 else None

    def find(self, key: bytes, now_ms: int) -> KnownKey | None:
        """Return the key if it is known and not revoked."""
        known = self._by_hash.get(hashlib.sha256(key).digest())
        if known is None or not known.record.is_valid_at(now_ms):
            return None
        return known


def authenticate(directory: KeyDirectory, request: Request, now_ms: int) -> KnownKey:
    """Return the key that a request came with. Raises Refusal.

    The query string takes client keys only, because query strings end up in logs. A key that is
    unknown while the topic has not been read to its end may be in what is still to come: 503.
    """
    from_header = request.headers.get(b"statsig-api-key", b"")
    presented = from_header or request.query.get(b"k", b"")
    if not presented:
        raise Refusal(
            Reason.MISSING_KEY, "no key: send it in the header statsig-api-key, or a client key as query parameter k"
        )
    known = directory.find(presented, now_ms)
    if known is None:
        if not directory.is_complete():
            raise Refusal(Reason.KEYS_NOT_READY, "the keys have not been read to their end yet; try again")
        raise Refusal(
            Reason.UNKNOWN_KEY, "the key is unknown or revoked; `headrace keys list` shows those that are valid"
        )
    if not from_header and known.record.kind is not KeyKind.CLIENT:
        raise Refusal(Reason.KEY_NOT_ALLOWED, "only client keys may stand in a query string; send this one as a header")
    return known


def may_write(known: KnownKey) -> None:
    """Raise Refusal unless the key may send events now."""
    if known.record.kind not in _WRITERS:
        raise Refusal(Reason.KEY_NOT_ALLOWED, f"a {known.record.kind} key cannot send events")
    if known.quota is not None and known.quota.is_used_up:
        raise known.over_quota()


def charge(known: KnownKey, events: int) -> None:
    """Count the events of a request against the key's quota. Raises Refusal where they are too many now."""
    if known.quota is not None and not known.quota.take(events):
        raise known.over_quota()


def may_read_specs(known: KnownKey) -> None:
    """Raise Refusal unless the key may read config specs, which hold every rule: servers only."""
    if known.record.kind is not KeyKind.SECRET:
        raise Refusal(Reason.KEY_NOT_ALLOWED, "config specs are for server SDKs; use a secret key", status=403)
