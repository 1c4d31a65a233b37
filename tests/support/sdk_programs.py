"""Programs with a real SDK in them, as the tests see them: told what to do, and heard what they did."""

import asyncio
import contextlib
import json
import sys
from collections import Counter
from collections.abc import AsyncIterator, Iterator
from pathlib import Path
from typing import Any, NamedTuple, Protocol

import pytest
from starlette.staticfiles import StaticFiles
from support.chromium import CHROMIUM, Page, browser

from ops.demo.program import environment
from ops.http_server import HttpServer, bind

FOLDER = Path(__file__).parents[1] / "sdk"
DRIVERS = FOLDER / "drivers"
PATIENCE_S = 60.0

Job = dict[str, Any]


class Exposure(NamedTuple):
    """An exposure as the program knows it, and as SQL can find it."""

    kind: str
    name: str
    unit: str
    rule: str
    parameter: str = ""
    by_hand: bool = False


class Custom(NamedTuple):
    """A custom event as the program knows it, and as SQL can find it."""

    name: str
    own_id: str
    value: str


class Said:
    """All that a program said it did."""

    def __init__(self) -> None:
        self.exposures: Counter[Exposure] = Counter()
        self.values: dict[tuple[str, str], str] = {}
        self.groups: dict[tuple[str, str, str], str] = {}
        self.custom: Counter[Custom] = Counter()
        self.dropped_units: set[tuple[str, str]] = set()
        self.dropped_ids: set[str] = set()
        self.gave_up: list[str] = []
        self.errors: list[str] = []
        self.done: list[str] = []

    def take(self, line: dict[str, Any]) -> None:
        """Take one line in."""
        match line:
            case {"did": what}:
                self.done.append(what)
            case {"exposed": told}:
                at = (told["name"], told["unit"])
                rest = (told.get("parameter", ""), told.get("by_hand", False))
                self.exposures[Exposure(told["kind"], *at, told["rule"], *rest)] += 1
                if "value" in told:
                    self.values[at] = str(told["value"]).lower()
                if told.get("group"):
                    self.groups[*at, told.get("parameter", "")] = told["group"]
            case {"logged": told}:
                self.custom[Custom(told["name"], told["own_id"], value_text(told["value"]))] += 1
            case {"dropped": {"own_id": own_id}}:
                self.dropped_ids.add(own_id)
            case {"dropped": told}:
                self.dropped_units.add((told["name"], told["unit"]))
            case {"gave_up": why}:
                self.gave_up.append(why)
            case {"error": why}:
                self.errors.append(why)
            case _:
                raise AssertionError(f"a driver said {line}")


def value_text(value: object) -> str:
    """Return a custom event's value as text, numbers alike whether they are whole or not."""
    return "" if value is None else value if isinstance(value, str) else f"{float(value):g}"  # type: ignore[arg-type]


class Program(Protocol):
    """One client, whatever it runs in."""

    said: Said

    async def start(self, job: Job) -> None:
        """Start it, and wait until its SDK is ready."""

    async def do(self, what: str, **more: Any) -> None:
        """Have it do something, and wait until it has."""

    async def end(self) -> None:
        """Make sure that nothing of it is left."""


