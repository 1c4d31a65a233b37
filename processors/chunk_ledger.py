"""What the ledger says of one record of `events.raw`: which of its events did not go on, and why.

Pure, and made of the record and the claims alone: a record that is read again says the same.
"""

from collections.abc import Iterator, Mapping, Sequence

from processors.claims import ClaimsIndex
from schemas import chunk, ledger
from schemas.dead_letter import DeadLetter
from schemas.ledger import Dead
from schemas.origin import Origin
from schemas.reasons import Reason


def outcomes(
    offset: int,
    parts: Sequence[chunk.RequestPart],
    ids: Sequence[bytes],
    copies: Mapping[int, int],
    claimed: Sequence[bytes],
    dead: Sequence[DeadLetter],
    index: ClaimsIndex,
) -> bytes:
    """Return the ledger's record of a chunk whose events were judged."""
    return ledger.encode(
        ledger.runs_of(parts),
        ledger.copies_of(offset, _owners(offset, ids, copies, claimed, index)) if copies else [],
        ledger.dead_of(_dead(dead)) if dead else [],
    )


def outcome_of_whole(headers: Mapping[str, bytes], append_ms: int, reason: Reason) -> bytes:
    """Return the ledger's record of a chunk that cannot be read: all its events are dead."""
    run = ledger.run_of_unreadable(headers, append_ms)
    return ledger.encode([run], [], [Dead(0, run.events, reason.value)])


def _owners(
    offset: int, ids: Sequence[bytes], copies: Mapping[int, int], claimed: Sequence[bytes], index: ClaimsIndex
) -> Iterator[tuple[int, int, int]]:
    own_places: dict[bytes, int] = {}
    place = -1
    for position, owner in copies.items():
        event_id = ids[position]
        if owner == offset:
            own_places = own_places or {claim: at for at, claim in enumerate(claimed)}
            place = own_places[event_id]
        else:
            place = index.place_of(owner, event_id, place + 1)
        yield position, owner, place


def _dead(letters: Sequence[DeadLetter]) -> Iterator[tuple[int, str]]:
    for letter in letters:
        assert isinstance(letter.origin, Origin)
        yield letter.origin.index, letter.reason.value
