"""Runs a stranger's statement: normal form, judgement, limits, and an end that comes in any case."""

import asyncio
import re
import threading
import time
import uuid
from concurrent.futures import CancelledError as NeverRan
from dataclasses import dataclass
from typing import Any, Final

import structlog
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import DatabaseError

from console.answers import RefusedError
from console.config import MIB, SqlLimits
from console.sql import guard
from console.sql.formats import Format, json_body
from console.store_pool import Profile, StorePool
from schemas.metrics import ConsoleMetrics
from schemas.store import StoreAddress

log = structlog.get_logger()

_GRACE_S: Final = 2.0
"""The engine ends a query by itself at its time limit; this much later it is told to."""

_TAG: Final = "headrace-sql"

# Error codes of the engine (ErrorCodes.cpp).
_SYNTAX_ERROR: Final = 62
_TIMEOUT: Final = 159
_READONLY: Final = 164
_MEMORY: Final = 241
_CANCELLED: Final = 394
_TOO_MANY_ROWS_OR_BYTES: Final = 396


@dataclass(frozen=True)
class Answer:
    """What came of a statement. `rows` is −1 where the format does not tell."""

    body: bytes
    media_type: str
    rows: int
    truncated: bool
    elapsed_ms: float


def profiles(limits: SqlLimits) -> dict[bool, Profile]:
    """Return the settings of a session, by whether its answers are for people."""
    common = (
        ("max_execution_time", limits.time_s),
        ("timeout_overflow_mode", "throw"),
        # The statement travels as hex on its way to its normal form, and that may be longer.
        ("max_query_size", 4 * limits.query_bytes),
        ("max_memory_usage", limits.memory_bytes),
        ("max_threads", limits.engine_threads),
        ("max_bytes_before_external_group_by", 0),
        ("max_bytes_before_external_sort", 0),
        ("max_bytes_ratio_before_external_group_by", 0),
        ("max_bytes_ratio_before_external_sort", 0),
        ("allow_introspection_functions", 0),
        ("output_format_json_validate_utf8", 1),
        ("output_format_json_quote_64bit_integers", 0),
        ("output_format_pretty_color", 0),
        ("max_result_bytes", limits.answer_bytes),
        ("result_overflow_mode", "throw"),
    )
    return {
        # One row more than is shown tells that there are more.
        True: Profile("sql_people", (*common, ("limit", limits.table_rows + 1), ("readonly", 1))),
        False: Profile("sql_files", (*common, ("max_result_rows", limits.file_rows), ("readonly", 1))),
    }


