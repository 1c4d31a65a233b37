"""Times: kept as sent, corrected by the sender's clock, flagged when they are far away."""

import pytest

from processors.event_time import EventTime, InvalidTimeError, judge
from schemas.limits import FAR_FUTURE_MS, FAR_PAST_MS, TIME_MS

NOW = 1_763_740_000_000


@pytest.mark.parametrize(
    ("sent", "event_ms"),
    [
        (NOW, NOW),
        (NOW + 0.75, NOW),
        (-1, -1),
        ("2025-11-21T15:46:40Z", NOW),
        ("2025-11-21T16:46:40+01:00", NOW),
        ("2025-11-21T15:46:40", NOW),
        (str(NOW), NOW),
        (0, 0),
    ],
)
def test_every_form_of_a_time_means_its_moment(sent: object, event_ms: int):
    assert judge(sent, NOW, 0).event_ms == event_ms


@pytest.mark.parametrize("sent", ["yesterday", "", True, [], {}, "NaN", float("inf"), TIME_MS + 1, -TIME_MS - 1])
def test_what_is_no_time_is_refused_and_not_guessed(sent: object):
    with pytest.raises(InvalidTimeError):
        judge(sent, NOW, 0)


def test_an_event_without_a_time_happened_when_it_was_received():
    assert judge(None, NOW, NOW - 5_000) == EventTime(NOW, NOW, NOW, "absent", 0)


def test_a_wrong_clock_is_corrected_by_what_it_said_at_send():
    ten_minutes = 600_000
    time = judge(NOW + ten_minutes - 1_000, NOW, NOW + ten_minutes)
    assert (time.event_ms, time.corrected_ms, time.lateness_ms) == (NOW + ten_minutes - 1_000, NOW - 1_000, 1_000)


@pytest.mark.parametrize(
    ("age_ms", "flag"),
    [
        (FAR_PAST_MS, "ok"),
        (FAR_PAST_MS + 1, "past"),
        (-FAR_FUTURE_MS, "ok"),
        (-FAR_FUTURE_MS - 1, "future"),
    ],
)
def test_far_events_are_kept_and_flagged(age_ms: int, flag: str):
    time = judge(NOW - age_ms, NOW, 0)
    assert (time.event_ms, time.flag) == (NOW - age_ms, flag)


@pytest.mark.parametrize("sent", [TIME_MS, -TIME_MS])
def test_a_time_beyond_the_store_is_clamped_and_still_known_as_sent(sent: int):
    time = judge(sent, NOW, 0)
    assert time.event_ms == sent
    assert abs(time.clamped_ms) < abs(sent)
