"""One run of the demo: stack up, SDK out, every event looked for, stack down."""

import asyncio
import contextlib
import secrets
import time
from dataclasses import dataclass
from pathlib import Path
from typing import Final

from aiokafka.errors import KafkaError

from ops.demo import pipeline
from ops.demo.compare import Verdict
from ops.demo.landed import ConsoleError, ConsoleSql, internal_events, rows_between, rows_of
from ops.demo.logged import Progress
from ops.demo.plan import Run
from ops.demo.program import Program, ProgramError
from ops.demo.push import demo_key, make_known
from ops.demo.reckoning import Reckoning
from ops.demo.state import State
from ops.demo.summary import Summary, named, per_arm
from ops.demo.watch import watch_exposures
from ops.settings import Settings
from ops.stack.local import LocalStack

_POLL_S: Final = 0.1
_VISITORS_A_QUERY: Final = 1_000
_NO_PROGRESS_S: Final = 60.0
"""So long may nothing land before the demo says that it is missing; an SDK that met a 503 pauses for 16 s."""
_LAST_WORDS_S: Final = 10.0
_LEDGERS_KEPT: Final = 10
_REASONS_NAMED: Final = 5
_COUNT_DEAD_S: Final = 5.0
"""Nothing having landed for so long, dead letters are counted: what they explain need not be waited for."""


@dataclass(frozen=True)
class Options:
    """What to do: how many events (0: without end), how many a second (0: as fast as it goes), and when to end."""

    events: int
    rate: float
    ends: bool
    seed: int = 0


