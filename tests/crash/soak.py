"""`make soak`: storms in the proportion of the whole table until the time is over, then every mutant, then a report.

`--full` is the whole table, for hours. A run that finds something ends with exit code 1, says with
which seed it comes again, and keeps its folder.
"""

import argparse
import asyncio
import random
import shutil
import sys
import tempfile
import time
from pathlib import Path
from typing import Final

from crash.backlog import lander_away
from crash.fleet import Fleet
from crash.mutation import MUTANTS, verdict_on
from crash.nemesis import Nemesis, Size, plan
from crash.report import Report, write
from crash.storm import Outcome, Stage, calm, new_seed

ROUNDS: Final = 100
"""Rounds of the whole table; each has a hundredth of it."""

WHOLE: Final = {"kills": 200, "points": 100, "freezes": 60, "outages": 20, "network": 400, "joins": 200}
EVENTS: Final = 2_000_000 // ROUNDS
PER_SECOND: Final = 600.0
OUTAGE_S: Final = (5.0, 20.0)
CALM_EVERY: Final = 3
EVERYTHING_EVERY: Final = 4
GROWTHS: Final = {2: 6, 5: 12}
"""How many partitions the log is given, and in which round: once no multiple of what it has, and once one."""
MUTANTS_S: Final = 300
"""About what all mutants take; so much of the time is left to them."""
AWAY_S: Final = 600.0
_REPORT: Final = Path(__file__).parents[2] / "docs" / "soak.md"


def size_of(number: int, seed: int) -> Size:
    """Return a hundredth of the whole table; less than one of a kind comes by chance, and in the first round."""
    chance = random.Random(seed)
    least = 1 if number == 1 else 0
    counts = {name: max(least, int(whole / ROUNDS + chance.random())) for name, whole in WHOLE.items()}
    return Size(**counts, outage_s=OUTAGE_S, partitions=GROWTHS.get(number, 0))


def say(text: str) -> None:
    """Tell how far it is."""
    sys.stdout.write(f"{text}\n")
    sys.stdout.flush()


async def one_round(stage: Stage, number: int, seed: int) -> Outcome:
    """Run one storm over everything, from the seed of its round."""
    nemesis = Nemesis(stage.fleet, stage.store, seed)
    workload = await stage.workload(f"round{number}", seed)
    traffic = stage.traffic(workload, PER_SECOND, EVENTS)
    traffic.start()
    try:
        if number % CALM_EVERY == 1:
            await calm(nemesis)
        await nemesis.carry_out(plan(seed, size_of(number, seed)))
        await traffic.reach(EVENTS)
        if number % EVERYTHING_EVERY == 0:
            await nemesis.kill_everything()
        await traffic.end()
        return await stage.outcome(traffic, nemesis)
    except BaseException:
        say(str(nemesis.story))
        raise
    finally:
        await traffic.stop()


async def rounds(stage: Stage, report: Report, until_s: float, most: int) -> bool:
    """Run rounds until the time is over, or one of them finds something; tell whether all were green."""
    while len(report.outcomes) < most and (time.monotonic() < until_s or not report.outcomes):
        number = len(report.outcomes) + 1
        seed = report.seed + number
        outcome = await one_round(stage, number, seed)
        report.outcomes.append(outcome)
        write(report)
        say(f"round {number}, seed {seed}: {outcome.verdict}; {outcome.re_emits} re-emits")
        if faults := outcome.faults():
            say("\n".join([str(outcome.story), *faults]))
            report.faults += [f"round {number}: {fault}" for fault in faults]
            return False
    return True


async def mutants(folder: Path, report: Report) -> None:
    """Run every mutant on a pipeline of their own; one that lives is a fault."""
    async with Fleet(folder) as fleet:
        for name in ("gateway", "store"):
            fleet.start(name)
        await fleet.ready("gateway", "store")
        stage = Stage(fleet)
        try:
            for number, mutant in enumerate(MUTANTS):
                verdict = await verdict_on(stage, mutant, report.seed + number)
                report.mutants[mutant.module] = mutant.found_by(verdict)
                write(report)
                say(f"mutant {mutant.module}: {verdict}")
                if not report.mutants[mutant.module]:
                    report.faults.append(f"the mutant {mutant.module} lives")
        finally:
            await stage.close()


async def soak(minutes: float, report: Report, folder: Path) -> None:
    """Run it all; what was found is in the report."""
    seed, full = report.seed, report.full
    until_s = time.monotonic() + 60 * minutes - MUTANTS_S
    async with Fleet(folder) as fleet:
        for name in ("gateway", "store", "worker"):
            fleet.start(name)
        await fleet.ready("gateway", "store", "worker")
        stage = Stage(fleet)
        try:
            is_green = await rounds(stage, report, float("inf") if full else until_s, ROUNDS if full else sys.maxsize)
            if is_green and full:
                report.backlog = await lander_away(stage, seed, AWAY_S)
                report.faults += report.backlog.faults()
        finally:
            await stage.close()
    if is_green:
        await mutants(folder / "mutants", report)


def main() -> int:
    """Run from the command line; return the exit code."""
    parser = argparse.ArgumentParser(prog="make soak", description=__doc__)
    parser.add_argument("--minutes", type=float, default=20, help="how long")
    parser.add_argument("--seed", type=int, default=0, help="what all chance follows from; 0: any")
    parser.add_argument("--full", action="store_true", help="the whole table, however long it takes")
    parser.add_argument("--report", type=Path, default=_REPORT, help="where the report goes, as far as it has come")
    given = parser.parse_args()
    seed = given.seed or new_seed()
    folder = Path(tempfile.mkdtemp(prefix="crash-"))
    report = Report(seed, given.minutes, full=given.full, path=given.report)
    say(f"seed {seed}")
    try:
        asyncio.run(soak(given.minutes, report, folder))
    except BaseException:
        say(f"failed with seed {seed}; its data and logs are in {folder}")
        raise
    write(report)
    if report.faults:
        again = "FULL=1" if given.full else f"MINUTES={given.minutes:g}"
        say("\n".join(report.faults))
        say(f"again with: make soak {again} SEED={seed}; its data and logs are in {folder}")
        return 1
    shutil.rmtree(folder)
    return 0


if __name__ == "__main__":
    sys.exit(main())
