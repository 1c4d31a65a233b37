"""`headrace dlq`: what is asked wrongly is said before anything is touched."""

from pathlib import Path

import pytest
from support.commands import Headrace

from ops.output import ExitCode


@pytest.fixture
def headrace(monkeypatch: pytest.MonkeyPatch) -> Headrace:
    """Nothing listens where this command line looks for Kafka and the console."""
    monkeypatch.setenv("HEADRACE_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("HEADRACE_CONSOLE_URL", "http://127.0.0.1:1")
    return Headrace(monkeypatch)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("replay",), "no filter was given"),
        (("replay", "--all", "--stage", "gateway"), "there is no stage 'gateway'"),
        (("replay", "--reason", "invalid_tiem"), "there is no reason 'invalid_tiem'"),
        (("list", "--reason", "invalid_tiem"), "there is no reason 'invalid_tiem'"),
        (("replay", "--since", "yesterday"), "'yesterday' is no time"),
        (("replay", "--all", "--fix", "rules.yaml"), "neither .toml nor .json"),
        (("replay", "--all", "--fix", "missing.toml"), "No such file"),
        (("replay", "--ids", "missing.txt"), "No such file"),
        (("list", "--by", "colour"), "--by 'colour' is not understood"),
        (("list", "--by", ""), "is not understood"),
        (("show", "1/2/x/4"), "names no dead letter"),
    ],
)
def test_a_wrong_argument_is_told_with_what_is_right(headrace: Headrace, arguments: tuple[str, ...], complaint: str):
    result = headrace("dlq", *arguments)
    assert result.exit_code == ExitCode.USAGE
    assert complaint in result.stderr


def test_rules_that_are_wrong_are_refused_before_anything_is_asked(headrace: Headrace, tmp_path: Path):
    rules = tmp_path / "rules.toml"
    rules.write_text('[[rule]]\nop = "drop"\npath = "/a"')
    result = headrace("dlq", "replay", "--all", "--fix", str(rules))
    assert result.exit_code == ExitCode.USAGE
    assert "Invalid enum value 'drop'" in result.stderr


@pytest.mark.parametrize(
    ("arguments", "who"),
    [
        (("list",), "console"),
        (("show", "00" * 16), "console"),
        (("replay", "--all"), "console"),
        (("replay", "--all", "--dry-run"), "console"),
        (("replay", "--resume", "some"), "Kafka"),
        (("history",), "Kafka"),
    ],
)
def test_a_part_that_is_away_is_named(headrace: Headrace, arguments: tuple[str, ...], who: str):
    result = headrace("dlq", *arguments)
    assert result.exit_code == ExitCode.UNREACHABLE
    assert who in result.stderr
