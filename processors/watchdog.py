"""Whether what has to move still moves. Pure.

aiokafka consumers can go silent while they are alive (aiokafka #847, #625, #1037; faust #175, #523,
#629): no error, no records, no commits. Only a new process helps, so this one has to end.
"""

from collections.abc import Mapping


class StalledError(Exception):
    """Something that has work to do stood still for too long while Kafka answered."""


class Watchdog:
    """Is shown every `every_s` what should be moving, and tells what has not moved for `limit_s`."""

    def __init__(self, limit_s: float, every_s: float) -> None:
        self._limit_s = limit_s
        self._every_s = every_s
        self._since: dict[str, tuple[object, float]] = {}
        self._looked_s = float("-inf")

    def look(self, now_s: float, marks: Mapping[str, object]) -> str:
        """Return the name of what stands still, or "".

        `marks` has an entry for each thing that has work to do: its name, and anything that changes
        when it moves. A look that comes late proves nothing: this process itself was frozen.
        """
        if now_s - self._looked_s > 2 * self._every_s:
            self.forget()
        self._looked_s = now_s
        since = self._since
        self._since = {}
        for name, mark in marks.items():
            known = since.get(name)
            self._since[name] = known if known is not None and known[0] == mark else (mark, now_s)
        for name, (_, began_s) in self._since.items():
            if now_s - began_s >= self._limit_s:
                return name
        return ""

    def forget(self) -> None:
        """Begin anew: Kafka was away, and what stood still meanwhile had to."""
        self._since = {}
