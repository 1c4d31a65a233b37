"""When a worker counts as stalled, and what its log's bounds mean for where it goes on."""

import pytest

from processors.config import WorkerConfig
from processors.faust_measures import NO_GENERATION
from processors.log_bounds import Bounds, RecordsLostError, first_to_process
from processors.watchdog import Watchdog
from processors.worker import Worker
from schemas.kafka import KafkaConnection
from schemas.limits import WORKER_STALL_S
from schemas.metrics import WorkerMetrics

EVERY_S = 5.0


def looked(*looks: tuple[float, dict[str, object]]) -> str:
    watchdog = Watchdog(WORKER_STALL_S, EVERY_S)
    found = ""
    for now_s, marks in looks:
        found = watchdog.look(now_s, marks)
    return found


def standing_still(for_s: float) -> list[tuple[float, dict[str, object]]]:
    times = [float(now_s) for now_s in range(0, int(for_s), int(EVERY_S))]
    return [(now_s, {"reading": 7}) for now_s in [*times, for_s]]


@pytest.mark.parametrize(("over_s", "stalled"), [(-1, ""), (0, "reading"), (1, "reading")])
def test_what_stands_still_for_the_limit_is_stalled(over_s: int, stalled: str):
    assert looked(*standing_still(WORKER_STALL_S + over_s)) == stalled


def test_what_moves_is_not_stalled_however_slowly():
    watchdog = Watchdog(WORKER_STALL_S, EVERY_S)
    looks = [watchdog.look(step * EVERY_S, {"reading": step // 10}) for step in range(100)]
    assert set(looks) == {""}


def test_what_had_nothing_to_do_for_a_while_begins_anew():
    still = standing_still(WORKER_STALL_S)
    idle: tuple[float, dict[str, object]] = (still[5][0], {})
    assert looked(*still[:5], idle, *still[6:]) == ""


def test_a_process_that_was_frozen_itself_is_not_stalled():
    assert looked((0, {"reading": 7}), (10 * WORKER_STALL_S, {"reading": 7})) == ""


def test_kafka_that_was_away_takes_no_patience():
    watchdog = Watchdog(WORKER_STALL_S, EVERY_S)
    still = standing_still(WORKER_STALL_S)
    for now_s, marks in still[:-1]:
        watchdog.look(now_s, marks)
    watchdog.forget()
    assert watchdog.look(*still[-1]) == ""


@pytest.mark.parametrize("generation", [0, NO_GENERATION, 1], ids=["started", "joining", "recovering"])
async def test_a_worker_that_has_never_been_assigned_anything_is_watched_while_it_joins(generation: int):
    worker = Worker(WorkerConfig(KafkaConnection("127.0.0.1:1")), WorkerMetrics())
    app = worker._compose()
    app.consumer_generation_id = generation
    assert worker._work_to_do(app, {}) == {"joining the group and reading the claims back": (generation, 0)}
    app.consumer._thread.thread_loop.close()


@pytest.mark.parametrize(
    ("committed", "first"), [(None, 10), (10, 10), (15, 15), (20, 20)], ids=["never", "begin", "inside", "end"]
)
def test_processing_goes_on_where_it_was_committed_and_first_at_the_beginning(committed: int | None, first: int):
    assert first_to_process("events.raw", 2, committed, Bounds(10, 20)) == first


@pytest.mark.parametrize(
    ("committed", "words"), [(9, r"records 9 to 9 of events.raw/2 were deleted"), (21, "ends at 20 although 21")]
)
def test_a_log_that_does_not_reach_to_what_was_committed_stops_the_worker(committed: int, words: str):
    with pytest.raises(RecordsLostError, match=words):
        first_to_process("events.raw", 2, committed, Bounds(10, 20))
