"""What a soak has seen, as docs/soak.md tells it: figures, no machine."""

import time
from collections import Counter
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path

from crash.backlog import Backlog
from crash.nemesis import Kind
from crash.storm import Outcome

_HEAD = """\
# The soak

`make soak MINUTES=20 SEED=7` keeps a whole pipeline (broker, gateway, two workers, store, with a TCP proxy between
each of them) under load, and kills, freezes, cuts off and starves its parts, in the proportion of the whole table;
`make soak FULL=1` is the whole table, and takes hours. What is sent is written down before it is sent; once
everything has settled each event must have landed exactly once in the plain MergeTree tables, behind those of its
unit that were acknowledged before it was sent, or wait among the dead letters when it never can; and the ledger
must balance. Then every mutant, a pipeline that is wrong in one place, must be found out. What follows is the last
run, written by itself; a smaller storm is in `make test`.

All chance follows from the seed. Which moment a kill meets does not, so a seed brings the same deeds back, not the
same run.
"""

_DEEDS = {
    Kind.KILL: "SIGKILL of gateway, worker or store",
    Kind.POINT: "rounds through all named crash points of one of them",
    Kind.FREEZE: "SIGSTOP for 3 session time-outs (worker, store)",
    Kind.OUTAGE: "SIGKILL of the broker, 5 to 20 s down",
    Kind.NETWORK: "network faults: latency, crumbs, reset, half-open, throttle",
    Kind.JOIN: "a second worker joins and leaves",
    Kind.TERMINATE: "SIGTERM of the gateway, exit code 0",
    Kind.SPILL: "a gateway with a spill, killed at each point of it over an outage",
    Kind.EVERYTHING: "SIGKILL of everything at once",
}


@dataclass
class Report:
    """What a soak has seen."""

    seed: int
    minutes: float = 20
    full: bool = False
    path: Path = Path("soak.md")
    began_s: float = field(default_factory=time.monotonic)
    day: str = field(default_factory=lambda: datetime.now(UTC).date().isoformat())
    outcomes: list[Outcome] = field(default_factory=list)
    mutants: dict[str, str] = field(default_factory=dict)
    backlog: Backlog | None = None
    faults: list[str] = field(default_factory=list)

    def text(self) -> str:
        """Return the document."""
        parts = [_HEAD, self._run(), self._verdicts(), self._deeds(), self._mutants(), self._faults()]
        return "\n".join(part for part in parts if part)

    def _run(self) -> str:
        how = "FULL=1" if self.full else f"MINUTES={self.minutes:g}"
        colour = "red" if self.faults else "green"
        took = f"rounds: {len(self.outcomes)}, minutes in all: {(time.monotonic() - self.began_s) / 60:.0f}"
        return f"## Last run: {colour}\n\n`make soak {how} SEED={self.seed}`, {self.day}; {took}.\n"

    def _verdicts(self) -> str:
        verdicts = [outcome.verdict for outcome in self.outcomes]
        exposures = sum(landed for verdict in verdicts for _, landed in verdict.arms.values())
        expected = sum(acked for verdict in verdicts for acked, _ in verdict.arms.values())
        ledger = sum((Counter(outcome.ledger) for outcome in self.outcomes), Counter())
        recoveries = [taken for outcome in self.outcomes for taken in outcome.story.recoveries_s]
        returns = [taken for outcome in self.outcomes for taken in outcome.returns_s]
        rows = {
            "events": sum(verdict.landed + verdict.dead for verdict in verdicts),
            "times sent, retries included": sum(outcome.sent for outcome in self.outcomes),
            "acknowledged and lost": sum(len(verdict.lost) for verdict in verdicts),
            "landed twice": sum(len(verdict.doubled) for verdict in verdicts),
            "reordered within a unit": sum(len(verdict.reordered) for verdict in verdicts),
            "phantoms": sum(len(verdict.phantom) for verdict in verdicts),
            "exposures of the arms, expected and landed": f"{expected:,} and {exposures:,}",
            "the ledger": ", ".join(
                f"{ledger[name]:,} {name.replace('_', ' ')}"
                for name in ("accepted", "landed", "duplicate", "dead", "in_flight", "missing")
            ),
            "re-emits, dropped by the lander": sum(outcome.re_emits for outcome in self.outcomes),
            "202 while there was no broker": sum(len(outcome.lies) for outcome in self.outcomes),
            "processes that ended by themselves, and were started again": _ends(self.outcomes),
        }
        if recoveries:
            rows["SIGKILL to the first event received since and landed"] = _spread(recoveries)
        if returns:
            rows["start of the broker to the first 202"] = _spread(returns)
        if self.backlog is not None:
            rows[f"lander away for {self.backlog.away_s:.0f} s"] = (
                f"{self.backlog.events:,} events behind, landed at {self.backlog.per_second:,.0f}/s, "
                f"{self.backlog.most_mib:,.0f} MiB at the most"
            )
        return _table(("what", "seen"), rows.items())

    def _deeds(self) -> str:
        done = sum((outcome.story.done for outcome in self.outcomes), Counter())
        hits = self.outcomes[-1].hits if self.outcomes else Counter()
        rows = [(name, done[kind]) for kind, name in _DEEDS.items()]
        rows += [(f"died at `{point}`", count) for point, count in sorted(hits.items())]
        return _table(("deed", "times"), rows)

    def _mutants(self) -> str:
        if not self.mutants:
            return ""
        rows = [(f"`{name}`", found or "it lives") for name, found in self.mutants.items()]
        return _table(("mutant", "found as"), rows)

    def _faults(self) -> str:
        return "".join(f"* {fault}\n" for fault in self.faults)


def _spread(seconds: list[float]) -> str:
    ordered = sorted(seconds)
    median, late = ordered[len(ordered) // 2], ordered[int(0.95 * (len(ordered) - 1))]
    return f"median {median:.1f} s, p95 {late:.1f} s, of {len(ordered)}"


def _ends(outcomes: list[Outcome]) -> str:
    ends = outcomes[-1].own_ends if outcomes else {}
    return ", ".join(f"{name} {count}" for name, count in ends.items()) or "0"


def _table(head: tuple[str, str], rows: object) -> str:
    def shown(value: object) -> str:
        return f"{value:,}" if isinstance(value, int) else str(value)

    lines = [f"| {head[0]} | {head[1]} |", "|---|---|"]
    lines += [f"| {name} | {shown(value)} |" for name, value in rows]  # type: ignore[attr-defined]
    return "\n".join([*lines, ""])


def write(report: Report) -> None:
    """Write the document, as far as it has come."""
    report.path.write_text(report.text(), "utf-8")
