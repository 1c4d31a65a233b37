"""One who watches: what they want, what waits for them, and what they were not shown."""

import asyncio
import time
from collections import deque
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson

from console.live import sse
from console.live.decode import Outcome
from console.live.filters import Filter
from console.live.look import Seen
from console.live.positions import Positions, to_id
from schemas.limits import MIB

WAITING_MAX: Final = 2_000
"""Exposures that wait for a slow viewer; older ones are let go, and counted."""

WAITING_BYTES_MAX: Final = 4 * MIB
"""Bytes of these at the most."""

TOLD_EVERY_S: Final = 1.0

_ACTIVE_S: Final = 1.0
"""Outcomes of which something was wanted within this time share the rate."""


@dataclass
class Tally:
    """What became of the exposures since the viewer was last told."""

    read: int = 0
    """Events of the log."""
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
    rates: dict[str, float] = field(default_factory=dict)
    """Outcome → how many a second match, those counted in that were not looked at."""


class Viewer:
    """Takes batches from the hub and keeps, within bounds, what its connection has still to send."""

    def __init__(self, wanted: Filter, rate_max: float | None = None, now: float | None = None) -> None:
        """Show what `wanted` lets through, at most `rate_max` a second, fairly chosen."""
        self.wanted = wanted
        self._rate_max = rate_max
        self._allowances: dict[Outcome, tuple[float, float]] = {}
        """Outcome → how many of it may be shown, as of when."""
        self._waiting: deque[bytes] = deque()
        self._waiting_bytes = 0
        self._waiting_since = 0.0
        self._notices: list[bytes] = []
        self._position = ""
        self._tally = Tally()
        self._told_at = time.monotonic() if now is None else now
        self._told_of_nothing = False
        self._news = asyncio.Event()
        self.is_closed = False
        self.is_kept_waiting = False
        """Set while it cannot take anything because what was before is read first, which may wait for other viewers."""
        self.dropped = asyncio.Event()
        """Set when the viewer was too slow for too long."""

    def offer(self, seen: Seen, chosen: Sequence[bytes] | None = None, now: float | None = None) -> None:
        """Take what is wanted of `seen`. `chosen` are the frames that its filter wants, where that is known already."""
        now = time.monotonic() if now is None else now
        if seen.outcome not in self.wanted.outcomes:
            return
        wanted = self.wanted.choose(seen.exposures) if chosen is None else chosen
        shown = self._within_rate(wanted, seen.outcome, now)
        self._told_of_nothing = False
        tally = self._tally
        tally.read += seen.read
        tally.looked_at += seen.looked_at
        tally.unreadable += seen.unreadable
        tally.matched += len(wanted)
        tally.sampled_out += len(wanted) - len(shown)
        if seen.looked_at:
            all_of_them = len(wanted) * seen.read / seen.looked_at
            tally.rates[seen.outcome.value] = tally.rates.get(seen.outcome, 0.0) + all_of_them
        if not self._waiting:
            self._waiting_since = now
        self._waiting.extend(shown)
        self._waiting_bytes += sum(map(len, shown))
        while len(self._waiting) > WAITING_MAX or self._waiting_bytes > WAITING_BYTES_MAX:
            self._waiting_bytes -= len(self._waiting.popleft())
            tally.missed += 1
        if shown:
            self._news.set()

    def stand(self, positions: Positions) -> None:
        """Note where the stream stands after what was offered."""
        self._position = to_id(positions)

    def is_stuck(self, now: float, patience_s: float) -> bool:
        """Whether it has taken nothing for longer than that, although something waits and it could."""
        if self.is_kept_waiting:
            self._waiting_since = now
        return bool(self._waiting) and now - self._waiting_since > patience_s

    def _within_rate(self, wanted: Sequence[bytes], outcome: Outcome, now: float) -> Sequence[bytes]:
        """Choose evenly over the batch, so that no partition and no moment is preferred."""
        if self._rate_max is None or not wanted:
            return wanted
        active = {each for each, (_, at) in self._allowances.items() if now - at < _ACTIVE_S} | {outcome}
        # A flood of one leaves the others their part.
        rate = self._rate_max / len(active)
        before, since = self._allowances.get(outcome, (rate, now))
        # At least one, or a low rate would show nothing at all.
        allowed = min(max(rate, 1.0), before + rate * (now - since))
        count = min(len(wanted), int(allowed))
        self._allowances[outcome] = allowed - count, now
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
        self._waiting_bytes = 0
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
        rates = {outcome: round(count / max(seconds, 0.001), 3) for outcome, count in tally.rates.items()}
        told = {"seconds": round(seconds, 3), **vars(tally), "rates": rates}
        return sse.message("tally", orjson.dumps(told))
