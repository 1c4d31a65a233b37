"""SQL on the real engine: what reads is answered, what does not is refused by judgement and by engine."""

import io
import socket
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import httpx
import orjson
import pyarrow as pa
import pytest
from support.console_crowd import ENDLESS, PLACES, TOO_MANY, crowd
from support.console_process import TIME_LIMIT_S, RunningConsole, running_console
from support.console_truth import HOSTILE_NAME, UNITS, truth
from support.waiting import until

from schemas.kafka import KafkaConnection

Ask = Callable[..., httpx.Response]


@pytest.fixture(scope="module")
def unlimited(tmp_path_factory: pytest.TempPathFactory, broker: KafkaConnection) -> Iterator[RunningConsole]:
    """A console whose time limit no test lives to see: a query that ends there was ended by something else."""
    with running_console(tmp_path_factory.mktemp("unlimited"), broker, time_limit_s=3600) as running:
        yield running


def test_an_answer_tells_columns_rows_and_cost(ask: Ask):
    answer = ask("SELECT kind, count() AS n FROM exposures GROUP BY kind ORDER BY kind").json()
    assert answer["columns"] == [{"name": "kind", "type": "LowCardinality(String)"}, {"name": "n", "type": "UInt64"}]
    assert answer["rows"] == [["experiment", UNITS + 2], ["gate", UNITS], ["layer", 1]]
    assert answer["statistics"]["rows"] == 3
    assert answer["statistics"]["truncated"] is False


def test_every_format_tells_the_same(ask: Ask):
    query = "SELECT number AS n, toString(number) AS s FROM numbers(3)"
    rows = [{"n": number, "s": str(number)} for number in range(3)]
    assert [orjson.loads(line) for line in ask(query, "jsonl").content.splitlines()] == rows
    assert ask(query, "csv").text == '"n","s"\n0,"0"\n1,"1"\n2,"2"\n'
    assert ask(query, "tsv").text == "n\ts\n0\t0\n1\t1\n2\t2\n"
    assert pa.ipc.open_stream(io.BytesIO(ask(query, "arrow").content)).read_all().to_pylist() == rows
    assert "│ 2" in ask(query, "pretty").text


def test_a_query_may_come_in_the_address_as_text_or_as_json(api: httpx.Client):
    asked = [
        api.get("/api/sql", params={"query": "SELECT 7"}),
        api.post("/api/sql", content=b"SELECT 7"),
        api.post("/api/sql", json={"query": "SELECT 7", "format": "json"}),
    ]
    assert [answer.json()["rows"] for answer in asked] == [[[7]]] * 3


def test_a_saved_answer_has_a_file_name(api: httpx.Client):
    answer = api.get("/api/sql", params={"query": "SELECT 7", "format": "csv", "download": "1"})
    assert answer.headers["content-disposition"] == 'attachment; filename="headrace.csv"'


def test_hostile_names_are_data(ask: Ask):
    answer = ask("SELECT name, unit_id, group_name FROM exposures WHERE position(name, 'DROP') > 0").json()
    assert answer["rows"] == [[HOSTILE_NAME] * 3]


def test_big_numbers_keep_their_digits(ask: Ask):
    assert b"18446744073709551615" in ask("SELECT toUInt64(-1)").content


@pytest.mark.parametrize(
    "query",
    [
        "SHOW TABLES",
        "DESCRIBE exposures",
        "SHOW CREATE TABLE exposures",
        "EXISTS exposures",
        "EXPLAIN SELECT count() FROM exposures",
        "WITH 1 AS one SELECT one",
        "(SELECT 1) UNION ALL (SELECT 2)",
        "FROM exposures SELECT count()",
        "SELECT 1 -- with a comment\n;",
        "SELECT count() FROM exposures_current",
        "SELECT name FROM system.tables WHERE database = currentDatabase()",
        "SELECT formatReadableSize(sum(bytes_on_disk)) FROM system.parts WHERE active",
    ],
)
def test_what_reads_is_answered(ask: Ask, query: str):
    answer = ask(query)
    assert answer.status_code == 200, answer.text


@pytest.fixture
def bait(tmp_path: Path) -> Path:
    """A file that must not be read, in a folder that must not be written to."""
    file = tmp_path / "bait.csv"
    file.write_text("secret,word\n1,xyzzy\n")
    return file


@pytest.fixture
def listener() -> socket.socket:
    """A socket that nobody must connect to."""
    listening = socket.create_server(("127.0.0.1", 0))
    listening.setblocking(False)
    with listening:
        yield listening


