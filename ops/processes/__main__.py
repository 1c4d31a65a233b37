"""`python -m ops.processes <name>`: a process without the command line in front of it.

The local stack starts its children this way, because importing the command line costs them a
third of a second each.
"""

import sys
from importlib import import_module

from ops import settings

NAMES = ("gateway", "worker", "lander", "console", "store", "init")


def main() -> int:
    """Run the process that is named; return its exit code."""
    if len(sys.argv) != 2 or sys.argv[1] not in NAMES:
        sys.stderr.write(f"usage: python -m ops.processes {{{'|'.join(NAMES)}}}\n")
        return 2
    try:
        loaded = settings.load()
    except ValueError as error:
        sys.stderr.write(f"{error}\n")
        return 2
    return int(import_module(f"ops.processes.{sys.argv[1]}").run(loaded))


if __name__ == "__main__":
    sys.exit(main())