class Demo:
    """Plays once."""

    def __init__(self, settings: Settings, options: Options, state: State, began: float) -> None:
        """Prepare; `began` is when the command was started, on the monotonic clock."""
        self._settings = settings
        self._options = options
        self._state = state
        self._began = began
        self._since_ms = time.time_ns() // 1_000_000
        self._run = Run(secrets.token_hex(4), options.seed)
        self._reckoning = Reckoning(self._run, keep=options.ends)
        self._sql = ConsoleSql(settings.console_address)
        self._dead_letters = pipeline.DeadLetters(settings.kafka)
        self._first_queryable_s: float | None = None
        self._has_finished = False
        self._stop = asyncio.Event()
        self.is_playing = False

    @property
    def was_stopped(self) -> bool:
        """Whether somebody asked for the end."""
        return self._stop.is_set()

    def stop(self) -> None:
        """Ask for the end: what was logged is still waited for, briefly."""
        self._stop.set()

    async def play(self) -> Summary:
        """Play and return what it came to. Raises StackError, NotKnownError, KafkaError, OSError."""
        async with LocalStack(self._settings, self._state.on_stack_event):
            self._state.enter("making the demo's key and config specs known")
            key = demo_key(self._settings.data_dir)
            await make_known(self._settings, key)
            worker = self._settings.admin_port("worker")
            duplicates = await pipeline.duplicates(worker)
            await self._dead_letters.mark()
            verdict = await self._drive(key)
            self._state.enter("counting")
            duplicates_now = await pipeline.duplicates(worker)
            summary = Summary(
                run=self._run.name,
                sent=verdict.sent,
                landed=verdict.landed,
                # A worker that was restarted meanwhile counts from 0 again.
                duplicates=duplicates_now - duplicates if duplicates_now >= duplicates else duplicates_now,
                dead=(dead := await self._dead_letters.count()),
                internal=await internal_events(self._sql, self._run, self._since_ms),
                seconds_to_first_queryable=self._first_queryable_s,
                seconds=round(time.monotonic() - self._began, 2),
                per_arm=per_arm(verdict),
                missing=named(verdict.missing),
                doubled=named(verdict.doubled),
                strange=named(verdict.strange),
                wrong_arm=named(verdict.wrong_arm),
                dead_reasons=dict((await self._dead_letters.reasons()).most_common(_REASONS_NAMED)) if dead else {},
                trouble=self._state.trouble,
            )
            self._state.enter("ending the stack")
        await self._sql.close()
        return summary

    async def _drive(self, key: str) -> Verdict:
        """Let the SDK log, and look for what it logged until all is there, nothing comes any more, or it is stopped."""
        settings, options = self._settings, self._options
        gateway = f"http://127.0.0.1:{settings.gateway_port}"
        ledger = new_ledger(settings.data_dir, self._run) if options.ends else None
        log = settings.data_dir / "logs" / "demo-sdk.log"
        program = Program(gateway, key, self._run, options.events, options.rate, ledger, log)
        self._state.reckoning = self._reckoning
        self._state.enter("an SDK is sending")
        await program.start()
        self.is_playing = True
        listening = asyncio.create_task(self._listen(program), name="listen")
        watching = asyncio.create_task(watch_exposures(settings.console_address, self._run, self._state.latest))
        try:
            await self._look_until_done(listening)
            self._state.enter("the SDK is ending")
            await program.stop()
            await self._heard_out(listening)
            return await self._verdict()
        finally:
            self.is_playing = False
            watching.cancel()
            await program.stop()
            listening.cancel()
            await asyncio.gather(listening, watching, return_exceptions=True)

    async def _listen(self, program: Program) -> None:
        async for line in program.lines():
            self._reckoning.take(line, time.monotonic())
            if isinstance(line, Progress):
                self._state.acknowledged = line.acknowledged
                if line.given_up:
                    self._state.trouble = f"the SDK gave up on {line.given_up} requests after its retries"
                self._has_finished = line.state == "finished" or self._has_finished

    async def _heard_out(self, listening: "asyncio.Task[None]") -> None:
        try:
            await asyncio.wait_for(asyncio.shield(listening), _LAST_WORDS_S)
        except ProgramError as error:
            self._state.trouble = str(error)
        except TimeoutError:
            self._state.trouble = "the SDK's process did not end"

    async def _look_until_done(self, listening: "asyncio.Task[None]") -> None:
        """Look until all is there or dead; give up when for a minute nothing was logged, acknowledged or found."""
        last, last_change, counted_at = (0, 0, 0), time.monotonic(), 0.0
        while not listening.done() and not self._stop.is_set():
            visitors = await self._look()
            reached = (self._reckoning.sent, self._state.acknowledged, self._reckoning.landed)
            now = time.monotonic()
            if reached[2] == last[2] or not visitors:
                with contextlib.suppress(TimeoutError):
                    await asyncio.wait_for(self._stop.wait(), _POLL_S)
            if reached != last:
                last, last_change = reached, now
            if not self._options.ends:
                continue
            if self._has_finished and not self._reckoning.awaited:
                return
            if now - last_change > _NO_PROGRESS_S:
                self._state.trouble = f"nothing more landed for {_NO_PROGRESS_S:.0f} s"
                return
            if now - last_change > _COUNT_DEAD_S and now - counted_at > _COUNT_DEAD_S:
                counted_at = now
                if await self._all_missing_are_dead():
                    self._state.trouble = "what is missing is among the dead letters"
                    return

    async def _all_missing_are_dead(self) -> bool:
        missing = self._reckoning.sent - self._reckoning.landed
        try:
            return 0 < missing <= await self._dead_letters.count()
        except KafkaError:
            return False  # the broker is away, which is why nothing lands

    async def _look(self) -> int:
        """Ask once for what is awaited; return how many visitors were looked at."""
        visitors = self._reckoning.due(_VISITORS_A_QUERY)
        if not visitors:
            return 0
        try:
            rows = await rows_of(self._sql, self._run, visitors, self._since_ms)
        except ConsoleError as error:
            self._state.trouble = str(error)
            return 0
        if rows and self._first_queryable_s is None:
            self._first_queryable_s = round(time.monotonic() - self._began, 2)
        if self._state.trouble.startswith("the console"):
            self._state.trouble = ""
        patience = float("inf") if self._options.ends else _NO_PROGRESS_S
        self._reckoning.settle(visitors, rows, time.monotonic(), patience)
        self._state.note_landed(self._reckoning.landed)
        return len(visitors)

    async def _verdict(self) -> Verdict:
        """Judge everything; a demo that ends looks at all its visitors again, and for events that nobody logged."""
        verdict, reckoning = Verdict(), self._reckoning
        if not self._options.ends:
            await self._wait_for_the_last()
            verdict.add(reckoning.settled)
        visitors = reckoning.visitors
        for start in range(0, len(visitors), _VISITORS_A_QUERY):
            page = visitors[start : start + _VISITORS_A_QUERY]
            if self._options.ends:
                rows = await rows_between(self._sql, self._run, page[0], page[-1], self._since_ms)
            else:
                rows = await rows_of(self._sql, self._run, page, self._since_ms)
            verdict.add(reckoning.verdict_on(page, rows))
        return verdict

    async def _wait_for_the_last(self) -> None:
        deadline = time.monotonic() + _LAST_WORDS_S
        while self._reckoning.awaited and time.monotonic() < deadline:
            await self._look()
            await asyncio.sleep(_POLL_S)


def new_ledger(data_dir: Path, run: Run) -> Path:
    """Return the file for what the run logs; only the newest few of earlier runs are kept."""
    folder = data_dir / "demo"
    folder.mkdir(parents=True, exist_ok=True)
    for old in sorted(folder.glob("*.jsonl"), key=lambda path: path.stat().st_mtime)[: -_LEDGERS_KEPT + 1]:
        old.unlink(missing_ok=True)
    return folder / f"{run.name}.jsonl"
