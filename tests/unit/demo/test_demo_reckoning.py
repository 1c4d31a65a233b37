"""The account of a run while it goes on."""

import pytest

from ops.demo.compare import Row
from ops.demo.logged import Arm, Logged, Progress
from ops.demo.plan import READS, Run, actions, visitor
from ops.demo.reckoning import Reckoning

RUN = Run("r1")
PATIENCE_S = 60.0


def visit(reckoning: Reckoning, number: int, now: float = 0.0) -> list[Row]:
    """Log a whole visit; return its rows as they will land."""
    who = visitor(RUN, number)
    shown = [who.exposure(read) for read in READS]
    done = [action.item for action in actions(RUN, number, "Green")]
    reckoning.take(Logged(number, shown), now)
    reckoning.take(Arm(number, who.user_id, "button_green", "Green"), now)
    reckoning.take(Logged(number, done), now)
    return [Row(item, who.user_id, "button_green") for item in [*shown, *done]]


@pytest.fixture(params=[False, True], ids=["forgetting", "keeping"])
def reckoning(request: pytest.FixtureRequest) -> Reckoning:
    return Reckoning(RUN, keep=request.param)


def test_a_visitor_who_may_still_speak_is_not_due(reckoning: Reckoning):
    visit(reckoning, 0)
    assert reckoning.due(10) == []
    visit(reckoning, 1)
    assert reckoning.due(10) == [0]
    reckoning.take(Progress("flushed", 20), 0.0)
    assert reckoning.due(10) == [0, 1]


def test_a_visitor_whose_events_are_all_there_is_settled(reckoning: Reckoning):
    rows = visit(reckoning, 0)
    reckoning.take(Progress("finished", len(rows)), 0.0)
    reckoning.settle([0], rows, 1.0, PATIENCE_S)
    assert reckoning.awaited == 0
    assert (reckoning.sent, reckoning.landed) == (len(rows), len(rows))
    assert reckoning.settled.is_exact


def test_a_visitor_with_an_event_missing_stays_open_and_what_is_there_is_counted(reckoning: Reckoning):
    rows = visit(reckoning, 0)
    reckoning.settle([0], rows[:-1], 1.0, PATIENCE_S)
    assert reckoning.awaited == len(rows)
    assert reckoning.landed == len(rows) - 1
    reckoning.settle([0], rows, 2.0, PATIENCE_S)
    assert (reckoning.awaited, reckoning.landed) == (0, len(rows))


def test_what_was_waited_for_too_long_is_settled_as_missing(reckoning: Reckoning):
    rows = visit(reckoning, 0, now=100.0)
    reckoning.settle([0], rows[1:], 100.0 + PATIENCE_S + 1, PATIENCE_S)
    assert reckoning.awaited == 0
    assert reckoning.settled.missing == [rows[0].item]


def test_a_doubled_event_is_never_taken_for_exact(reckoning: Reckoning):
    rows = visit(reckoning, 0)
    reckoning.settle([0], [*rows, rows[0]], 1.0, PATIENCE_S)
    assert reckoning.awaited == len(rows)
    assert reckoning.verdict_on([0], [*rows, rows[0]]).doubled == [rows[0].item]


def test_only_a_keeping_account_can_judge_what_is_settled_again():
    for keep in (False, True):
        reckoning = Reckoning(RUN, keep)
        rows = visit(reckoning, 0)
        reckoning.settle([0], rows, 1.0, PATIENCE_S)
        assert reckoning.visitors == ([0] if keep else [])


def test_rows_of_one_visitor_do_not_count_for_another(reckoning: Reckoning):
    first, second = visit(reckoning, 0), visit(reckoning, 1)
    reckoning.take(Progress("finished", 0), 0.0)
    reckoning.settle([0, 1], first, 1.0, PATIENCE_S)
    assert reckoning.due(10) == [1]
    assert reckoning.landed == len(first)
    assert reckoning.sent == len(first) + len(second)
