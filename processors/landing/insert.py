"""Putting rows into the store, and finding the one that it refuses."""

import os
import secrets
import weakref
from collections.abc import Callable, Sequence
from typing import Final

import structlog
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError
from clickhouse_connect.driver.summary import QuerySummary

from processors.landing.batch import Rejected, Row
from processors.landing.tables import Landing
from schemas.avro import MARK, MARK_BYTES, Container
from schemas.crash_points import CrashPoint, reach
from schemas.reasons import Reason

log = structlog.get_logger()

# Errors that the rows themselves cause: the same rows would be refused tomorrow as well. Everything
# else is the store's trouble and is retried; a row may wait for an operator, but is never skipped.
_DATA_ERRORS: Final = frozenset(
    {
        6,  # CANNOT_PARSE_TEXT
        27,  # CANNOT_PARSE_INPUT_ASSERTION_FAILED
        32,  # ATTEMPT_TO_READ_AFTER_EOF
        33,  # CANNOT_READ_ALL_DATA
        38,  # CANNOT_PARSE_DATE
        41,  # CANNOT_PARSE_DATETIME
        53,  # TYPE_MISMATCH
        69,  # ARGUMENT_OUT_OF_BOUND
        70,  # CANNOT_CONVERT_TYPE
        72,  # CANNOT_PARSE_NUMBER
        117,  # INCORRECT_DATA
        131,  # TOO_LARGE_STRING_SIZE
        321,  # VALUE_IS_OUT_OF_RANGE_OF_DATA_TYPE
        349,  # CANNOT_INSERT_NULL_IN_ORDINARY_COLUMN
        395,  # FUNCTION_THROW_IF_VALUE_IS_NON_ZERO: `_NOT_ONE_RECORD`
        748,  # AVRO_EXCEPTION
    }
)
_NOT_ONE_RECORD: Final = "a value is not exactly one record"
_STANDARD_EXCEPTION: Final = 1001
_TOO_MANY_PARTS: Final = 252

# The driver replays a `raw_insert` by itself when the connection is reset after the server had it,
# which doubles the rows (clickhouse-connect 1.12); it does not replay a `command` that writes.
# Progress headers would send the status 200 before the insert has succeeded.
_SERVER_SETTINGS: Final = {"wait_end_of_query": "1", "send_progress_in_http_headers": "0"}


class RefusedError(Exception):
    """The store cannot take these rows, now or later."""


class MiscountedError(Exception):
    """The store says that it wrote another number of rows than it was given."""


class Inserter:
    """Inserts rows of one table. One thread at a time."""

    def __init__(self, landing: Landing, embedded: bool) -> None:
        columns = ", ".join(landing.schema.columns)
        structure = landing.structure().replace("'", "\\'")
        self.landing = landing
        self._container = Container(landing.schema.json)
        self._embedded = embedded
        self._into = f"INSERT INTO {landing.table} ({columns}) SELECT {columns} FROM "  # noqa: S608
        self._structure = structure
        self._file = _MemoryFile()

    def insert(self, client: Client, rows: Sequence[Row], query_id: str) -> None:
        """Insert synchronously; return when the rows are in the table.

        Raises RefusedError when the rows are at fault, MiscountedError, and ClickHouseError when it
        is not known whether any of them landed.
        """
        mark = _new_mark()
        block = self._container.splice([row.value for row in rows], mark)
        reach(CrashPoint.LANDER_BEFORE_INSERT)
        try:
            if self._embedded:
                self._insert_here(client, block, _each_ends_with(mark))
            else:
                self._insert_there(client, block, _each_ends_with(mark), len(rows), query_id)
        except DatabaseError as error:
            if is_data_error(error):
                raise RefusedError(_first_line(error)) from error
            raise
        reach(CrashPoint.LANDER_AFTER_INSERT)

    def _insert_here(self, client: Client, block: bytes, check: str) -> None:
        path = self._file.hold(block)
        client.command(f"{self._into} file('{path}', 'Avro', '{self._structure}') {check}")

    def _insert_there(self, client: Client, block: bytes, check: str, count: int, query_id: str) -> None:
        summary = client.command(
            f"{self._into} input('{self._structure}') {check} FORMAT Avro",
            data=block,
            settings={**_SERVER_SETTINGS, "query_id": query_id},
        )
        if not isinstance(summary, QuerySummary):
            raise DatabaseError(f"the insert was answered by {str(summary)[:500]!r}")
        if summary.written_rows != count:
            raise MiscountedError(f"{self.landing.table} was given {count} rows and wrote {summary.written_rows}")


