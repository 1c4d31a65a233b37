"""`headrace up`."""

import asyncio

import typer

from ops.output import read_settings
from ops.stack.local import LocalStack


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(rich_help_panel="Set up")
    def up(only: str = "") -> None:
        settings = read_settings()

        async def main() -> None:
            async with LocalStack(settings, print, only.split(",") if only else None):
                await asyncio.Event().wait()

        asyncio.run(main())
