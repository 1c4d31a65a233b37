"""A lander that commits a batch and then inserts it."""

import sys
from typing import Any

from ops.processes.__main__ import main
from processors.lander import Lander

_land = Lander._land


async def commit_and_land(self: Lander, gathered: Any, assignment: int) -> None:
    await self._commit(gathered.next_offsets(), assignment)
    await _land(self, gathered, assignment)


if __name__ == "__main__":
    Lander._land = commit_and_land
    sys.exit(main())