def _new_mark() -> bytes:
    # Printable, since the engine puts it into the message of the error.
    mark = secrets.token_urlsafe(MARK_BYTES).encode()[:MARK_BYTES]
    assert len(mark) == MARK_BYTES
    return mark


def _each_ends_with(mark: bytes) -> str:
    return f"WHERE NOT throwIf({MARK} != '{mark.decode()}', '{_NOT_ONE_RECORD}')"


def _first_line(error: ClickHouseError) -> str:
    return str(error).strip().partition("\n")[0][:1000]


class _MemoryFile:
    """Gives bytes a path without a disk: the embedded engine inserts from paths only.

    Kept open from insert to insert, since new pages each time cost 0.4 µs a row.
    """

    def __init__(self) -> None:
        self._descriptor = os.memfd_create("headrace-insert", os.MFD_CLOEXEC)
        weakref.finalize(self, os.close, self._descriptor)
        self.path = f"/proc/self/fd/{self._descriptor}"

    def hold(self, block: bytes) -> str:
        """Replace what the file holds; return its path."""
        os.ftruncate(self._descriptor, len(block))
        written = 0
        while written < len(block):
            written += os.pwrite(self._descriptor, memoryview(block)[written:], written)
        return self.path


def is_data_error(error: ClickHouseError) -> bool:
    """Tell whether the rows caused an error, rather than the state the store is in."""
    code = getattr(error, "code", None)
    if code == _STANDARD_EXCEPTION:
        return "avro::Exception" in str(error)
    if code == _TOO_MANY_PARTS:
        # The same code stands for "merges cannot keep up"; a block over too many days is the rows'.
        return "single INSERT block" in str(error)
    # The embedded engine's client fails on a message that quotes a row's bytes; only rows have such.
    return code in _DATA_ERRORS or (code is None and "codec can't decode" in str(error))


def insert_what_fits(
    rows: Sequence[Row],
    insert: Callable[[Sequence[Row]], None],
    still_missing: Callable[[Sequence[Row]], list[Row]],
    flaw: Callable[[Row], str],
) -> list[Rejected]:
    """Insert rows; find those that cannot be inserted, and return them.

    Rows that are no records at all are found by decoding, which is quick where there are many;
    what else the store refuses is found by halving. A refused insert may have written a part of its
    rows (it may span table partitions), so the rows are looked up again before they are tried again.
    """
    try:
        insert(rows)
    except RefusedError as error:
        log.warning("insert_refused", rows=len(rows), error=str(error))
        rest, rejected = [], []
        for row in still_missing(rows):
            if reason := flaw(row):
                rejected.append(Rejected(row.record, Reason.UNDECODABLE_RECORD, reason))
            else:
                rest.append(row)
        if rejected:
            return rejected + (insert_what_fits(rest, insert, still_missing, flaw) if rest else [])
        return _insert_by_halves(rest, insert, still_missing, str(error))
    return []


def _insert_by_halves(
    rows: Sequence[Row],
    insert: Callable[[Sequence[Row]], None],
    still_missing: Callable[[Sequence[Row]], list[Row]],
    refusal: str,
) -> list[Rejected]:
    if len(rows) < 2:
        return [Rejected(row.record, Reason.INSERT_REFUSED, refusal) for row in rows]
    middle = len(rows) // 2
    rejected = []
    for half in (rows[:middle], rows[middle:]):
        try:
            insert(half)
        except RefusedError as error:
            rejected += _insert_by_halves(still_missing(half), insert, still_missing, str(error))
    return rejected
