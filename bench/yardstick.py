"""How much slower than at its best this machine runs right now, told by the same work done again and again.

CPU time is no constant: two busy threads of one core, a full cache or a neighbour on the host make the
same instructions take longer, and every figure of a process with them.
"""

import hashlib
import statistics
import threading
import time
from typing import Final, Self

_EVERY_S: Final = 0.5
_WORK: Final = bytes(range(256)) * 16


def _work_s() -> float:
    """Return the CPU seconds that a fixed piece of work of about 2 ms takes this thread."""
    began = time.thread_time()
    words: dict[bytes, int] = {}
    for number in range(600):
        words[hashlib.blake2b(_WORK[number:], digest_size=16).digest()] = number
    return time.thread_time() - began


class Yardstick:
    """Does the work twice a second in a thread, while the `with` block runs."""

    def __init__(self) -> None:
        self._samples: list[float] = []
        self._over = threading.Event()
        self._thread = threading.Thread(target=self._measure, daemon=True, name="yardstick")

    def __enter__(self) -> Self:
        """Begin."""
        self._thread.start()
        return self

    def __exit__(self, *_error: object) -> None:
        """End."""
        self._over.set()
        self._thread.join()

    def mark(self) -> int:
        """Return the present, for `slowdown_since`."""
        return len(self._samples)

    def slowdown_since(self, mark: int) -> float:
        """Return how many times longer the work took since `mark`, by the median, than in its best moment ever."""
        since = self._samples[mark:]
        return statistics.median(since) / min(self._samples) if since else 1.0

    def _measure(self) -> None:
        while not self._over.wait(_EVERY_S):
            self._samples.append(_work_s())
