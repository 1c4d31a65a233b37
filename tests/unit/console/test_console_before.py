"""What was before a viewer came: read before what is new, however long the log does not answer."""

import re
from collections.abc import Sequence
from types import SimpleNamespace
from typing import Any

import pytest
from support.clocks import skip_waiting
from support.exposures import framed

from console.live.filters import filter_from
from console.live.positions import Positions
from console.live.route import Asked, _before
from console.live.viewer import Viewer


class _Log:
    """A log that fails a number of times before it answers."""

    def __init__(self, failures: int) -> None:
        self.failures = failures
        self._records = [
            SimpleNamespace(value=framed(name=f"n-{number}"), partition=0, offset=number, timestamp=number)
            for number in range(3)
        ]

    async def last(self, _count: int, _until: Positions) -> Sequence[Any]:
        self._answer()
        return self._records

    async def between(self, _start: Positions, _until: Positions) -> tuple[Sequence[Any], int]:
        self._answer()
        return self._records, 0

    def _answer(self) -> None:
        if self.failures:
            self.failures -= 1
            raise TimeoutError


@pytest.mark.parametrize("question", [{"recent": 2, "resume": {}}, {"recent": 0, "resume": {0: 0}}])
async def test_a_log_that_does_not_answer_at_once_is_asked_until_it_does(question: dict[str, Any]):
    skip_waiting()
    asked = Asked(filter_from([]), None, **question)
    log: Any = _Log(failures=2)
    viewer = Viewer(asked.wanted, now=0.0)
    *told, frames = [each async for each in _before(log, asked, viewer, {0: 3})]
    assert [b'"waiting"' in each for each in told] == [True, True]
    names = re.findall(rb'"name":"(n-\d)"', frames)
    assert names == [b"n-0", b"n-1", b"n-2"][-asked.recent :]


async def test_a_viewer_that_has_gone_is_not_waited_for():
    skip_waiting()
    asked = Asked(filter_from([]), None, 2, {})
    log: Any = _Log(failures=1_000)
    viewer = Viewer(asked.wanted, now=0.0)
    viewer.close()
    assert len([frames async for frames in _before(log, asked, viewer, {0: 3})]) == 1
