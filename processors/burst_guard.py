"""The burst guard: a run of failures that point at us stops a partition, for that is a bad deploy.

A sender's broken events stop nothing, whatever their number: only reasons of class `ours` count. Pure.
"""

from collections import deque
from collections.abc import Iterable
from typing import Final

from schemas.reasons import blame_of

WINDOW: Final = 1_000
"""Events that are looked back upon."""

IN_A_ROW: Final = 200
"""Failures of ours one behind another; fewer stop nothing."""

SHARE: Final = 0.5
"""Of the last `WINDOW` events, or of all where there were fewer: so many failures of ours, or more."""


class BurstGuard:
    """Watches the events of one partition in their order. Costs nothing per event while nothing fails."""

    def __init__(self) -> None:
        self._runs: deque[tuple[int, bool]] = deque()
        self._seen = 0
        self._ours = 0
        self._in_a_row = 0

    def passed(self, events: int) -> None:
        """Count events that did not fail for a reason of ours."""
        if events:
            self._in_a_row = 0
            self._add(events, is_ours=False)

    def failed(self, events: int) -> None:
        """Count events that did."""
        self._in_a_row += events
        self._add(events, is_ours=True)

    def take(self, events: int, failures: Iterable[tuple[int, str]]) -> bool:
        """Count a chunk of so many events, of which these failed (index, reason, in order); tell whether to stop."""
        at = 0
        for index, reason in failures:
            if blame_of(reason) == "ours":
                self.passed(index - at)
                self.failed(1)
                at = index + 1
                if self.is_burst:
                    return True
        self.passed(events - at)
        return False

    @property
    def is_burst(self) -> bool:
        """Whether the partition must stop."""
        return self._in_a_row >= IN_A_ROW and self._ours >= SHARE * self._seen

    def _add(self, events: int, *, is_ours: bool) -> None:
        runs = self._runs
        if not is_ours and len(runs) == 1 and not runs[0][1] and self._seen >= WINDOW:
            return  # nothing but good events before and now
        if runs and runs[-1][1] == is_ours:
            runs[-1] = (runs[-1][0] + events, is_ours)
        else:
            runs.append((events, is_ours))
        self._seen += events
        self._ours += events if is_ours else 0
        while self._seen > WINDOW:
            count, was_ours = runs[0]
            gone = min(count, self._seen - WINDOW)
            self._seen -= gone
            self._ours -= gone if was_ours else 0
            if gone == count:
                runs.popleft()
            else:
                runs[0] = (count - gone, was_ours)


def why_stopped(partition: int, message: str) -> str:
    """Return what health says of a partition that was stopped."""
    return (
        f"partition {partition} is stopped: {IN_A_ROW} events in a row failed for a reason of ours ({message[:200]}). "
        "Nothing is lost. Mend or roll back, and start this process again; "
        "with HEADRACE_BURST_GUARD=false they become dead letters"
    )
