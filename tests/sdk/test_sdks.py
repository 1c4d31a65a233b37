"""Real SDKs against the whole stack: the rows in the store are exactly what the programs logged."""

import asyncio
import contextlib
import importlib.metadata
import os
import signal
from collections.abc import AsyncIterator, Awaitable, Callable
from contextlib import AsyncExitStack
from dataclasses import dataclass

import orjson
import pytest
import pytest_asyncio
from support.fault_proxy import FaultProxy, Seen
from support.ports import free_port_block
from support.sdk_bench import Bench, KeyPair, Landed, job_of, running_bench, visitor
from support.sdk_programs import (
    FOLDER,
    BrowserProgram,
    Exposure,
    ProcessProgram,
    Program,
    Said,
    pages,
    skip_without_parts,
    values_for,
)
from support.waiting import until

from ops.demo.landed import ConsoleError
from ops.settings import Settings
from ops.stack.local import LocalStack

pytestmark = [pytest.mark.slow, pytest.mark.timeout(400), pytest.mark.asyncio(loop_scope="module")]

PATIENCE_S = 60.0
HELD_S = 11.0
"""Longer than core SDKs and js-client wait for an answer."""


@dataclass(frozen=True)
class Client:
    """One SDK in one kind of program: how its rows name it, and how it is known to behave (docs/sdks.md)."""

    name: str
    sdk_type: str
    package: str
    driver: str
    encoding: str
    paths: tuple[str, ...]
    sends_again_after_10_s: bool = False
    drops_on_refused_connections: bool = False

    @property
    def is_client(self) -> bool:
        """Whether it sends with a client key, and starts from values that a server made for it."""
        return self.sdk_type == "javascript-client"


V1_SPECS, V2_SPECS = (f"GET /{version}/download_config_specs/<key>.json" for version in ("v1", "v2"))
ID_LISTS, LOG, RGSTR = "POST /v1/get_id_lists", "POST /v1/log_event", "POST /v1/rgstr"
JS = "@statsig/js-client"

CLIENTS = {
    client.name: client
    for client in (
        Client(
            "python-core", "statsig-server-core-python", "statsig-python-core", "py_core.py",
            "gzip", (V2_SPECS, ID_LISTS, LOG), sends_again_after_10_s=True,
        ),
        Client(
            "python-legacy", "py-server", "statsig", "py_legacy.py",
            "gzip", (V1_SPECS, ID_LISTS, LOG), drops_on_refused_connections=True,
        ),
        Client("node-legacy", "statsig-node", "statsig-node", "node_legacy.mjs", "gzip", (V1_SPECS, ID_LISTS, LOG)),
        Client(
            "node-core", "statsig-server-core-node", "@statsig/statsig-node-core", "node_core.mjs",
            "zstd", (V2_SPECS, ID_LISTS, LOG), sends_again_after_10_s=True,
        ),
        Client("js-in-node", "javascript-client", JS, "js_node.mjs", "none", (RGSTR,), sends_again_after_10_s=True),
        Client(
            "js-in-browser", "javascript-client", JS, "",
            "none", (RGSTR, "OPTIONS /v1/rgstr"), sends_again_after_10_s=True,
        ),
    )
}  # fmt: skip
every_client = pytest.mark.parametrize("name", CLIENTS)


@dataclass
class Outcome:
    """What one client logged, what landed of it, and what passed on the wire where a proxy stood there."""

    said: Said
    landed: Landed
    seen: Seen


