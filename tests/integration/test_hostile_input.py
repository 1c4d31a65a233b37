"""Whatever strangers send: each has its status and its reason, and every event is somewhere.

Against a whole stack over real sockets. The table is in `support/hostile_*.py`. Beside it stand the
laws that concern time and connections (`tests/unit/ingest/test_connections.py`, on a clock of its own).
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

import orjson
import pytest
import pytest_asyncio
from hypothesis import given, settings
from support.fuzzed_bodies import Fuzzed, fuzzed
from support.hostile_bodies import BODIES, BOMBS, ENCODINGS
from support.hostile_events import EVENTS, NAUGHTY_ROWS, SHAPES, TIMES, naughty_event, naughty_exposure
from support.hostile_gateway import Answer, Fate, HostileGateway, request, running_hostile_gateway
from support.hostile_http import HTTP, KEYS
from support.hostile_table import FIRST_MS, Row, body, good
from support.json_corpus import BROKEN, GOOD, OPEN
from support.naughty_strings import NAUGHTY
from support.ports import free_port_block

from ops.settings import Settings
from ops.stack.local import LocalStack
from schemas.limits import MIB
from schemas.reasons import Reason

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.asyncio(loop_scope="module")]

BOMB_GROWTH_BYTES = 8 * MIB
ROWS = [*BOMBS, *BODIES, *ENCODINGS, *EVENTS, *TIMES, *SHAPES, *KEYS, *HTTP, *NAUGHTY_ROWS]
NAMES = [row.name for row in ROWS]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def gateway(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[HostileGateway]:
    first = free_port_block(8)
    own = Settings(
        data_dir=tmp_path_factory.mktemp("hostile"),
        gateway_port=first,
        console_port=first + 1,
        kafka_port=first + 2,
        admin_port_base=first + 4,
    )
    async with running_hostile_gateway(LocalStack(own)) as running:
        yield running


@dataclass
class Seen:
    """What was seen of a row while it was sent: how often its reason was counted, how much memory it took."""

    answers: list[Answer]
    counted: float
    growth_bytes: int


def send(gateway: HostileGateway, row: Row) -> Seen:
    counter = f'headrace_gateway_refused_requests_total{{reason="{row.reason}"}}'
    before = gateway.counted(counter) if row.reason else 0.0
    gateway.forget_peak()
    resident = gateway.resident_bytes()
    answers = [gateway.ask(data) for data in (row.sent if isinstance(row.sent, tuple) else (row.sent,))]
    growth = gateway.peak_bytes() - resident
    return Seen(answers, gateway.counted(counter) - before if row.reason else 0.0, growth)


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def seen(gateway: HostileGateway) -> dict[str, Seen]:
    """Every row, sent in the order of the table."""
    return {row.name: await asyncio.to_thread(send, gateway, row) for row in ROWS}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def fates(gateway: HostileGateway, seen: dict[str, Seen]) -> dict[str, Fate]:
    """What became of the events of each row, by its name."""
    by_request = await gateway.fates()
    found = {}
    for name, one in seen.items():
        found[name] = fate = Fate()
        for answer in one.answers:
            of_request = by_request.get(answer.request_id, Fate())
            fate.landed += of_request.landed
            fate.in_log += of_request.in_log
            fate.dead += of_request.dead
    return found


async def test_no_two_rows_have_one_name() -> None:
    assert [name for name, count in Counter(NAMES).items() if count > 1] == []


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
async def test_each_input_has_its_answer(seen: dict[str, Seen], row: Row) -> None:
    one = seen[row.name]
    for answer in one.answers:
        assert (answer.status, answer.reason) == (row.status, row.reason), answer
        assert answer.is_closed == row.closes
        assert answer.request_id
    assert one.counted == (len(one.answers) if row.reason else 0), "the reason is counted"
    if row.is_bomb:
        assert one.growth_bytes < BOMB_GROWTH_BYTES


@pytest.mark.parametrize("row", ROWS, ids=NAMES)
async def test_each_event_has_landed_or_waits_in_the_dead_letters(fates: dict[str, Fate], row: Row) -> None:
    fate = fates[row.name]
    assert (len(fate.landed), fate.reasons) == (row.landed, Counter(row.dead))
    sent = b"".join(row.sent) if isinstance(row.sent, tuple) else row.sent
    if row.dead and isinstance(sent, bytes):
        assert all(original in sent for _, original in fate.dead), "a dead letter holds the bytes that came"


@pytest.mark.usefixtures("fates")
async def test_the_gateway_never_failed_and_was_never_started_again(gateway: HostileGateway) -> None:
    assert gateway.bench.process("gateway") == gateway.process_id
    metrics = await asyncio.to_thread(gateway.metrics)
    answered = [line for line in metrics.splitlines() if line.startswith("headrace_gateway_requests_total{")]
    statuses = {line.partition('status="')[2][:3] for line in answered}
    assert statuses & {"202", "400", "413"} == {"202", "400", "413"}
    assert {status for status in statuses if status >= "500"} == {"501"}, "/v1/initialize, and nothing else"


@pytest.mark.usefixtures("fates")
async def test_labels_of_metrics_are_never_a_strangers_words(gateway: HostileGateway) -> None:
    metrics = await asyncio.to_thread(gateway.metrics)
    named = {
        label.partition('"')[2].partition('"')[0]
        for line in metrics.splitlines()
        if line.startswith(("headrace_gateway_refused_requests_total{", "headrace_gateway_dead_letters_total{"))
        for label in [line[line.index("{") :]]
    }
    assert named <= {reason.value for reason in Reason}


@pytest.mark.usefixtures("fates")
async def test_a_log_line_cannot_be_forged_nor_colour_a_terminal(gateway: HostileGateway) -> None:
    written = gateway.log.read_bytes()
    assert written.count(b"\n") > 10
    assert not set(written) & (set(range(32)) - {ord("\n")})
    for line in written.splitlines():
        assert orjson.loads(line)["process"] == "gateway"
    for key in ("secret-wrong", "sécret"):
        assert key.encode() not in written


@pytest.mark.parametrize("row", NAUGHTY_ROWS, ids=[row.name for row in NAUGHTY_ROWS])
async def test_a_text_is_found_as_it_was_sent(fates: dict[str, Fate], row: Row) -> None:
    text = NAUGHTY[NAUGHTY_ROWS.index(row) // 2]
    custom = next(found for found in fates[row.name].landed if "event_name" in found)
    exposure = next(found for found in fates[row.name].landed if "rule_id" in found)
    sent = naughty_event(text, FIRST_MS)
    assert [custom[name] for name in ("event_name", "value_string", "user_id", "stable_id", "sdk_type")] == [text] * 5
    assert [exposure[name] for name in ("name", "rule_id", "reason", "user_id", "session_id")] == [text] * 5
    assert orjson.loads(custom["metadata"]) == sent["metadata"]
    assert orjson.loads(custom["user"]) == sent["user"]
    assert orjson.loads(exposure["metadata"]) == naughty_exposure(text, FIRST_MS)["metadata"]


CORPUS_GROWTH_BYTES = 20 * MIB


def _with(value: bytes) -> bytes:
    """Return a request of two events, one with a value of the corpus and a good one behind it."""
    first = b'{"eventName":"corpus","user":{"userID":"u"},"time":1767225600000,"metadata":{"a":' + value + b"}}"
    return request(body(first, good()), "/v1/log_event", "statsig-sdk-type: py-server")


async def test_a_value_of_any_kind_costs_at_most_its_own_event(gateway: HostileGateway) -> None:
    gateway.forget_peak()
    before = gateway.resident_bytes()
    answers = {value: await asyncio.to_thread(gateway.ask, _with(value)) for value in (*GOOD, *BROKEN, *OPEN)}
    fates = await gateway.fates()
    for value in (*GOOD, *BROKEN):
        fate = fates[answers[value].request_id]
        expected = (202, 2, 0) if value in GOOD else (202, 1, 1)
        assert (answers[value].status, len(fate.in_log), len(fate.refused)) == expected, value
    for value in OPEN:
        fate = fates[answers[value].request_id]
        assert answers[value].status in (202, 400), value
        assert bool(fate.in_log or fate.refused) == (answers[value].status == 202), value
    assert gateway.peak_bytes() - before < CORPUS_GROWTH_BYTES


async def test_whatever_a_body_is_each_of_its_events_is_somewhere_or_none_is(gateway: HostileGateway) -> None:
    """Every encoding, announced or not, intact or damaged. `make fuzz` looks longer."""
    gateway.forget_peak()
    before = gateway.resident_bytes()
    asked: dict[str, tuple[Fuzzed, Answer]] = {}

    @settings(max_examples=max(200, settings.default.max_examples))
    @given(fuzzed())
    def ask(sent: Fuzzed) -> None:
        answer = gateway.ask(sent.request())
        assert answer.status in (202, 400, 413, 415), answer
        asked[answer.request_id] = (sent, answer)

    await asyncio.to_thread(ask)
    fates = await gateway.fates()
    for request_id, (sent, answer) in asked.items():
        fate = fates.get(request_id, Fate())
        expected = sorted(sent.events_if_taken()) if answer.status == 202 else []
        assert sorted(fate.in_log + fate.refused) == expected, (sent, answer)
    taken = sum(answer.status == 202 for _, answer in asked.values())
    assert taken > len(asked) / 4
    assert gateway.peak_bytes() - before < CORPUS_GROWTH_BYTES


SLOW = 1_000


def _slow_heads() -> list[bytes]:
    whole = request(body(good()))
    behind = [10, 40, whole.index(b"\r\n\r\n") + 2, len(whole) - 20]
    large = request(body(good())).replace(b"content-length: ", b"content-length: 10")
    return [*(whole[:length] for length in behind), large]


async def test_a_thousand_slow_requests_are_cut_and_hold_up_no_good_one(gateway: HostileGateway) -> None:
    """How much longer a good one takes beside them is measured by `make bench ARGS=--gateway`."""
    gateway.forget_peak()
    before = gateway.resident_bytes()
    heads = _slow_heads()
    slow = [await asyncio.open_connection("127.0.0.1", gateway.port) for _ in range(SLOW)]

    async def drip(number: int) -> bytes:
        """Send a byte each second, if any, until there is an answer."""
        reader, writer = slow[number]
        writer.write(heads[number % len(heads)])
        answered = asyncio.ensure_future(reader.readline())
        while not (await asyncio.wait([answered], timeout=1))[0]:
            if number % 2:
                writer.write(b"a")
        writer.close()
        return answered.result()

    cut = asyncio.gather(*(drip(number) for number in range(SLOW)))
    sent = []
    while not cut.done():
        good_one = good()
        sent.append((good_one, await asyncio.to_thread(gateway.ask, request(body(good_one)))))
    assert Counter(await cut) == {b"HTTP/1.1 408 Request Timeout\r\n": SLOW}
    assert {answer.status for _, answer in sent} == {202}
    fates = await gateway.fates()
    assert [fates[answer.request_id].in_log for _, answer in sent] == [[good_one] for good_one, _ in sent]
    assert len(sent) > 100
    assert gateway.peak_bytes() - before < SLOW * 30 * 1024
