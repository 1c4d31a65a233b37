"""Which envelope speaks for an event, which are meant, and what is sent of them."""

from dataclasses import replace
from typing import Any

import msgspec
import orjson
import pytest

from ops.dlq.choose import Choice, ChoiceError, moment_ms, named
from ops.dlq.fix import read_rules
from ops.dlq.letters import Letter, Letters, Newest, Place, may_have_failed_again, parse_origin
from ops.dlq.predict import Fate, Predictor
from ops.dlq.reenter import Again, NotReplayableError, Part, reenter
from schemas import chunk, dead_letter
from schemas.dead_letter import DeadLetter
from schemas.erasures import ErasureList
from schemas.ids import EventIds
from schemas.limits import REPLAY_ATTEMPTS, STORE_MAX_MS
from schemas.origin import Origin
from schemas.reasons import Reason, Stage
from schemas.topics import DLQ_INGEST, DLQ_LANDER, DLQ_WORKER

NOW_MS = 1_763_740_000_000
REQUEST = {"project": "default", "environment": "production", "key_id": "k", "request_id": "r", "received_at": NOW_MS}
EVENT = orjson.dumps({"eventName": "buy", "user": {"userID": "u"}, "time": NOW_MS})
ORIGIN = Origin(1, 0, 7, 3)


def worker_letter(original: bytes = EVENT, **fields: Any) -> DeadLetter:
    values: dict[str, Any] = {
        "origin": ORIGIN,
        "event_id": bytes(range(16)),
        "request": orjson.dumps(REQUEST),
        "event_name": "buy",
        **fields,
    }
    stage, reason = values.pop("stage", Stage.WORKER), values.pop("reason", Reason.INVALID_TIME)
    return DeadLetter(stage, reason, "why", original, NOW_MS, **values)


def taken(*letters: tuple[str, DeadLetter]) -> list[Letter]:
    """Return which of these letters, in the order of the topics, speak for their events."""
    newest = Newest()
    read = [(Place(topic, 0, n), letter.encode()) for n, (topic, letter) in enumerate(letters)]
    for place, value in read:
        if may_have_failed_again(value):
            newest.learn(place, dead_letter.read(value))
    picked = Letters(newest)
    found = (picked.take(place, dead_letter.read(value)) for place, value in read)
    return [letter for letter in found if letter is not None]


def letter_of(one: DeadLetter, topic: str = DLQ_WORKER) -> Letter:
    (letter,) = taken((topic, one))
    return letter


def test_an_event_that_failed_again_is_told_by_its_newest_envelope_and_sent_from_its_first():
    first = worker_letter()
    again = worker_letter(b"{}", reason=Reason.INVALID_EVENT, attempt=2, replay="r")
    once_more = worker_letter(b"{}", reason=Reason.INVALID_EXPOSURE, attempt=3, replay="s")
    (letter,) = taken((DLQ_WORKER, first), (DLQ_WORKER, once_more), (DLQ_WORKER, again))
    assert (letter.envelope.original, letter.now.reason, letter.now.attempt) == (EVENT, "invalid_exposure", 3)


def test_a_letter_that_was_written_twice_after_a_crash_is_one():
    assert len(taken((DLQ_WORKER, worker_letter()), (DLQ_WORKER, worker_letter()))) == 1


def test_what_the_gateway_refused_and_then_the_worker_is_sent_through_the_gateways_code_again():
    first = worker_letter(stage=Stage.INGEST, origin=None, reason=Reason.MALFORMED_EVENT)
    again = worker_letter(origin=Origin(255, 0, 0, 0), attempt=2, replay="r")
    (letter,) = taken((DLQ_INGEST, first), (DLQ_WORKER, again))
    assert (letter.stage, letter.now.stage, letter.origin) == ("ingest", "worker", Origin(255, 0, 0, 0))


def test_what_a_replay_brought_to_the_lander_comes_again_from_there():
    again = worker_letter(b"record", stage=Stage.LANDER, reason=Reason.INSERT_REFUSED, attempt=2, replay="r")
    (letter,) = taken((DLQ_WORKER, worker_letter()), (DLQ_LANDER, again))
    assert (letter.stage, letter.envelope.original) == ("lander", b"record")


