"""A replay from its first record in `replays` to its last.

Everything that is sent may be sent again: an event keeps its id and its first origin, so the worker
and the lander know it. That is why progress may be written down after the fact, why a replay goes on
where it was after a kill, and why two at once do no harm.
"""

import asyncio
import getpass
import secrets
import socket
import time
from collections import Counter
from collections.abc import Callable, Sequence
from contextlib import aclosing
from dataclasses import dataclass, field
from typing import Final

import msgspec

from ops.dlq.choose import Choice
from ops.dlq.fix import DoesNotApplyError, Rule, written
from ops.dlq.history import first_ms
from ops.dlq.landed import Store
from ops.dlq.letters import Letter
from ops.dlq.predict import Fate, Prediction, Predictor, is_parked
from ops.dlq.reenter import Again, NotReplayableError, Part, RefusedAgainError, reenter, refused_again
from ops.dlq.scan import Ends, Scan
from ops.dlq.send import Pace, Sender
from ops.kafka import read_erasures
from processors.erase import is_erased_letter
from schemas import replays
from schemas.dead_letter import CODE_VERSION, DeadLetter
from schemas.erasures import ErasureList
from schemas.kafka import KafkaConnection
from schemas.replays import ReplayRecord
from schemas.topics import REPLAYS

_WRITE_DOWN_S: Final = 1.0
"""How often progress is written down; what was sent since is sent again after a kill."""

OnProgress = Callable[[int, int], None]
"""Told how many records of how many were passed."""


@dataclass(frozen=True)
class Order:
    """What is to be replayed, and how."""

    choice: Choice
    rules: Sequence[Rule] = ()
    limit: int = 0
    rate: int = 0
    note: str = ""
    parked: bool = False


@dataclass
class Forecast:
    """What a dry run found, by reason as it is now and by fate; `samples` name one letter of each."""

    counts: Counter[tuple[str, Prediction]] = field(default_factory=Counter)
    samples: dict[tuple[str, Prediction], tuple[Letter, str]] = field(default_factory=dict)
    unreadable: int = 0
    unreadable_named: list[str] = field(default_factory=list)

    def add(self, letter: Letter, prediction: Prediction) -> None:
        """Count a letter."""
        key = (letter.now.reason, Prediction(prediction.fate, prediction.why))
        self.counts[key] += 1
        self.samples.setdefault(key, (letter, prediction.message))


@dataclass
class _Sent:
    """What became of the letters of one run, so far."""

    event_ids: list[bytes] = field(default_factory=list)
    selected: int = 0
    passed_over: Counter[str] = field(default_factory=Counter)
    refused_again: Counter[str] = field(default_factory=Counter)


def new_id(now_ms: int) -> str:
    """Return an id for a replay: ids sort by time."""
    return f"{time.strftime('%Y%m%d-%H%M%S', time.gmtime(now_ms / 1000))}-{secrets.token_hex(3)}"


def now_ms() -> int:
    """Return the time in ms since the epoch."""
    return time.time_ns() // 1_000_000


async def forecast(kafka: KafkaConnection, store: Store, order: Order, on_progress: OnProgress) -> Forecast:
    """Run the current code over the selection, and send nothing. Raises KafkaError, StoreError, TransportError."""
    found = Forecast()
    async with Scan(kafka) as scan:
        await scan.find_ends()
        await _learn(scan, await first_ms(kafka))
        erasures = await read_erasures(kafka)
        predictor = Predictor(list(order.rules), scan.partitions, erasures, parked=order.parked)
        left = order.limit
        read: Ends = {}
        async with aclosing(scan.letters()) as batches:
            async for letters, read_to in batches:
                chosen = [letter for letter in letters if order.choice.matches(letter)]
                if order.limit:
                    chosen, left = chosen[:left], left - len(chosen[:left])
                landed = await asyncio.to_thread(store.landed, _ids_of(chosen))
                for letter in chosen:
                    found.add(letter, predictor.predict(letter, landed, now_ms()))
                read |= read_to
                on_progress(sum(read.values()), scan.records)
                if order.limit and not left:
                    break
        found.unreadable, found.unreadable_named = scan.unreadable.count, scan.unreadable.named
    return found


async def _learn(scan: Scan, first_replay_ms: int | None) -> None:
    if first_replay_ms is not None:
        await scan.learn_newest(first_replay_ms)


def _ids_of(letters: Sequence[Letter]) -> list[bytes]:
    return [letter.envelope.event_id for letter in letters if letter.envelope.event_id is not None]


