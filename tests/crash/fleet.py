"""The supervisor: real processes, each leading a process group of its own, killed and started as a storm wants.

What ends by itself is started again, as any supervisor would do; what a storm kills as well. Only
processes that were started here are ever signalled.
"""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
from collections import Counter
from dataclasses import dataclass, field
from pathlib import Path
from typing import Self

from crash.tcp_proxy import Link
from support.ports import free_port_block
from support.waiting import until

from ops.settings import Settings
from ops.stack import child
from ops.stack.broker import Broker
from ops.stack.local import environment_of, why_not_ready
from schemas.crash_points import VARIABLE, CrashPoint
from schemas.kafka import KafkaConnection

PATIENCE_S = 150.0
_WATCH_S = 0.05
_RESTART_S = 0.2

LINKED = ("gateway", "worker", "store")
"""Who reaches the broker through a link of its own, with a listener of its own behind it."""

_LISTENERS = """
listeners=PLAINTEXT://127.0.0.1:{port},CONTROLLER://127.0.0.1:{controller},{inner}
advertised.listeners=PLAINTEXT://127.0.0.1:{port},{outer}
listener.security.protocol.map=PLAINTEXT:PLAINTEXT,CONTROLLER:PLAINTEXT,{protocols}
"""


@dataclass
class Member:
    """One process: how it is started, and whether it is wanted at the moment."""

    name: str
    command: tuple[str, ...]
    environment: dict[str, str]
    admin_port: int = 0
    wanted: bool = False
    crashes: list[tuple[CrashPoint, int]] = field(default_factory=list)
    """Where it is still to die: at the first of these points now, when it is there for the n-th time."""
    process: subprocess.Popen[bytes] | None = None
    own_ends: int = 0
    """How often it ended without being told to."""
    hits: Counter[CrashPoint] = field(default_factory=Counter)

    @property
    def runs(self) -> bool:
        return self.process is not None and self.process.poll() is None


