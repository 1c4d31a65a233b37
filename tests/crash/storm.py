"""One storm: a workload, what is done meanwhile, and the verdict once everything has settled."""

import asyncio
import random
import sys
from collections import Counter
from dataclasses import dataclass, field
from typing import Any

from crash import evidence
from crash.checker import Verdict, judge, lies, returns_s
from crash.fleet import Fleet
from crash.nemesis import Nemesis, Story
from crash.senders import Traffic
from crash.workload import Expected, Run, Workload, read_ledger

from ops.kafka import publish
from schemas import keys
from schemas.crash_points import CrashPoint
from schemas.topics import KEYS


@dataclass
class Outcome:
    """What came of a storm."""

    name: str
    seed: int
    verdict: Verdict
    ledger: dict[str, int]
    """The totals of the workload's key."""
    balance: dict[str, Any]
    re_emits: int
    order_breaks: dict[tuple[str, int], int]
    """Origins that stand in a public topic behind a later one at first, by topic and partition."""
    lies: list[tuple[float, float]]
    returns_s: list[float]
    """From each start of the broker to the first 202."""
    sent: int
    story: Story
    statuses: Counter[str]
    hits: Counter[CrashPoint]
    own_ends: dict[str, int] = field(default_factory=dict)

    def faults(self) -> list[str]:
        """Return what is wrong, in words; nothing when all laws hold."""
        found = [] if self.verdict.is_green else [str(self.verdict)]
        good = self.verdict.landed
        if not self.balance["balanced"] or self.balance["exit"]:
            found.append(f"the ledger does not balance: {self.balance['gaps'][:5]}")
        if self.ledger["in_flight"] or self.ledger["missing"] or self.ledger["landed"] != good:
            found.append(f"{good} events landed, and the ledger says {self.ledger}")
        if self.order_breaks:
            found.append(f"emitted out of order: {self.order_breaks}")
        if self.lies:
            found.append(f"202 while there was no broker: {self.lies[:5]}")
        return found


class Stage:
    """A fleet that stays for several storms, and what is known of its log from one to the next."""

    def __init__(self, fleet: Fleet) -> None:
        self.fleet = fleet
        self.store = evidence.Store(fleet)
        self._log = evidence.PublicLogReader(fleet.kafka)
        self._re_emits = 0

    async def workload(self, name: str, seed: int, **kind: Any) -> Workload:
        """Make a workload whose key the gateway knows."""
        made = Workload.of(name, seed, self.fleet.folder / f"expected-{name}.jsonl", **kind)
        record = made.record
        await publish(self.fleet.kafka, KEYS, [(record.key_hash.encode(), keys.encode(record))])
        return made

    def traffic(self, workload: Workload, per_second: float, enough: int = sys.maxsize) -> Traffic:
        """Send a workload through the clients' link."""
        return Traffic(workload, self.fleet.links["client"].port, per_second, enough)

    async def verdict(self, run: Run) -> Verdict:
        """Judge a workload by what has landed and what is dead. Everything must have settled."""
        expected = await self.expected(run)
        rows, dead = await self.store.rows(run), await evidence.dead_numbers(self.fleet, run)
        return await asyncio.to_thread(judge, run, expected, rows, dead)

    async def expected(self, run: Run) -> Expected:
        """Read back what was written down of a workload."""
        return await asyncio.to_thread(read_ledger, self.fleet.folder / f"expected-{run.name}.jsonl")

    async def outcome(self, traffic: Traffic, nemesis: Nemesis) -> Outcome:
        """Wait until everything has settled, and judge."""
        fleet, run = self.fleet, traffic.workload.run
        await evidence.settle(fleet)
        expected = await self.expected(run)
        verdict = await self.verdict(run)
        balance = await evidence.ledger(fleet)
        log, landed = await self._log.read(), await self.store.landed_by_partition()
        re_emits, self._re_emits = (
            log.records - sum(landed.values()) - self._re_emits,
            log.records - sum(landed.values()),
        )
        breaks = {place: n - log.in_order[place] for place, n in landed.items() if n != log.in_order[place]}
        return Outcome(
            name=run.name,
            seed=run.seed,
            verdict=verdict,
            ledger=evidence.totals_of(balance, traffic.workload.record.key_id),
            balance=balance,
            re_emits=re_emits,
            order_breaks=breaks,
            returns_s=returns_s(expected.answers, nemesis.story.outages),
            lies=lies(expected.answers, nemesis.story.outages),
            sent=sum(expected.times_sent.values()),
            story=nemesis.story,
            statuses=traffic.statuses,
            hits=sum((member.hits for member in fleet.members.values()), Counter(nemesis.story.hits)),
            own_ends={name: member.own_ends for name, member in fleet.members.items() if member.own_ends},
        )

    async def close(self) -> None:
        """Let go of the connections."""
        await self.store.close()


def new_seed() -> int:
    """Return a seed that nobody chose."""
    return random.randrange(2**31)


async def calm(nemesis: Nemesis) -> None:
    """Kill each of our processes once while all else is calm (R11)."""
    for name in ("gateway", "worker", "store"):
        await nemesis.recover(name)
        await asyncio.sleep(1)  # let it work for a moment
