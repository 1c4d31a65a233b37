"""The records of the topic `replays`."""

from typing import Final

import typer

from ops.ask_kafka import ask
from ops.kafka import read_compacted
from ops.settings import Settings
from schemas.kafka import KafkaConnection
from schemas.replays import ReplayRecord, ReplayRecordError, decode
from schemas.topics import REPLAYS

_CLOCKS_MS: Final = 3600 * 1000


def history(settings: Settings) -> list[ReplayRecord]:
    """Return every replay, oldest first; exit with cause and remedy when Kafka cannot be asked."""
    found = []
    for key, value in ask(settings, REPLAYS, read_compacted(settings.kafka, REPLAYS)).items():
        try:
            found.append(decode(value))
        except ReplayRecordError as error:
            typer.echo(f"{key!r}: {error}", err=True)
    return sorted(found, key=lambda record: record.started_at)


async def first_ms(kafka: KafkaConnection) -> int | None:
    """Return a time before the first replay of dead letters there ever was, None when there was none.

    An hour before, for the clocks of who replays and of who refuses may differ. Raises TimeoutError.
    """
    started = []
    for value in (await read_compacted(kafka, REPLAYS)).values():
        try:
            started.append(decode(value).started_at)
        except ReplayRecordError:
            return 0
    return max(0, min(started) - _CLOCKS_MS) if started else None


def replay_called(settings: Settings, replay_id: str) -> ReplayRecord | None:
    """Return a replay by its id, None where there is none."""
    return next((record for record in history(settings) if record.id == replay_id), None)
