"""Logged against landed: every way in which they can differ is named."""

from hypothesis import given
from hypothesis import strategies as st

from ops.demo.compare import Row, Verdict, compare
from ops.demo.plan import EXPERIMENT, Item

USER = "demo-x-u000000001"
EXPOSED = Item("exposures", EXPERIMENT, USER)
GATE = Item("exposures", "new_navigation", USER)
BOUGHT = Item("custom_events", "purchase", "demo-x-e1-0")


def rows(*items: Item, rule: str = "button_green") -> list[Row]:
    return [Row(item, USER, rule if item.name == EXPERIMENT else "") for item in items]


def test_what_landed_once_in_its_arm_is_exact():
    verdict = compare([EXPOSED, GATE, BOUGHT], {USER: "button_green"}, rows(EXPOSED, GATE, BOUGHT))
    assert verdict.is_exact
    assert (verdict.sent, verdict.landed, dict(verdict.per_rule)) == (3, 3, {"button_green": 1})


def test_an_event_without_a_row_is_missing():
    verdict = compare([GATE, BOUGHT], {}, rows(GATE))
    assert verdict.missing == [BOUGHT]
    assert not verdict.is_exact


def test_an_event_with_two_rows_is_doubled_and_counted_once():
    verdict = compare([GATE, BOUGHT], {}, rows(GATE, BOUGHT, BOUGHT))
    assert verdict.doubled == [BOUGHT]
    assert verdict.landed == 2
    assert not verdict.is_exact


def test_equal_counts_do_not_hide_that_one_is_missing_and_another_doubled():
    verdict = compare([GATE, BOUGHT], {}, rows(BOUGHT, BOUGHT))
    assert (verdict.missing, verdict.doubled) == ([GATE], [BOUGHT])


def test_a_row_that_nobody_logged_is_strange():
    verdict = compare([GATE], {}, rows(GATE, BOUGHT))
    assert verdict.strange == [BOUGHT]
    assert not verdict.is_exact


def test_a_row_in_another_arm_than_the_sdk_chose_is_wrong():
    verdict = compare([EXPOSED], {USER: "button_red"}, rows(EXPOSED, rule="button_green"))
    assert verdict.wrong_arm == [EXPOSED]
    assert not verdict.is_exact


@given(st.lists(st.integers(0, 30)), st.lists(st.integers(0, 30)))
def test_every_event_is_landed_or_missing_and_every_row_is_accounted_for(logged: list[int], landed: list[int]):
    items = [Item("custom_events", "page_view", str(number)) for number in logged]
    found = [Row(Item("custom_events", "page_view", str(number)), USER) for number in landed]
    verdict = compare(items, {}, found)
    assert verdict.sent == len(items)
    assert verdict.is_exact == (sorted(logged) == sorted(landed))
    assert (verdict.landed == verdict.sent) == (not verdict.missing)
    assert {item.unit for item in verdict.strange} == {str(n) for n in set(landed) - set(logged)}


def test_parts_of_a_run_add_up():
    whole = Verdict()
    whole.add(compare([GATE], {}, rows(GATE)))
    whole.add(compare([BOUGHT], {}, []))
    assert (whole.sent, whole.landed, whole.missing) == (2, 1, [BOUGHT])
