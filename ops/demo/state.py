"""What is going on, for whoever shows it."""

import time
from collections import deque
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any, Final

from ops.demo.reckoning import Reckoning
from ops.stack.supervisor import EventKind, StackEvent

_RATE_OVER_S: Final = 5.0
_LATEST_KEPT: Final = 12

_WORDS: Final = {
    EventKind.PREPARING: "preparing",
    EventKind.STARTING: "starting",
    EventKind.WAITING: "starting",
    EventKind.READY: "ready",
    EventKind.DONE: "done",
    EventKind.DIED: "died, starting again",
    EventKind.STOPPING: "stopping",
    EventKind.STOPPED: "stopped",
    EventKind.LEFTOVER_ENDED: "ended a leftover",
}


@dataclass
class State:
    """Written by the demo, read by the screen, both in one thread."""

    console: str
    parts: dict[str, tuple[str, str]] = field(default_factory=dict)
    phase: str = "starting the stack"
    reckoning: Reckoning | None = None
    acknowledged: int = 0
    given_up: int = 0
    trouble: str = ""
    latest: deque[dict[str, Any]] = field(default_factory=lambda: deque(maxlen=_LATEST_KEPT))
    on_change: Callable[[], None] = lambda: None
    """Called when something a person waits for has changed."""
    _landed_at: deque[tuple[float, int]] = field(default_factory=deque)

    def on_stack_event(self, event: StackEvent) -> None:
        """Take what the stack says of a part."""
        self.parts[event.part] = (_WORDS[event.kind], event.detail)
        self.on_change()

    def enter(self, phase: str) -> None:
        """Begin another part of the demo."""
        self.phase = phase
        self.on_change()

    def note_landed(self, landed: int) -> None:
        """Remember how much had landed by now."""
        now = time.monotonic()
        self._landed_at.append((now, landed))
        while len(self._landed_at) > 2 and now - self._landed_at[0][0] > _RATE_OVER_S:
            self._landed_at.popleft()
        self.on_change()

    @property
    def landed_per_s(self) -> float:
        """Events landed a second, over the last few seconds."""
        if len(self._landed_at) < 2:
            return 0.0
        (began, before), (ended, after) = self._landed_at[0], self._landed_at[-1]
        return (after - before) / (ended - began) if ended > began else 0.0
