"""Real SDKs against the whole stack: the rows in the store are exactly what the programs logged."""

import asyncio
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from pathlib import Path

import httpx
import pytest
import pytest_asyncio
from support.fault_proxy import FaultProxy, Seen
from support.ports import free_port_block
from support.sdk_bench import Bench, job_of, running_bench, visitor
from support.sdk_programs import Custom, Exposure, ProcessProgram, pages, skip_without_parts
from support.sdk_steps import CLIENTS, PATIENCE_S, SERVERS, Outcome, Step, missing, nothing_dropped, version_of
from support.waiting import until

from ops.settings import Settings
from ops.stack.local import LocalStack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600), pytest.mark.asyncio(loop_scope="module")]

DOCUMENT = Path(__file__).parents[2] / "docs" / "sdks.md"
NEW_GATE = "gate_of_newer_specs"
HELD_S = 14.0
"""Longer than core SDKs and js-client wait for an answer."""


every_client = pytest.mark.parametrize("name", CLIENTS)


def assert_exact(outcome: Outcome) -> None:
    """What was logged and not dropped has landed once; nothing else has."""
    said, landed = outcome.said, outcome.landed
    assert missing(said, landed) == []
    assert list(landed.exposures - said.exposures) == []
    assert list(landed.custom - said.custom) == []


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def bench(tmp_path_factory: pytest.TempPathFactory) -> AsyncIterator[Bench]:
    skip_without_parts()
    first = free_port_block(8)
    settings = Settings(
        data_dir=tmp_path_factory.mktemp("sdks"),
        gateway_port=first,
        console_port=first + 1,
        kafka_port=first + 2,
        admin_port_base=first + 4,
    )
    async with running_bench(LocalStack(settings)) as running:
        yield running


StartStep = Callable[..., Awaitable[Step]]


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def proxy(bench: Bench) -> AsyncIterator[FaultProxy]:
    running = FaultProxy(bench.gateway)
    await running.start()
    yield running
    await running.stop()


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def start_step(bench: Bench) -> AsyncIterator[StartStep]:
    async with AsyncExitStack() as open_things:
        pages_url = await open_things.enter_async_context(pages())

        async def start(name: str, gateway: str) -> Step:
            step = Step(bench, name, gateway, pages_url)
            open_things.push_async_callback(step.end)
            await step.start()
            return step

        yield start


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def well(start_step: StartStep, proxy: FaultProxy) -> dict[str, Outcome]:
    """Everything works. What is logged last is flushed by the shutdown alone, or by leaving the page."""
    step = await start_step("well", proxy.url)
    await step.all_do("all")
    await step.all_do("flush")
    await step.visits(3)
    await step.all_do("stop")
    return await step.outcomes(proxy.seen)


@every_client
async def test_rows_are_exactly_what_was_logged(well: dict[str, Outcome], name: str):
    outcome = well[name]
    assert_exact(outcome)
    assert nothing_dropped(outcome.said)
    assert outcome.said.errors == []
    assert outcome.said.exposures.total() > 70
    assert outcome.landed.custom.total() >= 45


@every_client
async def test_rows_say_what_the_sdk_decided_and_which_sdk_it_was(well: dict[str, Outcome], name: str):
    said, landed = well[name].said, well[name].landed
    assert {at: landed.values[at] for at in said.values} == said.values
    assert {at: landed.groups[at] for at in said.groups} == said.groups
    assert {group for (entity, *_), group in said.groups.items() if entity == "button_color_exp"} > {"Control"}
    assert landed.senders == {(CLIENTS[name].sdk_type, version_of(CLIENTS[name]))}


@every_client
async def test_private_attributes_decide_and_do_not_land(well: dict[str, Outcome], name: str):
    gates = [exposure for exposure in well[name].landed.exposures if exposure.name == "gate_private_plan"]
    assert {exposure.rule for exposure in gates} == {"rule_gold"}
    assert "secret_plan" not in well[name].landed.text


