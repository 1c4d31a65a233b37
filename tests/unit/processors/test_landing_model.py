"""The lander against a model: whatever is repeated, cut off or taken away, each event lands once.

A worker that emits again after crashes, replays, and a lander that dies or loses the store's answer
at every step between reading and committing. The table shows every double; nothing can hide there.
"""

import contextlib
from collections import Counter
from collections.abc import Sequence

import pytest
from clickhouse_connect.driver.exceptions import OperationalError
from hypothesis import settings
from hypothesis import strategies as st
from hypothesis.stateful import RuleBasedStateMachine, initialize, invariant, rule
from support.landing import MemoryTable, row_at

from processors.landing.batch import REPLAYED, Row
from processors.landing.land import TableLander
from processors.landing.suspects import Landed
from processors.landing.tables import LANDINGS
from schemas.metrics import LanderMetrics
from schemas.origin import REFUSED_AT_GATEWAY_LOG, Origin

PARTITIONS = 2
partitions = st.integers(0, PARTITIONS - 1)


class LanderModel(RuleBasedStateMachine):
    """A log, a lander, and a store."""

    @initialize()
    def begin(self):
        self.topic: list[list[Row]] = [[] for _ in range(PARTITIONS)]
        self.committed = [0] * PARTITIONS
        self.emitted: list[list[Row]] = [[] for _ in range(PARTITIONS)]
        self.dead: list[list[Row]] = [[] for _ in range(PARTITIONS)]
        self.next_offset = 0
        self.table = MemoryTable()
        self.start_lander()

    def start_lander(self):
        self.lander = TableLander(LANDINGS[0], LanderMetrics())
        self.position = list(self.committed)

    @rule(partition=partitions, events=st.integers(1, 4))
    def worker_emits_a_chunk(self, partition: int, events: int):
        self.next_offset += 1
        rows = [row_at(Origin(1, partition, self.next_offset, index)) for index in range(events)]
        self.emitted[partition] += rows
        self.topic[partition] += rows

    @rule(partition=partitions, back=st.integers(1, 12))
    def worker_crashes_and_emits_again(self, partition: int, back: int):
        self.topic[partition] += self.emitted[partition][-back:]

    @rule(partition=partitions, back=st.integers(1, 20))
    def an_event_is_replayed_under_its_origin(self, partition: int, back: int):
        for row in self.emitted[partition][-back:][:1]:
            self.topic[partition].append(row._replace(doubt=REPLAYED))

    @rule(partition=partitions)
    def worker_dead_letters_an_event(self, partition: int):
        self.next_offset += 1
        self.dead[partition].append(row_at(Origin(1, partition, self.next_offset, 0)))

    @rule(partition=partitions)
    def a_dead_letter_is_replayed(self, partition: int):
        self.topic[partition] += [row._replace(doubt=REPLAYED) for row in self.dead[partition][-1:]]

    @rule(partition=partitions)
    def a_mended_worker_emits_what_it_had_dead_lettered(self, partition: int):
        """It crashed before its commit, was upgraded, and reads the chunk again."""
        self.topic[partition] += self.dead[partition][-1:]

    @rule(partition=partitions)
    def an_event_refused_at_the_gateway_is_replayed(self, partition: int):
        self.next_offset += 1
        row = row_at(Origin(REFUSED_AT_GATEWAY_LOG, partition, self.next_offset, 0), REPLAYED)
        self.topic[partition].append(row)

    @rule(partition=partitions, back=st.integers(1, 20))
    def a_copy_with_another_origin_is_replayed(self, partition: int, back: int):
        """A dead letter whose event the client had sent again after the claims window."""
        for row in self.emitted[partition][-back:][:1]:
            if row in self.topic[partition][: self.committed[partition]]:
                self.next_offset += 1
                origin = Origin(REFUSED_AT_GATEWAY_LOG, partition, self.next_offset, 0)
                self.topic[partition].append(row_at(origin, REPLAYED, row.event_id))

    def batch(self, size: int) -> tuple[list[Row], list[int]]:
        rows, ends = [], list(self.position)
        for partition in range(PARTITIONS):
            taken = self.topic[partition][self.position[partition] :][:size]
            rows += taken
            ends[partition] += len(taken)
        return rows, ends

    def land(self, size: int) -> list[int]:
        rows, ends = self.batch(size)
        if rows:
            landed = self.lander.land(self.table, rows, permit=lambda table: f"query-of-{table}")
            assert landed.inserted + len(landed.repeats) == len(rows)
        return ends

    @rule(size=st.integers(1, 15))
    def lands_and_commits(self, size: int):
        self.position = self.committed = self.land(size)

    @rule(size=st.integers(1, 15), commit_arrived=st.booleans())
    def dies_between_insert_and_commit(self, size: int, commit_arrived: bool):
        ends = self.land(size)
        if commit_arrived:
            self.committed = ends
        self.start_lander()

    @rule(size=st.integers(1, 15), written=st.integers(0, 15))
    def dies_during_the_insert(self, size: int, written: int):
        self.break_an_insert(size, written)
        self.start_lander()

    @rule(size=st.integers(1, 15), written=st.integers(0, 15))
    def loses_the_answer_and_tries_again(self, size: int, written: int):
        self.break_an_insert(size, written)
        self.lands_and_commits(size)

    def break_an_insert(self, size: int, written: int):
        self.table.fail_after = written
        with contextlib.suppress(OperationalError):
            self.land(size)
        self.table.fail_after = None

    @rule()
    def partitions_are_assigned_anew(self):
        self.lander.forget()
        self.position = list(self.committed)

    @invariant()
    def no_event_is_in_the_table_twice(self):
        for what in ("origin", "event_id"):
            twice = [key for key, n in Counter(getattr(row, what) for row in self.table.rows).items() if n > 1]
            assert not twice

    @invariant()
    def what_is_committed_has_landed(self):
        landed = {row.event_id for row in self.table.rows}
        for partition in range(PARTITIONS):
            assert {row.event_id for row in self.topic[partition][: self.committed[partition]]} <= landed

    def teardown(self):
        if not hasattr(self, "topic"):
            return
        while any(self.committed[p] < len(self.topic[p]) for p in range(PARTITIONS)):
            self.lands_and_commits(10)
        expected = {row.event_id for rows in self.topic for row in rows}
        assert {row.event_id for row in self.table.rows} == expected
        assert len(self.table.rows) == len(expected)


TestLanderModel = pytest.mark.timeout(3_600)(LanderModel.TestCase)
# 200 here, 5,000 with `--hypothesis-profile=soak`.
TestLanderModel.settings = settings(max_examples=max(200, settings().max_examples // 2), stateful_step_count=30)


class BlindTable(MemoryTable):
    """Says that nothing has landed."""

    def landed(self, suspects: Sequence[Row]) -> Landed:  # noqa: ARG002
        return Landed()


def test_the_model_notices_a_lander_that_does_not_read_back():
    """A mutant: were the look-up left out, a lost answer would double."""
    table = BlindTable()
    rows = [row_at(Origin(1, 0, 1, index)) for index in range(3)]
    for lander in (TableLander(LANDINGS[0], LanderMetrics()), TableLander(LANDINGS[0], LanderMetrics())):
        lander.land(table, rows, permit=str)
    assert len(table.rows) == 6
