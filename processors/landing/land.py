"""Landing the rows of one table: look up the suspects, insert what is missing, remember how far."""

import time
from collections.abc import Callable, Sequence
from dataclasses import dataclass

from clickhouse_connect.driver.client import Client

from processors.landing import readback
from processors.landing.batch import Rejected, Row
from processors.landing.insert import Inserter, insert_what_fits
from processors.landing.suspects import Decision, HighWater, Landed, Spread, decide, suspects
from processors.landing.tables import Landing
from schemas.crash_points import CrashPoint, reach
from schemas.metrics import LanderMetrics


@dataclass(frozen=True)
class LandedRows:
    """What became of a batch: inserted rows, rows that had landed before, refused ones."""

    inserted: int
    repeats: list[Row]
    rejected: list[Rejected]


class TableLander:
    """Lands rows in one table, each origin once. Blocks; one thread at a time."""

    def __init__(self, landing: Landing, embedded: bool, metrics: LanderMetrics) -> None:
        self.landing = landing
        self._metrics = metrics
        self._marks = HighWater()
        self._inserter = Inserter(landing, embedded)

    def forget(self) -> None:
        """Read the high-water marks again before the next batch: somebody else may have landed."""
        self._marks.forget()

    def land(self, client: Client, rows: Sequence[Row], permit: Callable[[str], str]) -> LandedRows:
        """Return when every row is in the table or is refused.

        `permit(table)` is asked before each insert: it raises when the rows are not ours any more,
        and returns the query id to use. Raises ClickHouseError when the store fails; then it is not
        known what landed, and the same rows may be given again. Raises LogReplacedError.
        """
        try:
            return self._land(client, rows, permit)
        except BaseException:
            self._marks.forget()
            raise

    def _land(self, client: Client, rows: Sequence[Row], permit: Callable[[str], str]) -> LandedRows:
        table = self.landing.table
        spread = Spread.of(rows)
        if unknown := self._marks.unknown(spread):
            self._marks.learn(readback.high_water(client, self.landing, unknown))
        looked_up = suspects(rows, spread, self._marks)
        if spread.is_plain and not looked_up:
            decision = Decision(list(rows), [])
        else:
            decision = decide(rows, self._look_up(client, looked_up))
        reach(CrashPoint.LANDER_AFTER_READBACK)
        rejected: list[Rejected] = []
        if decision.new:
            rejected = insert_what_fits(
                decision.new,
                insert=lambda some: self._insert(client, some, permit),
                still_missing=lambda some: decide(some, self._look_up(client, some)).new,
                flaw=lambda row: self.landing.schema.flaw(row.body),
            )
        self._marks.raise_to(spread)
        inserted = len(decision.new) - len(rejected)
        self._metrics.rows.labels(table).inc(inserted)
        self._metrics.repeats.labels(table).inc(len(decision.repeats))
        return LandedRows(inserted, decision.repeats, rejected)

    def _look_up(self, client: Client, rows: Sequence[Row]) -> Landed:
        if not rows:
            return Landed()
        self._metrics.readbacks.inc()
        return readback.landed(client, self.landing, rows)

    def _insert(self, client: Client, rows: Sequence[Row], permit: Callable[[str], str]) -> None:
        began = time.perf_counter()
        self._inserter.insert(client, rows, permit(self.landing.table))
        self._metrics.insert_seconds.observe(time.perf_counter() - began)
