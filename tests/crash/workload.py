"""What is sent, and the expected ledger: written to disk before anything of it is sent.

An event is a number; everything else of it follows from the seed and that number, so that a row can
be judged by what it says of itself. Its time is the number as well, a millisecond apiece.
"""

import random
import time
import zlib
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import IO

import orjson

from schemas import keys
from schemas.keys import KeyKind, KeyRecord

SENDERS = 4
UNITS = 500
ARMS = ("control", "green", "red")
EXPERIMENT = "button"
CUSTOM = "purchase"
POISON_AT_WORKER, POISON_AT_GATEWAY = "bad_time", "too_many_keys"
_POISON_EVERY = 251
_DAY_MS = 24 * 3600 * 1000
_TOO_MANY = ",".join(f'"{n}":1' for n in range(300))


@dataclass(frozen=True)
class Run:
    """One workload: its name, its seed, and the time of its event 0 (ms)."""

    name: str
    seed: int
    base_ms: int

    def unit_of(self, number: int) -> int:
        """Return whose event it is. Units share no sender, since the sender is a part of an event's identity."""
        return zlib.crc32(b"%d/%d" % (self.seed, number)) % UNITS

    def sender_of(self, number: int) -> int:
        """Return which SDK sends it."""
        return self.unit_of(number) % SENDERS

    def poison_of(self, number: int) -> str:
        """Return why the event can never land, "" when it can."""
        if number % _POISON_EVERY:
            return ""
        return POISON_AT_WORKER if number % 2 else POISON_AT_GATEWAY

    def arm_of(self, number: int) -> str:
        """Return the arm that an exposure names, "" for a custom event."""
        kind = number % 5
        return "" if kind > 2 else ARMS[zlib.crc32(b"arm%d" % number) % len(ARMS)]

    def event(self, number: int) -> bytes:
        """Return the event as it is sent, the same bytes each time."""
        head = b'{"user":{"userID":"%s-u%d","country":"DE"}' % (self.name.encode(), self.unit_of(number))
        when = b'"time":%d' % (self.base_ms + number)
        match self.poison_of(number):
            case "bad_time":
                return b'%b,"eventName":"purchase","time":"day %d"}' % (head, number)
            case "too_many_keys":
                return b'%b,"eventName":"purchase",%b,"metadata":{%b}}' % (head, when, _TOO_MANY.encode())
        if arm := self.arm_of(number):
            read = b'"metadata":{"config":"button","ruleID":"%b","rulePassed":"true"}' % arm.encode()
            return b'%b,"eventName":"statsig::config_exposure",%b,%b}' % (head, when, read)
        return b'%b,"eventName":"purchase",%b,"value":%d,"metadata":{"sku":"S-%d"}}' % (
            head,
            when,
            number,
            number % 7,
        )

    def body(self, sender: int, numbers: Sequence[int]) -> bytes:
        """Return a request's body."""
        events = b",".join([self.event(number) for number in numbers])
        return b'{"events":[%b],"statsigMetadata":{"sdkType":"py-server","sessionID":"%b-%d"}}' % (
            events,
            self.name.encode(),
            sender,
        )


@dataclass(frozen=True)
class Sending:
    """One request: what of the run it holds."""

    id: int
    sender: int
    numbers: tuple[int, ...]


@dataclass
class _Sender:
    copies: list[int] = field(default_factory=list)
    failed: list[int] = field(default_factory=list)


