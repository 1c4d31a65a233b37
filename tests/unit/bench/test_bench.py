"""What the bench computes from what it reads."""

from bench import cpu
from bench.report import median_of

STAT = (
    "42 (a (strange) name) S 1 42 42 0 -1 4194560 100 0 0 0 150 50 7 3 20 0 4 0 12345 1000 200 18446744073709551615\n"
)


def test_a_process_is_charged_for_its_threads_and_for_its_reaped_children():
    assert cpu.ticks(STAT) == 150 + 50 + 7 + 3


def test_the_machine_is_busy_when_it_is_neither_idle_nor_waiting_for_a_disk():
    assert cpu.busy_ticks("cpu  10 1 5 1000 50 2 3 4 0 0\ncpu0 0 0 0 0 0 0 0 0 0 0\n") == 10 + 1 + 5 + 2 + 3 + 4


def test_what_was_spent_is_the_difference_of_two_readings():
    spent = cpu.Reading({"a": 5.0, "b": 1.0}, 9.0).since(cpu.Reading({"a": 2.0}, 4.0))
    assert (spent.seconds, spent.machine) == ({"a": 3.0, "b": 1.0}, 5.0)


def test_a_median_is_taken_of_every_number_and_exact_needs_every_run():
    runs = [
        {"exact": True, "spent": {"gateway": 5.0}, "landed": 10, "run": "a"},
        {"exact": False, "spent": {"gateway": 9.0}, "landed": 30, "run": "b"},
        {"exact": True, "spent": {"gateway": 6.0}, "landed": 20, "run": "c"},
    ]
    assert median_of(runs) == {"exact": False, "spent": {"gateway": 6.0}, "landed": 20}
