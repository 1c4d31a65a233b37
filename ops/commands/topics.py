"""`headrace topics`: the topics of the log, and giving them more partitions."""

import asyncio
import time
from typing import Annotated, Any, Final

import typer
from rich.console import Console

from ops.output import ExitCode, fail, print_json, read_settings

_POLL_S: Final = 0.5
_STANDSTILL_S: Final = 60.0


def register(app: typer.Typer) -> None:
    """Add the commands."""
    topics = typer.Typer(help="The topics of the log: give them more partitions.", no_args_is_help=True)
    app.add_typer(topics, name="topics", rich_help_panel="Set up")

    @topics.command()
    def grow(
        partitions: Annotated[int, typer.Option(min=1, max=1024, help="How many there are to be.")],
        *,
        wait: Annotated[bool, typer.Option(help="Wait until workers have drained the old log.")] = True,
        as_json: Annotated[bool, typer.Option("--json", help="Print the new log as JSON.")] = False,
    ) -> None:
        """Give the log more partitions: a new log, to which gateways switch; workers drain the old one first.

        Nothing stops, and nothing is lost or doubled. Call it again after it was cut off: it goes on where it
        was. A multiple of the present number costs the least memory: see docs/partitions.md.

        Exit codes: 1 it cannot be, or the old log is not being drained; 2 wrong argument; 3 Kafka cannot be
        reached.
        """
        import msgspec
        from aiokafka.errors import KafkaError

        from ops.topics import TopicsError

        settings = read_settings()
        remedy = "Start Kafka, or correct HEADRACE_KAFKA_BOOTSTRAP, and call it again: it goes on where it was."
        try:
            record, left = asyncio.run(_grow(settings.kafka, partitions, wait=wait))
        except TopicsError as error:
            fail(str(error), error.remedy)
        except (KafkaError, TimeoutError, OSError) as error:
            fail(str(error) or repr(error), remedy, ExitCode.UNREACHABLE)
        if as_json:
            print_json({**msgspec.to_builtins(record), "drained": left == 0})
        elif left and not wait:
            typer.echo(f"Log {record.log} ({record.topic}) takes events; log {record.after} is processed before it.")
        else:
            typer.echo(f"Log {record.log} ({record.topic}) has {record.partitions} partitions.")
        if left and wait:
            fail(
                f"Log {record.after} is not drained: {left:,} records to go, and nothing moves.",
                "See that workers run. Events are taken meanwhile; calling it again waits on.",
            )


async def _grow(kafka: Any, partitions: int, *, wait: bool) -> tuple[Any, int]:
    """Return the new log, and how much of the old one is left."""
    from ops.grow import grow, undrained

    with Console(stderr=True).status("asking Kafka") as status:
        record = await grow(kafka, partitions, status.update)
        left = least = await undrained(kafka, record)
        moved_s = time.monotonic()
        while wait and left and time.monotonic() - moved_s < _STANDSTILL_S:
            status.update(f"log {record.after} is being drained: {left:,} records to go")
            await asyncio.sleep(_POLL_S)
            left = await undrained(kafka, record)
            if left < least:
                least, moved_s = left, time.monotonic()
    return record, left
