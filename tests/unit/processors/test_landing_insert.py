"""Finding the rows that cannot be inserted, and telling the rows' faults from the store's."""

import pytest
from clickhouse_connect.driver.exceptions import DatabaseError, OperationalError
from hypothesis import given
from hypothesis import strategies as st
from support.landing import MemoryTable, exposure_at, row_at

from processors.landing.batch import Row
from processors.landing.insert import insert_what_fits, is_data_error
from processors.landing.suspects import decide
from processors.landing.tables import BY_TOPIC
from schemas.origin import Origin
from schemas.reasons import Reason


def rows_of(count: int) -> list[Row]:
    return [row_at(Origin(1, 0, 1, index)) for index in range(count)]


def insert_into(table: MemoryTable, rows: list[Row], flawed: frozenset[bytes] = frozenset()):
    return insert_what_fits(
        rows,
        insert=lambda some: table.insert(some, "q"),
        still_missing=lambda some: decide(some, table.landed(some)).new,
        flaw=lambda row: "not a record" if row.origin in flawed else "",
    )


@given(st.integers(1, 60).flatmap(lambda n: st.tuples(st.just(n), st.sets(st.integers(0, n - 1)))))
def test_exactly_the_refused_rows_are_found_and_all_others_land_once(case: tuple[int, set[int]]):
    """Although a refused insert may have written the rows before the refused one."""
    count, bad = case
    rows = [row._replace(record=index) for index, row in enumerate(rows_of(count))]
    table = MemoryTable(refused={rows[index].origin for index in bad})
    rejected = insert_into(table, rows)
    assert {one.record for one in rejected} == bad
    assert {one.reason for one in rejected} <= {Reason.INSERT_REFUSED}
    assert sorted(row.record for row in table.rows) == sorted(set(range(count)) - bad)


def test_a_single_bad_row_is_found_in_logarithmic_many_inserts():
    rows = rows_of(1_024)
    table = MemoryTable(refused={rows[777].origin})
    assert len(insert_into(table, rows)) == 1
    assert table.inserts <= 2 * 10 + 1


def test_many_rows_that_are_no_records_cost_no_inserts_each():
    rows = rows_of(1_000)
    flawed = frozenset(row.origin for row in rows[::5])
    table = MemoryTable(refused=set(flawed))
    rejected = insert_into(table, rows, flawed)
    assert len(rejected) == 200
    assert {one.reason for one in rejected} == {Reason.UNDECODABLE_RECORD}
    assert table.inserts == 2


def test_a_store_that_breaks_while_a_bad_row_is_looked_for_is_no_verdict():
    rows = rows_of(4)
    table = MemoryTable(refused={rows[0].origin})

    def still_missing(some: list[Row]) -> list[Row]:
        table.fail_after = 0
        return list(some)

    with pytest.raises(OperationalError):
        insert_what_fits(rows, lambda some: table.insert(some, "q"), still_missing, lambda _row: "")


@pytest.mark.parametrize(
    ("error", "at_fault"),
    [
        (DatabaseError("Code: 33. DB::Exception: Cannot read all data", code=33), True),
        (DatabaseError("Code: 748. avro::Exception: Cannot have negative length", code=748), True),
        (DatabaseError("std::exception. type: avro::Exception", code=1001), True),
        (DatabaseError("std::exception. type: std::bad_alloc", code=1001), False),
        (DatabaseError("Too many partitions for single INSERT block (more than 100)", code=252), True),
        (DatabaseError("Too many parts (3000). Merges are processing slower than inserts", code=252), False),
        (DatabaseError("Memory limit (total) exceeded", code=241), False),
        (DatabaseError("No space left on device", code=243), False),
        (DatabaseError("Table default.exposures does not exist", code=60), False),
        (DatabaseError("some error of next year", code=9999), False),
        (OperationalError("connection reset"), False),
    ],
)
def test_only_what_the_rows_cause_makes_a_dead_letter(error: DatabaseError, at_fault: bool):
    """An error that is not known is the store's: rows wait for an operator rather than being skipped."""
    assert is_data_error(error) is at_fault


def test_a_flaw_is_told_of_whatever_is_not_exactly_one_record():
    schema = BY_TOPIC["exposures"].schema
    body = exposure_at(Origin(1, 0, 1, 0))[5:]
    assert schema.flaw(body) == ""
    assert "3 bytes follow" in schema.flaw(body + b"abc")
    assert "not a Exposure" in schema.flaw(body[:-1])
    assert "not a Exposure" in schema.flaw(b"")
