"""An export is one file made of pieces: what it spans, how it is cut, and that the pieces join."""

import io

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from console.answers import RefusedError
from console.export.encode import encoder_of
from console.export.span import STEP_S, Piece, moment_s, pieces

NOW_S = 1_790_000_000


@pytest.mark.parametrize(
    ("text", "moment"),
    [
        ("90m", NOW_S - 5_400),
        ("7d", NOW_S - 7 * 86_400),
        ("2026-09-21", 1_789_948_800),
        ("2026-09-21T12:00:00Z", 1_789_992_000),
        ("2026-09-21T12:00:00.900+02:00", 1_789_984_800),
        ("2026-09-21 12:00:00", 1_789_992_000),
    ],
)
def test_a_moment_is_written_as_people_do(text: str, moment: int):
    assert moment_s(text, NOW_S) == moment


@pytest.mark.parametrize("text", ["", "yesterday", "0h", "5w", "2026-13-01", "-1d", "1' OR 1 = 1"])
def test_what_is_no_moment_is_refused(text: str):
    with pytest.raises(RefusedError):
        moment_s(text, NOW_S)


def test_pieces_hold_every_row_once_and_no_more_than_they_may():
    counted = [(step * STEP_S, rows) for step, rows in ((0, 3), (1, 4), (2, 3), (5, 20), (9, 1))]
    assert pieces(counted, rows_max=10) == [
        Piece(0, 3 * STEP_S, 10),
        Piece(5 * STEP_S, 6 * STEP_S, 20),
        Piece(9 * STEP_S, 10 * STEP_S, 1),
    ]
    assert pieces([]) == []


def _stream(*numbers: int) -> bytes:
    sink = io.BytesIO()
    schema = pa.schema([("n", pa.int64())])
    with pa.ipc.new_stream(sink, schema) as writer:
        writer.write_table(pa.table({"n": pa.array(numbers, pa.int64())}))
    return sink.getvalue()


def test_pieces_of_parquet_join_into_one_file():
    encoder = encoder_of("parquet")
    file = encoder.head(_stream()) + encoder.piece(_stream(1, 2)) + encoder.piece(_stream(3)) + encoder.tail()
    assert pq.read_table(io.BytesIO(file)).to_pylist() == [{"n": 1}, {"n": 2}, {"n": 3}]


def test_a_file_of_nothing_is_a_file():
    encoder = encoder_of("parquet")
    assert pq.read_table(io.BytesIO(encoder.head(_stream()) + encoder.tail())).num_rows == 0


def test_pieces_of_csv_have_their_names_once():
    encoder = encoder_of("csv")
    file = encoder.head(b'"n"\n') + encoder.piece(b'"n"\n1\n2\n') + encoder.piece(b'"n"\n3\n') + encoder.tail()
    assert file == b'"n"\n1\n2\n3\n'
