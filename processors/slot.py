"""Two workers with one name: the one that is driven out says so and ends.

With static membership a second process of the same `group.instance.id` takes the first one's place.
aiokafka 0.14 sends heartbeats without that id, so the first only hears that nobody knows it, joins
again, and drives the second out: two workers were seen to take turns every 3 s for ever, recovering
and processing nothing.
"""

import time
from collections.abc import Callable
from typing import Any, Final

from aiokafka.errors import KafkaError

_UNKNOWN_MEMBER_ID: Final = 25
_FENCED_INSTANCE_ID: Final = 82
"""Error codes of the Kafka protocol."""

_ALIVE: Final = frozenset({0, 27})
"""No error, and "the group is rebalancing": answers to a member."""

_HEARTBEATS: Final = 2


class SlotTakenError(KafkaError):  # type: ignore[misc]  # aiokafka has no types
    """Another process works under this worker's name."""

    retriable = False


def watch_slot(coordinator: Any, on_taken: Callable[[BaseException], object]) -> None:
    """See to it that the member of `coordinator` ends when its name is taken, instead of joining again.

    A member that is unknown although it was alive a moment ago was replaced; one whose session had
    time to end (a frozen process, a frozen broker) was merely given up, and may join again.
    """
    instance = coordinator._group_instance_id
    if instance is None:
        return
    send = coordinator._send_req
    recent_s = _HEARTBEATS * coordinator._heartbeat_interval_ms / 1000
    heard_s = float("-inf")

    async def send_and_look(request: Any) -> Any:
        nonlocal heard_s
        # An answer may be read long after it was given, by a process that was frozen in between.
        asked_s = time.monotonic()
        answer = await send(request)
        codes = _member_codes(answer)
        if codes & _ALIVE:
            heard_s = asked_s
        elif codes & {_UNKNOWN_MEMBER_ID, _FENCED_INSTANCE_ID} and time.monotonic() - heard_s < recent_s:
            error = SlotTakenError(
                f"another worker has taken the slot {instance!r}: give each a HEADRACE_WORKER_INSTANCE of its own"
            )
            on_taken(error)
            raise error
        return answer

    coordinator._send_req = send_and_look


def _member_codes(answer: Any) -> set[int]:
    """Return the error codes by which an answer tells a member whether it is known."""
    kind = type(answer).__name__
    if kind.startswith(("HeartbeatResponse", "SyncGroupResponse")):
        return {answer.error_code}
    if kind.startswith("OffsetCommitResponse"):
        return {partition[1] for topic in answer.topics for partition in topic[1]}
    return set()
