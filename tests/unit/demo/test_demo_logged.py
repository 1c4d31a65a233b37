"""The lines that the SDK's process says."""

import pytest

from ops.demo.logged import Arm, Line, Logged, Progress, decode, encode, read_whole_lines
from ops.demo.plan import Item

LINES = [
    Progress("ready", 0),
    Logged(3, [Item("exposures", "gate", "u1"), Item("exposures", "layer", "u1", "title")]),
    Arm(3, "u1", "rule", "Gröup\n"),
    Progress("finished", 2, 3, 1),
]


@pytest.mark.parametrize("line", LINES)
def test_a_line_is_read_as_it_was_written(line: Line):
    encoded = encode(line)
    assert encoded.endswith(b"\n")
    assert encoded.count(b"\n") == 1
    assert decode(encoded) == line


def test_a_line_that_a_kill_cut_short_is_left_out():
    whole = [encode(line) for line in LINES]
    assert list(read_whole_lines([*whole[:-1], whole[-1][:-3]])) == LINES[:-1]
