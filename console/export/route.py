"""`/api/export/exposures`: rows of a span of time as one file, sent while they are read."""

import asyncio
import time
from collections.abc import AsyncIterator
from typing import Any, Final

import structlog
from starlette.requests import Request
from starlette.responses import Response, StreamingResponse
from starlette.routing import Route

from console.answers import RefusedError
from console.export.encode import ENGINE_FORMATS, MEDIA_TYPES, encoder_of
from console.export.span import STEP_S, Piece, moment_s, pieces
from console.questions import iso_s, rows
from console.store_pool import Profile, StorePool

log = structlog.get_logger()

_AT_ONCE: Final = 2
_PARAMETERS: Final = ("since", "until", "format")
_PROFILE: Final = Profile("export", (("max_threads", 1), ("max_execution_time", 60), ("readonly", 1)))

# In the type of the column: against whole seconds (DateTime) the engine, 26.9, skips parts that hold nothing but the
# last second of the span.
_SPAN: Final = (
    "received_at >= fromUnixTimestamp64Milli({since:Int64} * 1000) "
    "AND received_at < fromUnixTimestamp64Milli({until:Int64} * 1000)"
)
_COUNTED: Final = f"""
    SELECT intDiv(toUnixTimestamp(received_at), {STEP_S}) * {STEP_S} AS at, count() AS n
    FROM exposures WHERE {_SPAN} GROUP BY at ORDER BY at
"""  # noqa: S608 - our own words, here and below
_ROWS: Final = f"""
    SELECT event_id, parent_event_id, * EXCEPT (event_id_bytes, parent_event_id_bytes)
    FROM exposures WHERE {_SPAN}
    ORDER BY received_at, origin_log, origin_partition, origin_offset, origin_index, origin_part
"""  # noqa: S608


class Export:
    """Sends files. The store is asked for one piece at a time, so that neither side holds more than that."""

    def __init__(self, store: StorePool) -> None:
        self._store = store
        self._turns = asyncio.Semaphore(_AT_ONCE)

    async def send(self, request: Request) -> Response:
        """Answer a request."""
        since_s, until_s, form = _asked(request)
        if self._turns.locked():
            raise RefusedError(503, "overloaded", "Two exports are under way.", "Ask again when one has ended.")
        span = {"since": since_s, "until": until_s}
        counted = [(row["at"], row["n"]) for row in await rows(self._store, _COUNTED, span)]
        wanted = [
            Piece(max(piece.since_s, since_s), min(piece.until_s, until_s), piece.rows) for piece in pieces(counted)
        ]
        headers = {
            "cache-control": "no-store",
            "content-disposition": f'attachment; filename="exposures.{form}"',
            "x-headrace-rows": str(sum(piece.rows for piece in wanted)),
            "x-headrace-since": iso_s(since_s),
            "x-headrace-until": iso_s(until_s),
        }
        return StreamingResponse(self._file(form, wanted), headers=headers, media_type=MEDIA_TYPES[form])

    async def _file(self, form: str, wanted: list[Piece]) -> AsyncIterator[bytes]:
        # What goes wrong from here on ends the connection before the file is whole, and whoever reads sees that.
        # Those that came in the same moment wait for each other here: what they were told cannot be taken back.
        async with self._turns:
            encoder = encoder_of(form)
            yield await asyncio.to_thread(encoder.head, await self._read(form, Piece(0, 0, 0)))
            for piece in wanted:
                yield await asyncio.to_thread(encoder.piece, await self._read(form, piece))
            yield await asyncio.to_thread(encoder.tail)

    async def _read(self, form: str, piece: Piece) -> bytes:
        span: dict[str, Any] = {"since": piece.since_s, "until": piece.until_s}
        return await self._store.ask(
            lambda client: client.raw_query(_ROWS, span, fmt=ENGINE_FORMATS[form]), profile=_PROFILE
        )


def _asked(request: Request) -> tuple[int, int, str]:
    given = request.query_params
    if unknown := set(given) - set(_PARAMETERS):
        raise RefusedError(
            400,
            "unknown_parameter",
            f"There is no parameter {min(unknown)[:60]!r}.",
            f"There are {', '.join(_PARAMETERS)}.",
        )
    form = given.get("format") or "parquet"
    if form not in MEDIA_TYPES:
        raise RefusedError(
            400, "unknown_format", f"There is no format {form[:40]!r}.", f"Use {' or '.join(sorted(MEDIA_TYPES))}."
        )
    if not given.get("since"):
        raise RefusedError(400, "no_span", "`since` is missing.", "Say from when on, for example since=24h.")
    now_s = int(time.time())
    since_s, until_s = moment_s(given["since"], now_s), moment_s(given.get("until") or iso_s(now_s), now_s)
    if since_s >= until_s:
        raise RefusedError(
            400, "no_span", f"{iso_s(since_s)} is not before {iso_s(until_s)}.", "Give `since` before `until`."
        )
    return since_s, until_s, form


def routes(store: StorePool) -> list[Route]:
    """Return the routes of this surface."""
    return [Route("/api/export/exposures", Export(store).send)]