class Step:
    """All clients at once, each in a program of its own, against one stack."""

    def __init__(self, bench: Bench, name: str, gateway: str, pages_url: str) -> None:
        self.bench = bench
        self.name = name
        self._gateway = gateway
        self._pages_url = pages_url
        self.pairs: dict[str, KeyPair] = {}
        self.programs: dict[str, Program] = {}
        self._visits = 0
        self._stopped = False

    async def start(self) -> None:
        """Start every program, and wait until every SDK is ready."""
        self.pairs = await self.bench.key_pairs(list(CLIENTS))
        for client in CLIENTS.values():
            self.programs[client.name] = (
                ProcessProgram(client.driver) if client.driver else BrowserProgram(self._pages_url)
            )
        await asyncio.gather(*[self._start(client) for client in CLIENTS.values()])

    async def _start(self, client: Client) -> None:
        job = job_of(f"{self.name}-{client.name}", self._gateway, self.pairs[client.name])
        if client.is_client:
            # A visitor without any id: the SDK makes a stableID of its own.
            job["users"].append({"userID": "", "stableID": "", "country": "DE", "secret": "gold"})
            job["values"] = await values_for({**job, "gateway": self.bench.gateway})
        await self.programs[client.name].start(job)

    async def all_do(self, what: str) -> None:
        """Have every program do something."""
        self._stopped |= what == "stop"
        await asyncio.gather(*[program.do(what) for program in self.programs.values()])

    def seen(self, proxy: FaultProxy) -> list[Seen]:
        """Return what each client has sent through the proxy."""
        return [proxy.seen(_key_of(CLIENTS[name], self.pairs[name])) for name in self.programs]

    async def visits(self, count: int) -> None:
        """Have every program see an experiment and log events for `count` new visitors."""
        first, self._visits = self._visits, self._visits + count
        users = {
            name: [visitor(f"{self.name}-{name}-v{number}", "CA") for number in range(first, self._visits)]
            for name in self.programs
        }
        await asyncio.gather(*[program.do("events", users=users[name]) for name, program in self.programs.items()])

    async def outcomes(self, seen: Callable[[str], Seen]) -> dict[str, Outcome]:
        """Wait until nothing is missing, end the programs, and return what has landed once nothing is under way."""
        with contextlib.suppress(AssertionError):  # the client's own test says what is missing of it
            await until(self._nothing_is_missing, PATIENCE_S)
        if not self._stopped:
            await self.all_do("stop")
        await self.end()
        await self.bench.settle()
        landed = await self._landed()
        return {
            name: Outcome(program.said, landed[name], seen(_key_of(CLIENTS[name], self.pairs[name])))
            for name, program in self.programs.items()
        }

    async def _landed(self) -> dict[str, Landed]:
        return {name: await self.bench.landed(self.pairs[name]) for name in self.programs}

    async def _nothing_is_missing(self) -> bool:
        try:
            landed = await self._landed()
        except ConsoleError:
            return False
        return all(not missing(program.said, landed[name]) for name, program in self.programs.items())

    async def end(self) -> None:
        """End every program."""
        await asyncio.gather(*[program.end() for program in self.programs.values()])


def _key_of(client: Client, pair: KeyPair) -> str:
    return pair.client if client.is_client else pair.secret


def missing(said: Said, landed: Landed) -> list[object]:
    """Return what was logged, was not dropped by its SDK's own word, and has not landed."""
    absent = [*(said.exposures - landed.exposures), *(said.custom - landed.custom)]
    return [item for item in absent if not _was_dropped(item, said)]


def _was_dropped(item: object, said: Said) -> bool:
    if isinstance(item, Exposure):
        return (item.name, item.unit) in said.dropped_units
    return item.own_id in said.dropped_ids  # type: ignore[attr-defined]


def nothing_dropped(said: Said) -> bool:
    """Whether the SDK has not said that it dropped anything."""
    return not (said.dropped_units or said.dropped_ids or said.gave_up)


def version_of(client: Client) -> str:
    """Return the version that is installed."""
    if client.driver.endswith(".py"):
        return importlib.metadata.version(client.package)
    return str(orjson.loads(FOLDER.joinpath("node_modules", client.package, "package.json").read_bytes())["version"])


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


async def test_a_browser_asks_before_it_sends_and_leaves_with_a_beacon(well: dict[str, Outcome]):
    seen = well["js-in-browser"].seen
    assert seen.beacons == 1
    assert seen.paths["OPTIONS /v1/rgstr"] == seen.paths["POST /v1/rgstr"] - seen.beacons


@pytest_asyncio.fixture(scope="module", loop_scope="module")
async def refused(bench: Bench, start_step: StartStep, proxy: FaultProxy) -> dict[str, Outcome]:
    """The log is frozen until every client has been answered 503. What each then sent may land later, or not."""
    step = await start_step("refused", proxy.url)
    await step.visits(3)
    broker = bench.process("broker")
    os.kill(broker, signal.SIGSTOP)
    try:
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
async def slow(start_step: StartStep, proxy: FaultProxy) -> dict[str, Outcome]:
    """The first answer to each client is held for longer than the SDKs with a time-out of 10 s wait for it."""
    step = await start_step("slow", proxy.url)
    proxy.hold_first_answer_s = HELD_S
    await step.visits(3)
    await step.all_do("flush")
    await step.visits(2)
    await step.all_do("flush")
    await until(lambda: all(seen.log_statuses[202] > 1 for seen in step.seen(proxy)), PATIENCE_S)
    proxy.hold_first_answer_s = 0
    return await step.outcomes(proxy.seen)


@every_client
async def test_an_answer_that_comes_too_late_doubles_nothing(slow: dict[str, Outcome], name: str):
    outcome = slow[name]
    assert_exact(outcome)
    assert nothing_dropped(outcome.said)
    assert bool(outcome.seen.copies) is CLIENTS[name].sends_again_after_10_s


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
