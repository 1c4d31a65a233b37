"""`/api/dead-letters/dry-run`: what would become of a replay, as the command `dlq replay --dry-run` says it.

The stages belong to other packages, so the command runs as a child: one at a time, bounded in time and
output, its arguments a list of filters of a closed set.
"""

import asyncio
from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any, Final

import orjson
import structlog
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route

from console.answers import JSON, RefusedError, json_answer
from schemas.limits import KIB, MIB

log = structlog.get_logger()

FILTERS: Final = ("reason", "stage", "project", "environment", "event", "sdk", "code", "since", "until")
LIMIT_MAX: Final = 100_000
LIMIT: Final = 10_000

_VALUE_CHARS_MAX: Final = 500
_BODY_MAX: Final = 16 * KIB
_OUTPUT_MAX: Final = 4 * MIB
_USAGE: Final = 2


@dataclass(frozen=True)
class Command:
    """How the command line is called, with what in its environment; and how long it may take."""

    words: Sequence[str] = ()
    environment: Mapping[str, str] = field(default_factory=dict)
    time_s: float = 60.0


def arguments(body: Any) -> list[str]:
    """Return the command's arguments for a request's filters. Raises RefusedError (400)."""
    if not isinstance(body, dict) or (unknown := set(body) - {*FILTERS, "limit", "parked"}):
        what = f"There is no filter {min(unknown)[:40]!r}." if isinstance(body, dict) else "The body is no object."
        raise RefusedError(400, "unknown_filter", what, f"There are {', '.join(FILTERS)}, limit, parked.")
    found = ["dlq", "replay", "--dry-run", "--json"]
    for name in FILTERS:
        values = body.get(name, "")
        for value in values if isinstance(values, list) else [values]:
            if not isinstance(value, str) or len(value) > _VALUE_CHARS_MAX or "\0" in value:
                raise RefusedError(400, "bad_filter", f"The filter {name} is no short text.", "Write it as text.")
            if value:
                found.append(f"--{name}={value}")  # in one word, so that no value can be an option
    if not any(each.startswith(tuple(f"--{name}=" for name in FILTERS)) for each in found):
        found.append("--all")
    limit = body.get("limit", LIMIT)
    if isinstance(limit, bool) or not isinstance(limit, int) or not 1 <= limit <= LIMIT_MAX:
        raise RefusedError(400, "bad_limit", "limit is not understood.", f"Give a number from 1 to {LIMIT_MAX}.")
    found.append(f"--limit={limit}")
    if body.get("parked") is True:
        found.append("--parked")
    return found


class Rehearsal:
    """Runs the command."""

    def __init__(self, command: Command) -> None:
        self._command = command
        self._is_running = False

    async def show(self, request: Request) -> Response:
        """Answer a request."""
        asked = arguments(await _body_of(request))
        if not self._command.words:
            raise RefusedError(503, "no_command", "This console cannot run the command.", "Run it in a terminal.")
        if self._is_running:
            raise RefusedError(503, "busy", "A dry run is under way.", "Try again when it has ended.")
        self._is_running = True
        try:
            return json_answer({"arguments": asked, **await self._run(asked)})
        finally:
            self._is_running = False

    async def _run(self, asked: list[str]) -> dict[str, Any]:
        process = await asyncio.create_subprocess_exec(
            *self._command.words,
            *asked,
            stdin=asyncio.subprocess.DEVNULL,
            stdout=asyncio.subprocess.PIPE,
            stderr=asyncio.subprocess.PIPE,
            env=dict(self._command.environment),
            limit=_OUTPUT_MAX,
        )
        assert process.stdout is not None
        assert process.stderr is not None
        try:
            async with asyncio.timeout(self._command.time_s):
                said, complaint = await asyncio.gather(_read(process.stdout), _read(process.stderr))
                code = await process.wait()
        except TimeoutError:
            remedy = "Narrow the filters, or run `headrace dlq replay --dry-run` in a terminal."
            raise RefusedError(408, "took_too_long", "The dry run took too long.", remedy) from None
        finally:
            if process.returncode is None:
                process.kill()
                await process.wait()
        if code:
            raise _refusal(code, complaint)
        forecast: dict[str, Any] = orjson.loads(said)
        return forecast


async def _read(stream: asyncio.StreamReader) -> bytes:
    """Read to the end, and keep no more than is allowed."""
    kept = bytearray()
    while piece := await stream.read(64 * KIB):
        kept += piece[: _OUTPUT_MAX - len(kept)]
    return bytes(kept)


def _refusal(code: int, complaint: bytes) -> RefusedError:
    lines = complaint.decode("utf-8", "replace").strip().splitlines()
    first = next((at for at, line in enumerate(lines) if line.startswith("error:")), None)
    if first is None:
        log.error("dry_run_failed", exit_code=code, said=complaint[-2000:].decode("utf-8", "replace"))
        return RefusedError(503, "failed", "The dry run failed.", "The console's log says why.")
    message = lines[first].removeprefix("error:").strip()
    remedy = lines[first + 1].strip() if len(lines) > first + 1 else ""
    return RefusedError(400 if code == _USAGE else 503, "dry_run_refused", message, remedy)


async def _body_of(request: Request) -> Any:
    if request.headers.get("content-type", "").partition(";")[0].strip() != JSON:
        raise RefusedError(400, "not_json", "The filters are sent as JSON.", f"Set Content-Type: {JSON}.")
    received = bytearray()
    async for piece in request.stream():
        received += piece
        if len(received) > _BODY_MAX:
            raise RefusedError(413, "body_too_large", "The filters are too long.", "Name fewer.")
    try:
        return orjson.loads(bytes(received))
    except orjson.JSONDecodeError as error:
        raise RefusedError(400, "not_json", f"The body is no JSON: {error}.", "Correct it.") from error


def routes(command: Command) -> list[Route]:
    """Return the routes of this surface."""
    return [Route("/api/dead-letters/dry-run", Rehearsal(command).show, methods=["POST"])]
