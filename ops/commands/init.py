"""`headrace init`: bring store and topics to what this version needs."""

from typing import Annotated

import typer

from ops.output import ExitCode, fail, print_json, read_settings

_PATIENCE_S = 15


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(rich_help_panel="Set up")
    def init(*, as_json: Annotated[bool, typer.Option("--json", help="Print the log record as JSON.")] = False) -> None:
        """Apply the store's migrations and create the topics. Repeating it changes nothing.

        `headrace up` does it by itself; run it where Kafka and ClickHouse are your own.
        """
        import msgspec

        from ops.processes.init import INIT_ERRORS, initialise, remedy_of
        from ops.topics import TopicsError
        from schemas.migrations import ChangedMigrationError

        settings = read_settings()
        try:
            record = initialise(settings, _PATIENCE_S)
        except INIT_ERRORS as error:
            is_refusal = isinstance(error, (TopicsError, ChangedMigrationError))
            code = ExitCode.FAILED if is_refusal else ExitCode.UNREACHABLE
            fail(str(error) or repr(error), remedy_of(error), code)
        if as_json:
            print_json(msgspec.to_builtins(record))
        else:
            typer.echo(f"Store and topics are ready: log {record.log}, {record.partitions} partitions.")
