"""From when to when is exported, and in which pieces. Pure."""

import re
from collections.abc import Iterable
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Final

from console.answers import RefusedError
from console.questions import window_s

PIECE_ROWS: Final = 50_000
"""So many rows are held at once; what was received in one step may be more."""
STEP_S: Final = 5

_LENGTH: Final = re.compile(r"[0-9]+[a-z]", re.ASCII)


@dataclass(frozen=True)
class Piece:
    """What was received from one moment (s since the epoch) until before another."""

    since_s: int
    until_s: int
    rows: int


def moment_s(text: str, now_s: int) -> int:
    """Return the moment that `24h` (ago), a date or a time in ISO 8601 means; UTC where it names no zone.

    Fractions of a second are cut off. Raises RefusedError (400).
    """
    if _LENGTH.fullmatch(text):
        return now_s - window_s(text)
    try:
        found = datetime.fromisoformat(text.strip())
        found = found.astimezone(UTC) if found.tzinfo else found.replace(tzinfo=UTC)
    except (ValueError, OverflowError):
        raise RefusedError(
            400,
            "unknown_time",
            f"{text[:40]!r} is no time.",
            "Write how long ago (90m, 24h, 7d), a date (2026-11-22), or a time (2026-11-22T10:00:00Z).",
        ) from None
    return int(found.timestamp())


def pieces(counted: Iterable[tuple[int, int]], rows_max: int = PIECE_ROWS) -> list[Piece]:
    """Join steps, (begin in s, rows) in the order of time, into pieces of at most `rows_max` rows where that can be."""
    found: list[Piece] = []
    for since_s, rows in counted:
        last = found[-1] if found else None
        if last is not None and last.rows + rows <= rows_max:
            found[-1] = Piece(last.since_s, since_s + STEP_S, last.rows + rows)
        else:
            found.append(Piece(since_s, since_s + STEP_S, rows))
    return found