_HOSTILE = [
    "INSERT INTO exposures (name) VALUES ('x')",
    "INSERT INTO exposures (name) SELECT 'x'",
    "INSERT INTO FUNCTION file('{folder}/out.csv') SELECT 1",
    "DROP TABLE exposures",
    "TRUNCATE TABLE exposures",
    "ALTER TABLE exposures DELETE WHERE 1",
    "OPTIMIZE TABLE exposures FINAL",
    "CREATE TABLE x (a Int8) ENGINE = Memory",
    "CREATE TABLE x (a Int8) ENGINE = File(CSV, '{folder}/out.csv')",
    "CREATE TEMPORARY TABLE x (a Int8)",
    "CREATE FUNCTION f AS (x) -> file(x)",
    "CREATE DATABASE x ENGINE = MySQL('127.0.0.1:{port}', 'd', 'u', 'p')",
    "RENAME TABLE exposures TO x",
    "DETACH TABLE exposures",
    "SET readonly = 0",
    "SELECT 1 SETTINGS readonly = 0",
    "SELECT 1 SETTINGS max_execution_time = 0",
    "USE system",
    "SYSTEM SHUTDOWN",
    "SYSTEM STOP MERGES",
    "KILL QUERY WHERE 1",
    "GRANT ALL ON *.* TO default",
    "BACKUP TABLE exposures TO File('{folder}/out')",
    "SELECT 1; DROP TABLE exposures",
    "SELECT 1;\n\nSELECT 2",
    "SELECT * FROM file('{file}')",
    "SELECT * FROM file('{file}', CSV, 'a String, b String')",
    "SELECT file('{file}')",
    "SELECT FILE('{file}')",
    "SELECT `file`('{file}')",
    "SELECT/**/file/**/(/**/'{file}')",
    "SELECT \u201cfile\u201d('{file}')",
    "SELECT * APPLY file FROM (SELECT '{file}' AS x)",
    "SELECT * APPLY(file) FROM (SELECT '{file}' AS x)",
    "SELECT arrayMap(x -> file(x), ['{file}'])",
    "WITH (SELECT file('{file}')) AS x SELECT x",
    "EXPLAIN SELECT file('{file}')",
    "DESCRIBE file('{file}')",
    "DESCRIBE '{file}'",
    "SELECT * FROM '{file}'",
    "SELECT * FROM `{file}`",
    "SELECT * FROM exposures, `{file}`",
    "SELECT 1 WHERE 1 IN `{file}`",
    "EXISTS `{file}`",
    "EXISTS default.`{file}`",
    "SHOW CREATE TABLE `{file}`",
    "SELECT 1 INTO OUTFILE '{folder}/out.csv'",
    "SELECT 1 INTO OUTFILE '{folder}/out.csv' FORMAT CSV",
    "SELECT * FROM url('http://127.0.0.1:{port}/', LineAsString)",
    "SELECT * FROM url('http://127.0.0.1:{port}/x.csv')",
    "DESCRIBE url('http://127.0.0.1:{port}/x.csv')",
    "SELECT * FROM 'http://127.0.0.1:{port}/x.csv'",
    "SELECT * FROM s3('http://127.0.0.1:{port}/b/x.csv')",
    "SELECT * FROM gcs('http://127.0.0.1:{port}/b/x.csv')",
    "SELECT * FROM deltaLake('http://127.0.0.1:{port}/bucket/x')",
    "SELECT * FROM iceberg('http://127.0.0.1:{port}/bucket/x')",
    "SELECT * FROM hdfs('hdfs://127.0.0.1:{port}/x')",
    "SELECT * FROM remote('127.0.0.1:{port}', 'system.one')",
    "SELECT * FROM remoteSecure('127.0.0.1:{port}', 'system.one')",
    "SELECT * FROM cluster('default', system.one)",
    "SELECT * FROM mysql('127.0.0.1:{port}', 'd', 't', 'u', 'p')",
    "SELECT * FROM postgresql('127.0.0.1:{port}', 'd', 't', 'u', 'p')",
    "SELECT * FROM mongodb('127.0.0.1:{port}', 'd', 'c', 'u', 'p', 'a String')",
    "SELECT * FROM redis('127.0.0.1:{port}', 'k', 'k String')",
    "SELECT * FROM sqlite('{folder}/x.db', 't')",
    "SELECT * FROM jdbc('jdbc:x', 't')",
    "SELECT * FROM odbc('DSN=x', 't')",
    "SELECT * FROM executable('touch {folder}/out.csv', TSV, 'a String')",
    "SELECT * FROM python('os')",
    "SELECT * FROM Python(os)",
    "SELECT * FROM eval('SELECT file(''{file}'')')",
    "SELECT * FROM merge('system', '.*')",
    "SELECT * FROM loop(exposures)",
    "SELECT * FROM input('a String')",
    "SELECT aiGenerate('x')",
    "SELECT hasColumnInTable('127.0.0.1:{port}', 'd', 't', 'c')",
    "SELECT catboostEvaluate('{file}', 1)",
    "SELECT * FROM system.processes",
    "SELECT * FROM system.stack_trace",
    "SELECT * FROM `system`.`query_log`",
    "SHOW PROCESSLIST",
    "SHOW GRANTS",
    "SHOW CREATE USER default",
    "SELECT 1 FORMAT CSV",
]


