"""What is done to a fleet: a schedule that follows from a seed, in lanes that run side by side."""

import asyncio
import contextlib
import os
import random
import signal
import sys
import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum
from typing import Final

from aiokafka.errors import KafkaError
from crash.evidence import GARBAGE, Store
from crash.fleet import PATIENCE_S, Fleet
from crash.tcp_proxy import Fault, Trouble
from support.gateway_process import GatewayProcess
from support.waiting import until

from ops.kafka import answers, publish
from ops.stack.local import environment_of
from schemas.crash_points import VARIABLE, CrashPoint
from schemas.topics import EXPOSURES

WORKER_SESSION_S: Final = 8.0
LANDER_SESSION_S: Final = 10.0


class Kind(StrEnum):
    """What can be done; the matrix names them."""

    KILL = "kill"
    POINT = "point"
    FREEZE = "freeze"
    TERMINATE = "terminate"
    JOIN = "join"
    OUTAGE = "outage"
    NETWORK = "network"
    SPILL = "spill"
    GROW = "grow"
    EVERYTHING = "everything"


@dataclass(frozen=True)
class Act:
    """One thing to do: to whom, for how long, and what more it takes."""

    kind: Kind
    target: str
    seconds: float = 0.0
    points: tuple[tuple[CrashPoint, int], ...] = ()
    """Where it dies, one after the other, and for the how-manieth time it is there then."""
    fault: Fault | None = None

    def __str__(self) -> str:
        """Say it in a few words."""
        more = [", ".join(point for point, _ in self.points), self.fault.trouble if self.fault else ""]
        return " ".join([self.kind, self.target, *filter(None, more), f"{self.seconds:.1f} s" if self.seconds else ""])


@dataclass(frozen=True)
class Size:
    """How much of each row of the table a storm has."""

    kills: int = 0
    points: int = 0
    freezes: int = 0
    sessions: float = 3.0
    """How long a freeze is, in session time-outs."""
    outages: int = 0
    outage_s: tuple[float, float] = (5.0, 8.0)
    network: int = 0
    joins: int = 0
    spill: bool = True
    partitions: int = 0
    """How many the log is to have in the end; 0: it stays as it is."""


Plan = dict[str, list[Act]]

POINTS: Final = {
    target: [point for point in CrashPoint if point.startswith(prefix)]
    for target, prefix in (("gateway", "gateway."), ("worker", "worker."), ("store", "lander."))
}
_ONCE_A_START: Final = (CrashPoint.WORKER_IN_RECOVERY, CrashPoint.LANDER_AFTER_DEAD_LETTER)
_SPILL: Final = [point for point in CrashPoint if point.startswith("spill.")]
_GROW: Final = [point for point in CrashPoint if point.startswith("grow.")]


def plan(seed: int, size: Size) -> Plan:
    """Return what is done in each lane, in order. The same arguments give the same plan."""
    chance = random.Random(seed)
    lanes: Plan = {"gateway": [], "worker": [], "worker2": [], "store": [], "broker": [], "network": []}
    for _ in range(size.kills):
        target = chance.choice(("gateway", "worker", "store"))
        lanes[target].append(Act(Kind.KILL, target))
    for _ in range(size.points):
        for target, points in POINTS.items():
            # What a start gets to first is not always what is to be cut off.
            times = [1 if point in _ONCE_A_START else chance.randint(1, 4) for point in points]
            pairs = list(zip(points, times, strict=True))
            chance.shuffle(pairs)
            lanes[target].append(Act(Kind.POINT, target, points=tuple(pairs)))
    if size.kills:
        lanes["gateway"].append(Act(Kind.TERMINATE, "gateway"))
    turn = chance.randrange(2)
    for number in range(size.freezes):
        target, session_s = (("worker", WORKER_SESSION_S), ("store", LANDER_SESSION_S))[(turn + number) % 2]
        lanes[target].append(Act(Kind.FREEZE, target, size.sessions * session_s))
    for lane in lanes.values():
        chance.shuffle(lane)
    if size.spill and size.points:
        lanes["gateway"].append(Act(Kind.SPILL, "gateway"))
    lanes["worker2"] += [Act(Kind.JOIN, "worker2", chance.uniform(4, 6)) for _ in range(size.joins)]
    lanes["broker"] += [Act(Kind.OUTAGE, "broker", chance.uniform(*size.outage_s)) for _ in range(size.outages)]
    if size.partitions:
        lanes["grow"] = [Act(Kind.GROW, str(size.partitions))]
    lanes["network"] += [_network(chance) for _ in range(size.network)]
    return lanes


