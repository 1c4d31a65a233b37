"""How a driver is told what to do, and how it says what it did: JSON lines on its standard streams.

The first line is the job, every later one a command: `{"do": "all" | "events" | "gate" | "flush" | "stop", …}`.
"""

import json
import os
import sys
import threading
from collections.abc import Iterator
from typing import Any


class Lines:
    """The two ends of the pipe. Whatever the SDK prints goes to standard error."""

    def __init__(self) -> None:
        self._pipe = os.fdopen(os.dup(1), "wb", buffering=0)
        os.dup2(2, 1)
        self._lock = threading.Lock()
        self.job: dict[str, Any] = json.loads(sys.stdin.readline())

    def commands(self) -> Iterator[dict[str, Any]]:
        """Yield the commands, and answer each when it has been done; end when the test has gone."""
        self.say(did="start")
        for line in sys.stdin:
            command = json.loads(line)
            yield command
            self.say(did=command["do"])
            if command["do"] == "stop":
                return

    def say(self, **line: Any) -> None:
        """Say one thing. SDKs call from threads of their own."""
        with self._lock:
            self._pipe.write(json.dumps(line).encode() + b"\n")

    def exposed(self, kind: str, name: str, unit: str, rule: str, **more: Any) -> None:
        """Say that an exposure was logged."""
        self.say(exposed={"kind": kind, "name": name, "unit": unit, "rule": rule, **more})

    def logged(self, name: str, own_id: str, value: Any = None) -> None:
        """Say that a custom event was logged."""
        self.say(logged={"name": name, "own_id": own_id, "value": value})
