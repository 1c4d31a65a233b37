"""Which events were sent and which acknowledged, in a file that an exact check can read.

A line per step, written before the step: `{"run":…,"batch":…}`, `{"sent":[number,events]}`,
`{"acked":[number,events]}`. The ids of a request follow from its number.
"""

from pathlib import Path
from typing import BinaryIO

import orjson


def event_id(run: str, number: int, place: int) -> str:
    """Return the `load_id` of the event at `place` of request `number`."""
    return f"{run}-{number:09d}{place:03d}"


class LedgerWriter:
    """Writes the file. Raises OSError when it cannot."""

    def __init__(self, path: Path, run: str, batch: int) -> None:
        self._file: BinaryIO = path.open("wb", buffering=0)
        self._write({"run": run, "batch": batch})

    def sent(self, number: int, events: int) -> None:
        """Say that a request is about to be sent for the first time."""
        self._write({"sent": [number, events]})

    def acked(self, number: int, events: int) -> None:
        """Say that a request was acknowledged."""
        self._write({"acked": [number, events]})

    def close(self) -> None:
        """Close the file."""
        self._file.close()

    def _write(self, line: dict[str, object]) -> None:
        self._file.write(orjson.dumps(line, option=orjson.OPT_APPEND_NEWLINE))


class Ledger:
    """What a file says: the ids that were sent and those that were acknowledged."""

    def __init__(self, path: Path) -> None:
        self.run = ""
        self.sent: set[str] = set()
        self.acked: set[str] = set()
        for line in path.read_bytes().splitlines(keepends=True):
            if not line.endswith(b"\n"):
                break  # the writer was killed in this line: it did not take the step
            entry = orjson.loads(line)
            self.run = entry.get("run", self.run)
            for step, ids in (("sent", self.sent), ("acked", self.acked)):
                if step in entry:
                    number, events = entry[step]
                    ids.update(event_id(self.run, number, place) for place in range(events))
