"""The command `headrace`."""

from importlib import import_module
from importlib.metadata import version
from pkgutil import iter_modules
from typing import Annotated

import typer

from ops import commands, logs

app = typer.Typer(
    name="headrace",
    help="The open event pipeline for experimentation: exposures landed exactly once, and auditable.\n\n"
    "Start with [bold]headrace up[/bold] (everything on this machine) or [bold]headrace demo[/bold] "
    "(the same, with a real SDK sending). Settings are HEADRACE_* variables or headrace.toml.\n\n"
    "Exit codes: 0 done, 1 what was asked for failed, 2 wrong argument or setting, "
    "3 a part is missing or cannot be reached.",
    no_args_is_help=True,
    add_completion=False,
    rich_markup_mode="rich",
    pretty_exceptions_show_locals=False,  # locals may hold keys
    context_settings={"help_option_names": ["-h", "--help"]},
)


def _print_version(asked: bool) -> None:
    if asked:
        typer.echo(f"headrace {version('headrace')}")
        raise typer.Exit


@app.callback()
def headrace(
    _version: Annotated[
        bool, typer.Option("--version", callback=_print_version, is_eager=True, help="Print the version and exit.")
    ] = False,
) -> None:
    """Keep libraries' logs out of what a command prints; a process turns them on again."""
    logs.configure("critical")


for _module in sorted(info.name for info in iter_modules(commands.__path__)):
    import_module(f"{commands.__name__}.{_module}").register(app)


def main() -> None:
    """Run the command that the arguments name."""
    app()


if __name__ == "__main__":
    main()
