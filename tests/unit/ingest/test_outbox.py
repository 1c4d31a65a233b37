"""The outbox: what was committed is there, whatever ends the process, and nobody else has the folder."""

import os
import signal
import sqlite3
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest

from ingest.outbox import Lane, Outbox, OutboxUnusableError, Row

LANE, OTHER = Lane("events.raw", 0), Lane("events.raw", 1)


def row(number: int, lane: Lane = LANE, size: int = 10) -> Row:
    return Row(number, lane, number, 1_000 + number, b"%d" % number + b"x" * size)


@pytest.fixture
def outbox(tmp_path: Path) -> Iterator[Outbox]:
    made = Outbox(tmp_path / "spill")
    yield made
    made.close()


def limit_pages(outbox: Outbox, more: int) -> None:
    """Let the file grow by so many pages only, as a full disk would."""
    [pages] = outbox._db.execute("PRAGMA page_count").fetchone()
    outbox._db.execute(f"PRAGMA max_page_count = {pages + more}").fetchone()


def test_what_was_committed_is_there_after_the_process_was_killed(tmp_path: Path):
    program = """
import os, signal, sys
from pathlib import Path
from ingest.outbox import Lane, Outbox, Row
outbox = Outbox(Path(sys.argv[1]))
outbox.commit([Row(n, Lane("events.raw", 0), 2, 5, b"value %d" % n) for n in range(1, 4)], [])
outbox.commit([], [2])
os.kill(os.getpid(), signal.SIGKILL)
"""
    code = subprocess.run([sys.executable, "-c", program, str(tmp_path)], check=False, timeout=60).returncode
    assert code == -signal.SIGKILL
    again = Outbox(tmp_path)
    assert again.read(LANE, 99, 1_000) == [Row(1, LANE, 2, 5, b"value 1"), Row(3, LANE, 2, 5, b"value 3")]
    again.close()


def test_every_commit_is_synced_before_it_returns(outbox: Outbox):
    """FULL is 2: in a write-ahead log SQLite then syncs with each commit (its documentation of `synchronous`)."""
    assert outbox._db.execute("PRAGMA synchronous").fetchone() == (2,)
    assert outbox._db.execute("PRAGMA journal_mode").fetchone() == ("wal",)


def test_rows_come_in_order_and_by_lane_at_least_one_and_up_to_the_size(outbox: Outbox):
    outbox.commit([row(1), row(2, OTHER), row(3), row(4)], [])
    assert outbox.read(LANE, 99, 0) == [row(1)]
    assert outbox.read(LANE, 99, 2 * len(row(1).value)) == [row(1), row(3)]
    assert outbox.read(LANE, 3, 1_000) == [row(1), row(3)]
    assert outbox.read(OTHER, 99, 1_000) == [row(2, OTHER)]
    assert [tuple(found) for found in outbox.contents()] == [(LANE, 3, 33, 4), (OTHER, 1, 11, 2)]
    outbox.commit([row(5)], [1, 2])
    assert outbox.read(LANE, 99, 1_000) == [row(3), row(4), row(5)]
    assert outbox.oldest_ms() == 1_003


def test_a_commit_that_fails_leaves_nothing_behind(outbox: Outbox):
    outbox.commit([row(1)], [])
    limit_pages(outbox, 4)
    with pytest.raises(sqlite3.OperationalError, match="full"):
        outbox.commit([row(2), row(3, size=100_000)], [1])
    with pytest.raises(sqlite3.OperationalError, match="full"):
        outbox.probe()
    assert outbox.read(LANE, 99, 1_000_000) == [row(1)]
    limit_pages(outbox, 1_000)
    outbox.probe()
    outbox.commit([row(2), row(3, size=100_000)], [1])
    assert [found.id for found in outbox.read(LANE, 99, 1_000_000)] == [2, 3]


def test_the_disk_gets_back_what_was_drained(outbox: Outbox):
    outbox.commit([row(number, size=100_000) for number in range(1, 11)], [])
    [held] = outbox._db.execute("PRAGMA page_count").fetchone()
    outbox.commit([], range(1, 11))
    [left] = outbox._db.execute("PRAGMA page_count").fetchone()
    assert left < held / 10


def test_a_folder_belongs_to_one_gateway_until_that_lets_it_go(tmp_path: Path):
    first = Outbox(tmp_path)
    with pytest.raises(OutboxUnusableError, match=rf"process {os.getpid()}.*HEADRACE_SPILL_DIR"):
        Outbox(tmp_path)
    first.close()
    Outbox(tmp_path).close()


def test_a_folder_that_cannot_be_used_is_refused_with_what_to_do(tmp_path: Path):
    file = tmp_path / "file"
    file.write_text("")
    with pytest.raises(OutboxUnusableError, match="choose another with HEADRACE_SPILL_DIR"):
        Outbox(file / "spill")
    (tmp_path / "outbox.sqlite3").write_text("this is no database" * 100)
    with pytest.raises(OutboxUnusableError, match=r"acknowledged may be in it.*HEADRACE_SPILL_DIR"):
        Outbox(tmp_path)
    other = tmp_path / "later"
    Outbox(other).close()
    with sqlite3.connect(other / "outbox.sqlite3") as db:
        db.execute("PRAGMA user_version = 99")
    db.close()
    with pytest.raises(OutboxUnusableError, match="format 99"):
        Outbox(other)
