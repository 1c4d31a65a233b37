"""The archive: chunks of `events.raw` as Parquet files, in a folder or in any S3-compatible store.

A file holds an unbroken range of offsets of one partition of one log, and its name says which:
`events.raw/<log>/<partition>/<first offset>-<last offset>.parquet`. So the names alone tell how far the
archive is and whether something is missing, a file that is written again is the same file, and one
that was written by two (a frozen writer that wakes) never takes the place of another.
"""

import os
import re
from collections.abc import Iterable, Iterator, Sequence
from pathlib import Path
from typing import Any, Final, NamedTuple

import pyarrow as pa
import pyarrow.fs
import pyarrow.parquet as pq

from schemas.crash_points import CrashPoint, reach
from schemas.topics import EVENTS_RAW

_NAME: Final = re.compile(r"(\d+)/(\d+)/(\d{20})-(\d{20})\.parquet")
_ASIDE: Final = ".aside"
_ROWS_AT_ONCE: Final = 1_000
_READ: Final = ("offset", "append_time", "key", "value", "headers", "erased")
_FIRST_MS: Final = b"headrace.first_append_ms"
_LAST_MS: Final = b"headrace.last_append_ms"

SCHEMA: Final = pa.schema(
    [
        pa.field("log", pa.uint8(), nullable=False),
        pa.field("partition", pa.uint32(), nullable=False),
        pa.field("offset", pa.uint64(), nullable=False),
        pa.field("append_time", pa.timestamp("ms", tz="UTC"), nullable=False),
        pa.field("key", pa.binary()),
        pa.field("value", pa.binary()),
        pa.field("headers", pa.list_(pa.struct([("name", pa.string()), ("value", pa.binary())])), nullable=False),
        # Places of the chunk's events that were erased since: `null` stands there in `value`.
        pa.field("erased", pa.list_(pa.uint32()), nullable=False),
    ]
)
"""The columns of a file. `value` has the chunk's bytes as Kafka had them."""

ARCHIVE_ERRORS: Final = (OSError, pa.ArrowException)
"""What reading and writing files raises."""


class ArchiveGapError(Exception):
    """Offsets are missing between two files."""


class Place(NamedTuple):
    """One partition of one log."""

    log: int
    partition: int


class ArchiveFile(NamedTuple):
    """A file by its name; `first` and `last` offset are both in it."""

    place: Place
    first: int
    last: int

    @property
    def name(self) -> str:
        """Where it stands below the archive's root."""
        return f"{EVENTS_RAW}/{self.place.log}/{self.place.partition}/{self.first:020}-{self.last:020}.parquet"


class ArchivedRecord(NamedTuple):
    """A record of `events.raw`; `append_ms` is the broker's clock, `erased` the places of events that were removed."""

    offset: int
    append_ms: int
    key: bytes | None
    value: bytes | None
    headers: Sequence[tuple[str, bytes | None]]
    erased: Sequence[int] = ()


