"""Chunks that the ledger does not speak of yet, as their records in `events.raw` tell them. Pure."""

from typing import Any

import msgspec

from console.ledger.balance import Accepted, Coordinate
from schemas import chunk
from schemas.ledger import run_of_unreadable, runs_of


def accepted_of(at: Coordinate, record: Any, *, is_judged: bool) -> Accepted:
    """Return what a record of `events.raw` holds, counted as the worker will count it."""
    headers = dict(record.headers)
    try:
        if headers.get(chunk.VERSION_HEADER, chunk.VERSION) != chunk.VERSION:
            raise msgspec.ValidationError("of another version")
        runs = runs_of(chunk.decode(record.value or b"").requests)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        runs = [run_of_unreadable(headers, record.timestamp)]
    return Accepted(at, runs, is_judged=is_judged)
