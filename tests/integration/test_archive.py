"""The archive writer on a real broker: whatever happens to it, its files are the log, record by record."""

import asyncio
import os
import random
import signal
import subprocess
import sys
import uuid
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import AIOKafkaConsumer, AIOKafkaProducer, TopicPartition
from aiokafka.admin import AIOKafkaAdminClient, RecordsToDelete
from support import archive_child
from support.brokers import run_apart, running_broker
from support.read_log import read_whole
from support.waiting import until

from ops.processes.init import archived_log
from ops.topics import ensure_topics
from processors.archive_lander import first_to_archive
from processors.log_bounds import Bounds, RecordsLostError
from schemas.archive import Archive, ArchivedRecord, ArchiveFile, ArchiveGapError, Place, covered
from schemas.crash_points import VARIABLE, CrashPoint
from schemas.kafka import PRODUCER, KafkaConnection
from schemas.topics import ARCHIVE_GROUP, EVENTS_RAW

PARTITIONS = 2
ALL = [TopicPartition(EVENTS_RAW, number) for number in range(PARTITIONS)]
FILE_S = 0.3
HELD_BYTES = 40_000
POINTS = [point for point in CrashPoint if point.startswith("archive.")]

slow = pytest.mark.slow


class Writer:
    """The archive's folder, and the process that is or is not writing to it."""

    def __init__(self, connection: KafkaConnection, folder: Path) -> None:
        self.connection = connection
        self.archive = Archive(str(folder / "archive"))
        self.group = f"archive-{uuid.uuid4()}"
        self._log = folder / "archive.log"
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, crash_at: str = "", instance: str = "one") -> None:
        files = (self.archive.location, str(FILE_S), str(HELD_BYTES))
        arguments = [self.connection.bootstrap, *files, self.group, instance]
        with self._log.open("ab") as log:
            self._process = subprocess.Popen(
                [sys.executable, archive_child.__file__, *arguments],
                env=os.environ | ({VARIABLE: crash_at} if crash_at else {}),
                stdout=subprocess.PIPE,
                stderr=log,
            )

    def left_aside(self) -> list[Path]:
        return list(Path(self.archive.location).rglob("*.aside"))

    def obstruct(self) -> None:
        """Let nothing be written to the archive."""
        Path(self.archive.location).write_text("no folder")

    def make_way(self) -> None:
        Path(self.archive.location).unlink()

    def told(self) -> Any:
        """Return what it says next; None when it is dead."""
        assert self._process is not None
        assert self._process.stdout is not None
        line = self._process.stdout.readline()
        return orjson.loads(line) if line else None

    async def end(self, number: int) -> int:
        assert self._process is not None
        if number:
            self._process.send_signal(number)
        await asyncio.to_thread(self._process.communicate, timeout=60)
        return self._process.returncode

    def clean_up(self) -> None:
        if self._process is not None:
            self._process.kill()
            self._process.communicate()

    async def caught_up(self) -> None:
        """Wait until every record of the log is in a file, and the lag says so."""
        await until(self._is_caught_up, 60, "the archive does not catch up")

    async def _is_caught_up(self) -> bool:
        told = await asyncio.to_thread(self.told)
        assert told is not None, self._log.read_text()[-3000:]
        return told["readiness"] == {} and told["lag"] == 0 and ends_of(self.archive) == await log_ends(self.connection)


def ends_of(archive: Archive) -> dict[int, int]:
    found: dict[int, int] = {}
    for file in archive.files():
        found[file.place.partition] = max(found.get(file.place.partition, 0), file.last + 1)
    return found


async def log_ends(connection: KafkaConnection) -> dict[int, int]:
    consumer = AIOKafkaConsumer(**connection.client_settings())
    try:
        await consumer.start()
        return {tp.partition: end for tp, end in (await consumer.end_offsets(ALL)).items() if end}
    finally:
        await consumer.stop()


