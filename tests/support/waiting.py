"""Waiting for a condition, never for time."""

import asyncio
import inspect
import time
from collections.abc import Awaitable, Callable
from typing import TypeVar

T = TypeVar("T")

_POLL_S = 0.02


async def until(condition: Callable[[], T | Awaitable[T]], timeout_s: float = 60, what: str = "") -> T:
    """Return what `condition` returns as soon as it is truthy. Raises AssertionError after `timeout_s`."""
    deadline = time.monotonic() + timeout_s
    while True:
        found = condition()
        if inspect.isawaitable(found):
            found = await found
        if found:
            return found
        assert time.monotonic() < deadline, f"{what or inspect.getsource(condition).strip()}: not within {timeout_s} s"
        await asyncio.sleep(_POLL_S)
