"""Named places at which a test can end a process as a power cut would.

`HEADRACE_CRASH_AT=lander.after_insert` ends the process by SIGKILL the first time it gets there;
`HEADRACE_CRASH_AT=lander.after_insert:3` the third time. Unset, `reach` costs one comparison.
"""

import os
import signal
from enum import StrEnum
from typing import Final

VARIABLE: Final = "HEADRACE_CRASH_AT"


class CrashPoint(StrEnum):
    """Every place there is. The crash matrix of the tests goes over this list."""

    GATEWAY_BEFORE_APPEND = "gateway.before_append"
    GATEWAY_AFTER_APPEND = "gateway.after_append"
    GATEWAY_HALF_APPENDED = "gateway.half_appended"
    GATEWAY_AFTER_DEAD_LETTER = "gateway.after_dead_letter"
    WORKER_IN_RECOVERY = "worker.in_recovery"
    WORKER_BEFORE_SEND = "worker.before_send"
    WORKER_CLAIM_DURABLE = "worker.claim_durable"
    WORKER_OUTPUT_DURABLE = "worker.output_durable"
    WORKER_ALL_DURABLE = "worker.all_durable"
    SPILL_AFTER_COMMIT = "spill.after_commit"
    SPILL_BEFORE_APPEND = "spill.before_append"
    SPILL_AFTER_APPEND = "spill.after_append"
    LANDER_AFTER_CONSUME = "lander.after_consume"
    LANDER_AFTER_READBACK = "lander.after_readback"
    LANDER_BEFORE_INSERT = "lander.before_insert"
    LANDER_AFTER_INSERT = "lander.after_insert"
    LANDER_AFTER_DEAD_LETTER = "lander.after_dead_letter"
    LANDER_BEFORE_COMMIT = "lander.before_commit"
    LANDER_AFTER_COMMIT = "lander.after_commit"
    ARCHIVE_BEFORE_RENAME = "archive.before_rename"
    ARCHIVE_AFTER_RENAME = "archive.after_rename"
    ARCHIVE_AFTER_COMMIT = "archive.after_commit"
    GROW_AFTER_CREATE = "grow.after_create"
    GROW_AFTER_PUBLIC = "grow.after_public"
    GROW_AFTER_SWITCH = "grow.after_switch"
    GROW_AFTER_REFUSAL = "grow.after_refusal"
    GROW_AFTER_SEAL = "grow.after_seal"


class _Armed:
    def __init__(self, setting: str) -> None:
        name, _, times = setting.partition(":")
        self.point = CrashPoint(name)
        self.left = int(times or 1)


_armed: Final = _Armed(os.environ[VARIABLE]) if os.environ.get(VARIABLE) else None


def armed() -> CrashPoint | None:
    """Return the point at which this process is to die, for what a test must bring about before."""
    return None if _armed is None else _armed.point


def reach(point: CrashPoint) -> None:
    """Die here if a test asked for it. Does nothing otherwise."""
    if _armed is None or _armed.point is not point:
        return
    _armed.left -= 1
    if _armed.left == 0:
        os.kill(os.getpid(), signal.SIGKILL)
