"""A worker whose claims say "seen" instead of who saw: after a crash a record takes itself for its copy."""

import sys
from collections.abc import Sequence
from typing import Any

from ops.processes.__main__ import main
from processors import process_chunk
from processors.claims import ClaimsIndex
from processors.id_table import NOBODY

_outcomes = process_chunk.outcomes


def copies(self: ClaimsIndex, offset: int, _append_ms: int, ids: Sequence[bytes]) -> dict[int, int]:
    found: dict[int, int] = {}
    seen: set[bytes] = set()
    for place, event_id in enumerate(ids):
        number = self._table.get(event_id)
        if number != NOBODY or event_id in seen:
            found[place] = self._offset(number) if number != NOBODY else offset
        seen.add(event_id)
    return found


def outcomes(
    offset: int, parts: Any, ids: Any, _copies: Any, _claimed: Any, dead: Any, index: Any, _earlier: Any
) -> bytes:
    """Know of no copies: the ledger's own code would stop at one that a record is of itself."""
    return _outcomes(offset, parts, ids, {}, ids, dead, index)


if __name__ == "__main__":
    ClaimsIndex.copies = copies
    process_chunk.outcomes = outcomes
    sys.exit(main())
