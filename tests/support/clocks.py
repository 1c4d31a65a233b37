"""The event loop's clock in a test's hands, so that a law on time costs none and holds on a busy machine.

Each works on the running loop, which ends with its test.
"""

import asyncio
from typing import Any


class ShiftedClock:
    """Goes on as time does, and jumps ahead when it is told to: for laws on real connections."""

    def __init__(self) -> None:
        loop: Any = asyncio.get_running_loop()
        self._now = loop.time
        self._ahead_s = 0.0
        loop.time = lambda: self._now() + self._ahead_s

    def advance(self, seconds: float) -> None:
        """Let so much time have passed; what was due meanwhile happens in the next turn of the loop."""
        self._ahead_s += seconds


def skip_waiting() -> None:
    """Let time stand still while there is work, and jump to the next timer when there is none.

    For what waits on nothing outside of the loop: no sockets, threads or processes.
    """
    loop: Any = asyncio.get_running_loop()
    select = loop._selector.select
    now_s = loop.time()

    def jump(timeout_s: float | None) -> Any:
        nonlocal now_s
        ready = select(0)
        if not ready:
            assert timeout_s is not None, "everything waits, and nothing will ever happen"
            now_s += timeout_s
        return ready

    loop._selector.select = jump
    loop.time = lambda: now_s
