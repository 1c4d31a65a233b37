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
        is_replay = chunk.REPLAY_HEADER in headers
        parts = chunk.decode(record.value or b"", is_replay=is_replay).requests
        # What comes again was accepted when it came first.
        runs = [] if is_replay else runs_of(parts)
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        runs = [run_of_unreadable(headers, record.timestamp)]
    return Accepted(at, runs, is_judged=is_judged)
