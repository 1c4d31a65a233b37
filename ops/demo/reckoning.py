"""The account of a run while it goes on: which visitors' events are all there, and which are awaited.

A visitor is settled when all its events are found once, or when it has been waited for long enough.
What is settled is counted and forgotten, so that a demo may run for days.
"""

from collections import defaultdict
from collections.abc import Iterable
from dataclasses import dataclass, field

from ops.demo.compare import Row, Verdict, compare
from ops.demo.logged import Arm, Line, Logged
from ops.demo.plan import Item, Run


@dataclass
class _Visit:
    logged_at: float
    items: list[Item] = field(default_factory=list)


class Reckoning:
    """Takes what was logged and what was found; knows what is open."""

    def __init__(self, run: Run, keep: bool) -> None:
        """Account for `run`; with `keep` nothing is forgotten, for a last look at all of it."""
        self._run = run
        self._keep = keep
        self._kept: dict[int, list[Item]] = {}
        self._open: dict[int, _Visit] = {}
        self._arms: dict[str, str] = {}
        self._found: dict[int, int] = {}
        self._speaking = -1
        self.sent = 0
        self.sent_per_rule: defaultdict[str, int] = defaultdict(int)
        self.settled = Verdict()

    @property
    def landed(self) -> int:
        """Events found so far."""
        return self.settled.landed + sum(self._found.values())

    @property
    def awaited(self) -> int:
        """Events logged and not settled."""
        return sum(len(visit.items) for visit in self._open.values())

    def take(self, line: Line, now: float) -> None:
        """Count a line of the SDK's process in; `now` in seconds of any clock that only goes forward."""
        if isinstance(line, Logged):
            self._open.setdefault(line.visitor, _Visit(now)).items.extend(line.items)
            if self._keep:
                self._kept.setdefault(line.visitor, []).extend(line.items)
            self._speaking = line.visitor
            self.sent += len(line.items)
        elif isinstance(line, Arm):
            self._arms[line.unit] = line.rule_id
            self.sent_per_rule[line.rule_id] += 1
        else:
            self._speaking = -1  # a flush comes between two visitors

    def due(self, most: int) -> list[int]:
        """Return the first `most` visitors, in order, that have said all and are not settled."""
        return sorted(number for number in self._open if number != self._speaking)[:most]

    def settle(self, visitors: Iterable[int], rows: Iterable[Row], now: float, patience_s: float) -> None:
        """Judge visitors by all rows found of them; those that are exact, or older than `patience_s`, are settled."""
        by_user: defaultdict[str, list[Row]] = defaultdict(list)
        for row in rows:
            by_user[row.user_id].append(row)
        for number in visitors:
            user_id, visit = self._run.user_id(number), self._open[number]
            verdict = compare(visit.items, self._arms, by_user[user_id])
            self._found[number] = verdict.landed
            if verdict.is_exact or now - visit.logged_at > patience_s:
                self.settled.add(verdict)
                del self._open[number], self._found[number]
                if not self._keep:
                    self._arms.pop(user_id, None)

    def verdict_on(self, visitors: Iterable[int], rows: Iterable[Row]) -> Verdict:
        """Judge `visitors`, of those in `self.visitors`, as they stand, by all rows found of them."""
        logged = self._kept if self._keep else {number: visit.items for number, visit in self._open.items()}
        return compare([item for number in visitors for item in logged[number]], self._arms, rows)

    @property
    def visitors(self) -> list[int]:
        """The visitors that can still be judged, in order: those that are open, or with `keep` all."""
        return sorted(self._kept if self._keep else self._open)
