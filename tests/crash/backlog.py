"""R9: the lander is away while events go on coming, and then catches up."""

import asyncio
import time
from dataclasses import dataclass
from pathlib import Path

from crash import evidence
from crash.checker import Verdict
from crash.storm import Stage

_PER_SECOND = 2_000
_AT_LEAST_TIMES = 3


@dataclass(frozen=True)
class Backlog:
    """How much there was to land, how long that took from its start, and the most memory that the store had then."""

    away_s: float
    events: int
    catch_up_s: float
    most_mib: float
    verdict: Verdict

    @property
    def per_second(self) -> float:
        """Events landed per second while it caught up."""
        return self.events / self.catch_up_s

    def faults(self) -> list[str]:
        """Return what is wrong, in words."""
        found = [] if self.verdict.is_green else [f"after the lander was away: {self.verdict}"]
        if self.per_second < _AT_LEAST_TIMES * _PER_SECOND:
            found.append(f"the lander caught up at {self.per_second:.0f} events/s only")
        return found


async def lander_away(stage: Stage, seed: int, away_s: float) -> Backlog:
    """Take the store away for so long, bring it back, and see how it catches up."""
    fleet = stage.fleet
    workload = await stage.workload("backlog", seed)
    traffic = stage.traffic(workload, _PER_SECOND)
    fleet.retire("store")
    traffic.start()
    try:
        await asyncio.sleep(away_s)  # that long it is away
        await traffic.end()
    finally:
        await traffic.stop()
    began_s = time.monotonic()
    fleet.start("store")
    await fleet.ready("store")
    await evidence.settle(fleet, timeout_s=max(away_s, 150))
    catch_up_s = time.monotonic() - began_s
    process = fleet.members["store"].process
    assert process is not None
    most_mib = _most_kib(process.pid) / 1024
    return Backlog(away_s, workload.planned, catch_up_s, most_mib, await stage.verdict(workload.run))


def _most_kib(pid: int) -> int:
    lines = Path(f"/proc/{pid}/status").read_text().splitlines()
    return next(int(line.split()[1]) for line in lines if line.startswith("VmHWM"))
