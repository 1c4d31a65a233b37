"""What the ledger says of one record of `events.raw`: which of its events did not go on, and why.

Pure, and made of the record and the claims alone: a record that is read again says the same.
"""

from collections.abc import Iterator, Mapping, Sequence
from typing import Final

from processors.claims import ClaimsIndex
from schemas import chunk, ledger
from schemas.dead_letter import DeadLetter
from schemas.ids import EVENT_ID_BYTES
from schemas.ledger import Copies, Dead
from schemas.origin import Origin
from schemas.reasons import Reason

NOTHING: Final[Mapping[int, Origin]] = {}


def outcomes(
    offset: int,
    parts: Sequence[chunk.RequestPart],
    ids: Sequence[bytes],
    copies: Mapping[int, int],
    claimed: Sequence[bytes],
    dead: Sequence[DeadLetter],
    index: ClaimsIndex,
    earlier: Mapping[int, Origin] = NOTHING,
) -> bytes:
    """Return the ledger's record of a chunk whose events were judged."""
    return ledger.encode(
        ledger.runs_of(parts),
        _copies(offset, ids, copies, claimed, index) if copies else (),
        ledger.dead_of(_dead(dead)) if dead else (),
        ledger.earlier_of(earlier) if earlier else (),
    )


def outcomes_of_replay(
    offset: int,
    ids: Sequence[bytes],
    firsts: Sequence[bytes],
    copies: Mapping[int, int],
    claimed: Sequence[bytes],
    dead: Sequence[tuple[int, str]],
    index: ClaimsIndex,
    earlier: Mapping[int, Origin] = NOTHING,
) -> bytes:
    """Return the ledger's record of a replayed chunk, which accepts nothing; `dead` by place and reason."""
    return ledger.encode_replay(
        firsts,
        _copies(offset, ids, copies, claimed, index) if copies else (),
        ledger.dead_of(dead),
        ledger.earlier_of(earlier) if earlier else (),
    )


def outcome_of_whole(headers: Mapping[str, bytes], append_ms: int, reason: Reason) -> bytes:
    """Return the ledger's record of a chunk that cannot be read: all its events are dead."""
    run = ledger.run_of_unreadable(headers, append_ms)
    return ledger.encode([run], [], [Dead(0, run.events, reason.value)])


def _copies(
    offset: int, ids: Sequence[bytes], copies: Mapping[int, int], claimed: Sequence[bytes], index: ClaimsIndex
) -> list[Copies]:
    """Join copies whose owners follow each other as they do: a request that was sent again is one entry."""
    joined: list[Copies] = []
    owner, packed = -1, b""
    first = count = place = 0
    for position, owner_of in copies.items():
        event_id = ids[position]
        if owner_of == owner and position == first + count:
            at = (place + count) * EVENT_ID_BYTES
            if packed[at : at + EVENT_ID_BYTES] == event_id:
                count += 1
                continue
        if count:
            joined.append(Copies(first, count, offset - owner, place))
        if owner_of != owner:
            owner = owner_of
            packed = b"".join(claimed) if owner == offset else index.claimed_by(owner)
        first, count, place = position, 1, _place(packed, event_id)
    joined.append(Copies(first, count, offset - owner, place))
    return joined


def _place(packed: bytes, event_id: bytes) -> int:
    at = packed.index(event_id)
    while at % EVENT_ID_BYTES:
        at = packed.index(event_id, at + 1)
    return at // EVENT_ID_BYTES


def _dead(letters: Sequence[DeadLetter]) -> Iterator[tuple[int, str]]:
    for letter in letters:
        assert isinstance(letter.origin, Origin)
        yield letter.origin.index, letter.reason.value