def archived(archive: Archive, number: int, log: int = 1) -> list[ArchivedRecord]:
    """Return what a reader of the archive reads of one partition."""
    files = [file for file in archive.files() if file.place == Place(log, number)]
    return [record for file, first in covered(files) for record in archive.read(file) if record.offset >= first]


async def write(connection: KafkaConnection, count: int, chance: random.Random) -> None:
    """Write what gateways write, and what strangers may: no key, no value, no or strange headers."""
    producer = AIOKafkaProducer(**connection.client_settings(), **PRODUCER)
    await producer.start()
    for _ in range(count):
        value = chance.choice((None, b"", chance.randbytes(chance.randrange(2_000))))
        key = b"k" if value is None else chance.choice((None, b"", b"k"))
        headers = chance.choice(([], [("chunk", b"1"), ("n", b"5")], [("ü", None), ("ü", b"\xff")]))
        await producer.send(EVENTS_RAW, value, key=key, partition=chance.randrange(PARTITIONS), headers=headers)
    await producer.flush()
    await producer.stop()


async def assert_is_the_log(writer: Writer, since: dict[int, int] | None = None) -> None:
    """Every record from `since` on stands in the archive once, in order, with all that it has in the log."""
    records = await read_whole(writer.connection, ALL)
    for number in range(PARTITIONS):
        first = (since or {}).get(number, 0)
        expected = [
            ArchivedRecord(one.offset, one.timestamp, one.key, one.value, list(one.headers), [])
            for one in records
            if one.partition == number and one.offset >= first
        ]
        assert archived(writer.archive, number) == expected


@pytest.fixture(scope="module")
def connection(tmp_path_factory: pytest.TempPathFactory) -> Iterator[KafkaConnection]:
    with running_broker(tmp_path_factory.mktemp("broker")) as connection:
        run_apart(ensure_topics(connection, PARTITIONS, store_log=0))
        yield connection


@pytest.fixture
def writer(connection: KafkaConnection, tmp_path: Path) -> Iterator[Writer]:
    """A writer with an archive of its own that begins where the log begins."""
    writer = Writer(connection, tmp_path)
    yield writer
    writer.clean_up()


async def accept_loss(writer: Writer, offsets: dict[TopicPartition, int]) -> None:
    """Commit for the writer, as the message tells an operator to do once it has left the group."""
    connection = writer.connection
    consumer = AIOKafkaConsumer(**connection.client_settings(), group_id=writer.group, enable_auto_commit=False)
    await consumer.start()
    consumer.assign(list(offsets))
    await consumer.commit(offsets)
    await consumer.stop()


@slow
async def test_a_kill_at_any_point_or_moment_leaves_neither_gap_nor_overlap(writer: Writer):
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for point in POINTS:
        await write(writer.connection, 60, chance)
        writer.start(crash_at=f"{point}:{chance.randint(1, 2)}")
        assert await writer.end(0) == -signal.SIGKILL, f"{point} was never reached"
    for _ in range(3):
        await write(writer.connection, 60, chance)
        writer.start()
        assert await asyncio.to_thread(writer.told)
        await asyncio.sleep(chance.uniform(0, 1))  # a moment, not a condition: that is the point
        await writer.end(signal.SIGKILL)
    writer.start()
    await writer.caught_up()
    await assert_is_the_log(writer)
    files = writer.archive.files()
    assert await writer.end(signal.SIGTERM) == 0

    # One that starts anew makes nothing a second time, and goes on where the files end.
    await write(writer.connection, 10, chance)
    writer.start()
    await writer.caught_up()
    assert set(files) < set(writer.archive.files())
    await assert_is_the_log(writer)
    assert writer.left_aside() == []


@slow
async def test_a_writer_that_cannot_write_says_so_and_goes_on_when_it_can(writer: Writer):
    await write(writer.connection, 20, random.Random(1))
    writer.obstruct()
    writer.start()

    async def says(what: Callable[[str], bool]) -> bool:
        return what(str((await asyncio.to_thread(writer.told))["readiness"]))

    await until(lambda: says(lambda said: "not archived" in said))
    writer.make_way()
    await writer.caught_up()
    await assert_is_the_log(writer)


