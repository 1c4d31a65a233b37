"""CPU time of processes, as the kernel accounts for it."""

import os
from dataclasses import dataclass
from pathlib import Path
from typing import Final

_TICKS_PER_S: Final = os.sysconf("SC_CLK_TCK")


def ticks(stat: str) -> int:
    """Return user and system time of a process with all its threads and its reaped children, from its `stat` line."""
    fields = stat.rpartition(")")[2].split()
    return sum(int(fields[index]) for index in (11, 12, 13, 14))


def busy_ticks(stat: str) -> int:
    """Return the ticks that all CPUs together were not idle, from /proc/stat; time stolen by other machines counts."""
    fields = [int(field) for field in stat.splitlines()[0].split()[1:9]]
    idle, iowait = fields[3], fields[4]
    return sum(fields) - idle - iowait


@dataclass(frozen=True)
class Reading:
    """CPU seconds spent until now: by each named process, and by the whole machine."""

    seconds: dict[str, float]
    machine: float

    def since(self, before: "Reading") -> "Reading":
        """Return what was spent between two readings; a process that was not there before counts from 0."""
        spent = {name: value - before.seconds.get(name, 0.0) for name, value in self.seconds.items()}
        return Reading(spent, self.machine - before.machine)


def read(pids: dict[str, int]) -> Reading:
    """Read the clocks of processes by name. Raises OSError when one is gone."""
    seconds = {name: ticks(Path(f"/proc/{pid}/stat").read_text()) / _TICKS_PER_S for name, pid in pids.items()}
    return Reading(seconds, busy_ticks(Path("/proc/stat").read_text()) / _TICKS_PER_S)
