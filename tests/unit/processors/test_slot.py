"""Two workers with one name: who is driven out ends, and who was merely away joins again."""

import asyncio
from typing import Any

import pytest

from processors import slot
from processors.slot import SlotTakenError, watch_slot

HEARTBEAT_MS = 3_000
UNKNOWN_MEMBER_ID = 25


class HeartbeatResponse_v1:  # noqa: N801 - aiokafka's name, by which answers are told apart
    def __init__(self, error_code: int) -> None:
        self.error_code = error_code


class Member:
    """A member of a group: `codes` are what its next heartbeats are answered, each after so many seconds."""

    _group_instance_id = "headrace-worker-0"
    _heartbeat_interval_ms = HEARTBEAT_MS

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self.now_s = 1000.0
        self.taken: list[BaseException] = []
        patch.setattr(slot.time, "monotonic", lambda: self.now_s)
        watch_slot(self, self.taken.append)

    async def _send_req(self, request: tuple[int, float]) -> HeartbeatResponse_v1:
        code, takes_s = request
        await asyncio.sleep(0)
        self.now_s += takes_s
        return HeartbeatResponse_v1(code)

    async def heartbeat(self, code: int, takes_s: float = 0.01) -> None:
        send: Any = self._send_req
        await send((code, takes_s))
        self.now_s += HEARTBEAT_MS / 1000


@pytest.fixture
def member(monkeypatch: pytest.MonkeyPatch) -> Member:
    return Member(monkeypatch)


async def test_who_is_unknown_a_heartbeat_after_being_known_was_driven_out(member: Member):
    await member.heartbeat(0)
    with pytest.raises(SlotTakenError, match="give each a HEADRACE_WORKER_INSTANCE of its own"):
        await member.heartbeat(UNKNOWN_MEMBER_ID)
    assert len(member.taken) == 1


async def test_who_was_never_known_joins(member: Member):
    await member.heartbeat(UNKNOWN_MEMBER_ID)
    assert member.taken == []


async def test_who_was_frozen_longer_than_a_session_joins_again_though_an_old_answer_was_waiting(member: Member):
    """The answer to the last heartbeat was given before the freeze, and read after it."""
    await member.heartbeat(0)
    await member.heartbeat(0, takes_s=30)
    await member.heartbeat(UNKNOWN_MEMBER_ID)
    assert member.taken == []
