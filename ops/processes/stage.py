"""The contract between a process and the stage that works in it."""

from typing import Protocol

from prometheus_client import CollectorRegistry


class CannotStartError(Exception):
    """A process cannot work with what it was given; the message says what to do about it."""


class Stage(Protocol):
    """What gateway, worker, lander and console have in common.

    A stage may also have `async def failed() -> BaseException`, which completes when the process
    must end because going on could lose or double events.
    """

    @property
    def registry(self) -> CollectorRegistry:
        """Everything the stage counts."""

    async def start(self) -> None:
        """Return when working, or when work is retried in the background until it can."""

    async def stop(self) -> None:
        """Finish what is in hand and let go of everything."""

    def readiness(self) -> dict[str, str]:
        """Return each part that is not ready with why, and the remedy; nothing when all are."""
