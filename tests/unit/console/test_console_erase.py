"""Which rows are a unit's is read from a table's columns, and no id can be more than an id."""

import pytest

from console.erase import Asked, condition

ASKED = Asked("p", "userID", "alice", 5, "e1")
LANDING = frozenset({"project", "received_at", "unit_type", "unit_id", "user_id", "stable_id", "custom_ids"})


def hexed(text: str) -> str:
    return f"unhex('{text.encode().hex()}')"


def test_a_landing_table_is_searched_by_each_of_its_ids():
    assert condition("exposures", LANDING, ASKED) == (
        f"((unit_type = {hexed('userID')} AND unit_id = {hexed('alice')}) OR user_id = {hexed('alice')} OR "
        f"custom_ids[{hexed('userID')}] = {hexed('alice')}) AND project = {hexed('p')} "
        "AND received_at < fromUnixTimestamp64Milli(5, 'UTC')"
    )


@pytest.mark.parametrize("columns", [{"day", "project", "units"}, {"origin_log", "received_at", "erasure"}, set()])
def test_a_table_without_units_is_left_alone(columns: set[str]):
    assert condition("numbers", frozenset(columns), ASKED) == ""


@pytest.mark.parametrize("unit_id", ["'; DROP TABLE exposures; --", "\\' OR 1", "\x00", "a\u202eb", "\ud800"])
def test_an_id_is_never_read_as_sql(unit_id: str):
    where = condition("exposures", LANDING, ASKED._replace(unit_id=unit_id, unit_type=unit_id))
    assert unit_id not in where
    assert "DROP" not in where
