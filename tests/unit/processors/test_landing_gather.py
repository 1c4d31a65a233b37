"""When a batch is cut: full, large or old, whichever comes first."""

import asyncio
from collections.abc import Iterable
from typing import Any

import pytest
from aiokafka import TopicPartition
from support.clocks import skip_waiting
from support.landing import FakeRecord

from processors.landing.gather import LOOK_RECORDS, Limits, gather

_PARTITION = TopicPartition("exposures", 0)


@pytest.fixture(autouse=True)
async def _no_waiting() -> None:
    skip_waiting()


class Log:
    """Records of 100 bytes, each there from its second on; looked at as a consumer looks at the log."""

    def __init__(self, seconds: Iterable[float], size_bytes: int = 100) -> None:
        self._value = bytes(size_bytes)
        self._clock = asyncio.get_running_loop().time
        self.began_s = self._clock()
        self._coming = list(seconds)

    @property
    def now_s(self) -> float:
        return round(self._clock() - self.began_s, 6)

    async def getmany(self, timeout_ms: int, max_records: int) -> dict[TopicPartition, list[Any]]:
        due_s = self.now_s + timeout_ms / 1000
        if self._coming and self._coming[0] > self.now_s:
            await asyncio.sleep(min(self._coming[0], due_s) - self.now_s)
        elif not self._coming:
            await asyncio.sleep(timeout_ms / 1000)
        found = [second for second in self._coming[:max_records] if second <= self.now_s]
        del self._coming[: len(found)]
        return {_PARTITION: [FakeRecord(self._value) for _ in found]} if found else {}


def _limits(rows: int = 1_000, size_bytes: int = 1_000_000, age_s: float = 0.5) -> Limits:
    return Limits(rows, size_bytes, age_s)


async def test_a_lone_record_waits_for_company_as_long_as_a_batch_may_get_old():
    log = Log([0.1])
    assert (await gather(log, _limits())).count == 1
    assert log.now_s == pytest.approx(0.1 + 0.5, abs=0.001)


async def test_what_comes_meanwhile_is_in_the_batch_and_makes_it_no_older():
    log = Log([number / 10 for number in range(20)])
    assert (await gather(log, _limits())).count == 6
    assert log.now_s == pytest.approx(0.5, abs=0.001)


async def test_a_full_batch_is_cut_at_once():
    log = Log([0.0] * 25)
    assert [(await gather(log, _limits(rows=10))).count for _ in range(3)] == [10, 10, 5]
    log = Log([0.0] * 25)
    assert (await gather(log, _limits(size_bytes=2_500))).count == 25
    assert log.now_s == 0.0


async def test_a_backlog_of_large_records_is_taken_in_pieces_that_fit_into_memory():
    """What is fetched is compressed: 2 MiB of it were 1 GiB of events that repeat themselves."""
    log = Log([0.0] * 4 * LOOK_RECORDS, size_bytes=10_000)
    assert (await gather(log, _limits(rows=20_000))).count == LOOK_RECORDS


async def test_a_backlog_of_small_records_is_one_batch_and_waits_for_nothing():
    log = Log([0.0] * 4 * LOOK_RECORDS, size_bytes=10)
    assert (await gather(log, _limits(rows=4 * LOOK_RECORDS))).count == 4 * LOOK_RECORDS
    assert log.now_s == 0.0


async def test_of_a_silent_log_nothing_is_returned_after_a_moment():
    log = Log([])
    assert (await gather(log, _limits())).count == 0
    assert 0 < log.now_s < 0.5
