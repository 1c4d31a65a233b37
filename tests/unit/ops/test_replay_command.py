"""`headrace replay` and `headrace erase`: what is asked wrongly is said before anything is touched."""

from pathlib import Path

import pytest
from support.commands import Headrace

from ops.output import ExitCode


@pytest.fixture
def headrace(monkeypatch: pytest.MonkeyPatch, tmp_path: Path) -> Headrace:
    """Nothing listens where this command line looks for Kafka and the console; the archive is empty."""
    monkeypatch.setenv("HEADRACE_KAFKA_BOOTSTRAP", "127.0.0.1:1")
    monkeypatch.setenv("HEADRACE_CONSOLE_URL", "http://127.0.0.1:1")
    monkeypatch.setenv("HEADRACE_ARCHIVE", str(tmp_path))
    return Headrace(monkeypatch)


@pytest.mark.parametrize(
    ("arguments", "complaint"),
    [
        (("replay",), "what is to be replayed was not said"),
        (("replay", "--since", "1h"), "what is to be replayed was not said"),
        (("replay", "--from-archive"), "what is to be replayed was not said"),
        (("replay", "--from-archive", "--since", "yesterday"), "'yesterday' is no time"),
        (("replay", "--from-archive", "--since", "1h", "--until", "2h"), "--since is not before --until"),
        (("replay", "--from-archive", "--since", "1h", "--into", "there"), "--into 'there' is not understood"),
        (("replay", "--from-archive", "--since", "2026-01-01", "--swap"), "only whole days"),
        (("replay", "--from-archive", "--since", "1h", "--into", "shadow", "--swap"), "only whole days"),
        (
            (
                "replay",
                "--from-archive",
                "--since",
                "2026-01-01",
                "--until",
                "2199-01-01",
                "--into",
                "shadow",
                "--swap",
            ),
            "only whole days",
        ),
        (("erase", "--unit", "alice"), "'alice' is no unit"),
        (("erase", "--unit", "userID:"), "is no unit"),
        (("erase", "--unit", ":alice"), "is no unit"),
        (("erase", "--unit", "userID:alice"), "nothing was erased"),
    ],
)
def test_a_wrong_argument_is_told_with_what_is_right(headrace: Headrace, arguments: tuple[str, ...], complaint: str):
    result = headrace(*arguments, stdin="n\n")
    assert result.exit_code == ExitCode.USAGE
    assert complaint in result.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        ("replay", "--from-archive", "--since", "1h"),
        ("replay", "--resume", "some"),
        ("erase", "--unit", "userID:alice", "--dry-run"),
        ("erase", "--unit", "userID:alice", "--yes"),
    ],
)
def test_a_part_that_is_away_is_named(headrace: Headrace, arguments: tuple[str, ...]):
    result = headrace(*arguments)
    assert result.exit_code == ExitCode.UNREACHABLE
    assert "127.0.0.1:1" in result.stderr


def test_a_replay_without_an_archive_says_how_to_set_one(monkeypatch: pytest.MonkeyPatch):
    monkeypatch.delenv("HEADRACE_ARCHIVE", raising=False)
    result = Headrace(monkeypatch)("replay", "--from-archive", "--since", "1h")
    assert result.exit_code == ExitCode.USAGE
    assert "Set HEADRACE_ARCHIVE" in result.stderr
