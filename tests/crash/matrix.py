"""The crash matrix: who dies where, and what shows that nothing comes of it.

A row is shown by crash points that a storm arms, by what a storm does at random, or by a test of
its own elsewhere. A new point joins by a row here, and by a lane in `nemesis.py` that gets there.
"""

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Final

from schemas.crash_points import CrashPoint as At


@dataclass(frozen=True)
class Row:
    """One row: the points that stand for it, what a storm does besides, and tests that show the rest."""

    dies: str
    where: str
    points: Sequence[At] = ()
    storm: str = ""
    elsewhere: str = ""


MATRIX: Final = (
    Row("gateway", "before produce", (At.GATEWAY_BEFORE_APPEND,)),
    Row("gateway", "after append before 202", (At.GATEWAY_AFTER_APPEND, At.GATEWAY_AFTER_DEAD_LETTER)),
    Row("gateway", "half the chunks acked", (At.GATEWAY_HALF_APPENDED,)),
    Row("gateway", "SIGTERM", storm="terminate"),
    Row(
        "gateway",
        "in its spill",
        (At.SPILL_AFTER_COMMIT, At.SPILL_BEFORE_APPEND, At.SPILL_AFTER_APPEND),
        elsewhere="tests/integration/test_spill.py",
    ),
    Row("broker", "before append; after append before ack; during group commit", storm="outage"),
    Row("worker", "before anything is sent", (At.WORKER_BEFORE_SEND,)),
    Row("worker", "claim durable, output not", (At.WORKER_CLAIM_DURABLE,)),
    Row("worker", "output durable, claim not", (At.WORKER_OUTPUT_DURABLE,)),
    Row("worker", "both durable, offset not", (At.WORKER_ALL_DURABLE,)),
    Row("worker", "during recovery", (At.WORKER_IN_RECOVERY,)),
    Row("worker", "rebalance with work in flight", storm="join"),
    Row("worker (zombie)", "frozen past its session, wakes behind the new owner", storm="freeze"),
    Row("lander", "before insert", (At.LANDER_AFTER_CONSUME, At.LANDER_AFTER_READBACK, At.LANDER_BEFORE_INSERT)),
    Row("lander", "during insert; between two parts of one insert", storm="kill"),
    Row("lander", "after insert before commit", (At.LANDER_AFTER_INSERT, At.LANDER_BEFORE_COMMIT)),
    Row("lander", "commit ack lost", (At.LANDER_AFTER_COMMIT,), storm="network"),
    Row(
        "ClickHouse",
        "reset mid-insert; down for minutes; restart",
        storm="freeze",
        elsewhere="tests/integration/test_lander.py",
    ),
    Row("dead-letter producer", "after send, before source ack", (At.LANDER_AFTER_DEAD_LETTER, At.WORKER_ALL_DURABLE)),
    Row(
        "archive writer",
        "before and after its file is there; after commit",
        (At.ARCHIVE_BEFORE_RENAME, At.ARCHIVE_AFTER_RENAME, At.ARCHIVE_AFTER_COMMIT),
        elsewhere="tests/integration/test_archive.py",
    ),
    Row(
        "headrace topics grow",
        "between any two of its steps",
        (At.GROW_AFTER_CREATE, At.GROW_AFTER_PUBLIC, At.GROW_AFTER_SWITCH, At.GROW_AFTER_REFUSAL, At.GROW_AFTER_SEAL),
        storm="grow",
    ),
    Row("everything", "SIGKILL of the whole tree", storm="everything"),
)
