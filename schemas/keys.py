"""Keys: who may send to which project and environment. Only their hashes are ever stored."""

import hashlib
import secrets
from enum import StrEnum
from typing import Final

import msgspec


class KeyKind(StrEnum):
    """What a key may do. A client key is public: it may write, and stands in query strings."""

    SECRET = "secret"
    CLIENT = "client"
    CONSOLE = "console"


class KeyRecord(msgspec.Struct, frozen=True, omit_defaults=True):
    """One record of the topic `keys`; its record key is `key_hash`. Times are ms since the epoch."""

    key_hash: str
    key_id: str
    kind: KeyKind
    project: str
    environment: str
    created_at: int
    revoked_at: int = 0
    note: str = ""
    quota_events_per_s: int = 0
    """Of each gateway; 0: none."""

    def is_valid_at(self, now_ms: int) -> bool:
        """Whether the key is accepted at `now_ms`."""
        return not self.revoked_at or now_ms < self.revoked_at


def hash_of(key: str) -> str:
    """Return the SHA-256 of a key, hex."""
    return hashlib.sha256(key.encode("utf-8", "surrogatepass")).hexdigest()


def generate(kind: KeyKind) -> str:
    """Return a new key: 256 random bits behind a readable prefix, as SDKs expect (`secret-…`)."""
    return f"{kind.value}-{secrets.token_urlsafe(32)}"


def record_of(
    key: str, kind: KeyKind, project: str, environment: str, now_ms: int, note: str = "", quota_events_per_s: int = 0
) -> KeyRecord:
    """Return the record that makes `key` known."""
    key_hash = hash_of(key)
    return KeyRecord(
        key_hash, f"{kind.value}-{key_hash[:10]}", kind, project, environment, now_ms, 0, note, quota_events_per_s
    )


_encoder: Final = msgspec.json.Encoder()
_decoder: Final = msgspec.json.Decoder(KeyRecord)


def encode(record: KeyRecord) -> bytes:
    """Return the record's value in the topic."""
    return _encoder.encode(record)


def decode(value: bytes) -> KeyRecord:
    """Read a record's value. Raises msgspec.MsgspecError."""
    return _decoder.decode(value)
