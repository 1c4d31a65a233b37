"""`headrace export` and its route: every exposure once, whole files only."""

import csv
import io
import os
from collections.abc import Callable
from pathlib import Path

import httpx
import orjson
import pyarrow.parquet as pq
import pytest
from support.commands import Headrace
from support.console_process import RunningConsole
from support.console_truth import truth

from ops.output import ExitCode


@pytest.fixture
def headrace(monkeypatch: pytest.MonkeyPatch, console: RunningConsole) -> Headrace:
    monkeypatch.setenv("HEADRACE_CONSOLE_URL", console.address)
    return Headrace(monkeypatch)


def _expected(ask: Callable[..., httpx.Response]) -> list[str]:
    return [event_id for (event_id,) in ask("SELECT event_id FROM exposures ORDER BY event_id").json()["rows"]]


def test_a_parquet_file_has_every_exposure_once_with_all_columns(
    headrace: Headrace, ask: Callable[..., httpx.Response], tmp_path: Path
):
    file = tmp_path / "out.parquet"
    result = headrace("export", "exposures", "--since", "2h", "--until", "2999-01-01", "-o", str(file), "--json")
    assert result.exit_code == ExitCode.OK, result.stderr
    told = orjson.loads(result.stdout)
    assert (told["rows"], told["bytes"], told["file"]) == (len(truth()), file.stat().st_size, str(file))
    table = pq.read_table(file)
    assert sorted(table["event_id"].to_pylist()) == _expected(ask)
    columns = {name for name, *_ in ask("DESCRIBE TABLE exposures").json()["rows"]}
    assert set(table.column_names) == columns - {"event_id_bytes", "parent_event_id_bytes"}
    assert sorted(set(table["name"].to_pylist())) == sorted({each["name"] for each in truth()})
    assert os.listdir(tmp_path) == ["out.parquet"]  # noqa: PTH208 - hidden ones too


def test_a_csv_file_says_the_same(headrace: Headrace, ask: Callable[..., httpx.Response], tmp_path: Path):
    file = tmp_path / "out.csv"
    file.write_text("what was there before")
    headrace("export", "exposures", "--since", "2h", "--until", "2999-01-01", "--format", "csv", "-o", str(file))
    rows = list(csv.DictReader(io.StringIO(file.read_text())))
    assert sorted(row["event_id"] for row in rows) == _expected(ask)


def test_a_span_without_exposures_is_a_file_without_rows(headrace: Headrace, tmp_path: Path):
    file = tmp_path / "out.parquet"
    result = headrace("export", "exposures", "--since", "2001-01-01", "--until", "2001-01-02", "-o", str(file))
    assert result.exit_code == ExitCode.OK
    assert result.stdout.startswith("0 exposures from 2001-01-01T00:00:00.000Z")
    assert pq.read_table(file).num_rows == 0


@pytest.mark.parametrize(
    "arguments",
    [("--since", "soon"), ("--since", "2026-01-02", "--until", "2026-01-01"), ("--since", "1h", "-f", "xml")],
)
def test_what_is_asked_wrongly_is_said_and_leaves_no_file(
    headrace: Headrace, tmp_path: Path, arguments: tuple[str, ...]
):
    result = headrace("export", "exposures", *arguments, "-o", str(tmp_path / "out"))
    assert result.exit_code == ExitCode.USAGE
    assert list(tmp_path.iterdir()) == []


def test_a_file_that_is_cut_off_does_not_take_the_name(
    headrace: Headrace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path
):
    file = tmp_path / "out.parquet"
    file.write_text("the last one that was whole")

    def cut_off(_answer: httpx.Response) -> None:
        raise httpx.RemoteProtocolError("peer closed connection without sending complete message body")

    monkeypatch.setattr(httpx.Response, "iter_bytes", cut_off)
    result = headrace("export", "exposures", "--since", "2h", "-o", str(file))
    assert result.exit_code == ExitCode.FAILED
    assert "cut off" in result.stderr
    assert [each.name for each in tmp_path.iterdir()] == ["out.parquet"]
    assert file.read_text() == "the last one that was whole"


def test_a_console_that_is_not_there_is_said(headrace: Headrace, monkeypatch: pytest.MonkeyPatch, tmp_path: Path):
    monkeypatch.setenv("HEADRACE_CONSOLE_URL", "http://127.0.0.1:1")
    result = headrace("export", "exposures", "--since", "2h", "-o", str(tmp_path / "out"))
    assert result.exit_code == ExitCode.UNREACHABLE
    assert list(tmp_path.iterdir()) == []


def test_the_route_refuses_what_it_does_not_know(api: httpx.Client):
    for parameters in ({}, {"since": "1h", "where": "1"}, {"since": "1h", "format": "xlsx"}):
        answer = api.get("/api/export/exposures", params=parameters)
        assert answer.status_code == 400
        assert answer.json()["error"]["remedy"]
    assert api.get("/api/export/exposures", params={"since": "now"}).status_code == 400
