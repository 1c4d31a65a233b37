"""The topic `logs`: which log takes events, and which is to be processed."""

import pytest

from schemas import logs
from schemas.logs import LogRecord, Logs
from schemas.topics import EVENTS_RAW, WORKER_APP_ID, raw_topic, worker_group


def record(number: int, partitions: int = 4, after: int = 0) -> LogRecord:
    return LogRecord(number, raw_topic(number) if after else EVENTS_RAW, f"id-{number}", partitions, 1_000, after)


def told(*records: tuple[bytes, bytes]) -> Logs:
    found = Logs()
    for key, value in records:
        found.take(key, value)
    return found


def test_without_records_nothing_is_known_and_events_have_their_first_topic():
    found = Logs()
    assert (found.newest, found.line, found.to_process, found.topic) == (None, [], [], EVENTS_RAW)


def test_a_log_that_follows_another_takes_events_at_once_and_is_processed_behind_it():
    one, two, three = record(1), record(2, 6, 1), record(3, 12, 2)
    found = told(logs.created(two), logs.created(one), logs.created(three))
    assert (found.newest, found.topic) == (three, "events.raw.3")
    assert found.line == found.to_process == [one, two, three]
    found.take(*logs.sealed(1, [5, 6, 7, 8]))
    assert (found.ends, found.to_process) == ({1: [5, 6, 7, 8]}, [one, two, three])
    found.take(*logs.drained(1))
    assert (found.to_process, found.line) == ([two, three], [one, two, three])
    found.take(*logs.drained(2))
    assert found.to_process == [three]


def test_a_log_that_follows_none_begins_anew():
    found = told(logs.created(record(1)), logs.created(record(2, 8, 1)), logs.created(record(5)))
    assert found.line == found.to_process == [record(5)]
    assert found.incarnation == 5
    assert told(logs.created(record(5)), logs.created(record(6, 8, 5))).incarnation == 5


@pytest.mark.parametrize("order", [(0, 1, 2), (2, 1, 0), (1, 2, 0)])
def test_whoever_writes_last_undoes_nothing(order: tuple[int, ...]):
    written = [logs.created(record(1)), logs.sealed(1, [3, 4, 5, 6]), logs.drained(1)]
    found = told(*[written[place] for place in order], logs.created(record(2, 8, 1)))
    assert (found.known[1], found.ends[1], found.drained) == (record(1), [3, 4, 5, 6], {1})


def test_records_of_before_logs_followed_each_other_are_read():
    value = b'{"log":3,"topic":"events.raw","topic_id":"x","partitions":4,"created_at":5}'
    assert told((b"3", value)).newest == LogRecord(3, EVENTS_RAW, "x", 4, 5)


def test_each_log_has_workers_of_its_own():
    assert worker_group(EVENTS_RAW) == WORKER_APP_ID
    assert worker_group(raw_topic(7)) == f"{WORKER_APP_ID}.7"
