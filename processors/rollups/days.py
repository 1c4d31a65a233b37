"""Which days must be made anew. Pure.

What a day is made of: its rows (the landing table is only added to, so their number tells every change), the rules
that say what counts, and the days before it, since who was heard of before is not new. All of it is in a hash,
so that nothing needs to be remembered, and whoever starts after a crash finds what was not done.
"""

import hashlib
from collections.abc import Mapping, Sequence
from datetime import date
from typing import Final

_DEFINITION: Final = 1
"""Counted up when the statements give something else than before: then every day is made anew."""

AHEAD_OF_OTHERS: Final = "without the days before it"


def expected(rows: Mapping[date, int], rules: Sequence[tuple[date, str]]) -> dict[date, str]:
    """Return what each day with rows is made of; `rules` are those that exclude, each with the day of its config."""
    made_of: dict[date, str] = {}
    chain = hashlib.sha256(str(_DEFINITION).encode()).hexdigest()
    for day in sorted(rows):
        known = sorted(rule for since, rule in rules if since <= day)
        chain = hashlib.sha256(repr((chain, rows[day], known)).encode()).hexdigest()
        made_of[day] = f"{rows[day]} rows {chain}"
    return made_of


def next_day(wanted: Mapping[date, str], made: Mapping[date, str]) -> tuple[date, str] | None:
    """Return (day, made of what) of the one to be made next; None when all is as it should be.

    The newest first, when it has other rows than it was made of: it is looked at most. Made before the days before
    it, it is made once more after them. Else the oldest that is not right, as the ones after it build on it.
    """
    stale = [day for day in sorted(wanted) if wanted[day] != made.get(day)]
    if not stale:
        return None
    newest = max(wanted)
    if stale[0] != newest and _rows(wanted[newest]) != _rows(made.get(newest, "")):
        return newest, f"{_rows(wanted[newest])} rows {AHEAD_OF_OTHERS}"
    return stale[0], wanted[stale[0]]


def gone(wanted: Mapping[date, str], made: Mapping[date, str]) -> list[date]:
    """Return the days that have no rows any more."""
    return sorted(set(made) - set(wanted))


def _rows(made_of: str) -> str:
    return made_of.partition(" ")[0]