@pytest.mark.parametrize(
    ("choice", "is_meant"),
    [
        (Choice(), True),
        (Choice(reasons=("invalid_time", "x")), True),
        (Choice(reasons=("x",)), False),
        (Choice(stages=("worker",), environments=("",), event_names=("buy",), projects=("",)), True),
        (Choice(event_names=("sell",)), False),
        (Choice(since=NOW_MS), True),
        (Choice(since=NOW_MS + 1), False),
        (Choice(until=NOW_MS), False),
        (Choice(until=NOW_MS + 1), True),
        (Choice(event_ids=frozenset({bytes(range(16))})), True),
        (Choice(event_ids=frozenset({bytes(16)})), False),
        (Choice(event_ids=frozenset({bytes(16)}), origins=frozenset({ORIGIN.pack()})), True),
    ],
)
def test_a_choice_means_what_all_its_fields_allow(choice: Choice, is_meant: bool):
    assert choice.matches(letter_of(worker_letter())) == is_meant
    assert Choice.of_told(choice.told()) == choice


def test_a_choice_of_a_later_version_is_not_guessed_at():
    with pytest.raises(ChoiceError, match="colour"):
        Choice.of_told({"colour": ["red"]})


def test_a_file_names_events_by_id_or_by_origin_and_the_line_that_does_not_is_told():
    event_ids, origins = named(["", "# why", "00" * 16, "1/0/7/3", "255/1/2/0.4"])
    assert event_ids == {bytes(16)}
    assert origins == {ORIGIN.pack(), Origin(255, 1, 2, 0, 4).pack()}
    with pytest.raises(ChoiceError, match=r"line 2: 'nonsense'"):
        named(["00" * 16, "nonsense"])
    with pytest.raises(ChoiceError, match="no event"):
        named(["# nothing"])


@pytest.mark.parametrize(
    "text", ["1/0/7", "1/0/7/3/4", "a/0/7/3", "-1/0/7/3", "256/0/7/3", f"1/0/{2**64}/3", "1/0/7/3.x"]
)
def test_what_is_no_origin_is_not_read_as_one(text: str):
    assert parse_origin(text) is None


def test_times_are_told_as_ages_or_as_moments():
    assert moment_ms("2h", NOW_MS) == NOW_MS - 7_200_000
    assert moment_ms("2025-11-21T15:46:40", 0) == moment_ms("2025-11-21T16:46:40+01:00", 0) == NOW_MS
    assert moment_ms("", NOW_MS) == 0
    with pytest.raises(ChoiceError):
        moment_ms("yesterday", NOW_MS)


def test_an_event_goes_back_as_a_part_that_names_its_id_and_first_origin():
    entry = reenter(letter_of(worker_letter(occurrence=2)), [], "r", 4)
    assert isinstance(entry, Part)
    (part,) = chunk.decode(b'{"requests":[%b]}' % entry.json, is_replay=True).requests
    assert (bytes(part.events[0]), part.ids, part.occurrences) == (EVENT, {0: bytes(range(16)).hex()}, {0: 2})
    assert part.firsts == {0: chunk.First(ORIGIN.pack().hex(), NOW_MS)}
    assert entry.attempt == 2


@pytest.mark.parametrize(
    ("one", "why"),
    [
        (worker_letter(request=b"{}"), "forged"),
        (worker_letter(request=b'{"project":"p"}'), "forged"),
        (worker_letter(b'{"a":1},{"b":2}'), "forged"),
        (worker_letter(b"{"), "forged"),
        (worker_letter(event_id=None), "no_event_id"),
        (worker_letter(origin=None), "no_origin"),
        (worker_letter(stage=Stage.INGEST), "forged"),
        (worker_letter(b"junk", reason=Reason.UNDECODABLE_CHUNK), "unreadable"),
    ],
)
def test_an_envelope_that_cannot_be_sent_says_why(one: DeadLetter, why: str):
    with pytest.raises(NotReplayableError) as raised:
        reenter(letter_of(one), [], "r", 4)
    assert raised.value.why == why