class SqlRunner:
    """Runs statements in threads of its own, so that a hostile one keeps only its like waiting."""

    def __init__(self, store: StoreAddress, own_pool: StorePool, limits: SqlLimits, metrics: ConsoleMetrics) -> None:
        self._limits = limits
        self._metrics = metrics
        self._own = own_pool
        self._pool = StorePool(store, limits.concurrent, "sql")
        self._profiles = profiles(limits)
        self._table_functions: frozenset[str] | None = None
        self._asked = 0
        self._hung_up = asyncio.Event()

    async def run(self, statement: str, wanted: Format) -> Answer:
        """Return the answer to `statement`. Raises RefusedError (400, 403, 408, 503)."""
        if self._asked >= self._limits.concurrent + self._limits.waiting:
            self._metrics.queries.labels("overloaded").inc()
            raise RefusedError(503, "overloaded", "Too many queries are running.", "Ask again in a few seconds.")
        self._asked += 1
        try:
            answer = await self._within_time(statement, wanted)
        except RefusedError as error:
            self._metrics.queries.labels(error.reason).inc()
            raise
        finally:
            self._asked -= 1
        self._metrics.queries.labels("answered").inc()
        return answer

    async def hang_up(self) -> None:
        """End the queries under way."""
        self._hung_up.set()
        if self._asked:
            await self._kill(_TAG)

    async def stop(self) -> None:
        """End the queries under way and let go of the store."""
        await self.hang_up()
        await self._pool.close(patience_s=3)

    async def _within_time(self, statement: str, wanted: Format) -> Answer:
        self._check_size(statement)
        tag = f"{_TAG}-{uuid.uuid4().hex}"
        profile = self._profiles[wanted.for_people]
        given_up = threading.Event()
        job = self._pool.submit(lambda client: self._ask(client, statement, wanted, tag, given_up), profile)
        answer = asyncio.wrap_future(job)
        hung_up = asyncio.ensure_future(self._hung_up.wait())
        try:
            awaited: list[asyncio.Future[Any]] = [answer, hung_up]
            limit_s = self._limits.time_s + _GRACE_S
            await asyncio.wait(awaited, timeout=limit_s, return_when=asyncio.FIRST_COMPLETED)
            given_up.set()
            if answer.done():
                return self._result(answer)
            if hung_up.done():
                raise _stopping()
            if job.cancel():
                raise RefusedError(503, "overloaded", "Too many queries are running.", "Ask again in a few seconds.")
            await self._kill(tag)
            await asyncio.wait([answer], timeout=_GRACE_S)
            raise self._timed_out()
        except asyncio.CancelledError:
            # Who asked has gone: nobody needs the answer.
            given_up.set()
            if not job.cancel():
                await asyncio.shield(self._kill(tag))
            raise
        except NeverRan:
            raise _stopping() from None
        finally:
            hung_up.cancel()
            answer.add_done_callback(lambda future: future.cancelled() or future.exception())

    def _result(self, answer: asyncio.Future[Answer]) -> Answer:
        try:
            return answer.result()
        except DatabaseError as error:
            raise self._explained(error) from error

    async def _kill(self, tag: str) -> None:
        try:
            await self._own.ask(lambda client: client.command(f"KILL QUERY WHERE query LIKE '/* {tag}%' ASYNC"))
        except (RefusedError, DatabaseError) as error:
            log.warning("query_not_ended", tag=tag, error=str(error)[:300])

    def _check_size(self, statement: str) -> None:
        if not statement.strip():
            raise RefusedError(400, "empty_query", "There is no query.", "Send it as `query`, for example SELECT 1.")
        try:
            size_bytes = len(statement.encode())
        except UnicodeEncodeError:
            raise _not_text() from None
        if size_bytes > self._limits.query_bytes:
            raise RefusedError(
                400,
                "query_too_long",
                f"The query is longer than {self._limits.query_bytes // 1024} KiB.",
                "Shorten it; long lists of values belong into a condition or a join.",
            )

    def _ask(self, client: Client, statement: str, wanted: Format, tag: str, given_up: threading.Event) -> Answer:
        """Judge and run, in a thread of the pool. What is given up before it runs could not be ended any more."""
        began = time.perf_counter()
        plain = normal_form(client, statement)
        guard.judge(plain, self._known_table_functions(client))
        if given_up.is_set():
            raise _stopping()
        body = client.raw_query(f"/* {tag} */ {plain}\nFORMAT {wanted.engine}")
        elapsed_ms = (time.perf_counter() - began) * 1000
        if wanted.name == "json":
            body, rows, truncated = json_body(body, self._limits.table_rows, elapsed_ms)
            return Answer(body, wanted.media_type, rows, truncated, elapsed_ms)
        return Answer(body, wanted.media_type, -1, False, elapsed_ms)

    def _known_table_functions(self, client: Client) -> frozenset[str]:
        if self._table_functions is None:
            names = client.raw_query("SELECT lower(name) FROM system.table_functions FORMAT TSV").decode().split()
            self._table_functions = frozenset(names)
        return self._table_functions

    def _timed_out(self) -> RefusedError:
        return RefusedError(
            408,
            "timed_out",
            f"The query took longer than {self._limits.time_s:g} s and was ended.",
            "Narrow it: a condition on received_at (the tables are partitioned by its day), fewer columns, a LIMIT.",
        )

    def _explained(self, error: DatabaseError) -> RefusedError:
        """Turn the engine's error into an answer."""
        message = plain_message(str(error))
        if error.code == _CANCELLED and self._hung_up.is_set():
            return _stopping()
        if error.code in (_TIMEOUT, _CANCELLED):
            return self._timed_out()
        if error.code == _READONLY:
            return guard.refused(f"The engine refuses it: {message}")
        if error.code == _MEMORY:
            mib = self._limits.memory_bytes // MIB
            remedy = "Aggregate first, select fewer columns, or use an estimate such as uniq instead of uniqExact."
            return RefusedError(400, "too_much_memory", f"The query needs more than {mib} MiB.", remedy)
        if error.code == _TOO_MANY_ROWS_OR_BYTES:
            remedy = "Add a LIMIT, or fetch it in parts by a condition on received_at."
            return RefusedError(400, "answer_too_large", message, remedy)
        if error.code == _SYNTAX_ERROR:
            if "Multi-statements" in message:
                return guard.refused("Several statements in one are not run.")
            return RefusedError(400, "syntax_error", message, "The tables are listed by SHOW TABLES.")
        return RefusedError(400, "query_failed", message, "SHOW TABLES and DESCRIBE say what there is to ask for.")


def normal_form(client: Client, statement: str) -> str:
    """Return the one statement as the engine's parser understood it.

    Sent as hex, so that nothing in it can end the literal it stands in. Raises DatabaseError when it
    does not parse or is more than one, RefusedError when it holds bytes that are no text.
    """
    plain = client.raw_query(f"SELECT formatQuerySingleLine(unhex('{statement.encode().hex()}')) FORMAT RawBLOB")
    try:
        return plain.decode()
    except UnicodeDecodeError:
        raise _not_text() from None


def _stopping() -> RefusedError:
    return RefusedError(503, "stopping", "The console is stopping.", "Ask again in a few seconds.")


def _not_text() -> RefusedError:
    return RefusedError(400, "not_text", "The query is not UTF-8 text.", "Write binary values as unhex('…').")


def plain_message(text: str) -> str:
    """Return the engine's message without its frame, its version and our part of the question."""
    text = re.sub(r"\s*\(version [^()]*(\([^()]*\))?[^()]*\)", "", text.strip())
    text = re.sub(r"^(?:.*?Code: \d+\. )?(?:Code: \d+\. )*(?:DB::Exception: )+", "", text, flags=re.DOTALL)
    text = re.sub(r"(?:Code: \d+\. )?DB::Exception: ", "", text)
    text = re.sub(r"(?:: )?In scope SELECT formatQuerySingleLine\(unhex\('[0-9a-f.…]*'?\)?\)?\.?", "", text)
    text = re.sub(r"(?:\s*\([A-Z_]{4,}\)\.?)+$", "", text.strip())
    return re.sub(r"\s*FORMAT \w+\s*$", "", text).strip()[:2000]
