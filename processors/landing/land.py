"""Landing the rows of one table: look up the suspects, insert what is missing, remember how far."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass, field
from typing import Protocol

from processors.landing.batch import Rejected, Row
from processors.landing.insert import insert_what_fits
from processors.landing.suspects import Decision, HighWater, Landed, Prefix, Spread, decide, suspects
from processors.landing.tables import Landing
from schemas.crash_points import CrashPoint, reach
from schemas.metrics import LanderMetrics


class Table(Protocol):
    """A landing table as the lander sees it. Every method raises ClickHouseError when the store fails."""

    def high_water(self, prefixes: Sequence[Prefix]) -> dict[Prefix, bytes]:
        """Return the highest landed origin of each log and partition, packed; empty where none landed."""

    def landed(self, suspects: Sequence[Row]) -> Landed:
        """Return which of the suspects are in the table."""

    def insert(self, rows: Sequence[Row], query_id: str) -> None:
        """Insert and return when the rows are there. Raises RefusedError when the rows are at fault."""


@dataclass(frozen=True)
class LandedRows:
    """What became of a batch: inserted rows, rows that had landed before, refused ones."""

    inserted: int
    repeats: list[Row]
    rejected: list[Rejected]
    owners: dict[bytes, bytes] = field(default_factory=dict)
    """Of those repeats whose event landed under another origin: that origin, by their own."""


class TableLander:
    """Lands rows in one table, each origin once. Blocks; one thread at a time."""

    def __init__(self, landing: Landing, metrics: LanderMetrics) -> None:
        self.landing = landing
        self._metrics = metrics
        self._marks = HighWater()

    def forget(self) -> None:
        """Read the high-water marks again before the next batch: somebody else may have landed."""
        self._marks.forget()

    def land(self, table: Table, rows: Sequence[Row], permit: Callable[[str], str]) -> LandedRows:
        """Return when every row is in the table or is refused.

        `permit(table)` is asked before each insert: it raises when the rows are not ours any more,
        and returns the query id to use. Raises ClickHouseError when the store fails; then it is not
        known what landed, and the same rows may be given again. Raises LogReplacedError.
        """
        try:
            landed = self._land(table, rows, permit)
        except BaseException:
            self._marks.forget()
            raise
        self._metrics.rows.labels(self.landing.table).inc(landed.inserted)
        self._metrics.repeats.labels(self.landing.table).inc(len(landed.repeats))
        return landed

    def _land(self, table: Table, rows: Sequence[Row], permit: Callable[[str], str]) -> LandedRows:
        spread = Spread.of(rows)
        if unknown := self._marks.unknown(spread):
            self._marks.learn(table.high_water(unknown))
        looked_up = suspects(rows, spread, self._marks)
        if spread.is_plain and not looked_up:
            decision = Decision(list(rows), [])
        else:
            decision = decide(rows, self._look_up(table, looked_up))
        reach(CrashPoint.LANDER_AFTER_READBACK)
        rejected: list[Rejected] = []
        if decision.new:
            rejected = insert_what_fits(
                decision.new,
                insert=lambda some: self._insert(table, some, permit),
                still_missing=lambda some: decide(some, self._look_up(table, some)).new,
                flaw=lambda row: self.landing.schema.flaw(row.body),
            )
        self._marks.raise_to(spread)
        landed = LandedRows(len(decision.new) - len(rejected), decision.repeats, rejected, decision.owners)
        return self._land_instead(table, decision, landed, permit) if rejected and decision.repeats else landed

    def _land_instead(
        self, table: Table, decision: Decision, landed: LandedRows, permit: Callable[[str], str]
    ) -> LandedRows:
        """Land the rows that counted as repeats of a row that was then refused."""
        refused = {id(one.record) for one in landed.rejected}
        origins = {row.origin for row in decision.new if id(row.record) in refused}
        instead = [row for row in decision.repeats if row.origin in origins]
        if not instead:
            return landed
        then = self._land(table, instead, permit)
        repeats = [row for row in decision.repeats if row.origin not in origins]
        return LandedRows(
            landed.inserted + then.inserted,
            repeats + then.repeats,
            landed.rejected + then.rejected,
            landed.owners | then.owners,
        )

    def _look_up(self, table: Table, rows: Sequence[Row]) -> Landed:
        if not rows:
            return Landed()
        self._metrics.readbacks.inc()
        return table.landed(rows)

    def _insert(self, table: Table, rows: Sequence[Row], permit: Callable[[str], str]) -> None:
        began = time.perf_counter()
        table.insert(rows, permit(self.landing.table))
        self._metrics.insert_seconds.observe(time.perf_counter() - began)
