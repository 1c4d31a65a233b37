import contextlib

import pytest
from hypothesis import given
from hypothesis import strategies as st

from console.answers import RefusedError
from console.sql import guard
from console.sql.guard import judge, tokens

READS = [
    "SELECT 1",
    "SELECT count() FROM exposures",
    "WITH 1 AS x SELECT x",
    "(SELECT 1) UNION ALL (SELECT 2)",
    "SELECT * FROM numbers(3)",
    "SELECT format FROM (SELECT 1 AS format) ORDER BY format DESC",
    "SELECT a AS format FROM t WHERE a IN ('/etc/passwd')",
    "SELECT url, file FROM t WHERE url IN ('x')",
    "SELECT 'file(''/etc/passwd'')', '--', '/* x', '$a$', '#', 'INTO OUTFILE'",
    "SELECT air, domain(url) AS `conv/day` FROM t GROUP BY ALL",
    "SELECT * FROM system.tables",
    "DESCRIBE TABLE exposures",
    "DESCRIBE TABLE (SELECT 1)",
    "SHOW TABLES",
    "SHOW CREATE TABLE exposures",
    "SHOW FULL COLUMNS FROM exposures",
    "EXISTS TABLE exposures",
    "EXPLAIN SELECT 1",
    "EXPLAIN PLAN header = 1, actions = 1 SELECT 1",
    "EXPLAIN QUERY TREE (SELECT 1)",
]

WRITES_OR_REACHES_OUT = [
    "INSERT INTO t SELECT 1",
    "DROP TABLE t",
    "CREATE TABLE t (`a` Int8) ENGINE = Memory",
    "SET max_threads = 1",
    "USE system",
    "SYSTEM SHUTDOWN",
    "KILL QUERY WHERE 1 ASYNC",
    "GRANT ALL ON *.* TO x",
    "SHOW PROCESSLIST",
    "SHOW FULL PROCESSLIST",
    "SHOW GRANTS",
    "SHOW CREATE USER x",
    "EXPLAIN AST DROP TABLE t",
    "EXPLAIN PIPELINE INSERT INTO FUNCTION file('x') SELECT 1",
    "BACKUP TABLE t TO Disk('a', 'b')",
    "SELECT file('/etc/passwd')",
    "SELECT FILE('/etc/passwd')",
    "SELECT `file`('/etc/passwd')",
    'SELECT "fi\\le"(1)',
    "SELECT 1+file('/etc/passwd')",
    "SELECT 1.file('/etc/passwd')",
    "SELECT * APPLY file FROM t",
    "SELECT * APPLY(x -> file(x)) FROM t",
    "SELECT * FROM url('http://127.0.0.1/')",
    "SELECT * FROM s3('http://127.0.0.1/x')",
    "SELECT * FROM remote('127.0.0.1', 'system.one')",
    "SELECT * FROM executable('id', 'TSV', 'a String')",
    "SELECT * FROM python('x')",
    "SELECT * FROM eval('SELECT 1')",
    "SELECT * FROM merge('system', 'one')",
    "SELECT * FROM exposures, mysql('h', 'd', 't', 'u', 'p')",
    "SELECT aiGenerate('tell me')",
    "SELECT AIGenerate('tell me')",
    "SELECT hasColumnInTable('host', 'db', 't', 'c')",
    "DESCRIBE TABLE file('/etc/passwd')",
    "DESCRIBE TABLE `/etc/passwd`",
    "EXISTS TABLE default.`/etc/passwd`",
    "SELECT * FROM `/etc/passwd`",
    "SELECT * FROM t INNER JOIN `http://127.0.0.1/x.csv` ON 1",
    "SELECT 1 INTO OUTFILE 'x'",
    "SELECT 1 INTO OUTFILE 'x' FORMAT CSV",
    "SELECT 1 FORMAT CSV",
    "SELECT * FROM system.processes",
    "SELECT * FROM system.`stack_trace`",
    "SELECT * FROM `system`.query_log",
    "SELECT 1 /* hidden */",
    "SELECT 1 -- hidden",
    "SELECT $a$ hidden $a$",
    "",
    "(",
    "x",
]


@pytest.mark.parametrize("statement", READS)
def test_a_statement_that_only_reads_may_run(statement: str):
    judge(statement)


@pytest.mark.parametrize("statement", WRITES_OR_REACHES_OUT)
def test_a_statement_that_writes_or_reaches_outside_is_refused_with_a_remedy(statement: str):
    with pytest.raises(RefusedError) as refusal:
        judge(statement)
    assert refusal.value.status == 403
    assert refusal.value.message
    assert refusal.value.remedy


def test_a_table_function_that_only_a_newer_engine_knows_is_refused():
    judge("SELECT * FROM telepathy('x')")
    with pytest.raises(RefusedError):
        judge("SELECT * FROM telepathy('x')", frozenset({"telepathy"}))


def test_no_safe_table_function_reaches_out():
    assert not guard.SAFE_TABLE_FUNCTIONS & guard.REACHING_OUT


@given(st.text(max_size=200))
def test_any_text_is_judged_and_nothing_else_happens(text: str):
    with contextlib.suppress(RefusedError):
        judge(text)


@given(st.sampled_from(sorted(guard.REACHING_OUT)), st.booleans())
def test_a_function_that_reaches_out_is_refused_however_it_is_written(name: str, is_quoted: bool):
    written = f"`{name.upper()}`" if is_quoted else name.upper()
    with pytest.raises(RefusedError):
        judge(f"SELECT 1, {written}('x')")


@given(st.text(max_size=50))
def test_what_stands_in_a_string_is_no_part_of_the_statement(text: str):
    literal = text.replace("\\", "\\\\").replace("'", "\\'")
    assert [token.kind for token in tokens(f"SELECT '{literal}'")] == ["word", "string"]
    judge(f"SELECT '{literal}'")
