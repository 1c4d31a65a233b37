"""One who watches: what they want, what waits for them, and what they were not shown."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any, Final

import orjson

from console.live import sse
from console.live.decode import Exposure
from console.live.filters import Filter
from console.live.positions import Positions, to_id

WAITING_MAX: Final = 2_000
"""Exposures that wait for a slow viewer; older ones are let go, and counted."""

TOLD_EVERY_S: Final = 1.0


@dataclass
class Tally:
    """What became of the exposures since the viewer was last told."""

    read: int = 0
    """Records of the log."""
    looked_at: int = 0
    """Of these, how many were decoded; fewer than `read` when there are too many for that."""
    matched: int = 0
    """Of these, how many the filter wants."""
    shown: int = 0
    sampled_out: int = 0
    """Wanted, and left out to keep the rate the viewer asked for."""
    missed: int = 0
    """Wanted, and lost because the viewer was too slow."""
    unreadable: int = 0


class Viewer:
    """Takes batches from the hub and keeps, within bounds, what its connection has still to send."""

    def __init__(self, wanted: Filter, rate_max: float | None = None, now: float | None = None) -> None:
        """Show what `wanted` lets through, at most `rate_max` a second, fairly chosen."""
        self._filter = wanted
        self._rate_max = rate_max
        self._allowance = rate_max or 0.0
        self._refilled_at = time.monotonic() if now is None else now
        self._waiting: deque[bytes] = deque()
        self._notices: list[bytes] = []
        self._position = ""
        self._tally = Tally()
        self._told_at = self._refilled_at
        self._told_of_nothing = False
        self._news = asyncio.Event()
        self.is_closed = False

    def offer(
        self, batch: Sequence[Exposure], positions: Positions, read: int, unreadable: int = 0, now: float | None = None
    ) -> None:
        """Take what is wanted of a batch; `positions` is where the stream stands after it."""
        now = time.monotonic() if now is None else now
        wanted = [exposure.frame for exposure in batch if self._filter.wants(exposure.fields)]
        chosen = self._within_rate(wanted, now)
        self._told_of_nothing = False
        tally = self._tally
        tally.read += read
        tally.looked_at += len(batch)
        tally.unreadable += unreadable
        tally.matched += len(wanted)
        tally.sampled_out += len(wanted) - len(chosen)
        self._waiting.extend(chosen)
        while len(self._waiting) > WAITING_MAX:
            self._waiting.popleft()
            tally.missed += 1
        self._position = to_id(positions)
        if chosen:
            self._news.set()

    def _within_rate(self, wanted: list[bytes], now: float) -> list[bytes]:
        """Choose evenly over the batch, so that no partition and no moment is preferred."""
        if self._rate_max is None:
            return wanted
        self._allowance = min(self._rate_max, self._allowance + self._rate_max * (now - self._refilled_at))
        self._refilled_at = now
        count = min(len(wanted), int(self._allowance))
        self._allowance -= count
        return [wanted[index * len(wanted) // count] for index in range(count)] if count else []

    def missed(self, count: int) -> None:
        """Count exposures that can no longer be shown."""
        self._tally.missed += count
        self._news.set()

    def notify(self, event: str, body: dict[str, Any]) -> None:
        """Send a message of another kind, before the exposures that wait."""
        self._notices.append(sse.message(event, orjson.dumps(body)))
        self._news.set()

    def close(self) -> None:
        """End the stream."""
        self.is_closed = True
        self._news.set()

    async def frames(self, patience_s: float, other: asyncio.Future[Any] | None = None) -> bytes:
        """Return what there is to send; empty when nothing came within `patience_s`, or before `other` was done."""
        if not self._told_of_nothing:
            patience_s = min(patience_s, max(0.0, self._told_at + TOLD_EVERY_S - time.monotonic()))
        news: asyncio.Future[Any] = asyncio.ensure_future(self._news.wait())
        try:
            awaited = [news] if other is None else [news, other]
            await asyncio.wait(awaited, timeout=patience_s, return_when=asyncio.FIRST_COMPLETED)
            return self.take(time.monotonic())
        finally:
            news.cancel()

    def take(self, now: float) -> bytes:
        """Return all that waits, framed, and the position to resume from after it."""
        self._news.clear()
        parts = [*self._notices, *self._waiting]
        self._tally.shown += len(self._waiting)
        self._notices.clear()
        self._waiting.clear()
        if now - self._told_at >= TOLD_EVERY_S:
            parts.append(self._told(now))
        if self._position:
            parts.append(sse.position(self._position))
            self._position = ""
        return b"".join(parts)

    def _told(self, now: float) -> bytes:
        """Frame the tally since last time; nothing when it would say nothing twice."""
        tally, self._tally = self._tally, Tally()
        seconds, self._told_at = now - self._told_at, now
        is_nothing = not any(vars(tally).values())
        if is_nothing and self._told_of_nothing:
            return b""
        self._told_of_nothing = is_nothing
        return sse.message("tally", orjson.dumps({"seconds": round(seconds, 3), **vars(tally)}))
