"""The burst guard stops for what is ours, at the very event, and for nothing else."""

import random

import pytest

from processors.burst_guard import IN_A_ROW, WINDOW, BurstGuard
from processors.config import WorkerConfig
from processors.processed import Processed
from processors.worker import Worker
from schemas.dead_letter import DeadLetter
from schemas.kafka import KafkaConnection
from schemas.metrics import WorkerMetrics
from schemas.origin import Origin
from schemas.reasons import Reason, Stage

OURS = Reason.UNEXPECTED_ERROR.value
THEIRS = Reason.INVALID_TIME.value


@pytest.mark.parametrize("failures", [IN_A_ROW - 1, IN_A_ROW, IN_A_ROW + 1])
def test_it_stops_at_two_hundred_in_a_row(failures: int):
    guard = BurstGuard()
    assert guard.take(failures, [(index, OURS) for index in range(failures)]) == (failures >= IN_A_ROW)


def test_one_good_event_in_between_is_no_row():
    guard = BurstGuard()
    failures = [(index, OURS) for index in range(2 * IN_A_ROW - 1) if index != IN_A_ROW - 1]
    assert not guard.take(2 * IN_A_ROW - 1, failures)


@pytest.mark.parametrize("good", [0, 1, WINDOW // 2, WINDOW, 50 * WINDOW])
def test_after_many_good_events_half_of_the_last_thousand_must_have_failed(good: int):
    guard = BurstGuard()
    assert not guard.take(good, [])
    needed = max(IN_A_ROW, min(good, WINDOW // 2))
    for number in range(1, needed + 1):
        assert guard.take(1, [(0, OURS)]) == (number == needed)


def test_a_sender_that_sends_nothing_but_garbage_stops_nothing():
    guard = BurstGuard()
    for _ in range(100):
        assert not guard.take(100, [(index, THEIRS) for index in range(100)])


def test_it_decides_as_whoever_remembers_every_event():
    seed = random.randrange(2**32)
    print(f"seed {seed}")
    chance = random.Random(seed)
    for _ in range(30):
        guard, events = BurstGuard(), list[bool]()
        share = chance.choice([0.02, 0.5, 0.98, 0.999])
        for _ in range(120):
            chunk = [chance.random() < share for _ in range(chance.randrange(1, 40))]
            failures = [(index, OURS if chunk[index] else THEIRS) for index in range(len(chunk)) if chunk[index]]
            stopped = guard.take(len(chunk), failures)
            expected = False
            for is_ours in chunk:
                events.append(is_ours)
                row = len(events) if all(events) else events[::-1].index(False)
                last = events[-WINDOW:]
                if is_ours and row >= IN_A_ROW and 2 * sum(last) >= len(last):
                    expected = True
                    break
            assert stopped == expected
            if stopped:
                break


def test_a_chunk_that_is_read_again_is_not_counted_again():
    """After a rebalance the same failures come once more, and are no more than they were."""
    worker = Worker(WorkerConfig(KafkaConnection("127.0.0.1:1")), WorkerMetrics())
    few = IN_A_ROW - 1
    dead = [
        DeadLetter(Stage.WORKER, Reason.UNEXPECTED_ERROR, "", b"", 0, Origin(1, 0, 7, index)) for index in range(few)
    ]
    done = Processed(events=few, dead=dead)
    for _ in range(3):
        assert not worker._is_burst(0, 7, done, {})
    assert list(worker.readiness()) == ["worker"], "no partition is stopped"
