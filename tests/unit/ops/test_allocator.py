"""Memory that is freed and needed again at once is not fetched from the kernel each time."""

import subprocess
import sys

import pytest

_BUFFERS = """
import resource, sys
from ops.processes.allocator import keep_freed_memory

if sys.argv[1] == "kept" and not keep_freed_memory():
    sys.exit("no mallopt")
def churn():
    for size in range(1 << 20, 3 << 20, 1 << 14):
        copies = [bytes(size) for _ in range(6)]
        del copies
churn()
before = resource.getrusage(resource.RUSAGE_SELF).ru_minflt
churn()
print(resource.getrusage(resource.RUSAGE_SELF).ru_minflt - before)
"""


def _faults(how: str) -> int:
    done = subprocess.run([sys.executable, "-c", _BUFFERS, how], capture_output=True, text=True, check=False)
    if done.stderr.strip() == "no mallopt":
        pytest.skip("the C library here has no mallopt: the setting is for the GNU C library")
    assert done.returncode == 0, done.stderr
    return int(done.stdout)


def test_buffers_are_made_of_memory_that_was_freed_before():
    assert _faults("kept") < 100
    assert _faults("default") > 10_000, "the C library keeps memory by itself: the setting is not needed any more"
