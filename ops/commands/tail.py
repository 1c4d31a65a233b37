"""`headrace tail`: exposures in the terminal as they happen."""

import sys
import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Annotated, Any, Final

import httpx
import orjson
import typer
from rich.console import Console
from rich.text import Text

from ops.console_client import client_of, printable, refused
from ops.output import ExitCode, fail, read_settings
from ops.settings import Settings

_QUIET_S: Final = 25.0
"""The stream sends a heartbeat every 10 s; silence for longer is a connection that is dead."""

_RETRY_S: Final = 1.0
_ARM_STYLES: Final = ("cyan", "yellow", "magenta", "green", "blue", "red")


def register(app: typer.Typer) -> None:
    """Add the command."""

    @app.command(rich_help_panel="Look")
    def tail(
        experiment: Annotated[str, typer.Option(help="Only this experiment, through its layer too.")] = "",
        gate: Annotated[str, typer.Option(help="Only this gate.")] = "",
        layer: Annotated[str, typer.Option(help="Only this layer.")] = "",
        name: Annotated[str, typer.Option(help="Only what is called so, of any kind.")] = "",
        kind: Annotated[str, typer.Option(help="Only experiment, gate, layer or dynamic_config.")] = "",
        outcome: Annotated[str, typer.Option(help="Only accepted, duplicate or rejected.")] = "",
        reason: Annotated[str, typer.Option(help="Only what was rejected for this reason.")] = "",
        tier: Annotated[str, typer.Option(help="Only this tier; `*` is all of them.")] = "production",
        environment: Annotated[str, typer.Option(help="Only this environment (that of the key).")] = "",
        unit: Annotated[str, typer.Option(help="Only this unit.")] = "",
        group: Annotated[str, typer.Option(help="Only this arm.")] = "",
        sdk: Annotated[str, typer.Option(help="Only this SDK type.")] = "",
        config_match: Annotated[str, typer.Option(help="exact, by_time, stale, unknown_config or unknown_rule.")] = "",
        rate: Annotated[float, typer.Option(min=0, help="Show at most so many a second, fairly chosen; 0: all.")] = 0,
        recent: Annotated[int, typer.Option(min=0, max=500, help="Begin with the last few.")] = 0,
        stop_after: Annotated[int, typer.Option("-n", "--stop-after", min=0, help="Stop after so many; 0: never.")] = 0,
        as_json: Annotated[bool, typer.Option("--json", help="One JSON object a line.")] = False,
    ) -> None:
        """Follow exposures live, until Ctrl-C or -n: those accepted, duplicates, and those rejected with their reasons.

        Filters take several values with commas between, and `*` for any text. Connects again by itself and
        goes on where it was. Exit codes: 1 the filter was refused, 3 the console cannot be reached at the start.
        """
        asked = {
            "experiment": experiment, "gate": gate, "layer": layer, "name": name, "kind": kind, "outcome": outcome,
            "reason": reason, "tier": tier, "environment": environment, "unit": unit, "group": group, "sdk": sdk,
            "config_match": config_match,
        }  # fmt: skip
        query = {key: value for key, value in asked.items() if value} | {"rate": f"{rate:g}", "recent": str(recent)}
        show = _print_json if as_json else _print_line
        shown = 0
        try:
            for exposure in follow(read_settings(), query):
                show(exposure)
                shown += 1
                if shown == stop_after:
                    return
        except KeyboardInterrupt:
            raise typer.Exit(ExitCode.OK) from None
        except BrokenPipeError:
            sys.stderr.close()  # nobody reads any more; Python would complain about it at its end
            raise typer.Exit(ExitCode.OK) from None


@dataclass
class Messages:
    """Puts the lines of a stream of server-sent events together to messages."""

    last_id: str = ""
    _event: str = ""
    _data: list[str] = field(default_factory=list)

    def take(self, line: str) -> tuple[str, str] | None:
        """Take a line; return (event, data) when it ends a message."""
        if not line:
            event, data = self._event, "\n".join(self._data)
            self._event, self._data = "", []
            return (event or "message", data) if data else None
        name, _, value = line.partition(":")
        value = value.removeprefix(" ")
        if name == "id":
            self.last_id = value
        elif name == "event":
            self._event = value
        elif name == "data":
            self._data.append(value)
        return None


def follow(settings: Settings, query: dict[str, str]) -> Iterator[dict[str, Any]]:
    """Yield exposures for ever. Exits when the console refuses, or cannot be reached at the start."""
    messages = Messages()
    was_connected = False
    with client_of(settings, _QUIET_S) as client:
        while True:
            try:
                headers = {"last-event-id": messages.last_id} if messages.last_id else {}
                with client.stream("GET", "/api/exposures/stream", params=query, headers=headers) as answer:
                    if answer.status_code >= httpx.codes.INTERNAL_SERVER_ERROR and was_connected:
                        raise httpx.RemoteProtocolError(f"the console answered {answer.status_code}")
                    if answer.status_code != httpx.codes.OK:
                        refused(answer.status_code, answer.read())
                    was_connected = True
                    for line in answer.iter_lines():
                        if message := messages.take(line):
                            yield from _exposure(*message)
                note = "the console ended the stream"
            except httpx.TransportError as error:
                if not was_connected:
                    fail(
                        f"the console at {settings.console_address} does not answer ({type(error).__name__}).",
                        "Start it with `headrace up`, or set HEADRACE_CONSOLE_URL or HEADRACE_CONSOLE_PORT.",
                        ExitCode.UNREACHABLE,
                    )
                note = f"lost the console ({type(error).__name__})"
            _note(f"{note}; connecting again")
            time.sleep(_RETRY_S)


def _exposure(event: str, data: str) -> Iterator[dict[str, Any]]:
    """Yield the exposure that a message holds; say what others tell on standard error."""
    body = orjson.loads(data)
    if event == "exposure":
        yield body
    elif event == "tally" and body["missed"]:
        _note(f"{body['missed']:,} exposures were missed; narrow the filter or use --rate")
    elif event == "status" and body["state"] == "waiting":
        _note(f"the log cannot be read: {body['message']}; waiting")


def _note(text: str) -> None:
    Console(stderr=True, highlight=False).print(Text(text, style="yellow"))


def _print_json(exposure: dict[str, Any]) -> None:
    sys.stdout.buffer.write(orjson.dumps(exposure) + b"\n")
    sys.stdout.buffer.flush()


def _print_line(exposure: dict[str, Any]) -> None:
    arm = exposure["group_name"] or exposure["value"] or exposure["rule_id"] or "–"
    style = _ARM_STYLES[sum(arm.encode()) % len(_ARM_STYLES)]
    is_rejected, is_copy = exposure["outcome"] == "rejected", exposure["outcome"] == "duplicate"
    why = printable(f"  rejected at {exposure['rejected_at']}: {exposure['rejected_for']}") if is_rejected else ""
    line = Text.assemble(
        (f"{exposure['received_at'][11:23]}  ", "dim"),
        (f"{exposure['kind']:<15}", "dim"),
        (f"{printable(exposure['name']):<28} ", "red" if is_rejected else "dim" if is_copy else "bold"),
        (f"{printable(arm):<18} ", style),
        f"{printable(exposure['unit_id']):<24} ",
        (printable(exposure["sdk_type"]), "dim"),
        (f"  {printable(exposure['tier'])}" if exposure["tier"] not in ("", "production") else "", "yellow"),
        ("  duplicate", "dim") if is_copy else "",
        (why, "red"),
    )
    Console(highlight=False, soft_wrap=True).print(line)
