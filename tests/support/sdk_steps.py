"""All SDKs at once, each in a program of its own: what they are told to do, what they logged, and what landed."""

import asyncio
import contextlib
import importlib.metadata
from collections.abc import Callable
from dataclasses import dataclass

import orjson
from support.fault_proxy import FaultProxy, Seen
from support.sdk_bench import Bench, KeyPair, Landed, job_of, visitor
from support.sdk_programs import FOLDER, BrowserProgram, Exposure, ProcessProgram, Program, Said, values_for
from support.waiting import until

from ops.demo.landed import ConsoleError

PATIENCE_S = 60.0
LANDING_S = 150.0
"""node-legacy waits 1, 10 and 100 s between its tries."""


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


SERVERS = [client.name for client in CLIENTS.values() if not client.is_client]


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
            job["users"].insert(0, {"userID": "", "stableID": "", "country": "DE", "secret": "gold"})
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

    async def land(self) -> None:
        """Wait until nothing is missing. What stays missing is for each client's own test to say."""
        with contextlib.suppress(AssertionError):
            await until(self._nothing_is_missing, LANDING_S)

    async def check_gate(self, gate: str) -> None:
        """Have every server SDK check a gate for one new visitor."""
        self._visits += 1
        users = {name: [visitor(f"{self.name}-{name}-v{self._visits}", "CA")] for name in SERVERS}
        await asyncio.gather(*[self.programs[name].do("gate", gate=gate, users=users[name]) for name in SERVERS])

    async def everybody_passes(self, gate: str) -> bool:
        """Check a gate for one more visitor; return whether every server SDK lets it pass."""
        await self.check_gate(gate)
        said = [self.programs[name].said for name in SERVERS]
        return all("true" in {value for (name, _), value in each.values.items() if name == gate} for each in said)

    async def outcomes(self, seen: Callable[[str], Seen]) -> dict[str, Outcome]:
        """Wait until nothing is missing, end the programs, and return what has landed once nothing is under way."""
        await self.land()
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