class Replay:
    """One replay under way."""

    def __init__(self, kafka: KafkaConnection, store: Store, order: Order, resumed: ReplayRecord | None = None) -> None:
        self._kafka = kafka
        self._store = store
        self._order = order
        self._record = resumed
        self._sent = _Sent()
        self._erasures = ErasureList()
        self._earlier: list[bytes] = []
        self.unreadable = 0

    @property
    def event_ids(self) -> list[bytes]:
        """Of what was sent; of a replay that was gone on with, of all that it selected."""
        return self._earlier + self._sent.event_ids

    @property
    def resumable_id(self) -> str:
        """By which it can be gone on with when it is cut off; "" while nothing was written down."""
        return self._record.id if self._record is not None else ""

    @property
    def record(self) -> ReplayRecord:
        """How it stands, as it is written down."""
        assert self._record is not None
        return self._record

    async def run(self, on_progress: OnProgress) -> ReplayRecord:
        """Send everything that is selected; return when the broker has it.

        Raises KafkaError, StoreError and httpx.TransportError; then it can be gone on with by its id.
        """
        resumed = self._record
        self._erasures = await read_erasures(self._kafka)
        # At a rate, no more at once than a second's, so that what was sent is written down that often.
        async with Scan(self._kafka, self._order.rate) as scan:
            await scan.find_ends()
            # Behind the ends: who failed again before them did so in a replay that is written down by now.
            first_replay_ms = await first_ms(self._kafka)
            if resumed is None:
                self._record = self._first_record(scan)
            else:
                scan.ends = dict(resumed.ends)
            async with Sender(self._kafka, self.record.id, scan.raw) as sender:
                await self._write_down(sender, state="running")
                await _learn(scan, first_replay_ms)
                await self._send_all(scan, sender, on_progress)
                await self._write_down(sender, state="sent")
        self.unreadable = scan.unreadable.count
        return self.record

    def _first_record(self, scan: Scan) -> ReplayRecord:
        order = self._order
        started = now_ms()
        return ReplayRecord(
            id=new_id(started),
            state="running",
            who=f"{getpass.getuser()}@{socket.gethostname()}",
            started_at=started,
            code_version=CODE_VERSION,
            selection=order.choice.told() | ({"parked": ["yes"]} if order.parked else {}),
            ends=scan.ends,
            fix=written(order.rules) if order.rules else "",
            note=order.note,
            limit=order.limit,
            rate=order.rate,
        )

    async def _send_all(self, scan: Scan, sender: Sender, on_progress: OnProgress) -> None:
        pace = Pace(self._order.rate)
        before = self.record
        done: Ends = dict(before.done)
        read: Ends = {}
        written_s = time.monotonic()
        async with aclosing(scan.letters()) as batches:
            async for letters, read_to in batches:
                chosen = [letter for letter in letters if self._is_to_send(letter, before.done)]
                left = self._order.limit - self.record.selected
                if self._order.limit and left < len(chosen):
                    chosen = chosen[: max(0, left)]
                await self._send(chosen, scan.partitions, sender, pace)
                read |= read_to
                done |= {name: max(at, before.done.get(name, 0)) for name, at in read_to.items()}
                self._advance(before, done)
                on_progress(sum(read.values()), scan.records)
                if time.monotonic() - written_s >= _WRITE_DOWN_S:
                    await self._write_down(sender, state="running")
                    written_s = time.monotonic()
                if self._order.limit and self.record.selected >= self._order.limit:
                    break

    def _is_to_send(self, letter: Letter, done: Ends) -> bool:
        if not self._order.choice.matches(letter):
            return False
        if not done:
            return True
        place = letter.place
        if place.offset >= done.get(f"{place.topic}/{place.partition}", 0):
            return True
        if letter.envelope.event_id is not None:
            self._earlier.append(letter.envelope.event_id)
        return False

    async def _send(self, letters: list[Letter], partitions: int, sender: Sender, pace: Pace) -> None:
        if not letters:
            return
        sent = self._sent
        sent.selected += len(letters)
        replay = self.record.id
        landed = await asyncio.to_thread(self._store.landed, _ids_of(letters))
        entries: list[Part | Again] = []
        back: list[tuple[int, DeadLetter]] = []
        for letter in letters:
            if self._erasures and is_erased_letter(self._erasures, letter.envelope):
                sent.passed_over[Fate.ERASED.value] += 1
                continue
            if is_parked(letter) and not self._order.parked:
                sent.passed_over[Fate.PARKED.value] += 1
                continue
            if letter.envelope.event_id in landed:
                sent.passed_over[Fate.ALREADY_LANDED.value] += 1
                continue
            try:
                entries.append(reenter(letter, list(self._order.rules), replay, partitions))
            except NotReplayableError as error:
                sent.passed_over[f"{Fate.CANNOT.value}: {error.why}"] += 1
            except DoesNotApplyError:
                sent.passed_over[Fate.FIX_DOES_NOT_APPLY.value] += 1
            except RefusedAgainError as error:
                sent.refused_again[error.verdict.reason.value] += 1
                letter_again = refused_again(letter, error.verdict, replay, now_ms())
                back.append((letter.place.partition % partitions, letter_again))
        step = pace.step or len(entries) or 1
        for start in range(0, len(entries), step):
            some = entries[start : start + step]
            await pace.wait(len(some))
            await sender.send(some)
        await sender.keep(back)
        for entry in entries:
            sent.event_ids += entry.event_ids

    def _advance(self, before: ReplayRecord, done: Ends) -> None:
        sent = self._sent
        self._record = msgspec.structs.replace(
            self.record,
            done=done,
            selected=before.selected + sent.selected,
            sent=before.sent + len(sent.event_ids),
            passed_over=dict(Counter(before.passed_over) + sent.passed_over),
            refused_again=dict(Counter(before.refused_again) + sent.refused_again),
        )

    async def _write_down(self, sender: Sender, state: replays.State) -> None:
        self._record = msgspec.structs.replace(self.record, state=state)
        await sender.write(REPLAYS, self.record.id.encode(), replays.encode(self.record))
