"""The outbox: records that wait for Kafka in a folder of this gateway, in an SQLite file.

A commit returns when the disk has it (`synchronous=FULL` writes and syncs the write-ahead log), so
what was committed is there after a crash of the process or of the machine. All of it blocks, and one
thread at a time may call it.
"""

import contextlib
import fcntl
import os
import sqlite3
from collections.abc import Iterator, Sequence
from pathlib import Path
from typing import IO, Final, NamedTuple

from ingest.durability import Lane

_FILE: Final = "outbox.sqlite3"
_LOCK_FILE: Final = "outbox.lock"
_FORMAT: Final = 1
"""Of the table, and of the chunks and dead letters in it."""
_GIVEN_BACK_PAGES: Final = 4096
"""Free pages returned to the disk with each commit that deletes: 16 MiB, some ms of work."""
_PROBE_BYTES: Final = 64 * 1024

_TABLE: Final = """
CREATE TABLE IF NOT EXISTS waiting (
    id INTEGER PRIMARY KEY,
    topic TEXT NOT NULL,
    partition INTEGER NOT NULL,
    events INTEGER NOT NULL,
    spilled_ms INTEGER NOT NULL,
    value BLOB NOT NULL
);
CREATE INDEX IF NOT EXISTS waiting_by_lane ON waiting (topic, partition, id);
"""


class OutboxUnusableError(Exception):
    """The folder cannot serve as this gateway's outbox; the message says what to do about it."""


class Row(NamedTuple):
    """One record that waits. Ids grow in the order in which records were put."""

    id: int
    lane: Lane
    events: int
    spilled_ms: int
    value: bytes


class LaneContents(NamedTuple):
    """What waits in one lane."""

    lane: Lane
    rows: int
    size_bytes: int
    last_id: int


class Outbox:
    """One folder, which this process alone has while the object is open."""

    def __init__(self, folder: Path) -> None:
        """Take the folder, made if it is missing. Raises OutboxUnusableError."""
        self.folder = folder
        self._lock = _take(folder)
        try:
            self._db = _open(folder / _FILE)
            _sync_folder(folder)
        except (sqlite3.Error, OSError) as error:
            self._lock.close()
            raise OutboxUnusableError(
                f"the spill {folder / _FILE} cannot be used: {error}. Events that were acknowledged may be in it: "
                "mend the disk, or keep the folder aside and set HEADRACE_SPILL_DIR to another"
            ) from error
        except BaseException:
            self._lock.close()
            raise

    def contents(self) -> list[LaneContents]:
        """Return every lane in which something waits. Raises sqlite3.Error."""
        found = self._db.execute(
            "SELECT topic, partition, count(*), sum(length(value)), max(id) FROM waiting GROUP BY topic, partition"
        )
        return [LaneContents(Lane(topic, partition), *rest) for topic, partition, *rest in found]

    def oldest_ms(self) -> int:
        """Return when the record that waits longest was spilled, 0 when none waits. Raises sqlite3.Error."""
        row = self._db.execute("SELECT spilled_ms FROM waiting ORDER BY id LIMIT 1").fetchone()
        return int(row[0]) if row else 0

    def commit(self, rows: Sequence[Row], gone: Sequence[int]) -> None:
        """Add rows and delete others by id, all or nothing; return when the disk has it. Raises sqlite3.Error."""
        with self._transaction():
            self._db.executemany("DELETE FROM waiting WHERE id = ?", [(row_id,) for row_id in gone])
            self._db.executemany(
                "INSERT INTO waiting VALUES (?, ?, ?, ?, ?, ?)",
                [(row.id, *row.lane, row.events, row.spilled_ms, row.value) for row in rows],
            )
        if gone:
            # A script, because `execute` stops after one page. Where it fails, the file is larger than need be.
            with contextlib.suppress(sqlite3.Error):
                self._db.executescript(f"PRAGMA incremental_vacuum({_GIVEN_BACK_PAGES})")

    def read(self, lane: Lane, last_id: int, size_bytes: int) -> list[Row]:
        """Return the first rows of a lane up to an id and a size, at least one if any waits. Raises sqlite3.Error."""
        found: list[Row] = []
        size = 0
        cursor = self._db.execute(
            "SELECT id, events, spilled_ms, value FROM waiting "
            "WHERE topic = ? AND partition = ? AND id <= ? ORDER BY id",
            (*lane, last_id),
        )
        with contextlib.closing(cursor):
            for row_id, events, spilled_ms, value in cursor:
                size += len(value)
                if found and size > size_bytes:
                    break
                found.append(Row(row_id, lane, events, spilled_ms, value))
        return found

    def probe(self) -> None:
        """Write and delete something. Raises sqlite3.Error when a commit would fail as well."""
        with self._transaction():
            self._db.execute("INSERT INTO waiting VALUES (-1, '', 0, 0, 0, zeroblob(?))", (_PROBE_BYTES,))
            self._db.execute("DELETE FROM waiting WHERE id = -1")

    def close(self) -> None:
        """Let the folder go. What waits stays."""
        with contextlib.suppress(sqlite3.Error):
            self._db.close()
        self._lock.close()

    @contextlib.contextmanager
    def _transaction(self) -> Iterator[None]:
        self._db.execute("BEGIN IMMEDIATE")
        try:
            yield
            self._db.execute("COMMIT")
        except BaseException:
            if self._db.in_transaction:
                self._db.execute("ROLLBACK")
            raise


def _take(folder: Path) -> IO[str]:
    """Return the lock of a folder, held as long as the file is open, whatever ends the process."""
    try:
        # What people did stands in there, and nobody else on this machine need read it.
        folder.mkdir(mode=0o700, parents=True, exist_ok=True)
        handle = (folder / _LOCK_FILE).open("a+")
    except OSError as error:
        raise OutboxUnusableError(
            f"the spill folder {folder} cannot be written ({error.strerror}); "
            "make it writable for this user, or choose another with HEADRACE_SPILL_DIR"
        ) from error
    try:
        fcntl.flock(handle, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except OSError:
        handle.seek(0)
        holder = handle.read().strip() or "another process"
        handle.close()
        raise OutboxUnusableError(
            f"the spill folder {folder} belongs to the gateway of process {holder}; "
            "give each gateway a folder of its own with HEADRACE_SPILL_DIR"
        ) from None
    handle.truncate(0)
    handle.write(str(os.getpid()))
    handle.flush()
    return handle


def _open(path: Path) -> sqlite3.Connection:
    db = sqlite3.connect(path, isolation_level=None, check_same_thread=False)
    try:
        _prepare(db)
    except BaseException:
        db.close()
        raise
    return db


def _prepare(db: sqlite3.Connection) -> None:
    db.execute("PRAGMA auto_vacuum = INCREMENTAL")
    [mode] = db.execute("PRAGMA journal_mode = WAL").fetchone()
    if mode != "wal":
        raise sqlite3.OperationalError(f"the file system knows no write-ahead log (journal mode {mode})")
    db.execute("PRAGMA synchronous = FULL")
    [found] = db.execute("PRAGMA user_version").fetchone()
    if found not in (0, _FORMAT):
        raise sqlite3.OperationalError(f"it has format {found}, and this gateway knows {_FORMAT}")
    db.executescript(_TABLE)
    db.execute(f"PRAGMA user_version = {_FORMAT}")


def _sync_folder(folder: Path) -> None:
    """Make the file's name as durable as what is in it."""
    descriptor = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(descriptor)
    finally:
        os.close(descriptor)
