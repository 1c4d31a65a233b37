"""A key's quota: to the event, on a clock of the test's."""

import gzip
import json
import random

import httpx
import pytest
from support.memory_gateway import MemoryGateway

from ingest.auth import KeyDirectory
from ingest.quota import Quota
from schemas import keys
from schemas.keys import KeyKind, KeyRecord
from schemas.limits import GATEWAY_IN_FLIGHT_BYTES

S = 1_000_000_000
LIMITED = "secret-limited"


class Clock:
    def __init__(self) -> None:
        self.now_ns = 5 * S

    def __call__(self) -> int:
        return self.now_ns


@pytest.fixture
def clock() -> Clock:
    return Clock()


@pytest.mark.parametrize(("over", "taken"), [(-1, True), (0, True), (1, False)])
def test_what_is_left_of_a_second_is_inclusive(clock: Clock, over: int, taken: bool):
    quota = Quota(100, clock)
    assert quota.take(60)
    assert quota.take(40 + over) is taken


@pytest.mark.parametrize(("early_ns", "taken"), [(1, False), (0, True), (-1, True)])
def test_room_comes_back_with_time_to_the_nanosecond(clock: Clock, early_ns: int, taken: bool):
    quota = Quota(100, clock)
    assert quota.take(100)
    clock.now_ns += 7 * S // 100 - early_ns
    assert quota.take(7) is taken


def test_what_was_not_used_is_not_saved_up_beyond_a_second(clock: Clock):
    quota = Quota(100, clock)
    clock.now_ns += 3600 * S
    assert quota.take(100)
    assert not quota.take(1)


def test_a_request_larger_than_the_quota_is_taken_when_it_is_full_and_paid_for_behind(clock: Clock):
    quota = Quota(100, clock)
    assert quota.take(2_000)
    for waited_s, taken in ((10, False), (9, False), (0.01, True)):
        clock.now_ns += int(waited_s * S)
        assert quota.is_used_up is not taken
        assert quota.take(1) is taken
    clock.now_ns += S - 1
    assert not quota.take(2_000)
    clock.now_ns += 1
    assert quota.take(2_000)


@pytest.mark.parametrize("seed", range(5))
def test_over_any_time_no_more_is_taken_than_the_quota_and_what_was_saved_up(clock: Clock, seed: int):
    """Printed with its seed when it fails."""
    draw, quota, taken, began_ns = random.Random(seed), Quota(50, clock), 0, clock.now_ns
    largest = 0
    for _ in range(2_000):
        clock.now_ns += draw.randrange(S // 10)
        events = draw.choice([1, 5, 40, 200])
        if quota.take(events):
            taken += events
            largest = max(largest, events)
        elapsed_s = (clock.now_ns - began_ns) / S
        assert taken <= 50 * (elapsed_s + 1) + largest
    assert taken > 40 * elapsed_s


def _known(directory: KeyDirectory, per_s: int) -> None:
    made = keys.record_of(LIMITED, KeyKind.SECRET, "default", "production", 1, quota_events_per_s=per_s)
    directory.on_record(made.key_hash.encode(), keys.encode(made))


def _body(events: int) -> bytes:
    made = [{"eventName": "x", "user": {"userID": f"u-{n}"}, "time": n} for n in range(events)]
    return json.dumps({"events": made}).encode()


async def _post(gateway: MemoryGateway, events: int, key: str = LIMITED) -> tuple[int, str]:
    body = gzip.compress(_body(events))
    async with httpx.AsyncClient(transport=httpx.ASGITransport(gateway.app), base_url="http://gateway") as http:
        answer = await http.post("/v1/log_event", content=body, headers={"statsig-api-key": key})
    return answer.status_code, answer.json().get("reason", "")


async def test_beyond_its_quota_a_key_is_told_to_try_again_and_no_other_key_is(clock: Clock):
    gateway = MemoryGateway(clock=clock)
    _known(gateway.directory, 10)
    gateway.know("secret-free", KeyKind.SECRET)
    assert await _post(gateway, 9) == (202, "")
    assert await _post(gateway, 2) == (503, "over_quota")
    assert await _post(gateway, 1) == (202, "")
    assert await _post(gateway, 1) == (503, "over_quota")
    assert await _post(gateway, 500, "secret-free") == (202, "")
    assert gateway.count("headrace_gateway_refused_requests_total", reason="over_quota") == 2
    clock.now_ns += S // 10
    assert await _post(gateway, 1) == (202, "")
    assert len(gateway.log.events()) == 511


async def test_what_the_gateway_has_no_room_for_is_not_counted_and_what_is_over_the_quota_takes_no_room(clock: Clock):
    gateway = MemoryGateway(clock=clock)
    _known(gateway.directory, 10)
    in_flight = gateway.app.log_events.in_flight
    kept = GATEWAY_IN_FLIGHT_BYTES - len(_body(10))
    in_flight.take(kept)
    in_flight.take(1)
    assert await _post(gateway, 10) == (503, "overloaded")
    in_flight.give_back(1)
    assert await _post(gateway, 10) == (202, "")
    clock.now_ns += S // 2
    assert await _post(gateway, 6) == (503, "over_quota")
    assert in_flight.held_bytes == kept


async def test_events_that_are_refused_count_as_well(clock: Clock):
    gateway = MemoryGateway(clock=clock)
    _known(gateway.directory, 2)
    async with httpx.AsyncClient(transport=httpx.ASGITransport(gateway.app), base_url="http://gateway") as http:
        sent = [
            await http.post("/v1/log_event", content=b'{"events":[17]}', headers={"statsig-api-key": LIMITED})
            for _ in range(3)
        ]
    assert [answer.status_code for answer in sent] == [202, 202, 503]


async def test_a_key_that_has_used_its_quota_up_costs_no_decoding(clock: Clock):
    gateway = MemoryGateway(clock=clock)
    _known(gateway.directory, 1)
    assert await _post(gateway, 1) == (202, "")
    async with httpx.AsyncClient(transport=httpx.ASGITransport(gateway.app), base_url="http://gateway") as http:
        answer = await http.post("/v1/log_event", content=b"nonsense", headers={"statsig-api-key": LIMITED})
    assert (answer.status_code, json.loads(answer.content)["reason"]) == (503, "over_quota")


async def test_a_quota_may_be_changed_while_the_gateway_runs(clock: Clock):
    gateway = MemoryGateway(clock=clock)
    for per_s, statuses in ((1, [202, 503]), (1, [503]), (3, [202] * 3 + [503]), (0, [202] * 5)):
        _known(gateway.directory, per_s)
        assert [(await _post(gateway, 1))[0] for _ in statuses] == statuses


def test_a_record_of_a_key_from_before_there_were_quotas_has_none():
    value = keys.encode(keys.record_of(LIMITED, KeyKind.SECRET, "default", "production", 1))
    assert b"quota" not in value
    assert isinstance(keys.decode(value), KeyRecord)
    assert keys.decode(value).quota_events_per_s == 0
