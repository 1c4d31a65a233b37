"""Keys as they are read from their topic."""

from ingest.auth import KeyDirectory
from schemas import keys
from schemas.keys import KeyKind


def record(key: str, revoked_at: int = 0) -> tuple[bytes, bytes]:
    made = keys.record_of(key, KeyKind.SECRET, "p", "e", 1)
    revoked = keys.KeyRecord(made.key_hash, made.key_id, made.kind, made.project, made.environment, 1, revoked_at)
    return made.key_hash.encode(), keys.encode(revoked)


def test_the_last_record_of_a_key_counts():
    directory = KeyDirectory(lambda: True)
    directory.on_record(*record("a"))
    directory.on_record(*record("b"))
    assert len(directory) == 2
    assert directory.find(b"a", now_ms=100) is not None
    directory.on_record(*record("a", revoked_at=100))
    assert directory.find(b"a", now_ms=99) is not None
    assert directory.find(b"a", now_ms=100) is None
    directory.on_record(record("b")[0], None)
    assert directory.find(b"b", now_ms=100) is None


def test_a_record_that_cannot_be_read_is_passed_by():
    directory = KeyDirectory(lambda: True)
    for bad in ((b"zz", b"{}"), (b"\xff", b"{}"), (record("a")[0], b"nonsense"), (b"", b"")):
        directory.on_record(*bad)
    assert len(directory) == 0


def test_neither_key_nor_hash_is_shown():
    directory = KeyDirectory(lambda: True)
    directory.on_record(*record("secret-abc"))
    known = directory.find(b"secret-abc", 1)
    assert known is not None
    assert b"secret-abc" not in known.head
    assert keys.hash_of("secret-abc").encode() not in known.head
