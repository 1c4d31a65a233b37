"""What was before a viewer came: read before what is new, however long the log does not answer."""

import asyncio
import re
from types import SimpleNamespace
from typing import Any

import pytest
from aiokafka import TopicPartition
from support.clocks import skip_waiting
from support.exposures import framed

from console.live import route, sse
from console.live.filters import filter_from
from console.live.look import Look, decode_all
from console.live.positions import Positions
from console.live.replay import Take
from console.live.route import Asked, Past, _before
from console.live.viewer import Viewer
from schemas.kafka import KafkaConnection
from schemas.topics import EXPOSURES

_AT = TopicPartition(EXPOSURES, 0)
_LOOK = Look(KafkaConnection("127.0.0.1:1"))


class _Log:
    """A log that fails a number of times before it answers."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self._records = [
            SimpleNamespace(
                topic=EXPOSURES, value=framed(name=f"n-{number}"), partition=0, offset=number, timestamp=number
            )
            for number in range(3)
        ]

    async def last(self, _until: Positions, take: Take) -> None:
        self._answer()
        await take(self._records)

    async def between(self, _start: Positions, _until: Positions, take: Take) -> int:
        self._answer()
        await take(self._records)
        return 0

    def _answer(self) -> None:
        if self.failures:
            self.failures -= 1
            raise TimeoutError


@pytest.mark.parametrize("question", [{"recent": 2, "resume": {}}, {"recent": 0, "resume": {_AT: 0}}])
async def test_a_log_that_does_not_answer_at_once_is_asked_until_it_does(question: dict[str, Any]):
    skip_waiting()
    asked = Asked(filter_from([]), None, **question)
    log: Any = _Log(failures=2)
    viewer = Viewer(asked.wanted, now=0.0)
    *told, frames = [each async for each in _before(Past(log, _LOOK), asked, viewer, {_AT: 3})]
    assert [b'"waiting"' in each for each in told] == [True, True]
    names = re.findall(rb'"name":"(n-\d)"', frames)
    assert names == [b"n-0", b"n-1", b"n-2"][-asked.recent :]


async def test_a_viewer_that_has_gone_is_not_waited_for():
    skip_waiting()
    asked = Asked(filter_from([]), None, 2, {})
    log: Any = _Log(failures=1_000)
    viewer = Viewer(asked.wanted, now=0.0)
    viewer.close()
    assert len([frames async for frames in _before(Past(log, _LOOK), asked, viewer, {_AT: 3})]) == 1


async def test_a_viewer_that_waits_for_the_log_hears_so_and_is_not_taken_for_a_slow_one(
    monkeypatch: pytest.MonkeyPatch,
):
    monkeypatch.setattr(route, "HEARTBEAT_S", 0.01)
    is_its_turn = asyncio.Event()

    class Busy(_Log):
        async def last(self, until: Positions, take: Take) -> None:
            await is_its_turn.wait()
            await super().last(until, take)

    log: Any = Busy(failures=0)
    asked = Asked(filter_from([]), None, 2, {})
    viewer = Viewer(asked.wanted, now=0.0)
    before = _before(Past(log, _LOOK), asked, viewer, {_AT: 3})
    async with asyncio.timeout(20):
        assert await anext(before) == sse.HEARTBEAT
        viewer.offer(decode_all(log._records, 10), now=0.0)
        assert not viewer.is_stuck(40, patience_s=30)
        assert await anext(before) == sse.HEARTBEAT
        assert not viewer.is_stuck(80, patience_s=30)
        is_its_turn.set()
        assert b"n-2" in [frames async for frames in before][-1]
    assert not viewer.is_stuck(110, patience_s=30)
    assert viewer.is_stuck(111, patience_s=30)
