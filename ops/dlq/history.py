"""The records of the topic `replays`."""

import typer

from ops.ask_kafka import ask
from ops.kafka import read_compacted
from ops.settings import Settings
from schemas.replays import ReplayRecord, ReplayRecordError, decode
from schemas.topics import REPLAYS


def history(settings: Settings) -> list[ReplayRecord]:
    """Return every replay, oldest first; exit with cause and remedy when Kafka cannot be asked."""
    found = []
    for key, value in ask(settings, REPLAYS, read_compacted(settings.kafka, REPLAYS)).items():
        try:
            found.append(decode(value))
        except ReplayRecordError as error:
            typer.echo(f"{key!r}: {error}", err=True)
    return sorted(found, key=lambda record: record.started_at)


def replay_called(settings: Settings, replay_id: str) -> ReplayRecord | None:
    """Return a replay by its id, None where there is none."""
    return next((record for record in history(settings) if record.id == replay_id), None)
