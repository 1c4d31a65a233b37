"""The demo as a user runs it: whole stack, real SDK, every event looked for; killed in the middle, and stopped."""

import asyncio
import contextlib
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any

import orjson
import pytest
from aiokafka import TopicPartition
from support.read_log import read_whole
from support.waiting import until

from ops.demo.compare import compare
from ops.demo.landed import ConsoleError, ConsoleSql, rows_between
from ops.demo.logged import Line, Logged, Progress, read_whole_lines
from ops.demo.plan import OWN_ID, READS, Item, Run
from ops.settings import Settings
from ops.stack import record
from ops.stack.local import environment_of, why_not_ready
from schemas import chunk
from schemas.topics import EVENTS_RAW

pytestmark = [pytest.mark.slow, pytest.mark.timeout(600)]

PATIENCE_S = 240.0
BY_DEVICE = {read.name for read in READS if read.by_device}
MakeSettings = Callable[..., Settings]


@contextlib.contextmanager
def demo(settings: Settings, *arguments: str) -> Iterator[subprocess.Popen[bytes]]:
    """Run `headrace demo` as a program of its own; whatever happens, it is gone afterwards."""
    command = [sys.executable, "-P", "-m", "ops.cli", "demo", "--json", *arguments]
    errors = settings.data_dir.with_suffix(".stderr").open("ab")
    running = subprocess.Popen(
        command, env={**os.environ, **environment_of(settings)}, stdout=subprocess.PIPE, stderr=errors
    )
    try:
        yield running
    finally:
        if running.poll() is None:
            running.kill()
        running.wait()
        assert running.stdout is not None
        running.stdout.close()
        errors.close()


def summary_of(running: subprocess.Popen[bytes], settings: Settings) -> dict[str, Any]:
    """Wait for the end of a demo; return the JSON on the last line that it printed."""
    said, _ = running.communicate(timeout=PATIENCE_S)
    assert said, settings.data_dir.with_suffix(".stderr").read_text()
    summary: dict[str, Any] = orjson.loads(said.splitlines()[-1])
    return summary


def nothing_runs(settings: Settings) -> bool:
    """Whether every process that the last stack wrote down is gone."""
    written = record.read(settings.data_dir)
    return written is None or not any(child.id.is_alive for child in written.children.values())


def test_every_event_of_a_real_sdk_lands_exactly_once_and_a_second_run_counts_its_own(stack_settings: MakeSettings):
    settings = stack_settings()
    runs = []
    for _ in range(2):
        with demo(settings, "--events", "300", "--exit") as running:
            summary = summary_of(running, settings)
            assert running.returncode == 0, summary
        assert (summary["sent"], summary["landed"]) == (300, 300)
        assert (summary["missing"], summary["doubled"], summary["dead"]) == ([], [], 0)
        assert summary["duplicates"] < summary["sent"]  # a busy machine may let the SDK send again
        assert summary["internal"] >= 1
        assert set(summary["per_arm"]) == {"Control", "Green", "Red"}
        assert 0 < summary["seconds_to_first_queryable"] <= summary["seconds"]
        assert programs_of(summary["run"]) == []
        runs.append(summary["run"])
    assert runs[0] != runs[1]


async def test_a_killed_demo_leaves_nothing_behind_and_all_it_was_answered_for_lands_once(stack_settings: MakeSettings):
    """SIGKILL in the middle, start again: what is in the log, and so all that was acknowledged, lands exactly once."""
    settings = stack_settings()
    with demo(settings, "--events", "200000", "--rate", "2000", "--exit") as running:
        await until(lambda: len(acknowledged(settings)[1]) > 2_000, PATIENCE_S, "nothing was acknowledged")
        running.send_signal(signal.SIGKILL)
        running.wait()
    run, answered_for = acknowledged(settings)
    await until(lambda: nothing_runs(settings), what="the killed demo left processes of the stack behind")
    await until(lambda: not programs_of(run.name), what="the killed demo left its SDK behind")

    said = settings.data_dir.with_suffix(".stderr")
    before = said.stat().st_size
    with demo(settings, "--events", "300") as running:
        await until(lambda: is_up(settings), PATIENCE_S, "the second demo did not come up")
        children = record.read(settings.data_dir)
        accepted = await accepted_events(settings, run)
        assert answered_for <= accepted
        await assert_landed_once(settings, run, accepted)
        # Endless runs keep no ledger; their progress says that there is something to count.
        await until(lambda: b" logged" in said.read_bytes()[before:], PATIENCE_S, "the second demo logs nothing")
        running.send_signal(signal.SIGINT)
        summary = summary_of(running, settings)
    assert running.returncode == 0, summary
    assert summary["run"] != run.name
    assert summary["exact"]
    assert children is not None
    assert not any(child.id.is_alive for child in children.children.values())
    assert programs_of(summary["run"]) == []