class Workload:
    """Plans requests, and writes down each before it may be sent, and each answer that counts."""

    def __init__(self, run: Run, ledger: Path, most_copies: int = 5, share_of_copies: float = 0.25) -> None:
        """A `share_of_copies` of the events is sent 2 to `most_copies` times, the rest once."""
        self.run = run
        self.key = keys.generate(KeyKind.SECRET)
        self.record: KeyRecord = keys.record_of(self.key, KeyKind.SECRET, "default", "production", 0)
        self.planned = 0
        self._chance = random.Random(run.seed)
        self._most_copies = most_copies
        self._share = share_of_copies
        self._senders = [_Sender() for _ in range(SENDERS)]
        self._sendings = 0
        self._ledger: IO[bytes] = ledger.open("wb", buffering=0)

    @classmethod
    def of(cls, name: str, seed: int, ledger: Path) -> "Workload":
        """Return a workload whose events were a day ago."""
        return cls(Run(name, seed, time.time_ns() // 1_000_000 - _DAY_MS), ledger)

    def next(self, fresh: int) -> Iterator[Sending]:
        """Plan requests with `fresh` new events, copies of earlier ones among them, in any order."""
        chance = self._chance
        new: list[list[int]] = [[] for _ in self._senders]
        plan = []
        for number in range(self.planned, self.planned + fresh):
            new[self.run.sender_of(number)].append(number)
            plan.append([number, self.run.unit_of(number), self.run.arm_of(number)])
        self.planned += fresh
        self._write({"plan": plan})
        for sender, numbers in enumerate(new):
            state = self._senders[sender]
            copied = [number for number in numbers if chance.random() < self._share]
            state.copies += [number for number in copied for _ in range(chance.randint(1, self._most_copies - 1))]
            if sending := self._gather(sender, numbers):
                yield sending

    def rest(self) -> Iterator[Sending]:
        """Plan what is still owed: copies, and what has failed."""
        for sender, state in enumerate(self._senders):
            while state.copies or state.failed:
                if sending := self._gather(sender, []):
                    yield sending

    def again(self, sending: Sending) -> None:
        """What was not acknowledged goes into later requests, together with newer events."""
        self._senders[sending.sender].failed += sending.numbers

    def acknowledged(self, sending: Sending, sent_s: float, answered_s: float) -> None:
        """Write down that a request was answered with 202; times are of the monotonic clock."""
        self._write({"acked": sending.id, "sent_s": sent_s, "answered_s": answered_s})

    def close(self) -> None:
        """Write nothing more."""
        self._ledger.close()

    def _gather(self, sender: int, numbers: list[int]) -> Sending | None:
        """Join new events with failed ones and copies; no event stands in a request twice (it would be two)."""
        state = self._senders[sender]
        room = max(20, len(numbers) // 2)
        failed, state.failed = state.failed[: 4 * room], state.failed[4 * room :]
        self._chance.shuffle(state.copies)
        copies, state.copies = state.copies[:room], state.copies[room:]
        together: dict[int, None] = {}
        for number in (*numbers, *failed, *copies):
            if number in together:  # a copy is owed all the same
                state.copies.append(number)
            together[number] = None
        if not together:
            return None
        shuffled = list(together)
        self._chance.shuffle(shuffled)
        self._sendings += 1
        self._write({"send": self._sendings, "events": shuffled})
        return Sending(self._sendings, sender, tuple(shuffled))

    def _write(self, line: dict[str, object]) -> None:
        self._ledger.write(orjson.dumps(line) + b"\n")


@dataclass
class Expected:
    """What the ledger on disk says: of each event its unit and arm, how often it was sent, and when acknowledged."""

    units: dict[int, int] = field(default_factory=dict)
    arms: dict[int, str] = field(default_factory=dict)
    times_sent: dict[int, int] = field(default_factory=dict)
    acked_at: dict[int, int] = field(default_factory=dict)
    """Which line of the ledger acknowledged an event first; lines stand in the order of time."""
    sent_at: dict[int, int] = field(default_factory=dict)
    """Which line of the ledger sent an event first."""
    answers: list[tuple[float, float]] = field(default_factory=list)
    """(sent, answered) of each 202, monotonic seconds."""


def read_ledger(path: Path) -> Expected:
    """Read an expected ledger back; a torn last line counts as not written."""
    found = Expected()
    sendings: dict[int, list[int]] = {}
    for place, text in enumerate(path.read_bytes().split(b"\n")[:-1]):
        line = orjson.loads(text)
        if "plan" in line:
            for number, unit, arm in line["plan"]:
                found.units[number], found.arms[number] = unit, arm
        elif "send" in line:
            sendings[line["send"]] = line["events"]
            for number in line["events"]:
                found.times_sent[number] = found.times_sent.get(number, 0) + 1
                found.sent_at.setdefault(number, place)
        else:
            found.answers.append((line["sent_s"], line["answered_s"]))
            for number in sendings[line["acked"]]:
                found.acked_at.setdefault(number, place)
    return found
