"""Running `headrace` as a user does, in this process."""

import pytest
from click.testing import Result
from typer.testing import CliRunner

from ops.cli import app
from schemas.kafka import KafkaConnection


class Headrace:
    """The command line with some settings."""

    def __init__(self, patch: pytest.MonkeyPatch) -> None:
        self._patch = patch

    def at(self, connection: KafkaConnection) -> "Headrace":
        """Let commands talk to this broker."""
        self._patch.setenv("HEADRACE_KAFKA_BOOTSTRAP", connection.bootstrap)
        return self

    def __call__(self, *arguments: str, stdin: str | bytes = "") -> Result:
        """Run a command; its exit code, stdout and stderr are in the result."""
        return CliRunner().invoke(app, list(arguments), input=stdin)