class ProcessProgram:
    """A driver in a process of its own."""

    def __init__(self, driver: str) -> None:
        self.said = Said()
        self._driver = DRIVERS / driver
        self._process: asyncio.subprocess.Process | None = None
        self._errors = b""
        self._reading: list[asyncio.Task[None]] = []

    async def start(self, job: Job) -> None:
        self._process = await asyncio.create_subprocess_exec(
            *command_of(self._driver),
            env=environment(""),
            stdin=asyncio.subprocess.PIPE,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
        )
        self._reading = [asyncio.create_task(self._hear()), asyncio.create_task(self._keep_errors())]
        await self._tell(job, "start")

    async def do(self, what: str, **more: Any) -> None:
        await self._tell({"do": what, **more}, what)

    async def end(self) -> None:
        if self._process is not None and self._process.returncode is None:
            self._process.kill()
            await self._process.wait()
        await asyncio.gather(*self._reading)

    async def _tell(self, line: dict[str, Any], what: str) -> None:
        assert self._process is not None
        assert self._process.stdin is not None
        done = self.said.done.count(what) + 1
        self._process.stdin.write(json.dumps(line).encode() + b"\n")
        async with asyncio.timeout(PATIENCE_S):
            while self.said.done.count(what) < done:
                assert not self._reading[0].done(), f"{self._driver.name} ended: {self._errors.decode()[-3000:]}"
                await asyncio.sleep(0.02)

    async def _hear(self) -> None:
        assert self._process is not None
        assert self._process.stdout is not None
        async for line in self._process.stdout:
            self.said.take(json.loads(line))

    async def _keep_errors(self) -> None:
        assert self._process is not None
        assert self._process.stderr is not None
        async for line in self._process.stderr:
            self._errors += line


class BrowserProgram:
    """The driver of js-client in a tab of a real browser. To `stop` it is to leave the page."""

    def __init__(self, pages_url: str) -> None:
        self.said = Said()
        self._url = f"{pages_url}/drivers/js_browser.html"
        self._open = contextlib.ExitStack()
        self._page: Page | None = None
        self._turn = asyncio.Lock()  # a page is asked one thing at a time

    async def start(self, job: Job) -> None:
        self._page = await asyncio.to_thread(self._open.enter_context, browser())
        await self._go(self._url)
        await asyncio.to_thread(self._page.wait_for, "window.isLoaded")
        await self._run(f"start({json.dumps(job)})")

    async def do(self, what: str, **more: Any) -> None:
        if what == "stop":
            await self._go("about:blank")
        else:
            await self._run(f"obey({json.dumps({'do': what, **more})})")
            for line in await self._run("takeSaid()"):
                self.said.take(line)

    async def end(self) -> None:
        await asyncio.to_thread(self._open.close)

    async def _go(self, address: str) -> None:
        assert self._page is not None
        async with self._turn:
            await asyncio.to_thread(self._page.open, address)

    async def _run(self, script: str) -> Any:
        assert self._page is not None
        async with self._turn:
            return await asyncio.to_thread(self._page.run, script)


def command_of(driver: Path) -> list[str]:
    """Return the command that runs a driver."""
    if driver.suffix == ".py":
        return [sys.executable, str(driver)]
    return ["node", "--import", str(DRIVERS / "no_egress.mjs"), str(driver)]


async def values_for(job: Job) -> dict[str, str]:
    """Return what js-client starts from for each user of a job, as statsig-node computes it."""
    process = await asyncio.create_subprocess_exec(
        *command_of(DRIVERS / "initialize_values.mjs"),
        env=environment(""),
        stdin=asyncio.subprocess.PIPE,
        stdout=asyncio.subprocess.PIPE,
        stderr=asyncio.subprocess.PIPE,
    )
    said, errors = await asyncio.wait_for(process.communicate(json.dumps(job).encode()), PATIENCE_S)
    assert process.returncode == 0, errors.decode()
    return dict(json.loads(said))


@contextlib.asynccontextmanager
async def pages() -> AsyncIterator[str]:
    """Serve the drivers' pages and SDKs from an origin of their own."""
    server = HttpServer(StaticFiles(directory=FOLDER), bind("127.0.0.1", 0, "no setting"), drain_s=1)
    await server.start()
    try:
        yield f"http://127.0.0.1:{server.port}"
    finally:
        await server.stop()


def missing_parts() -> Iterator[str]:
    """Yield what these programs need and this machine lacks."""
    if CHROMIUM is None:
        yield "Chromium (apt-get install chromium)"
    if not (FOLDER / "node_modules" / ".installed").is_file():
        yield "Node with npm and the SDKs of tests/sdk (tests/install-parts)"


def skip_without_parts() -> None:
    """Skip, naming what is missing; in CI that is a failure."""
    if missing := list(missing_parts()):
        pytest.skip(f"missing: {', '.join(missing)}")
