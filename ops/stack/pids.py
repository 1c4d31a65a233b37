"""Processes named so that a recycled number is never mistaken for them."""

import os
import signal
import subprocess
import sys
import time
from pathlib import Path
from typing import NamedTuple

_POLL_S = 0.02


class ProcessId(NamedTuple):
    """A process: its number, and when it started in the kernel's own words."""

    pid: int
    started_at: str

    @property
    def is_alive(self) -> bool:
        """Whether this very process still runs; one that has ended and was not waited for does not."""
        return start_of(self.pid) == self.started_at


def start_of(pid: int) -> str:
    """Return when `pid` started, "" when there is no such process."""
    if sys.platform != "linux":
        asked = subprocess.run(["ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False)
        return asked.stdout.strip()
    try:
        stat = Path(f"/proc/{pid}/stat").read_text("utf-8", "replace")
    except OSError:
        return ""
    # The name is in parentheses and may hold anything; what follows the last one is plain.
    fields = stat.rpartition(")")[2].split()
    state, ticks = fields[0], fields[19]
    return "" if state in ("Z", "X") else f"{_boot_id()}:{ticks}"


def _boot_id() -> str:
    return Path("/proc/sys/kernel/random/boot_id").read_text("ascii").strip()


def identify(pid: int) -> ProcessId:
    """Return the process that has this number now."""
    return ProcessId(pid, start_of(pid))


def end(process: ProcessId, grace_s: float) -> bool:
    """End a process that is not a child: SIGTERM, SIGKILL after `grace_s`. Blocks until it is gone.

    Returns False when it was not running (any more), or is not ours to end.
    """
    for number in (signal.SIGTERM, signal.SIGKILL):
        if not _signalled(process, number):
            return number == signal.SIGKILL
        until = time.monotonic() + grace_s
        while process.is_alive and time.monotonic() < until:
            time.sleep(_POLL_S)
    return not process.is_alive


def _signalled(process: ProcessId, number: signal.Signals) -> bool:
    if not process.is_alive:
        return False
    try:
        os.kill(process.pid, number)
    except OSError:
        return False
    return True
