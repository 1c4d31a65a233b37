"""Answers that many ask for: computed once at a time, and shared for a moment."""

import asyncio
import time
from collections.abc import Awaitable, Callable, Hashable
from typing import Final, Generic, TypeVar

T = TypeVar("T")

_KEYS_MAX: Final = 64
_SHARED_S_MAX: Final = 5.0


class Fresh(Generic[T]):
    """Shares each answer for `shared_s`, and longer the longer it took: so it costs a sixth of a thread at most."""

    def __init__(self, shared_s: float) -> None:
        self._shared_s = shared_s
        self._kept: dict[Hashable, tuple[float, T]] = {}
        self._running: dict[Hashable, asyncio.Task[T]] = {}

    async def get(self, key: Hashable, compute: Callable[[], Awaitable[T]]) -> T:
        """Return the answer for `key`, computing it when there is none fresh. Raises what `compute` raises."""
        until, answer = self._kept.get(key, (0.0, None))
        if answer is not None and time.monotonic() < until:
            return answer
        if key not in self._running:
            task = self._running[key] = asyncio.create_task(self._compute(key, compute))
            task.add_done_callback(lambda done: done.cancelled() or done.exception())  # somebody may have seen it
        # Shielded: when one of those who wait goes away, the others still want it.
        return await asyncio.shield(self._running[key])

    async def _compute(self, key: Hashable, compute: Callable[[], Awaitable[T]]) -> T:
        began = time.monotonic()
        try:
            answer = await compute()
        finally:
            del self._running[key]
        now = time.monotonic()
        self._kept = {kept: entry for kept, entry in self._kept.items() if entry[0] > now}
        if len(self._kept) < _KEYS_MAX:
            shared_s = min(_SHARED_S_MAX, max(self._shared_s, 5 * (now - began)))
            self._kept[key] = (now + shared_s, answer)
        return answer