def _network(chance: random.Random) -> Act:
    link = chance.choice(("client", "gateway", "worker", "store"))
    trouble = chance.choice(list(Trouble))
    amount = {
        Trouble.LATENCY: chance.uniform(0.02, 0.4),
        Trouble.CRUMBS: 0.0,
        Trouble.RESET: float(chance.randint(0, 60_000)),
        Trouble.HALF_OPEN: 0.0,
        Trouble.THROTTLE: chance.uniform(30_000, 500_000),
    }[trouble]
    return Act(Kind.NETWORK, link, chance.uniform(0.3, 3.0), fault=Fault(trouble, amount))


@dataclass
class Story:
    """What was done, and when (seconds since the beginning)."""

    began_s: float = field(default_factory=time.monotonic)
    lines: list[str] = field(default_factory=list)
    done: Counter[str] = field(default_factory=Counter)
    outages: list[tuple[float, float]] = field(default_factory=list)
    """When there was no broker, monotonic seconds."""
    hits: Counter[CrashPoint] = field(default_factory=Counter)
    """Where commands died."""
    recoveries_s: list[float] = field(default_factory=list)
    """SIGKILL to the first event that was received after it and has landed."""

    def tell(self, text: str) -> None:
        """Note what happened."""
        self.lines.append(f"{time.monotonic() - self.began_s:7.1f} s  {text}")

    def __str__(self) -> str:
        """Return all of it."""
        return "\n".join(self.lines)


