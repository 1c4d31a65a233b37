"""Asking the store for the console's own purposes: parameters in, rows out, errors explained."""

import re
from collections.abc import Mapping
from datetime import UTC, datetime
from typing import Any, Final

import orjson
from clickhouse_connect.driver.exceptions import DatabaseError

from console.answers import RefusedError
from console.store_pool import StorePool

_UNKNOWN_TABLE: Final = (60, 81)
_LIMITS: Final = (159, 241)

_WINDOW: Final = re.compile(r"([1-9][0-9]{0,4})(m|h|d)", re.ASCII)
_UNIT_S: Final = {"m": 60, "h": 3600, "d": 86400}
_WINDOW_S_MAX: Final = 400 * 86400


def window_s(text: str) -> int:
    """Return the seconds of `90m`, `24h` or `7d`. Raises RefusedError (400)."""
    match = _WINDOW.fullmatch(text)
    seconds = int(match[1]) * _UNIT_S[match[2]] if match else 0
    if not 0 < seconds <= _WINDOW_S_MAX:
        raise RefusedError(
            400,
            "unknown_window",
            f"window={text[:40]!r} is not understood.",
            "Write it as 90m, 24h or 7d; 400d at most.",
        )
    return seconds


def iso_s(time_s: float) -> str:
    """Write a moment as ISO 8601 in UTC."""
    return datetime.fromtimestamp(time_s, UTC).isoformat(timespec="milliseconds").replace("+00:00", "Z")


async def rows(store: StorePool, statement: str, parameters: Mapping[str, Any] | None = None) -> list[dict[str, Any]]:
    """Return the rows of a statement of ours. Raises RefusedError (503) that says what the store lacks."""
    try:
        answer = await store.ask(lambda client: client.raw_query(statement, dict(parameters or {}), fmt="JSONEachRow"))
    except DatabaseError as error:
        raise _explained(error) from error
    return [orjson.loads(line) for line in answer.splitlines()]


def _explained(error: DatabaseError) -> RefusedError:
    if error.code in _UNKNOWN_TABLE:
        return RefusedError(
            503, "store_not_ready", "The store has no tables yet.", "Make them with `headrace init`, or `headrace up`."
        )
    if error.code in _LIMITS:
        return RefusedError(503, "store_overloaded", "The store took too long to answer.", "Ask for a shorter window.")
    return RefusedError(
        503,
        "store_failed",
        f"The store answered with an error (code {error.code}).",
        "Its log and the console's say why.",
    )
