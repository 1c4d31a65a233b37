"""What every command prints: tables for people, JSON for machines, errors that name the remedy."""

import sys
from enum import IntEnum
from typing import Any, Final, NoReturn

import orjson
import typer

from ops import settings as settings_module
from ops.settings import Settings


class ExitCode(IntEnum):
    """What a command's exit status means."""

    OK = 0
    FAILED = 1
    """The thing that was asked for did not succeed."""
    USAGE = 2
    """A wrong argument or setting."""
    UNREACHABLE = 3
    """A part is missing or cannot be reached."""


ERROR_LABEL: Final = "error:"


def fail(message: str, remedy: str = "", code: int = ExitCode.FAILED) -> NoReturn:
    """Print one sentence that says what is wrong and one that says what to do, then exit with `code`."""
    typer.secho(ERROR_LABEL, fg="red", bold=True, err=True, nl=False)
    typer.echo(f" {message}", err=True)
    if remedy:
        typer.echo(f"  {remedy}", err=True)
    raise typer.Exit(int(code))


def print_json(value: Any, *, pretty: bool = False) -> None:
    """Print `value` as JSON on standard output: one line, or indented when `pretty`."""
    option = orjson.OPT_APPEND_NEWLINE | (orjson.OPT_INDENT_2 if pretty else 0)
    sys.stdout.write(orjson.dumps(value, option=option, default=str).decode())
    sys.stdout.flush()


def read_settings() -> Settings:
    """Return the settings, or exit with `ExitCode.USAGE` and a line per setting that is wrong."""
    try:
        return settings_module.load()
    except ValueError as error:
        fail(str(error), "Correct the variable, or the entry in headrace.toml.", ExitCode.USAGE)