@pytest.mark.parametrize("hostile", _HOSTILE)
def test_what_writes_or_reaches_outside_is_refused_and_does_nothing(
    ask: Ask, bait: Path, listener: socket.socket, hostile: str
):
    port = listener.getsockname()[1]
    answer = ask(hostile.format(file=bait, folder=bait.parent, port=port))
    assert answer.status_code in (400, 403), answer.text
    error = answer.json()["error"]
    assert error["message"]
    assert error["remedy"]
    assert "xyzzy" not in answer.text
    assert sorted(bait.parent.iterdir()) == [bait]
    with pytest.raises(BlockingIOError):
        listener.accept()
    assert ask("SELECT count() FROM exposures").json()["rows"] == [[len(truth())]]


@pytest.mark.parametrize(
    "query",
    [
        "SELECT " + "(" * 30_000 + "1" + ")" * 30_000,
        "SELECT " + "[" * 60_000,
        "SELECT " + "NOT " * 20_000 + "1",
        "SELECT " + "CASE WHEN " * 5_000,
        "SELECT '" + "x" * 200_000 + "' + 1",
        "WITH RECURSIVE r AS (SELECT 1 AS n UNION ALL SELECT n + 1 FROM r) SELECT count() FROM r",
        "SELECT groupArray(number) FROM numbers(10000000000)",
        "SELECT range(400000000)",
        "SELECT * FROM numbers(1e9) ORDER BY rand()",
        "SELECT repeat('x', 1000000000)",
        "SELECT extractAll(repeat('a', 100000), '(a*)*b'), throwIf(1)",
        "SELECT 1 \x00",
        "SELECT 'unclosed",
        "SELECT {x:Int8}",
        "SELECT b'11111111'",
        "VALUES (1)",
        "nonsense",
    ],
    ids=lambda query: query[:24],
)
def test_what_is_too_much_or_makes_no_sense_is_answered_with_an_error(ask: Ask, query: str):
    answer = ask(query)
    assert 400 <= answer.status_code < 500, answer.text[:500]
    assert ask("SELECT 1").json()["rows"] == [[1]]


def test_nothing_of_a_failed_query_stands_in_the_next_answer(ask: Ask):
    """The embedded engine puts what a failed query had written in front of that client's next answer."""
    for _ in range(10):
        failed = ask("SELECT number, throwIf(number = 200000) FROM numbers(300000)", "csv")
        assert failed.status_code == 400
        with ThreadPoolExecutor(8) as threads:
            answers = list(threads.map(lambda _: ask("SELECT 1 AS one", "csv").text, range(8)))
        assert answers == ['"one"\n1\n'] * 8


@pytest.mark.slow
def test_an_endless_query_ends_at_its_time_limit(ask: Ask):
    answer = ask(ENDLESS)
    assert (answer.status_code, answer.json()["error"]["reason"]) == (408, "timed_out")
    assert f"longer than {TIME_LIMIT_S:g} s" in answer.json()["error"]["message"]


async def test_endless_queries_keep_nobody_waiting(unlimited: RunningConsole):
    async with crowd(unlimited, count=4) as endless:
        for _ in range(10):
            assert (await endless.ask("SELECT 1")).json()["rows"] == [[1]]
            assert (await endless.client.get("/api/experiments")).status_code == 200
        assert not any(each.done() for each in endless.inside)


async def test_more_queries_than_can_wait_are_told_to_come_again(unlimited: RunningConsole):
    async with crowd(unlimited) as endless:
        assert (len(endless.inside), len(endless.turned_away)) == (PLACES, TOO_MANY)
        for answer in [*endless.turned_away, await endless.ask("SELECT 1")]:
            assert (answer.status_code, answer.json()["error"]["reason"]) == (503, "overloaded")
            assert answer.headers["retry-after"]
        assert not any(each.done() for each in endless.inside)


async def test_a_query_whose_asker_has_gone_is_ended(unlimited: RunningConsole):
    """Else those who give up would keep the others waiting, here for an hour."""
    async with crowd(unlimited):
        pass
    with unlimited.client() as client:
        await until(lambda: client.get("/api/sql", params={"query": "SELECT 1"}).status_code == 200)


def test_a_long_answer_is_cut_off_for_people_and_refused_for_programs(ask: Ask):
    for_people = ask("SELECT number FROM numbers(50000)").json()
    assert len(for_people["rows"]) == for_people["statistics"]["rows"] == 10_000
    assert for_people["statistics"]["truncated"] is True
    exactly = ask("SELECT number FROM numbers(10000)").json()
    assert exactly["statistics"]["truncated"] is False
    assert len(ask("SELECT number FROM numbers(50000)", "csv").text.splitlines()) == 50_001
    too_long = ask("SELECT number FROM numbers(3000000)", "csv")
    assert too_long.status_code == 400
    assert too_long.json()["error"]["reason"] == "answer_too_large"


def test_what_is_counted_is_what_was_answered(console: RunningConsole, ask: Ask):
    assert ask("SELECT 1").status_code == 200
    assert "Traceback" not in console.log.read_text()
