"""Archived chunks through the worker's own code once more, beside the live worker.

Claims are rebuilt from the chunks themselves, read from one window earlier on, so that what was a copy is
one again. Pure: the same records and the same knowledge of configs give the same.
"""

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Final, NamedTuple

from processors.claims import ClaimsIndex
from processors.enrich.catalog import Enriching
from processors.enrich.identity import Identities, Links
from processors.erase import is_erased
from processors.map_event import EventMapper, Mapped, RequestContext
from processors.process_chunk import process
from processors.processed import SourceRecord
from schemas import chunk
from schemas.archive import ArchivedRecord, Place
from schemas.avro import FRAME_BYTES
from schemas.config_history import ConfigHistory
from schemas.dead_letter import DeadLetter
from schemas.erasures import ErasureList
from schemas.ids import EVENT_ID_BYTES
from schemas.origin import Origin
from schemas.wire import Event

_PASSED_BY: Final = Mapped("", b"", b"")
_ID_END: Final = FRAME_BYTES + EVENT_ID_BYTES


class Span(NamedTuple):
    """Events that were received at `since` or later and before `until`, in ms since the epoch."""

    since: int
    until: int

    def has(self, received_ms: int) -> bool:
        """Tell whether an event that was received then is meant."""
        return self.since <= received_ms < self.until


class Emitted(NamedTuple):
    """A record for a public topic, as the worker emitted it the first time; `origin` is packed.

    `is_late`: it came by a replay or out of a spill, so a copy of it may have landed under another origin.
    `links`: what the event shows of identities and nobody knows.
    """

    topic: str
    key: bytes
    value: bytes
    origin: bytes
    is_late: bool
    links: Links

    @property
    def event_id(self) -> bytes:
        """The 16 bytes that identify the event."""
        return self.value[FRAME_BYTES:_ID_END]


@dataclass
class Tally:
    """What the archived events of the span were: each is one of emitted, copy, dead, erased."""

    emitted: int = 0
    dead: Counter[str] = field(default_factory=Counter)
    erased: int = 0


@dataclass(frozen=True)
class Known:
    """What the code knows beside the chunks, as it is now; and which units were erased."""

    configs: ConfigHistory = field(default_factory=ConfigHistory)
    enriching: Enriching = field(default_factory=Enriching)
    identities: Identities = field(default_factory=Identities)
    erasures: ErasureList = field(default_factory=ErasureList)


class _MapperWithin(EventMapper):
    """Maps the events of a span, and passes all others by."""

    def __init__(self, known: Known, span: Span) -> None:
        super().__init__(known.configs, known.enriching, known.identities)
        self.span = span
        self.erased = 0
        self._erasures = known.erasures

    def map(self, event: Event, event_id: bytes, index: int, context: RequestContext) -> Mapped:
        """See `EventMapper`."""
        if not self.span.has(context.part.received_at):
            return _PASSED_BY
        if self._erasures and is_erased(self._erasures, event, context):
            self.erased += 1
            return _PASSED_BY
        return super().map(event, event_id, index, context)


class Reprocessor:
    """Takes the records of one partition of one log in order."""

    def __init__(self, place: Place, span: Span, claims_window_ms: int, known: Known) -> None:
        self._place = place
        self._window_ms = claims_window_ms
        self._index = ClaimsIndex(claims_window_ms)
        self._mapper = _MapperWithin(known, span)
        self.tally = Tally()

    def take(self, record: ArchivedRecord) -> list[Emitted]:
        """Judge a record as the worker does, claim what it claims, and return what of the span it emits."""
        headers = {name: value or b"" for name, value in record.headers}
        source = SourceRecord(*self._place, record.offset, record.append_ms, headers, record.value or b"")
        done = process(source, self._index, self._mapper, record.append_ms)
        self._index.claim(record.offset, record.append_ms, done.claimed, done.firsts)
        self._index.expire(record.append_ms)
        self._count_dead(source, record, done.dead)
        is_late = chunk.REPLAY_HEADER in headers or chunk.outlived_claims(headers, record.append_ms, self._window_ms)
        emitted = [
            Emitted(mapped.topic, mapped.key, mapped.value, origin, is_late, mapped.links)
            for mapped, origin in done.emitted
            if mapped is not _PASSED_BY
        ]
        self.tally.emitted += len(emitted)
        self.tally.erased += self._mapper.erased
        self._mapper.erased = 0
        return emitted

    def _count_dead(self, source: SourceRecord, record: ArchivedRecord, letters: list[DeadLetter]) -> None:
        """Count what is dead in the span. What was erased cannot be read any more, and is not dead."""
        if not letters:
            return
        gone = origins_of_erased(source, record.erased) if record.erased else frozenset[Origin]()
        for letter in letters:
            if not self._mapper.span.has(letter.received_at):
                continue
            if letter.origin in gone:
                self.tally.erased += 1
            else:
                self.tally.dead[letter.reason.value] += 1


def origins_of_erased(source: SourceRecord, erased: Sequence[int]) -> frozenset[Origin]:
    """Return the origins of the events at these places of a chunk."""
    if chunk.REPLAY_HEADER not in source.headers:
        return frozenset(Origin(source.log, source.partition, source.offset, place) for place in erased)
    firsts = [
        Origin.unpack(bytes.fromhex(part.firsts[position].origin))
        for part in chunk.decode(source.value, is_replay=True).requests
        for position in range(len(part.events))
    ]
    return frozenset(firsts[place] for place in erased)
