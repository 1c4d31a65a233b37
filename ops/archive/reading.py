"""Which files of the archive a replay reads, from one claims window before its span to the end."""

from bisect import bisect_left
from collections.abc import Iterator
from itertools import groupby
from typing import NamedTuple

from schemas.archive import Archive, ArchivedRecord, ArchiveFile, Place, covered


class Reading(NamedTuple):
    """Files of one partition of one log, in order, each with the first offset to take from it."""

    place: Place
    files: list[tuple[ArchiveFile, int]]
    is_warm: bool
    """Whether they reach back to what was asked for, or to the beginning of the log."""

    @property
    def name(self) -> str:
        """By which progress is told."""
        return f"archive/{self.place.log}/{self.place.partition}"

    @property
    def end(self) -> int:
        """The offset behind the last record."""
        return self.files[-1][0].last + 1 if self.files else 0

    @property
    def records(self) -> int:
        """How many records there are to read."""
        return sum(file.last + 1 - first for file, first in self.files)


def readings(archive: Archive, from_ms: int) -> list[Reading]:
    """Return what there is of each partition that was appended at `from_ms` or later.

    Raises ArchiveGapError where records are missing between two files, and what reading the archive raises.
    """
    found = []
    for place, files in groupby(archive.files(), key=lambda file: file.place):
        every = list(covered(files))
        # The broker's clock runs on but for steps of seconds: one file more makes up for those.
        at = bisect_left(every, from_ms, key=lambda one: archive.append_times(one[0])[1])
        at = max(0, at - 1)
        first = every[at][1]
        is_warm = first == 0 or archive.append_times(every[at][0])[0] <= from_ms
        found.append(Reading(place, every[at:], is_warm))
    return found


def records(archive: Archive, reading: Reading) -> Iterator[ArchivedRecord]:
    """Yield every record of a reading once, in order. Raises what reading the archive raises."""
    for file, first in reading.files:
        for record in archive.read(file):
            if record.offset >= first:
                yield record