@every_client
async def test_each_sdk_speaks_as_the_documentation_says(well: dict[str, Outcome], name: str):
    client, seen = CLIENTS[name], well[name].seen
    assert set(seen.paths) == set(client.paths)
    assert set(seen.encodings) == {client.encoding}
    assert set(seen.log_statuses) == {202}


async def test_the_documentation_is_of_the_versions_that_run_here():
    skip_without_parts()
    documented = [line for line in DOCUMENT.read_text().splitlines() if line.startswith("| version |")]
    columns = ("python-core", "python-legacy", "node-core", "node-legacy", "js-in-node", "js-in-browser")
    assert documented == [f"| version | {' | '.join(version_of(CLIENTS[name]) for name in columns)} |"]


async def test_a_browser_asks_before_it_sends_and_leaves_with_a_beacon(well: dict[str, Outcome]):
    seen = well["js-in-browser"].seen
    assert seen.beacons == 1
    assert seen.paths["OPTIONS /v1/rgstr"] == seen.paths["POST /v1/rgstr"] - seen.beacons


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def refused(bench: Bench, start_step: StartStep, proxy: FaultProxy) -> dict[str, Outcome]:
    """The log is frozen until every client has been answered 503. What each then sent may land later, or not."""
    step = await start_step("refused", proxy.url)
    broker = bench.process("broker")
    os.kill(broker, signal.SIGSTOP)
    try:
        await step.visits(3)
        flushing = asyncio.gather(step.all_do("flush"))
        await until(lambda: all(seen.log_statuses[503] for seen in step.seen(proxy)), PATIENCE_S, "nobody got a 503")
        await step.visits(2)
    finally:
        os.kill(broker, signal.SIGCONT)
    await flushing
    await until(lambda: bench.is_ready("gateway"), PATIENCE_S)
    await step.all_do("flush")
    return await step.outcomes(proxy.seen)


@every_client
async def test_what_was_answered_503_is_sent_again_and_lands_once(refused: dict[str, Outcome], name: str):
    outcome = refused[name]
    assert_exact(outcome)
    assert nothing_dropped(outcome.said)
    assert set(outcome.seen.log_statuses) == {202, 503}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def slow(bench: Bench, start_step: StartStep, proxy: FaultProxy) -> dict[str, Outcome]:
    """The first answer to each client is held for longer than the SDKs with a time-out of 10 s wait for it.

    Meanwhile newer specs are pushed, which SDKs ask for every 10 s.
    """
    step = await start_step("slow", proxy.url)
    await step.check_gate(NEW_GATE)
    newest = await bench.push_gate(NEW_GATE)
    proxy.hold_first_answer_s = HELD_S
    await step.visits(3)
    await step.all_do("flush")
    await step.visits(2)
    await step.all_do("flush")
    await until(lambda: all(seen.log_statuses[202] > 1 for seen in step.seen(proxy)), PATIENCE_S)
    proxy.hold_first_answer_s = 0
    servers = [seen for seen in step.seen(proxy) if seen.specs]
    await until(lambda: all(seen.specs[newest] for seen in servers), PATIENCE_S, "an SDK did not get the newest specs")
    await until(lambda: step.everybody_passes(NEW_GATE), PATIENCE_S)
    await step.all_do("flush")
    return await step.outcomes(proxy.seen)


@every_client
async def test_an_answer_that_comes_too_late_doubles_nothing(slow: dict[str, Outcome], name: str):
    outcome = slow[name]
    assert_exact(outcome)
    assert nothing_dropped(outcome.said)
    assert bool(outcome.seen.copies) is CLIENTS[name].sends_again_after_10_s


