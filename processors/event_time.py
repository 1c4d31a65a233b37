"""When an event happened: by the sender's clock, and by ours."""

from datetime import UTC, datetime

import msgspec

from schemas.limits import FAR_FUTURE_MS, FAR_PAST_MS, STORE_MAX_MS, STORE_MIN_MS, TIME_MS


class InvalidTimeError(ValueError):
    """A `time` that no reading turns into a moment."""


class EventTime(msgspec.Struct, frozen=True, gc=False):
    """Times of an event, ms since the epoch.

    `event_ms` is the sender's clock as sent, `clamped_ms` the same within what the store can hold,
    `corrected_ms` by the gateway's clock (also clamped); `lateness_ms` is receipt minus corrected.
    `flag` is ok, absent, past or future.
    """

    event_ms: int
    clamped_ms: int
    corrected_ms: int
    flag: str
    lateness_ms: int


def judge(time: object, received_ms: int, client_ms: int) -> EventTime:
    """Read an event's `time`, whatever form it has.

    `client_ms` is the sender's clock at send (0: not told); the difference to the receipt corrects
    a clock that is wrong. Integers and floats are ms; strings are ISO-8601 (UTC where they name no
    zone) or a number. Raises InvalidTimeError.
    """
    if time is None:
        return EventTime(received_ms, received_ms, received_ms, "absent", 0)
    event_ms = time if type(time) is int and -TIME_MS <= time <= TIME_MS else _read(time)
    corrected_ms = event_ms + received_ms - client_ms if client_ms else event_ms
    lateness_ms = received_ms - corrected_ms
    if -FAR_FUTURE_MS <= lateness_ms <= FAR_PAST_MS and STORE_MIN_MS <= event_ms <= STORE_MAX_MS:
        return EventTime(event_ms, event_ms, clamp(corrected_ms), "ok", lateness_ms)
    flag = "ok" if -FAR_FUTURE_MS <= lateness_ms <= FAR_PAST_MS else "past" if lateness_ms > 0 else "future"
    return EventTime(event_ms, clamp(event_ms), clamp(corrected_ms), flag, lateness_ms)


def clamp(moment_ms: int) -> int:
    """Return the nearest moment that the store can hold."""
    if STORE_MIN_MS <= moment_ms <= STORE_MAX_MS:
        return moment_ms
    return STORE_MIN_MS if moment_ms < STORE_MIN_MS else STORE_MAX_MS


def _read(time: object) -> int:
    if isinstance(time, str):
        time = _read_text(time)
    if isinstance(time, bool) or not isinstance(time, int | float):
        raise InvalidTimeError(f"time is a {type(time).__name__}, not ms since the epoch or ISO-8601 text")
    if not -TIME_MS <= time <= TIME_MS:
        raise InvalidTimeError(f"time {time} is beyond any calendar (±{TIME_MS} ms)")
    return int(time)


def _read_text(text: str) -> int | float:
    try:
        moment = datetime.fromisoformat(text.strip())
    except ValueError:
        try:
            return float(text)
        except ValueError:
            raise InvalidTimeError(f"time {text[:40]!r} is neither ISO-8601 nor a number") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)
