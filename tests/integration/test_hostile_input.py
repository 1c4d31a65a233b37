"""Whatever strangers send: each has its status and its reason, and every event is somewhere.

Against a whole stack over real sockets. The table is in `support/hostile_*.py`. Beside it stand the
laws that concern time and connections (`tests/unit/ingest/test_protocol.py`, on a clock of its own).
"""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from dataclasses import dataclass

import orjson
import pytest
import pytest_asyncio
from support.hostile_bodies import BODIES, BOMBS, ENCODINGS
from support.hostile_events import EVENTS, NAUGHTY_ROWS, SHAPES, TIMES, naughty_event, naughty_exposure
from support.hostile_gateway import Answer, Fate, HostileGateway, running_hostile_gateway
from support.hostile_http import HTTP, KEYS
from support.hostile_table import FIRST_MS, Row
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
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("hostile"),
        gateway_port=first,
        console_port=first + 1,
        kafka_port=first + 2,
        admin_port_base=first + 4,
    )
    async with running_hostile_gateway(LocalStack(settings)) as running:
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
