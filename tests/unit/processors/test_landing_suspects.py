"""Which rows may have landed, and which are new."""

import pytest
from hypothesis import given
from hypothesis import strategies as st
from support.landing import id_of, row_at

from processors.landing.batch import ASTRAY, REPLAYED, Row
from processors.landing.suspects import HighWater, Landed, LogReplacedError, Spread, decide, suspects
from schemas.origin import REFUSED_AT_GATEWAY_LOG, Origin

P0, P1 = Origin(1, 0, 0, 0).pack()[:5], Origin(1, 1, 0, 0).pack()[:5]


def at(offset: int, index: int = 0, partition: int = 0, doubt: int = 0, log: int = 1) -> Row:
    return row_at(Origin(log, partition, offset, index), doubt)


def marks(**known: bytes) -> HighWater:
    water = HighWater()
    water.learn({{"p0": P0, "p1": P1}[name]: mark for name, mark in known.items()})
    return water


def looked_up(rows: list[Row], water: HighWater) -> list[Row]:
    return suspects(rows, Spread.of(rows), water)


def test_rows_above_the_mark_are_not_looked_up():
    assert looked_up([at(11), at(12)], marks(p0=at(10).origin)) == []


def test_rows_at_or_below_the_mark_are():
    rows = [at(9), at(10), at(10, 1), at(11)]
    assert looked_up(rows, marks(p0=at(10, 1).origin)) == rows[:3]


def test_an_empty_table_makes_no_suspects():
    assert looked_up([at(0), at(1)], marks(p0=b"")) == []


def test_everything_is_suspect_while_the_mark_is_unknown():
    rows = [at(5), at(5, partition=1)]
    assert looked_up(rows, marks(p0=b"")) == [rows[1]]


def test_a_copy_that_is_dropped_for_its_id_names_the_origin_that_landed_and_a_repeat_names_none():
    landed, copy, repeat = at(1), row_at(Origin(1, 0, 9, 0), REPLAYED, at(1).event_id), at(2, doubt=REPLAYED)
    said = Landed({repeat.origin: repeat.event_id}, {landed.event_id: landed.origin, repeat.event_id: repeat.origin})
    decision = decide([copy, repeat], said)
    assert (decision.new, decision.repeats) == ([], [copy, repeat])
    assert decision.owners == {copy.origin: landed.origin}


def test_of_two_copies_in_one_batch_the_first_owns_the_other():
    first, second = (row_at(Origin(1, 0, offset, 0), REPLAYED, b"e" * 16) for offset in (1, 2))
    decision = decide([first, second], Landed())
    assert (decision.new, decision.owners) == ([first], {second.origin: first.origin})


@pytest.mark.parametrize("doubt", [REPLAYED, ASTRAY])
def test_a_row_in_doubt_is_looked_up_wherever_it_stands(doubt: int):
    rows = [at(11), at(12, doubt=doubt)]
    assert looked_up(rows, marks(p0=b"")) == [rows[1]]


def test_what_was_refused_at_the_gateway_is_always_looked_up():
    rows = [at(11, log=REFUSED_AT_GATEWAY_LOG)]
    water = marks(p0=b"")
    assert water.unknown(Spread.of(rows)) == []
    assert looked_up(rows, water) == rows


def test_marks_are_read_once_per_log_and_partition():
    water = marks(p0=b"")
    spread = Spread.of([at(1), at(1, partition=1), at(2, partition=1)])
    assert water.unknown(spread) == [P1]
    water.learn({P1: b""})
    assert water.unknown(spread) == []
    water.forget()
    assert water.unknown(spread) == [P0, P1]


def test_a_mark_rises_and_never_falls():
    water = marks(p0=at(10).origin)
    water.raise_to(Spread.of([at(12), at(3)]))
    assert water.of(P0) == at(12).origin
    water.raise_to(Spread.of([at(4)]))
    assert water.of(P0) == at(12).origin


def test_a_mark_that_is_not_known_does_not_rise():
    """What landed below it is unknown, so everything must stay suspect."""
    water = HighWater()
    water.raise_to(Spread.of([at(12)]))
    assert looked_up([at(13)], water)


def test_of_two_rows_with_one_origin_the_first_is_new():
    rows = [at(1), at(1)]
    assert not Spread.of(rows).is_plain
    decision = decide(rows, Landed())
    assert (decision.new, decision.repeats) == ([rows[0]], [rows[1]])


def test_what_landed_is_a_repeat():
    rows = [at(1), at(2)]
    decision = decide(rows, Landed({rows[0].origin: rows[0].event_id}))
    assert (decision.new, decision.repeats) == ([rows[1]], [rows[0]])


def test_a_replay_of_an_event_that_landed_under_another_origin_is_a_repeat():
    row = at(5, doubt=REPLAYED)
    assert decide([row], Landed({}, {row.event_id: at(99).origin})).new == []
    assert decide([row], Landed()).new == [row]


def test_two_replays_of_one_event_in_a_batch_are_one():
    event_id = id_of(Origin(1, 0, 5, 0))
    rows = [row_at(Origin(1, 0, offset, 0), REPLAYED, event_id) for offset in (5, 6)]
    assert decide(rows, Landed()).new == rows[:1]


@pytest.mark.parametrize("landed_before", [True, False])
def test_an_origin_that_is_another_events_stops_the_lander(landed_before: bool):
    row, other = at(7), row_at(Origin(1, 0, 7, 0), event_id=b"x" * 16)
    landed = Landed({other.origin: other.event_id}) if landed_before else Landed()
    with pytest.raises(LogReplacedError, match=r"origin 1/0/7/0 .* replaced"):
        decide([row] if landed_before else [row, other], landed)


rows_of_batch = st.lists(
    st.builds(
        at,
        offset=st.integers(0, 30),
        index=st.integers(0, 2),
        partition=st.integers(0, 2),
        doubt=st.sampled_from([0, 0, 0, REPLAYED, ASTRAY]),
        log=st.sampled_from([1, 2, 255]),
    )
)


@given(rows_of_batch, st.lists(st.tuples(st.integers(0, 2), st.integers(0, 30)), max_size=3))
def test_the_quick_look_and_the_look_at_every_row_agree(rows: list[Row], known: list[tuple[int, int]]):
    water = HighWater()
    water.learn({at(0, partition=p).origin[:5]: at(o, partition=p).origin for p, o in known})
    row_by_row = [row for row in rows if row.doubt or row.origin <= water.of(row.origin[:5])]
    spread = Spread.of(rows)
    assert suspects(rows, spread, water) == row_by_row
    assert spread.is_plain == (len({row.origin for row in rows}) == len(rows) and not any(r.doubt for r in rows))
    for prefix, highest in spread.highest.items():
        of_prefix = [row.origin for row in rows if row.origin.startswith(prefix)]
        assert (min(of_prefix), max(of_prefix)) == (spread.lowest[prefix], highest)


@given(rows_of_batch)
def test_every_row_is_new_or_a_repeat(rows: list[Row]):
    decision = decide(rows, Landed())
    assert sorted(decision.new + decision.repeats) == sorted(rows)
    assert len({row.origin for row in decision.new}) == len(decision.new)
