"""Rows as bytes of one CSV or Parquet file, piece by piece."""

from typing import Any, Final, Protocol

import pyarrow as pa
import pyarrow.parquet as pq

MEDIA_TYPES: Final = {"csv": "text/csv; charset=utf-8", "parquet": "application/vnd.apache.parquet"}
ENGINE_FORMATS: Final = {"csv": "CSVWithNames", "parquet": "ArrowStream"}


class Encoder(Protocol):
    """Makes one file of answers of the engine, in its format of `ENGINE_FORMATS`."""

    def head(self, answer: bytes) -> bytes:
        """Return how the file begins; `answer` has no rows."""

    def piece(self, answer: bytes) -> bytes:
        """Return what some rows add to it."""

    def tail(self) -> bytes:
        """Return how it ends."""


class Csv:
    """One line of names, then rows."""

    def head(self, answer: bytes) -> bytes:
        """See `Encoder`."""
        return answer

    def piece(self, answer: bytes) -> bytes:
        """See `Encoder`."""
        return answer.partition(b"\n")[2]

    def tail(self) -> bytes:
        """See `Encoder`."""
        return b""


class Parquet:
    """A row group for each piece; its end names them all, so that a file that was cut off is none."""

    def __init__(self) -> None:
        self._sink = _Sink()
        self._writer: Any = None

    def head(self, answer: bytes) -> bytes:
        """See `Encoder`."""
        with pa.ipc.open_stream(answer) as reader:
            self._writer = pq.ParquetWriter(self._sink, reader.schema, compression="zstd")
        return self._sink.taken()

    def piece(self, answer: bytes) -> bytes:
        """See `Encoder`."""
        with pa.ipc.open_stream(answer) as reader:
            self._writer.write_table(reader.read_all().cast(self._writer.schema))
        return self._sink.taken()

    def tail(self) -> bytes:
        """See `Encoder`."""
        self._writer.close()
        return self._sink.taken()


class _Sink:
    """A file that keeps what is written until it is taken."""

    closed = False

    def __init__(self) -> None:
        self._parts: list[bytes] = []
        self._length = 0

    def write(self, data: Any) -> int:
        part = bytes(data)
        self._parts.append(part)
        self._length += len(part)
        return len(part)

    def tell(self) -> int:
        return self._length

    def flush(self) -> None:
        """Nothing waits."""

    def close(self) -> None:
        """Nothing is held open."""

    def taken(self) -> bytes:
        parts, self._parts = self._parts, []
        return b"".join(parts)


def encoder_of(form: str) -> Encoder:
    """Return a new encoder of a format of `MEDIA_TYPES`."""
    return Parquet() if form == "parquet" else Csv()
