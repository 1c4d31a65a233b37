"""Keeping a lander that lost its partitions from inserting behind its successor's back.

Matters on a shared ClickHouse server only: inside the embedded engine there is one lander. What is
left is a process that is frozen exactly between the last check and the send; the audit shows it.
"""

import time
from typing import Final

from clickhouse_connect.driver.client import Client

_PREFIX: Final = "headrace-lander"
TICK_S: Final = 0.5


class StaleError(Exception):
    """The partitions were taken away while their batch was in hand; it comes again elsewhere."""


class Pulse:
    """Notices that this process was frozen for so long that the group has given it up.

    The event loop beats; whoever is about to insert asks. Both see a freeze, whoever runs first.
    """

    def __init__(self, session_timeout_s: float) -> None:
        self._session_timeout_s = session_timeout_s
        self._last_beat_s = time.monotonic()

    def beat(self) -> bool:
        """Be alive; tell whether the last beat is too long ago."""
        missed = not self.is_alive()
        self._last_beat_s = time.monotonic()
        return missed

    def is_alive(self) -> bool:
        """Tell whether the last beat is recent enough for the membership to have lasted."""
        return time.monotonic() - self._last_beat_s < self._session_timeout_s


def query_id(generation: int, member: str, table: str) -> str:
    """Return the id of one insert, which names the generation of the group it belongs to."""
    return f"{_PREFIX}:{generation}:{member}:{table}:{time.time_ns()}"


def end_older(client: Client, generation: int, member: str) -> None:
    """End inserts that nobody waits for any more, so that what is read back then is final.

    Those of older generations, and those that `member` sent itself and got no answer to.
    """
    part = "splitByChar(':', query_id)"
    client.command(
        f"KILL QUERY WHERE startsWith(query_id, '{_PREFIX}:') AND (toUInt64OrZero({part}[2]) < {generation} "
        f"OR {part}[3] = '{member}') SYNC"
    )
