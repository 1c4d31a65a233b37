"""The checker is proven by mutants: pipelines that are wrong in one place, each of which must turn it red."""

import asyncio
import contextlib
import time
from collections.abc import AsyncIterator, Sequence
from contextlib import asynccontextmanager
from dataclasses import dataclass
from typing import Final

from aiokafka.admin.config_resource import ConfigResource, ConfigResourceType
from crash import evidence
from crash.checker import Verdict
from crash.fleet import PATIENCE_S
from crash.storm import Stage
from support.lander_process import nobody_is_in
from support.waiting import until

from ops.kafka import admin_client
from schemas.crash_points import CrashPoint
from schemas.kafka import KafkaConnection
from schemas.logs import read_logs
from schemas.topics import DLQ_WORKER, TOPICS, worker_group

_PER_SECOND = 1_500
_ENOUGH = 10_000
_SETTLED_S = 30.0


@dataclass(frozen=True)
class Mutant:
    """One wrong process: where it dies, how often besides, and which verdicts find it."""

    module: str
    member: str
    found_as: Sequence[str]
    crashes: Sequence[tuple[CrashPoint, int]] = ()
    kills: int = 0
    refuse_dead_letters: bool = False
    other_subscription: bool = False
    """Whether the group hands its assignment, which names other topics, to who starts under its name at once."""

    def found_by(self, verdict: Verdict) -> str:
        """Return how many events the checker found wrong, and in which way; "" when it found none."""
        counts = {name: len(getattr(verdict, name)) for name in self.found_as}
        return ", ".join(f"{count:,} {name}" for name, count in counts.items() if count)


MUTANTS: Final = (
    # Skips what comes while it recovers, where nothing is committed yet: so it comes first, over an empty log.
    Mutant(
        "stock_faust",
        "worker",
        ("lost", "doubled", "reordered"),
        [(CrashPoint.WORKER_ALL_DURABLE, n) for n in (1, 1, 2, 3)],
        kills=3,
        other_subscription=True,
    ),
    Mutant("boolean_marker", "worker", ("lost",), ((CrashPoint.WORKER_CLAIM_DURABLE, 5),)),
    Mutant("answer_before_ack", "gateway", ("lost",), ((CrashPoint.GATEWAY_BEFORE_APPEND, 9),)),
    Mutant("ack_before_delivery", "worker", ("lost",), ((CrashPoint.WORKER_BEFORE_SEND, 200),)),
    Mutant("swallowed_dead_letter", "worker", ("lost",), refuse_dead_letters=True),
    Mutant("commit_before_insert", "store", ("lost",), [(CrashPoint.LANDER_BEFORE_INSERT, n) for n in (4, 5, 6)]),
    Mutant("no_read_back", "store", ("doubled",), [(CrashPoint.LANDER_BEFORE_COMMIT, n) for n in (3, 4)]),
    # Leaves a setting of the tables behind, so it comes last.
    Mutant(
        "token_only", "store", ("doubled",), ((CrashPoint.LANDER_BEFORE_COMMIT, 3), (CrashPoint.LANDER_AFTER_INSERT, 2))
    ),
)
BY_NAME: Final = {mutant.module: mutant for mutant in MUTANTS}


async def verdict_on(stage: Stage, mutant: Mutant, seed: int) -> Verdict:
    """Let a mutant take its member's place for one workload, kill it as it deserves, and judge."""
    fleet = stage.fleet
    workload = await stage.workload(f"mutant{mutant.module.replace('_', '')}", seed)
    traffic = stage.traffic(workload, _PER_SECOND, _ENOUGH)
    fleet.retire(mutant.member)
    fleet.become(mutant.member, mutant.module)
    member = fleet.members[mutant.member]
    member.crashes = list(mutant.crashes)
    traffic.start()
    try:
        await until(lambda: workload.planned > _PER_SECOND, what="nothing is sent")
        fleet.start(mutant.member)
        async with _dead_letters_refused(fleet.kafka) if mutant.refuse_dead_letters else _nothing():
            await until(lambda: not member.crashes, PATIENCE_S, f"{mutant.module} does not get where it is to die")
            await fleet.ready(mutant.member)
            for _ in range(mutant.kills):
                now_ms = time.time_ns() // 1_000_000
                await until(lambda since=now_ms: stage.store.received_since(since), PATIENCE_S, "nothing lands")
                fleet.kill(mutant.member)
            await traffic.end()
            with contextlib.suppress(AssertionError):  # it may stand still; the member itself goes on then
                await evidence.settle(fleet, _SETTLED_S)
    finally:
        await traffic.stop()
        fleet.retire(mutant.member)
        fleet.become(mutant.member, "")
        if mutant.other_subscription:
            group = worker_group((await read_logs(fleet.kafka)).topic)
            await until(lambda: nobody_is_in(fleet.kafka, group), PATIENCE_S)
        fleet.start(mutant.member)
    await fleet.ready(mutant.member)
    await evidence.settle(fleet)
    return await stage.verdict(workload.run)


@asynccontextmanager
async def _nothing() -> AsyncIterator[None]:
    await asyncio.sleep(0)
    yield


@asynccontextmanager
async def _dead_letters_refused(connection: KafkaConnection) -> AsyncIterator[None]:
    """Let the broker refuse every dead letter of a worker for a while, as one whose disk or quota is at its end."""
    [usual] = [topic.settings for topic in TOPICS if topic.name == DLQ_WORKER]
    await _configure(connection, {**usual, "max.message.bytes": "100"})
    try:
        yield
    finally:
        await _configure(connection, usual)


async def _configure(connection: KafkaConnection, settings: dict[str, str]) -> None:
    async with admin_client(connection) as admin:
        await admin.alter_configs([ConfigResource(ConfigResourceType.TOPIC, DLQ_WORKER, settings)])
