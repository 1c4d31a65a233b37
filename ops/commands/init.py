"""`headrace init`: bring store and topics to what this version needs."""

from typing import Annotated

import msgspec
import typer
from aiokafka.errors import KafkaError
from clickhouse_connect.driver.exceptions import Error as StoreError

from ops.output import ExitCode, fail, print_json, read_settings
from ops.processes.init import initialise
from ops.topics import TopicsError
from schemas.migrations import ChangedMigrationError

_PATIENCE_S = 15


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(rich_help_panel="Set up")
    def init(*, as_json: Annotated[bool, typer.Option("--json", help="Print the log record as JSON.")] = False) -> None:
        """Apply the store's migrations and create the topics. Repeating it changes nothing.

        `headrace up` does it by itself; run it where Kafka and ClickHouse are your own.
        """
        settings = read_settings()
        try:
            record = initialise(settings, _PATIENCE_S)
        except TopicsError as error:
            fail(str(error), error.remedy)
        except ChangedMigrationError as error:
            fail(str(error), "Install the version of headrace that this store was made with, or a later one.")
        except (TimeoutError, KafkaError, OSError) as error:
            fail(str(error), "Start Kafka, or correct HEADRACE_KAFKA_BOOTSTRAP.", ExitCode.UNREACHABLE)
        except StoreError as error:
            fail(
                f"The store cannot be used: {error}",
                "Correct HEADRACE_CLICKHOUSE, or stop the stack that holds HEADRACE_DATA_DIR.",
                ExitCode.UNREACHABLE,
            )
        if as_json:
            print_json(msgspec.to_builtins(record))
        else:
            typer.echo(f"Store and topics are ready: log {record.log}, {record.partitions} partitions.")