class Fleet:
    """Broker, gateway, two worker slots and store, with proxies between each of them."""

    def __init__(self, folder: Path, spills: bool = False) -> None:
        """Plan; with `spills` the gateway keeps events on its disk while Kafka is away."""
        self.folder = folder
        kafka, public, admin = free_port_block(8), free_port_block(8), free_port_block(8)
        self.links = {
            "client": Link("client", public + 2, public),
            **{name: Link(name, public + 3 + i, kafka + 2 + i) for i, name in enumerate(LINKED)},
        }
        self.settings = Settings(
            data_dir=folder / "data",
            kafka_port=kafka,
            gateway_port=public,
            console_port=public + 1,
            admin_port_base=admin,
            spill_dir=str(folder / "spill") if spills else "",
        )
        self.members: dict[str, Member] = {}
        self._watcher: asyncio.Task[None] | None = None

    @property
    def kafka(self) -> KafkaConnection:
        """The broker, without a proxy before it."""
        return KafkaConnection(f"127.0.0.1:{self.settings.kafka_port}")

    async def __aenter__(self) -> Self:
        self.folder.mkdir(parents=True, exist_ok=True)
        for link in self.links.values():
            await link.start()
        self.settings.data_dir.mkdir()
        broker = Broker(self.settings.data_dir, self.settings.kafka_port, self.settings.cache_dir)
        command = (await broker.prepare()).command
        self._add("broker", self._with_listeners(command), {})
        for name in ("gateway", "worker", "store"):
            self._add_ours(name, name, self._settings_of(name))
        other = self._settings_of("worker", admin_port_base=self.settings.admin_port_base + 4, worker_instance="1")
        self._add_ours("worker2", "worker", other)
        self._watcher = asyncio.create_task(self._watch())
        self.start("broker")
        await self._initialise()
        return self

    async def __aexit__(self, *_: object) -> None:
        if self._watcher is not None:
            self._watcher.cancel()
            await asyncio.gather(self._watcher, return_exceptions=True)
        for member in self.members.values():
            member.wanted = False
            _end(member)
        for link in self.links.values():
            await link.stop()

    # --- what a storm does -----------------------------------------------------------------------

    def start(self, name: str) -> None:
        """Start a member. It dies at the first of its `crashes`, if there is one."""
        member = self.members[name]
        assert not member.runs
        member.wanted = True
        environment = {**os.environ, **member.environment}
        if member.crashes:
            point, times = member.crashes[0]
            environment[VARIABLE] = f"{point.value}:{times}"
        with (self.folder / f"{name}.log").open("ab") as log:
            member.process = subprocess.Popen(
                [sys.executable, "-I", "-S", child.__file__, str(os.getpid()), *member.command],
                env=environment,
                stdin=subprocess.DEVNULL,
                stdout=log,
                stderr=log,
                start_new_session=True,
            )

    def kill(self, name: str) -> None:
        """End a member as a power cut would. It is started again unless `retire` was asked before."""
        member = self.members[name]
        member.crashes = []  # this is not how it should have died
        _end(member)

    def retire(self, name: str) -> None:
        """Kill a member and leave it so."""
        self.members[name].wanted = False
        self.kill(name)

    async def terminate(self, name: str) -> int:
        """Ask a member to stop; return its exit code. It is not started again."""
        member = self.members[name]
        member.wanted = False
        assert member.process is not None
        member.process.terminate()
        return await asyncio.to_thread(member.process.wait, PATIENCE_S)

    def signal(self, name: str, number: signal.Signals) -> None:
        """Freeze or thaw a member."""
        member = self.members[name]
        if member.process is not None and member.runs:
            member.process.send_signal(number)

    async def hit(self, name: str, *points: tuple[CrashPoint, int]) -> None:
        """Let a member die at one point after the other, for the n-th time each, and be whole after the last."""
        self.retire(name)
        member = self.members[name]
        member.crashes = list(points)
        self.start(name)
        try:
            await until(lambda: not member.crashes, PATIENCE_S * len(points))
        except AssertionError:
            where = f"{name} does not get to {member.crashes[0][0]}: {self.why_not_ready(name)}"
            raise AssertionError(f"{where}\n{self.said(name)}") from None

    async def ready(self, *names: str) -> None:
        """Wait until members work."""
        for name in names:

            async def works(name: str = name) -> bool:
                return not await asyncio.to_thread(self.why_not_ready, name)

            try:
                await until(works, PATIENCE_S)
            except AssertionError:
                why = self.why_not_ready(name)
                raise AssertionError(f"{name} is not ready after {PATIENCE_S} s: {why}\n{self.said(name)}") from None

    def why_not_ready(self, name: str) -> str:
        """Return "" when a member works, else why not. Blocks for a moment."""
        return why_not_ready("127.0.0.1", self.members[name].admin_port)

    def said(self, name: str) -> str:
        """Return the end of what a member has said."""
        return (self.folder / f"{name}.log").read_text(errors="replace")[-3000:]

    def become(self, name: str, mutant: str) -> None:
        """Let the next start of a member be that of a mutant, "" for itself."""
        member = self.members[name]
        role = "worker" if name == "worker2" else name
        member.command = _composition(f"crash.mutants.{mutant}" if mutant else "ops.processes", role)

    # --- how it is made --------------------------------------------------------------------------

    def _settings_of(self, name: str, **changes: object) -> Settings:
        bootstrap = f"127.0.0.1:{self.links[name].port}"
        return self.settings.model_copy(update={"kafka_bootstrap": bootstrap, **changes})

    def _add_ours(self, name: str, role: str, settings: Settings) -> None:
        # Where mutants are, and all else that this process finds.
        path = os.pathsep.join([str(Path(__file__).parents[1]), *filter(None, [os.environ.get("PYTHONPATH")])])
        environment = {**environment_of(settings), "PYTHONPATH": path}
        self._add(name, _composition("ops.processes", role), environment, settings.admin_port(role))

    def _add(self, name: str, command: tuple[str, ...], environment: dict[str, str], admin_port: int = 0) -> None:
        self.members[name] = Member(name, command, environment, admin_port)

    def _with_listeners(self, command: tuple[str, ...]) -> tuple[str, ...]:
        """Give the broker a listener for each link, which tells clients to come back through that link."""
        settings = self.settings
        links = [self.links[name] for name in LINKED]
        listeners = _LISTENERS.format(
            port=settings.kafka_port,
            controller=settings.kafka_port + 1,
            inner=",".join(f"{link.name.upper()}://127.0.0.1:{link.upstream}" for link in links),
            outer=",".join(f"{link.name.upper()}://127.0.0.1:{link.port}" for link in links),
            protocols=",".join(f"{link.name.upper()}:PLAINTEXT" for link in links),
        )
        properties = Path(command[-1])
        # The last line of a name counts.
        properties.write_text(properties.read_text("utf-8") + listeners, "utf-8")
        return command

    async def _initialise(self) -> None:
        settings = self.settings.model_copy(update={"kafka_bootstrap": self.kafka.bootstrap})
        run = await asyncio.create_subprocess_exec(
            *_composition("ops.processes", "init"),
            env={**os.environ, **environment_of(settings)},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await run.communicate()
        assert run.returncode == 0, said.decode()[-3000:] + self.said("broker")

    async def _watch(self) -> None:
        while True:
            await asyncio.sleep(_WATCH_S)
            for member in self.members.values():
                if member.process is None or member.runs or not member.wanted:
                    continue
                if member.process.returncode != -signal.SIGKILL:
                    member.own_ends += 1
                    await asyncio.sleep(_RESTART_S)
                elif member.crashes:
                    point, _ = member.crashes.pop(0)
                    member.hits[point] += 1
                if member.wanted and not member.runs:
                    self.start(member.name)


def _composition(module: str, role: str) -> tuple[str, ...]:
    return (sys.executable, "-P", "-m", module, role)


def _end(member: Member) -> None:
    if member.process is not None and member.runs:
        # Its group is its own, and a frozen process can be killed as well.
        with contextlib.suppress(ProcessLookupError):
            os.killpg(member.process.pid, signal.SIGKILL)
        member.process.wait()