@slow
async def test_records_that_retention_took_before_they_were_archived_stop_it_loudly(writer: Writer):
    await write(writer.connection, 20, random.Random(2))
    writer.start(instance="")
    await writer.caught_up()
    assert await writer.end(signal.SIGTERM) == 0
    before = ends_of(writer.archive)
    await write(writer.connection, 20, random.Random(3))
    ends = await log_ends(writer.connection)
    await write(writer.connection, 20, random.Random(4))
    admin = AIOKafkaAdminClient(**writer.connection.client_settings())
    await admin.start()
    await admin.delete_records({tp: RecordsToDelete(before_offset=ends[tp.partition]) for tp in ALL})
    await admin.close()
    writer.start(instance="")

    async def stopped() -> bool:
        said = str((await asyncio.to_thread(writer.told))["readiness"])
        return "were deleted before they were archived" in said and ARCHIVE_GROUP in said

    await until(stopped)
    assert ends_of(writer.archive) == before
    assert await writer.end(signal.SIGTERM) == 0

    # What the message says to do makes it go on, and a reader is told of the gap.
    await accept_loss(writer, {tp: ends[tp.partition] for tp in ALL})
    writer.start(instance="")
    await writer.caught_up()
    with pytest.raises(ArchiveGapError, match=f"no records {before[0]} to {ends[0] - 1} of"):
        archived(writer.archive, 0)


@pytest.mark.parametrize(
    ("archived", "committed", "bounds", "first"),
    [
        (None, None, (5, 90), 5),
        (None, 40, (5, 90), 40),
        (50, 40, (5, 90), 50),
        (50, 60, (5, 90), 50),
        (90, None, (5, 90), 90),
        (5, 3, (5, 90), 5),
        (4, 5, (5, 90), 5),
        (4, 3, (5, 90), None),
        (4, None, (5, 90), None),
        (None, 4, (5, 90), None),
        (91, None, (5, 90), None),
    ],
)
def test_the_archive_goes_on_where_its_files_end_and_skips_nothing_unasked(
    archived: int | None, committed: int | None, bounds: tuple[int, int], first: int | None
):
    if first is None:
        with pytest.raises(RecordsLostError):
            first_to_archive(0, archived, committed, Bounds(*bounds))
    else:
        assert first_to_archive(0, archived, committed, Bounds(*bounds)) == first


def test_files_of_two_writers_are_read_once_and_a_missing_one_is_named():
    files = [ArchiveFile(Place(1, 0), *span) for span in ((10, 19), (0, 9), (0, 4), (15, 30), (12, 18))]
    assert [((file.first, file.last), first) for file, first in covered(files)] == [
        ((0, 9), 0),
        ((10, 19), 10),
        ((15, 30), 20),
    ]
    with pytest.raises(ArchiveGapError, match="no records 31 to 31"):
        list(covered([*files, ArchiveFile(Place(1, 0), 32, 40)]))


def test_a_log_number_that_only_the_archive_knows_is_not_given_again(tmp_path: Path):
    archive = Archive(str(tmp_path / uuid.uuid4().hex))
    assert archived_log("") == archived_log(archive.location) == 0
    archive.write(Place(7, 1), [ArchivedRecord(0, 1, None, b"{}", [])])
    archive.write(Place(3, 0), [ArchivedRecord(0, 1, None, b"{}", [])])
    assert archived_log(archive.location) == 7


def test_a_file_has_its_time_span_in_its_end(tmp_path: Path):
    archive = Archive(str(tmp_path))
    archive.write(Place(1, 0), [ArchivedRecord(n, ms, None, b"", []) for n, ms in enumerate((500, 300, 900))])
    [file] = archive.files()
    assert archive.append_times(file) == (300, 900)
