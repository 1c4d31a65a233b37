"""What a replay would do with a letter: the very code of gateway, worker and lander, run over it. Pure.

What only the moment decides is not known here: whether the store will take a row, and whether a copy of
the event is owned by a record that is neither landed nor selected.
"""

from dataclasses import dataclass
from enum import StrEnum
from typing import Any, Final, NamedTuple

from ops.dlq.fix import DoesNotApplyError, Rule
from ops.dlq.letters import Letter
from ops.dlq.reenter import Again, NotReplayableError, Part, RefusedAgainError, reenter
from processors.claims import ClaimsIndex
from processors.erase import is_erased_letter
from processors.landing.batch import Batch, read
from processors.landing.tables import BY_TOPIC
from processors.map_event import EventMapper
from processors.process_chunk import process
from processors.processed import SourceRecord
from schemas import chunk
from schemas.config_history import ConfigHistory
from schemas.erasures import ErasureList
from schemas.limits import REPLAY_ATTEMPTS
from schemas.reasons import Reason


class Fate(StrEnum):
    """What becomes of a letter in a replay."""

    WOULD_SUCCEED = "would succeed"
    STILL_FAILS = "still fails"
    ALREADY_LANDED = "already landed"
    COPY = "copy of another letter"
    PARKED = "parked"
    ERASED = "erased"
    CANNOT = "cannot be replayed"
    FIX_DOES_NOT_APPLY = "fix does not apply"


class Prediction(NamedTuple):
    """A letter's fate; `why` is a reason where it fails, else a word for counting. `message` is for a person."""

    fate: Fate
    why: str = ""
    message: str = ""


_MANY: Final = 10**6


class Predictor:
    """Predicts letter by letter, in the order in which a replay sends them."""

    def __init__(self, rules: list[Rule], partitions: int, erasures: ErasureList, *, parked: bool) -> None:
        self._rules = rules
        self._partitions = partitions
        self._erasures = erasures
        self._parked = parked
        self._mapper = EventMapper(ConfigHistory())
        self._met: set[bytes] = set()

    def predict(self, letter: Letter, landed: frozenset[bytes], now_ms: int) -> Prediction:
        """Return what would become of a letter, given the event ids that have landed."""
        if self._erasures and is_erased_letter(self._erasures, letter.envelope):
            return Prediction(Fate.ERASED, letter.now.reason)
        if is_parked(letter) and not self._parked:
            return Prediction(Fate.PARKED, letter.now.reason, f"it failed {letter.now.attempt} times")
        if letter.envelope.event_id in landed:
            return Prediction(Fate.ALREADY_LANDED)
        try:
            entry = reenter(letter, self._rules, "", self._partitions)
        except NotReplayableError as error:
            return Prediction(Fate.CANNOT, error.why, str(error))
        except DoesNotApplyError as error:
            return Prediction(Fate.FIX_DOES_NOT_APPLY, letter.now.reason, str(error))
        except RefusedAgainError as error:
            return Prediction(Fate.STILL_FAILS, error.verdict.reason.value, error.verdict.message)
        if landed.issuperset(entry.event_ids):
            return Prediction(Fate.ALREADY_LANDED)
        if self._met.issuperset(entry.event_ids):
            return Prediction(Fate.COPY)
        self._met.update(entry.event_ids)
        return self._of_chunk(letter, entry, now_ms) if isinstance(entry, Part) else _of_record(letter, entry)

    def _of_chunk(self, letter: Letter, part: Part, now_ms: int) -> Prediction:
        headers = dict(chunk.replay_headers(part.events, "", part.attempt))
        log = letter.origin.log if letter.origin else 0
        record = SourceRecord(log, part.partition, 0, now_ms, headers, b'{"requests":[%b]}' % part.json)
        done = process(record, ClaimsIndex(_MANY), self._mapper, now_ms)
        if not done.dead:
            return Prediction(Fate.WOULD_SUCCEED)
        return Prediction(Fate.STILL_FAILS, done.dead[0].reason.value, done.dead[0].message)


@dataclass(slots=True)
class _Record:
    """What the lander looks at."""

    topic: str
    partition: int
    offset: int
    timestamp: int
    key: bytes | None
    value: bytes | None
    headers: Any


def _of_record(letter: Letter, again: Again) -> Prediction:
    landing = BY_TOPIC[again.topic]
    found = Batch()
    read([_Record(again.topic, again.partition, 0, 0, again.key, again.value, again.headers)], landing, found)
    if found.rejected:
        return Prediction(Fate.STILL_FAILS, found.rejected[0].reason.value, found.rejected[0].message)
    if found.unknown:
        return Prediction(Fate.STILL_FAILS, Reason.UNKNOWN_SCHEMA.value, letter.now.message)
    if flaw := landing.schema.flaw(found.rows[0].body):
        return Prediction(Fate.STILL_FAILS, Reason.INSERT_REFUSED.value, flaw)
    return Prediction(Fate.WOULD_SUCCEED)


def is_parked(letter: Letter) -> bool:
    """Tell whether an event was tried as often as it is tried without being asked for."""
    return letter.now.attempt >= REPLAY_ATTEMPTS
