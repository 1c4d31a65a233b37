"""`/api/sql`: a statement in, an answer in the format asked for."""

import asyncio
from collections.abc import Coroutine
from typing import Any, Final

import orjson
from starlette.requests import ClientDisconnect, Request
from starlette.responses import Response
from starlette.routing import Route

from console.answers import RefusedError
from console.sql.formats import format_named
from console.sql.run import Answer, SqlRunner

_BODY_BYTES: Final = 1024 * 1024


async def _asked(request: Request) -> tuple[str, str]:
    """Return (statement, name of the format) from the address, or from a JSON or text body."""
    statement, wanted = request.query_params.get("query", ""), request.query_params.get("format", "json")
    if request.method != "POST":
        return statement, wanted
    body = b""
    async for piece in request.stream():
        body += piece
        if len(body) > _BODY_BYTES:
            raise RefusedError(400, "query_too_long", "The body is longer than 1 MiB.", "Shorten the query.")
    if not body:
        return statement, wanted
    try:
        if request.headers.get("content-type", "").partition(";")[0].strip().lower() == "application/json":
            given = orjson.loads(body)
            return str(given["query"]), str(given.get("format", wanted))
        return body.decode(), wanted
    except (ValueError, KeyError, TypeError, AttributeError):
        raise RefusedError(
            400,
            "unreadable_body",
            "The body is not a query.",
            'Send the statement as text, or JSON with Content-Type application/json: {"query": "SELECT 1"}.',
        ) from None


async def _unless_gone(request: Request, work: Coroutine[Any, Any, Answer]) -> Answer:
    """Return what comes of `work`, or end it and raise ClientDisconnect when who asked hangs up first."""
    working = asyncio.create_task(work)
    leaving = asyncio.create_task(_gone(request))
    try:
        await asyncio.wait([working, leaving], return_when=asyncio.FIRST_COMPLETED)
        if not working.done():
            raise ClientDisconnect
        return working.result()
    finally:
        leaving.cancel()
        working.cancel()
        await asyncio.gather(working, leaving, return_exceptions=True)


async def _gone(request: Request) -> None:
    while (await request.receive())["type"] != "http.disconnect":
        pass


def routes(runner: SqlRunner) -> list[Route]:
    """Return the routes of this surface."""

    async def answer_sql(request: Request) -> Response:
        try:
            statement, wanted = await _asked(request)
            answer = await _unless_gone(request, runner.run(statement, format_named(wanted)))
        except ClientDisconnect:
            return Response(status_code=400)
        headers = {
            "cache-control": "no-store",
            "x-headrace-elapsed-ms": f"{answer.elapsed_ms:.1f}",
        }
        if request.query_params.get("download"):
            headers["content-disposition"] = f'attachment; filename="headrace.{format_named(wanted).name}"'
        return Response(answer.body, headers=headers, media_type=answer.media_type)

    return [Route("/api/sql", answer_sql, methods=["GET", "POST"])]
