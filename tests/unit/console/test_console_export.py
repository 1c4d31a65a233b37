"""An export is one file made of pieces: what it spans, how it is cut, and that the pieces join."""

import asyncio
import io
from pathlib import Path

import pyarrow as pa
import pyarrow.parquet as pq
import pytest

from console.answers import RefusedError
from console.export.encode import encoder_of
from console.export.route import Export
from console.export.span import STEP_S, Piece, moment_s, pieces
from console.store_pool import StorePool
from schemas.store import StoreAddress

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


@pytest.mark.parametrize(
    "text",
    [
        "", "yesterday", "0h", "5w", "2026-13-01", "-1d", "1' OR 1 = 1",
        "0001-01-01T00:00:00+23:59", "9999-12-31T23:59:59-23:59",
    ],
)  # fmt: skip
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


async def test_of_exports_that_come_in_the_same_moment_two_are_under_way(monkeypatch: pytest.MonkeyPatch):
    begun: list[asyncio.Task[bytes]] = []
    may_answer = asyncio.Event()

    async def read(*_: object) -> bytes:
        task = asyncio.current_task()
        assert task is not None
        begun.append(task)
        await may_answer.wait()
        return b"n\n"

    export = Export(StorePool(StoreAddress(path=Path("unused")), 1, "unused"))
    monkeypatch.setattr(export, "_read", read)

    async def whole() -> bytes:
        return b"".join([part async for part in export._file("csv", [])])

    sent = [asyncio.create_task(whole()) for _ in range(12)]
    for _ in range(100):
        await asyncio.sleep(0)
    assert len(begun) == 2
    may_answer.set()
    async with asyncio.timeout(20):
        assert await asyncio.gather(*sent) == [b"n\n"] * 12
