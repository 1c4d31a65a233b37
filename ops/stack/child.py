"""Becomes the program it is given, which then ends when the stack ends, however that ends.

Run by path, before anything is imported: `python -I -S child.py <pid of the stack> <command…>`.
The kernel's parent-death signal survives the exec; setting it here rather than in a fork's
`preexec_fn` keeps Python out of a forked process that other threads' locks may have frozen.
"""

import ctypes
import os
import signal
import sys

_PR_SET_PDEATHSIG = 1


def main() -> None:
    """Tie this process to its parent, then become the command."""
    parent, command = int(sys.argv[1]), sys.argv[2:]
    if sys.platform == "linux":
        ctypes.CDLL(None, use_errno=True).prctl(_PR_SET_PDEATHSIG, signal.SIGKILL)
    if os.getppid() != parent:  # it ended before the tie was made
        sys.exit(1)
    os.execvp(command[0], command)  # noqa: S606  # becoming another program is the purpose


if __name__ == "__main__":
    main()