class Archive:
    """One archive. Every method blocks, and raises `ARCHIVE_ERRORS`."""

    def __init__(self, location: str) -> None:
        """`location`: a folder, or `s3://bucket/prefix?endpoint_override=host:port&scheme=http`."""
        self.location = location
        self._is_local = "://" not in location
        if self._is_local:
            self._root = str(Path(location).expanduser().absolute())
            self._files: Any = pyarrow.fs.LocalFileSystem()
        else:
            self._files, self._root = pyarrow.fs.FileSystem.from_uri(location)

    def files(self) -> list[ArchiveFile]:
        """Return every file, by log, partition and first offset."""
        root = f"{self._root}/{EVENTS_RAW}"
        selector = pyarrow.fs.FileSelector(root, allow_not_found=True, recursive=True)
        found = []
        for info in self._files.get_file_info(selector):
            name = _NAME.fullmatch(info.path.removeprefix(root + "/"))
            if name is not None and info.is_file:
                log, partition, first, last = map(int, name.groups())
                found.append(ArchiveFile(Place(log, partition), first, last))
        return sorted(found)

    def write(self, place: Place, records: Sequence[ArchivedRecord]) -> int:
        """Make the file of these records, which follow each other; return its bytes when it is durable.

        It appears whole or not at all. What of the same name is there is replaced.
        """
        file = ArchiveFile(place, records[0].offset, records[-1].offset)
        assert file.last - file.first + 1 == len(records), "a file holds an unbroken range"
        # Made in memory, so that a store that shows what was uploaded when the upload ends has all or nothing.
        content = _encoded(place, records)
        path = f"{self._root}/{file.name}"
        if self._is_local:
            _write_durably(Path(path), content)
        else:
            with self._files.open_output_stream(path) as stream:
                stream.write(content)
        reach(CrashPoint.ARCHIVE_AFTER_RENAME)
        return int(content.size)

    def tidy(self, place: Place) -> None:
        """Remove what a writer that was killed has left half written; for whoever writes here alone."""
        if self._is_local:
            for aside in Path(self._root, EVENTS_RAW, str(place.log), str(place.partition)).glob(f"*{_ASIDE}"):
                aside.unlink(missing_ok=True)

    def append_times(self, file: ArchiveFile) -> tuple[int, int]:
        """Return the earliest and the latest append time in a file, in ms since the epoch; reads its end only."""
        told = pq.read_schema(f"{self._root}/{file.name}", filesystem=self._files).metadata
        return int(told[_FIRST_MS]), int(told[_LAST_MS])

    def read(self, file: ArchiveFile) -> Iterator[ArchivedRecord]:
        """Yield the records of a file in order."""
        with self._files.open_input_file(f"{self._root}/{file.name}") as opened:
            for batch in pq.ParquetFile(opened).iter_batches(_ROWS_AT_ONCE, columns=list(_READ)):
                columns = [batch.column(name) for name in _READ]
                columns[1] = columns[1].cast(pa.int64())
                for offset, append_ms, key, value, headers, erased in zip(
                    *(column.to_pylist() for column in columns), strict=True
                ):
                    pairs = [(header["name"], header["value"]) for header in headers]
                    yield ArchivedRecord(offset, append_ms, key, value, pairs, erased)


def covered(files: Iterable[ArchiveFile]) -> Iterator[tuple[ArchiveFile, int]]:
    """Yield the files of one partition that are to be read, in order, each with the first offset to take from it.

    What a second writer wrote once more is passed over. Raises ArchiveGapError at offsets that no file has.
    """
    expected: int | None = None
    # Of files that begin alike the longest is read.
    for file in sorted(files, key=lambda file: (file.first, -file.last)):
        if expected is not None and file.last < expected:
            continue
        if expected is not None and file.first > expected:
            place = f"{EVENTS_RAW}/{file.place.partition} of log {file.place.log}"
            raise ArchiveGapError(f"the archive has no records {expected} to {file.first - 1} of {place}")
        yield file, file.first if expected is None else expected
        expected = file.last + 1


def _encoded(place: Place, records: Sequence[ArchivedRecord]) -> Any:
    count = len(records)
    names = [[{"name": name, "value": value} for name, value in record.headers] for record in records]
    times = [record.append_ms for record in records]
    columns = [
        pa.array([place.log] * count, pa.uint8()),
        pa.array([place.partition] * count, pa.uint32()),
        pa.array([record.offset for record in records], pa.uint64()),
        pa.array(times, pa.int64()).cast(SCHEMA.field("append_time").type),
        pa.array([record.key for record in records], pa.binary()),
        pa.array([record.value for record in records], pa.binary()),
        pa.array(names, SCHEMA.field("headers").type),
        pa.array([list(record.erased) for record in records], SCHEMA.field("erased").type),
    ]
    told = {_FIRST_MS: b"%d" % min(times), _LAST_MS: b"%d" % max(times)}
    sink = pa.BufferOutputStream()
    pq.write_table(
        pa.table(columns, schema=SCHEMA.with_metadata(told)),
        sink,
        compression="zstd",
        # A dictionary of chunks would be as large as they are.
        use_dictionary=["log", "partition"],
        row_group_size=_ROWS_AT_ONCE,
    )
    return sink.getvalue()


def _write_durably(path: Path, content: Any) -> None:
    _make_folder(path.parent)
    aside = path.with_name(f"{path.name}.{os.getpid()}{_ASIDE}")
    with aside.open("wb") as opened:
        opened.write(content)
        opened.flush()
        os.fsync(opened.fileno())
    reach(CrashPoint.ARCHIVE_BEFORE_RENAME)
    aside.replace(path)
    _sync_folder(path.parent)


def _make_folder(folder: Path) -> None:
    """Make a folder so that it is there after a loss of power: the folder above has to know its name."""
    if not folder.exists():
        _make_folder(folder.parent)
        folder.mkdir(exist_ok=True)
        _sync_folder(folder.parent)


def _sync_folder(folder: Path) -> None:
    opened = os.open(folder, os.O_RDONLY)
    try:
        os.fsync(opened)
    finally:
        os.close(opened)
