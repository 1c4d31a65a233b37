"""`headrace up`: everything on this machine, until Ctrl-C."""

import asyncio
from typing import Annotated

import typer

from ops.output import ExitCode, fail, read_settings


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(rich_help_panel="Set up")
    def up(
        *,
        as_json: Annotated[bool, typer.Option("--json", help="Print one line of JSON when all is ready.")] = False,
    ) -> None:
        """Start broker, gateway, worker, lander and console on this machine, until Ctrl-C.

        Needs Java 17 or later, and Maven the first time. A part that dies is started again; all of
        them end with this process, however it ends. The data stays for the next start.

        Exit codes: 0 stopped by Ctrl-C or SIGTERM, 1 it could not start, 3 Java or Maven is missing.
        """
        from ops.stack.errors import MissingPartError, StackError
        from ops.stack.foreground import run

        settings = read_settings()
        try:
            asyncio.run(run(settings, as_json=as_json))
        except MissingPartError as error:
            fail(str(error), error.remedy, ExitCode.UNREACHABLE)
        except StackError as error:
            fail(str(error), error.remedy)
        except asyncio.CancelledError:
            fail("stopped before everything was ready; nothing is left running.")
