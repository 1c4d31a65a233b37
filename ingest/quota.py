"""How many events a second a key may send through one gateway."""

import time
from collections.abc import Callable
from typing import Final

Clock = Callable[[], int]
"""ns that never go back."""

_S: Final = 1_000_000_000


class Quota:
    """Fills up with `per_s` events each second, and holds those of one second at the most.

    A request is taken whole or not at all. One that is larger than the quota is taken when the quota is
    full, and what comes behind it waits until that is paid: SDKs send up to 2,000 events at once, and
    an answer that never is another would lose them. It is two numbers, whatever is sent.
    """

    __slots__ = ("_at_ns", "_clock", "_owed", "per_s")

    def __init__(self, per_s: int, clock: Clock = time.monotonic_ns) -> None:
        """Begin full. `per_s` is at least 1."""
        self.per_s = per_s
        self._clock = clock
        self._at_ns = clock()
        self._owed = 0  # events × ns, so that all of it is whole numbers

    @property
    def is_used_up(self) -> bool:
        """Whether not one more event would be taken."""
        return self._owed_now() > (self.per_s - 1) * _S

    def take(self, events: int) -> bool:
        """Tell whether so many events may come now, and count them if so."""
        owed = self._owed_now()
        wanted = events * _S
        if owed and owed + wanted > self.per_s * _S:
            return False
        self._owed = owed + wanted
        return True

    def _owed_now(self) -> int:
        now_ns = self._clock()
        self._owed = max(0, self._owed - self.per_s * (now_ns - self._at_ns))
        self._at_ns = now_ns
        return self._owed