async def test_each_part_is_killed_once_while_the_sdk_sends_and_every_event_lands_once(stack_settings: MakeSettings):
    """The stack starts again what dies, the SDK sends again what was not answered, and nothing is lost or doubled."""
    settings = stack_settings()
    with demo(settings, "--events", "10000", "--rate", "1000", "--exit") as running:
        for number, part in enumerate(("gateway", "worker", "store", "broker"), start=1):
            await until(
                lambda reached=2_000 * number: logged_by_now(settings) >= reached, PATIENCE_S, "nothing is sent"
            )
            written = record.read(settings.data_dir)
            assert written is not None
            os.kill(written.children[part].pid, signal.SIGKILL)
        summary = await asyncio.to_thread(summary_of, running, settings)
    assert running.returncode == 0, summary
    assert (summary["sent"], summary["landed"], summary["dead"]) == (10_000, 10_000, 0)


def logged_by_now(settings: Settings) -> int:
    """Return how many events the newest run has logged."""
    ledgers = sorted((settings.data_dir / "demo").glob("*.jsonl"))
    return sum(len(line.items) for line in lines_of(ledgers[-1]) if isinstance(line, Logged)) if ledgers else 0


def is_up(settings: Settings) -> bool:
    """Whether broker and store of a stack can be asked."""
    return not why_not_ready("127.0.0.1", settings.admin_port("store"))


def programs_of(run: str) -> list[int]:
    """Return the processes that play a run."""
    named = [path for path in Path("/proc").glob("[0-9]*/cmdline") if run.encode() in read_if_there(path)]
    return [int(path.parent.name) for path in named]


def read_if_there(path: Path) -> bytes:
    try:
        return path.read_bytes()
    except OSError:
        return b""


def acknowledged(settings: Settings) -> tuple[Run, set[Item]]:
    """Return the newest run and the events that its SDK logged before a moment when all had been acknowledged."""
    ledgers = sorted((settings.data_dir / "demo").glob("*.jsonl"), key=lambda path: path.stat().st_mtime)
    if not ledgers:
        return Run(""), set()
    logged: set[Item] = set()
    all_answered: set[Item] = set()
    for line in lines_of(ledgers[-1]):
        if isinstance(line, Logged):
            logged.update(line.items)
        elif isinstance(line, Progress) and line.acknowledged > line.events:  # its own first event is in the count
            all_answered = set(logged)
    return Run(ledgers[-1].stem), all_answered


def lines_of(ledger: Path) -> Iterator[Line]:
    with ledger.open("rb") as file:
        yield from read_whole_lines(file)


async def accepted_events(settings: Settings, run: Run) -> set[Item]:
    """Return the run's events that stand in `events.raw`: what was accepted, whatever its sender was told."""
    partitions = [TopicPartition(EVENTS_RAW, number) for number in range(settings.partitions)]
    return {item for each in await read_whole(settings.kafka, partitions) for item in items_in(each.value, run)}


def items_in(value: bytes, run: Run) -> Iterator[Item]:
    """Yield the events of one chunk that the run's program logged; what the SDK logs of itself is left out."""
    for part in chunk.decode(value).requests:
        for raw in part.events:
            event = orjson.loads(bytes(raw))
            user, metadata = event.get("user") or {}, event.get("metadata") or {}
            if not user.get("userID", "").startswith(run.prefix):
                continue
            name = metadata.get("gate") or metadata.get("config")
            if event["eventName"].startswith("statsig::"):
                unit = user["customIDs"]["stableID"] if name in BY_DEVICE else user["userID"]
                yield Item("exposures", name, unit, metadata.get("parameterName", ""))
            else:
                yield Item("custom_events", event["eventName"], metadata[OWN_ID])


async def assert_landed_once(settings: Settings, run: Run, accepted: set[Item]) -> None:
    """Wait until all that was accepted has landed; nothing twice, and nothing else of that run."""
    sql = ConsoleSql(settings.console_address)

    async def everything_is_there() -> bool:
        with contextlib.suppress(ConsoleError):
            rows = await rows_between(sql, run, 0, 999_999_999, time.time_ns() // 1_000_000)
            verdict = compare(accepted, {}, rows)
            assert (verdict.doubled, verdict.strange) == ([], [])
            return not verdict.missing
        return False

    try:
        await until(everything_is_there, PATIENCE_S, "not everything that was accepted has landed")
    finally:
        await sql.close()