@pytest.mark.parametrize("name", SERVERS)
async def test_newer_specs_reach_an_sdk_that_runs_and_are_sent_to_it_once(slow: dict[str, Outcome], name: str):
    seen_as = {exposure.rule for exposure in slow[name].landed.exposures if exposure.name == NEW_GATE}
    assert seen_as == {"", "rule_everyone"}
    assert len(slow[name].seen.specs) == 2
    assert set(slow[name].seen.specs.values()) == {1}


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def restarted(bench: Bench, start_step: StartStep) -> dict[str, Outcome]:
    """The gateway is killed while they send, and then told to stop while they send; it comes back both times."""
    step = await start_step("restarted", bench.gateway)
    for number in (signal.SIGKILL, signal.SIGTERM):
        await step.visits(3)
        flushing = asyncio.gather(step.all_do("flush"))
        gateway = bench.process("gateway")
        os.kill(gateway, number)
        await step.visits(2)
        await step.all_do("flush")
        await flushing
        await until(lambda gone=gateway: bench.has_replaced("gateway", gone), PATIENCE_S)
        await step.visits(2)
        await step.all_do("flush")
        await step.land()
    return await step.outcomes(lambda _: Seen())


@every_client
async def test_a_gateway_that_restarts_under_traffic_loses_and_doubles_nothing(
    restarted: dict[str, Outcome], name: str
):
    outcome = restarted[name]
    assert_exact(outcome)
    assert CLIENTS[name].drops_on_refused_connections or nothing_dropped(outcome.said)


async def test_python_legacy_drops_what_meets_a_closed_port_and_says_so(bench: Bench):
    """The one loss that no answer of ours can prevent: this SDK does not send again after a refused connection."""
    name = "python-legacy"
    proxy, program = FaultProxy(bench.gateway), ProcessProgram(CLIENTS[name].driver)
    await proxy.start()
    pair = (await bench.key_pairs([name]))[name]
    try:
        await program.start(job_of("closed", proxy.url, pair))
        await proxy.stop()
        await program.do("events", users=[visitor("closed-v0", "CA")])
        await program.do("flush")
        await program.do("stop")
    finally:
        await program.end()
    said = program.said
    assert {(exposure.name, exposure.unit) for exposure in said.exposures} == said.dropped_units
    assert {custom.own_id for custom in said.custom} == said.dropped_ids
    assert not (await bench.landed(pair)).custom


async def test_exposures_and_events_of_a_sender_without_an_sdk_land_like_those_of_an_sdk(bench: Bench):
    pair = (await bench.key_pairs(["plain"]))["plain"]
    exposures = [
        {"user": {"userID": "plain-1"}, "experimentName": "button_color_exp", "group": "Green"},
        {"user": {"userID": "plain-2"}, "gateName": "gate_half", "passes": False, "ruleID": "rule_half"},
    ]
    event = {"eventName": "purchase", "time": "2026-01-01T12:00:00+01:00", "value": 9, "metadata": {"own_id": "plain"}}
    async with httpx.AsyncClient(
        base_url=bench.gateway, headers={"statsig-api-key": pair.secret}, trust_env=False
    ) as http:
        for _ in range(2):  # the second time is a retry
            again = {"idempotency-key": "plain-exposures"}
            answer = await http.post("/v1/log_custom_exposure", json={"exposures": exposures}, headers=again)
            assert answer.status_code == 202
            answer = await http.post("/v1/log_event", json={"user": {"userID": "plain-3"}, "events": [event]})
            assert answer.status_code == 202
    await bench.settle()
    landed = await bench.landed(pair)
    assert landed.exposures == {
        Exposure("experiment", "button_color_exp", "plain-1", "grp_green", by_hand=True): 1,
        Exposure("gate", "gate_half", "plain-2", "rule_half", by_hand=True): 1,
    }
    assert landed.groups["button_color_exp", "plain-1", ""] == "Green"
    assert landed.custom == {Custom("purchase", "plain", "9"): 1}
    assert "plain-3" in landed.text
    assert "2026-01-01 11:00:00" in landed.text