@pytest.mark.parametrize(("said", "is_sent"), [(b"1", False), (b"2", True), (b"3", False)])
def test_a_chunk_that_can_be_read_now_goes_on_if_as_many_events_were_accepted(said: bytes, is_sent: bool):
    part = chunk.RequestPart(**REQUEST, events=[msgspec.Raw(EVENT), msgspec.Raw(b'{"time":1}')])
    value = chunk.encode(chunk.Chunk([part]))
    one = worker_letter(
        value, reason=Reason.UNKNOWN_CHUNK_VERSION, event_id=None, origin=Origin(1, 2, 9, 0), chunk_headers={"n": said}
    )
    letter = letter_of(one)
    if not is_sent:
        with pytest.raises(NotReplayableError, match="another number"):
            reenter(letter, [], "r", 4)
        return
    entry = reenter(letter, [], "r", 4)
    assert isinstance(entry, Part)
    (read,) = chunk.decode(b'{"requests":[%b]}' % entry.json, is_replay=True).requests
    ids = EventIds("default", "production", "", "r")
    assert read.ids == {0: ids.of(EVENT, 0, True).hex(), 1: ids.of(b'{"time":1}', 0, True).hex()}
    assert [first.origin for first in read.firsts.values()] == [Origin(1, 2, 9, n).pack().hex() for n in range(2)]
    assert entry.partition == 2


@pytest.mark.parametrize(("failed_at", "told"), [(-1, 0), (STORE_MAX_MS, STORE_MAX_MS), (2**62, STORE_MAX_MS)])
def test_a_chunk_of_a_forged_time_does_not_cost_those_that_come_again_with_it(failed_at: int, told: int):
    part = chunk.RequestPart(**REQUEST, events=[msgspec.Raw(EVENT)])
    one = worker_letter(
        chunk.encode(chunk.Chunk([part])),
        reason=Reason.UNDECODABLE_CHUNK,
        event_id=None,
        chunk_headers={"n": b"1"},
        first_failed_at=failed_at,
    )
    entry = reenter(letter_of(one), [], "r", 4)
    assert isinstance(entry, Part)
    (read,) = chunk.decode(b'{"requests":[%b]}' % entry.json, is_replay=True).requests
    assert read.firsts[0].failed_at == told


def test_a_record_of_the_lander_goes_back_into_the_topic_and_partition_it_came_from():
    headers = {"source_topic": b"exposures", "source_partition": b"3"}
    one = worker_letter(b"record", stage=Stage.LANDER, reason=Reason.INSERT_REFUSED, chunk_headers=headers)
    entry = reenter(letter_of(one, DLQ_LANDER), [], "r", 4)
    assert isinstance(entry, Again)
    assert (entry.topic, entry.partition, entry.value) == ("exposures", 3, b"record")
    assert dict(entry.headers) == {
        "origin": ORIGIN.pack(),
        "replay": b"r",
        "attempt": b"2",
        "failed": b"%d" % NOW_MS,
    }


def test_fates_are_told_in_the_order_of_what_is_done():
    rules = read_rules(b'[[rule]]\nop="remove"\npath="/nothing"\nreason="invalid_event"', is_json=False)
    predictor = Predictor(rules, 4, ErasureList(), parked=False)
    origins = iter(Origin(1, 0, n, 0) for n in range(9))

    def fate(one: DeadLetter, landed: frozenset[bytes] = frozenset()) -> Fate:
        return predictor.predict(letter_of(replace(one, origin=next(origins))), landed, NOW_MS).fate

    other = worker_letter(event_id=b"x" * 16)
    assert fate(worker_letter(attempt=REPLAY_ATTEMPTS, replay="r")) is Fate.PARKED
    assert fate(worker_letter(), frozenset({bytes(range(16))})) is Fate.ALREADY_LANDED
    assert fate(worker_letter(event_id=None)) is Fate.CANNOT
    assert fate(worker_letter(reason=Reason.INVALID_EVENT)) is Fate.FIX_DOES_NOT_APPLY
    assert fate(worker_letter(attempt=REPLAY_ATTEMPTS - 1, replay="r")) is Fate.WOULD_SUCCEED
    assert fate(worker_letter()) is Fate.COPY
    assert fate(replace(other, original=b'{"time":"never","eventName":"buy"}')) is Fate.STILL_FAILS
