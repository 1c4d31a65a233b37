"""`headrace ledger` where it cannot be told, or is asked wrongly."""

from pathlib import Path

import pytest
from support.commands import Headrace
from support.console_process import RunningConsole, running_console

from ops.output import ExitCode
from schemas.kafka import KafkaConnection


def test_without_kafka_the_ledger_says_so_instead_of_a_balance(tmp_path: Path, monkeypatch: pytest.MonkeyPatch):
    with running_console(tmp_path, KafkaConnection("127.0.0.1:1")) as console:
        monkeypatch.setenv("HEADRACE_CONSOLE_URL", console.address)
        said = Headrace(monkeypatch)("ledger")
    assert said.exit_code == ExitCode.UNREACHABLE
    assert "Kafka at 127.0.0.1:1" in said.stderr
    assert "HEADRACE_KAFKA_BOOTSTRAP" in said.stderr


def test_without_a_console_the_ledger_says_how_to_start_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.setenv("HEADRACE_CONSOLE_URL", "http://127.0.0.1:9")
    said = Headrace(monkeypatch)("ledger")
    assert said.exit_code == ExitCode.UNREACHABLE
    assert "headrace up" in said.stderr


@pytest.mark.parametrize("since", ["soon", "8d", "90s"])
def test_a_time_that_the_ledger_cannot_tell_is_a_wrong_argument(
    console: RunningConsole, monkeypatch: pytest.MonkeyPatch, since: str
):
    """Exit code 1 is for what does not balance, and for nothing else."""
    monkeypatch.setenv("HEADRACE_CONSOLE_URL", console.address)
    said = Headrace(monkeypatch)("ledger", "--since", since)
    assert said.exit_code == ExitCode.USAGE
    assert said.stderr.startswith("error: ")
