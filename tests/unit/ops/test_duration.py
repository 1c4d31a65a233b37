"""Lengths of time on the command line."""

import pytest

from ops.duration import milliseconds


@pytest.mark.parametrize(
    ("text", "ms"), [("0", 0), ("0s", 0), ("90s", 90_000), ("15m", 900_000), ("36h", 129_600_000), ("7d", 604_800_000)]
)
def test_a_length_of_time_is_a_number_and_a_unit(text: str, ms: int):
    assert milliseconds(text) == ms


@pytest.mark.parametrize("text", ["", "7", "d", "-1s", "1.5h", "1w", "1h30m", " 1h", "9999999999s", "٣h"])
def test_anything_else_is_refused_with_what_is_expected(text: str):
    with pytest.raises(ValueError, match="write 90s, 15m, 36h or 7d"):
        milliseconds(text)


@pytest.mark.parametrize(
    ("text", "accepted"), [("36499d", True), ("36500d", True), ("36501d", False), ("876001h", False)]
)
def test_a_length_has_an_end(text: str, accepted: bool):
    """A key that was to end in the year 275,814 could be written, and no list of keys be printed any more."""
    if accepted:
        assert milliseconds(text) > 0
        return
    with pytest.raises(ValueError, match="longer than 36500 days"):
        milliseconds(text)
