"""A unit taken out of the archive's files: each that holds it is made again without it."""

import asyncio
from collections.abc import Callable
from dataclasses import dataclass

from processors.erase import without_erased
from schemas.archive import Archive, ArchiveFile
from schemas.erasures import ErasureList


@dataclass
class Rewritten:
    """What was found: files that hold events of the unit, and how many."""

    files: int = 0
    events: int = 0


async def rewrite(
    archive: Archive, erasures: ErasureList, on_progress: Callable[[int, int], None], *, dry_run: bool
) -> Rewritten:
    """Make files again until none holds an event that was erased; only count them if `dry_run`.

    A file takes its own place whole or not at all, so it can be cut off and repeated. Files that are finished
    meanwhile are looked at too; those after them are made without the unit. Raises `ARCHIVE_ERRORS`.
    """
    found = Rewritten()
    seen: set[ArchiveFile] = set()
    while left := sorted(set(await asyncio.to_thread(archive.files)) - seen):
        for file in left:
            if events := await asyncio.to_thread(_rewrite, archive, file, erasures, dry_run=dry_run):
                found.files += 1
                found.events += events
            seen.add(file)
            on_progress(len(seen), len(seen | set(left)))
    return found


def _rewrite(archive: Archive, file: ArchiveFile, erasures: ErasureList, *, dry_run: bool) -> int:
    """Return how many events of a file were to go."""
    before = list(archive.read(file))
    after = [without_erased(record, erasures) for record in before]
    events = sum(len(new.erased) - len(old.erased) for old, new in zip(before, after, strict=True))
    if events and not dry_run:
        archive.write(file.place, after)
    return events
