"""`headrace sql` and `headrace tail` against a running console."""

import re
from collections.abc import Callable

import orjson
import pytest
from support.commands import Headrace
from support.console_process import RunningConsole
from support.console_truth import truth

from ops.output import ExitCode


@pytest.fixture
def headrace(monkeypatch: pytest.MonkeyPatch, console: RunningConsole) -> Headrace:
    monkeypatch.setenv("HEADRACE_CONSOLE_URL", console.address)
    return Headrace(monkeypatch)


def test_sql_prints_a_table_for_people(headrace: Headrace):
    result = headrace("sql", "SELECT kind, count() AS n, NULL AS nothing FROM exposures GROUP BY kind ORDER BY kind")
    assert result.exit_code == ExitCode.OK
    assert re.search(r"experiment\s*│\s*302\s*│\s*NULL", result.stdout)
    assert "3 rows in" in result.stderr


def test_sql_prints_what_machines_read(headrace: Headrace):
    as_json = headrace("sql", "--json", "SELECT count() FROM exposures")
    assert orjson.loads(as_json.stdout)["rows"] == [[len(truth())]]
    assert headrace("sql", "--format", "csv", "SELECT 1 AS a").stdout == '"a"\n1\n'


def test_sql_reads_the_query_from_standard_input(headrace: Headrace):
    assert headrace("sql", "-f", "tsv", "-", stdin="SELECT 5 AS five").stdout == "five\n5\n"


def test_what_comes_from_senders_cannot_steer_the_terminal(headrace: Headrace):
    result = headrace("sql", "SELECT '\\x1b[31m[bold]red' AS x, name FROM exposures WHERE position(name, 'DROP') > 0")
    assert result.exit_code == ExitCode.OK
    assert "\x1b[31m" not in result.stdout
    assert "\u202e" not in result.stdout
    assert "[bold]red" in result.stdout


@pytest.mark.parametrize(
    ("query", "code"), [("DROP TABLE exposures", ExitCode.FAILED), ("SELEC", ExitCode.FAILED), ("", ExitCode.USAGE)]
)
def test_a_query_that_is_not_answered_says_why_and_what_to_do(headrace: Headrace, query: str, code: ExitCode):
    result = headrace("sql", query)
    assert result.exit_code == code
    assert result.stderr.startswith("error: ")
    assert len(result.stderr.splitlines()) >= 2


def test_the_use_of_keys_adds_up_to_what_the_store_holds(headrace: Headrace):
    used = orjson.loads(headrace("keys", "used", "--json").stdout)
    assert sum(int(use["events"]) for use in used) == len(truth())
    assert len(
        {(use["key_id"], use["sdk_type"], use["sdk_version"], use["project"], use["environment"]) for use in used}
    ) == len(used)
    elsewhere = headrace("keys", "used", "--project", "no-such-project")
    assert "no event" in elsewhere.stdout


@pytest.mark.parametrize("command", [["sql", "SELECT 1"], ["tail"], ["keys", "used"]])
def test_without_a_console_the_commands_say_how_to_start_one(monkeypatch: pytest.MonkeyPatch, command: list[str]):
    monkeypatch.setenv("HEADRACE_CONSOLE_URL", "http://127.0.0.1:9")
    result = Headrace(monkeypatch)(*command)
    assert result.exit_code == ExitCode.UNREACHABLE
    assert "headrace up" in result.stderr


def test_tail_stops_after_as_many_as_it_was_told(headrace: Headrace, expose: Callable[..., None]):
    expose(
        *[{"name": "tailed", "kind": "gate", "group_name": "", "value": "true", "origin_offset": n} for n in range(9)]
    )
    shown = headrace("tail", "--name", "tailed", "--recent", "20", "-n", "4", "--json")
    assert shown.exit_code == ExitCode.OK
    assert [orjson.loads(line)["name"] for line in shown.stdout.splitlines()] == ["tailed"] * 4
    for_people = headrace("tail", "--name", "tailed", "--recent", "20", "-n", "1")
    assert re.search(r"gate\s+tailed\s+true", for_people.stdout)
