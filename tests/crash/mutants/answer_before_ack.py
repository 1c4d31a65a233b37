"""A gateway that answers 202 when it has the events in memory."""

import asyncio
import sys
from typing import Any

from ingest.linger import Ticket
from ingest.log_events import LogEvents, Taken
from ops.processes.__main__ import main

_put = LogEvents._put


def put(self: LogEvents, *arguments: Any) -> Taken:
    settled = asyncio.get_running_loop().create_future()
    settled.set_result(True)
    return _put(self, *arguments)._replace(ticket=Ticket(settled, 0, 0.0))


if __name__ == "__main__":
    LogEvents._put = put
    sys.exit(main())