class Nemesis:
    """Carries plans out."""

    def __init__(self, fleet: Fleet, store: Store, seed: int, on_line: Callable[[str], None] = lambda _: None) -> None:
        self.story = Story()
        self._fleet = fleet
        self._store = store
        self._chance = random.Random(seed + 1)
        self._broker_free = asyncio.Lock()
        self._on_line = on_line

    async def carry_out(self, lanes: Plan) -> None:
        """Run every lane to its end; the fleet works again then."""
        async with asyncio.TaskGroup() as tasks:
            for name, acts in lanes.items():
                if acts:
                    tasks.create_task(self._lane(acts), name=f"nemesis:{name}")
        for link in self._fleet.links.values():
            link.heal()

    async def _lane(self, acts: list[Act]) -> None:
        for act in acts:
            self._tell(str(act))
            await self._do(act)
            self.story.done[act.kind] += 1
            await asyncio.sleep(self._chance.uniform(0.2, 0.8))  # a moment, not a condition: that is the point

    def _tell(self, text: str) -> None:
        self.story.tell(text)
        self._on_line(self.story.lines[-1])

    async def _do(self, act: Act) -> None:
        fleet = self._fleet
        match act.kind:
            case Kind.KILL:
                fleet.kill(act.target)
                await self._works(act.target)
            case Kind.POINT:
                await self._point(act)
            case Kind.FREEZE:
                fleet.signal(act.target, signal.SIGSTOP)
                await asyncio.sleep(act.seconds)
                fleet.signal(act.target, signal.SIGCONT)
                await self._works(act.target)
            case Kind.TERMINATE:
                code = await fleet.terminate(act.target)
                assert code == 0, f"{act.target} ended with {code} when it was told to stop"
                fleet.start(act.target)
                await self._works(act.target)
            case Kind.JOIN:
                fleet.start(act.target)
                await asyncio.sleep(act.seconds)
                if self._chance.random() < 0.5:
                    fleet.retire(act.target)
                else:
                    await fleet.terminate(act.target)
            case Kind.OUTAGE:
                await self._outage(act)
            case Kind.NETWORK:
                assert act.fault is not None
                link = fleet.links[act.target]
                link.suffer(act.fault)
                await asyncio.sleep(act.seconds)
                link.heal()
            case Kind.SPILL:
                await self._spill()
            case Kind.GROW:
                await self._grow(act.target)

    async def _grow(self, partitions: str) -> None:
        """Give the log more partitions with a command that dies at each of its points in turn, until all is drained."""
        for point in _GROW:
            while await self._grow_once(partitions, point) != -signal.SIGKILL:
                pass
            self.story.hits[point] += 1
        while await self._grow_once(partitions, None) != 0:
            pass

    async def _grow_once(self, partitions: str, point: CrashPoint | None) -> int:
        async with self._broker_free:
            pass
        settings = self._fleet.settings.model_copy(update={"kafka_bootstrap": self._fleet.kafka.bootstrap})
        command = await asyncio.create_subprocess_exec(
            *(sys.executable, "-m", "ops.cli", "topics", "grow", "--partitions", partitions),
            env={**os.environ, **environment_of(settings), **({VARIABLE: point} if point else {})},
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.STDOUT,
        )
        said, _ = await command.communicate()
        code = command.returncode or 0
        assert point is None or code, f"it never got to {point}: {said.decode()}"
        self._tell(f"grow ended with {code} {point or ''} {said.decode().strip()[-200:] if code > 0 else ''}")
        return code

    async def _works(self, name: str) -> None:
        # Without a broker nothing gets ready, and that is not what is being waited for.
        async with self._broker_free:
            pass
        await self._fleet.ready(name)

    async def _point(self, act: Act) -> None:
        async with self._broker_free:
            pass
        hit = asyncio.create_task(self._fleet.hit(act.target, *act.points))
        while not hit.done():
            if act.target == "store":  # it needs something to refuse
                await self._write_garbage()
            await asyncio.wait([hit], timeout=2)
        await hit
        await self._works(act.target)

    async def _write_garbage(self) -> None:
        with contextlib.suppress(KafkaError, OSError, TimeoutError):
            async with asyncio.timeout(5):
                await publish(self._fleet.kafka, EXPOSURES, [(b"", GARBAGE)])

    async def _outage(self, act: Act) -> None:
        async with self._broker_free:
            self._fleet.retire("broker")
            down_s = time.monotonic()
            await asyncio.sleep(act.seconds)
            self.story.outages.append((down_s, time.monotonic()))
            self._fleet.start("broker")
            await self._broker_answers()

    async def _broker_answers(self) -> None:
        async def does() -> bool:
            return not await answers(self._fleet.kafka)

        await until(does, PATIENCE_S, "the broker does not come back")

    async def _spill(self) -> None:
        """Let a gateway with a spill die at each point of it in turn, and go on without one when it has drained."""
        async with self._broker_free:
            fleet = self._fleet
            member = fleet.members["gateway"]
            plain = member.environment
            member.environment = {**plain, "HEADRACE_SPILL_DIR": str(fleet.folder / "spill")}
            after_commit, *while_draining = _SPILL
            fleet.retire("gateway")
            member.crashes = [(after_commit, 1)]
            fleet.start("gateway")
            await fleet.ready("gateway")
            fleet.signal("broker", signal.SIGSTOP)
            try:
                await until(lambda: not member.crashes, PATIENCE_S, f"nobody got to {after_commit}")
            finally:
                fleet.signal("broker", signal.SIGCONT)
            await fleet.hit("gateway", *[(point, 1) for point in while_draining])
            settings = fleet.settings.model_copy(update={"spill_dir": "spill"})
            asked = GatewayProcess(settings, fleet.folder / "gateway.log")

            async def is_drained() -> bool:
                return await asked.metric("headrace_gateway_spill_chunks") == 0 and not asked.why_not_ready()

            await until(is_drained, PATIENCE_S, "the spill is not drained")
            await fleet.terminate("gateway")
            member.environment = plain
            fleet.start("gateway")
            await fleet.ready("gateway")

    async def kill_everything(self) -> None:
        """Kill the whole tree at once, and start it in any order."""
        fleet = self._fleet
        self._tell("kill everything")
        self.story.done[Kind.EVERYTHING] += 1
        async with self._broker_free:
            running = [name for name, member in fleet.members.items() if member.runs]
            for name in running:
                fleet.retire(name)
            down_s = time.monotonic()
            self._chance.shuffle(running)
            for name in running:
                if name == "broker":
                    self.story.outages.append((down_s, time.monotonic()))
                fleet.start(name)
                await asyncio.sleep(self._chance.uniform(0, 1))  # a moment, not a condition: that is the point
            await self._broker_answers()
        await fleet.ready(*[name for name in running if name != "broker"])

    async def recover(self, name: str) -> float:
        """Kill a member while all else is calm; return the seconds until what was received since has landed."""
        self._tell(f"kill {name}, in the calm")
        killed_s, killed_ms = time.monotonic(), time.time_ns() // 1_000_000
        self._fleet.kill(name)
        await until(lambda: self._store.received_since(killed_ms), PATIENCE_S, f"nothing lands after {name} was killed")
        took_s = time.monotonic() - killed_s
        self.story.recoveries_s.append(took_s)
        self.story.done[Kind.KILL] += 1
        await self._fleet.ready(name)
        return took_s
