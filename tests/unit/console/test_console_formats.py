import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.answers import RefusedError
from console.sql.formats import FORMATS, format_named, json_body
from console.sql.run import plain_message


def _lines(*rows: object) -> bytes:
    return b"".join(orjson.dumps(row) + b"\n" for row in rows)


@given(st.integers(0, 20), st.integers(0, 12))
def test_rows_beyond_the_limit_are_cut_off_and_said_so(count: int, rows_max: int):
    rows = [[number, "text"] for number in range(count)]
    body, shown, truncated = json_body(_lines(["n", "s"], ["UInt64", "String"], *rows), rows_max, 1.0)
    answer = orjson.loads(body)
    assert answer["rows"] == rows[:rows_max]
    assert answer["columns"] == [{"name": "n", "type": "UInt64"}, {"name": "s", "type": "String"}]
    assert shown == answer["statistics"]["rows"] == min(count, rows_max)
    assert truncated is answer["statistics"]["truncated"] is (count > rows_max)


def test_no_number_loses_a_digit():
    body, _, _ = json_body(b'["n"]\n["UInt256"]\n[170141183460469231731687303715884105727]\n', 10, 1.0)
    assert b"[[170141183460469231731687303715884105727]]" in body


def test_an_unknown_format_is_refused_with_the_ones_there_are():
    with pytest.raises(RefusedError) as refusal:
        format_named("xlsx")
    assert refusal.value.status == 400
    assert all(name in refusal.value.remedy for name in FORMATS)


@pytest.mark.parametrize(
    ("engine", "shown"),
    [
        (
            (
                "Code: 62. DB::Exception: Syntax error: failed at position 8 (selct): selct 1. : In scope SELECT "
                "formatQuerySingleLine(unhex('73656c')). (SYNTAX_ERROR)"
            ),
            "Syntax error: failed at position 8 (selct): selct 1.",
        ),
        (
            (
                "Code: 164. DB::Exception: Code: 164. DB::Exception: Cannot modify 'readonly' setting in readonly "
                "mode. (READONLY) (version 26.9.2.1). (READONLY)"
            ),
            "Cannot modify 'readonly' setting in readonly mode.",
        ),
        ("Code: 60. DB::Exception: Unknown table 'x'. (UNKNOWN_TABLE)", "Unknown table 'x'."),
    ],
)
def test_an_error_of_the_engine_is_shown_without_its_frame(engine: str, shown: str):
    assert plain_message(engine) == shown
