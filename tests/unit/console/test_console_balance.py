"""The balance: every accepted event is one of four things, and what is none of them is named."""

import itertools
from dataclasses import dataclass, field

from hypothesis import given
from hypothesis import strategies as st

from console.ledger.balance import (
    GAPS_LISTED,
    NOTHING,
    Accepted,
    Balance,
    Coordinate,
    Counts,
    Flaw,
    Gap,
    Landed,
    accepted,
    ranges,
)
from schemas import ledger
from schemas.ledger import Copies, LedgerRecord, Run

MINUTE = 29_000_000
RUN = Run("default", "production", "k", MINUTE, 10)
AT = Coordinate(1, 0, 7)

# What becomes of an event, in the order in which it counts.
FATES = ("landed", "duplicate", "dead", "dead at the lander", "on the way")


@dataclass
class Story:
    """One chunk and what became of each of its events."""

    runs: list[Run] = field(default_factory=list)
    fates: list[str] = field(default_factory=list)

    def of(self, *fates: str) -> int:
        return sum(1 << index for index, fate in enumerate(self.fates) if fate in fates)

    def record(self) -> LedgerRecord:
        copies = [Copies(index, 1, 4, 0) for index, fate in enumerate(self.fates) if fate == "duplicate"]
        letters = [(index, "invalid_time") for index, fate in enumerate(self.fates) if fate == "dead"]
        return ledger.decode(ledger.encode(self.runs, copies, ledger.dead_of(letters)))

    def add_to(self, balance: Balance, at: Coordinate, lost: int = 0, *, is_judged: bool = True) -> None:
        landed = Landed(self.of("landed") & ~lost)
        refused = {"insert_refused": self.of("dead at the lander")}
        chunk = accepted(at, self.record(), is_judged=is_judged)
        balance.add(chunk, landed, self.of("on the way") if is_judged else 0, refused)


@st.composite
def stories(draw: st.DrawFn) -> Story:
    keys = st.tuples(st.sampled_from(["a", "b"]), st.integers(MINUTE - 2, MINUTE + 2), st.integers(1, 6))
    runs = [Run("default", "production", key, minute, events) for key, minute, events in draw(st.lists(keys))]
    count = sum(run.events for run in runs)
    return Story(runs, draw(st.lists(st.sampled_from(FATES), min_size=count, max_size=count)))


@given(st.lists(stories()))
def test_any_mix_of_fates_balances_per_key_and_minute(told: list[Story]):
    balance = Balance(MINUTE)
    expected: dict[tuple[str, str, str, int], Counts] = {}
    for offset, story in enumerate(told):
        story.add_to(balance, Coordinate(1, 0, offset))
        fates = iter(story.fates)
        for run in story.runs:
            mine = [next(fates) for _ in range(run.events)]
            if run.minute < MINUTE:
                continue
            counts = expected.setdefault((run.project, run.environment, run.key_id, run.minute), Counts())
            dead = mine.count("dead") + mine.count("dead at the lander")
            counts.add(Counts(len(mine), mine.count("landed"), mine.count("duplicate"), dead, mine.count("on the way")))
    assert balance.lines == expected
    assert balance.is_balanced
    total = balance.totals()
    assert total.accepted == total.landed + total.duplicate + total.dead + total.in_flight
    assert total.dead == sum(balance.dead_reasons.values())


@given(stories(), st.randoms(use_true_random=False))
def test_any_landed_rows_that_vanish_are_named_exactly(story: Story, chance: object):
    """Whatever is taken away, and nothing else, is missing; it is still accepted."""
    whole, broken = Balance(0), Balance(0)
    story.add_to(whole, AT)
    landed = [index for index, fate in enumerate(story.fates) if fate == "landed"]
    gone = {index for index in landed if chance.random() < 0.5}  # type: ignore[attr-defined]
    story.add_to(broken, AT, lost=sum(1 << index for index in gone))
    named = [index for gap in broken.gaps for index in range(gap.first, gap.last + 1)]
    assert sorted(gone) == named
    assert {gap.flaw for gap in broken.gaps} <= {Flaw.MISSING}
    assert broken.is_balanced is (not gone)
    assert broken.totals().missing == len(gone)
    assert broken.totals().accepted == whole.totals().accepted
    for gap in broken.gaps:
        assert gap.run in story.runs


@given(stories())
def test_nothing_is_missing_from_a_chunk_that_the_worker_may_still_work_on(story: Story):
    """Its record may be in the log before its output is."""
    balance = Balance(0)
    chunk = accepted(AT, story.record(), is_judged=False)
    balance.add(chunk, NOTHING, 0)
    assert balance.is_balanced
    total = balance.totals()
    assert total.in_flight == total.accepted - total.duplicate - total.dead


def test_what_landed_counts_as_landed_whatever_else_is_said_of_it():
    """A dead letter that was replayed has landed; a row that is being committed is not in flight any more."""
    balance = Balance(0)
    balance.add(Accepted(AT, [RUN], 0b1, {"invalid_time": 0b10}), Landed(0b111), 0b1111, {"insert_refused": 0b100})
    assert balance.totals() == Counts(10, 3, 0, 0, 1, 6)


def test_an_event_that_died_for_two_reasons_died_once():
    balance = Balance(0)
    balance.add(Accepted(AT, [RUN], 0, {"a": 0b11}), Landed((1 << 10) - 4), 0, {"b": 0b11, "a": 0b1})
    assert balance.totals() == Counts(10, 8, 0, 2, 0, 0)
    assert balance.dead_reasons == {"a": 2}


def test_rows_that_are_there_twice_or_that_nobody_sent_are_named():
    balance = Balance(0)
    balance.add(Accepted(AT, [RUN]), Landed((1 << 10) - 1 | 1 << 12, doubled=0b110), 0)
    balance.add_unknown(Coordinate(1, 0, 8), Landed(0b11))
    assert [(str(gap), gap.flaw) for gap in balance.gaps] == [
        ("1/0/7/1-2", Flaw.DOUBLED),
        ("1/0/7/12", Flaw.NEVER_ACCEPTED),
        ("1/0/8/0-1", Flaw.NEVER_ACCEPTED),
    ]
    assert not balance.is_balanced
    assert balance.totals() == Counts(10, 10, 0, 0, 0, 0)


def test_a_range_ends_where_the_key_changes():
    other = Run("default", "production", "l", MINUTE, 2)
    balance = Balance(0)
    balance.add(Accepted(AT, [RUN, other]), NOTHING, 0)
    assert balance.gaps == [Gap(Flaw.MISSING, AT, 0, 9, RUN), Gap(Flaw.MISSING, AT, 10, 11, other)]


def test_more_gaps_than_can_be_listed_are_still_counted():
    balance = Balance(0)
    run = Run("default", "production", "k", MINUTE, 2 * GAPS_LISTED + 2)
    every_other = sum(1 << index for index in range(0, run.events, 2))
    balance.add(Accepted(AT, [run]), Landed(every_other), 0)
    assert len(balance.gaps) == GAPS_LISTED
    assert balance.flaws[Flaw.MISSING] == balance.totals().missing == GAPS_LISTED + 1


@given(st.sets(st.integers(0, 80)))
def test_ranges_are_the_indexes_in_as_few_pieces_as_there_are(indexes: set[int]):
    found = list(ranges(sum(1 << index for index in indexes)))
    assert [index for first, last in found for index in range(first, last + 1)] == sorted(indexes)
    assert all(later[0] > earlier[1] + 1 for earlier, later in itertools.pairwise(found))
