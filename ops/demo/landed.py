"""What SQL finds of a run, asked through the console's HTTP API as anybody would."""

from collections.abc import Sequence
from typing import Final

import httpx
import msgspec

from ops.demo.compare import Row
from ops.demo.plan import OWN_ID, READS, Item, Run

_BY_DEVICE: Final = frozenset(read.name for read in READS if read.by_device)
_TIMEOUT_S: Final = 30.0
_EXPOSURES: Final = "SELECT name, user_id, stable_id, parameter, rule_id FROM exposures"
_CUSTOM_EVENTS: Final = (
    f"SELECT event_name AS name, user_id, JSONExtractString(metadata, '{OWN_ID}') AS own_id FROM custom_events"  # noqa: S608
)
_SESSIONS: Final = "SELECT session_id FROM exposures"
_INTERNAL: Final = "SELECT count() AS internal FROM custom_events"
# Clocks of one machine agree; the day before bounds the partitions that are read.
_MARGIN_MS: Final = 24 * 3600 * 1000


class ConsoleError(Exception):
    """The console did not answer a question."""


class _Found(msgspec.Struct):
    name: str
    user_id: str
    stable_id: str = ""
    parameter: str = ""
    rule_id: str = ""
    own_id: str = ""


_decode_found: Final = msgspec.json.Decoder(_Found).decode


class ConsoleSql:
    """Asks the console."""

    def __init__(self, address: str) -> None:
        self._client = httpx.AsyncClient(base_url=address, timeout=_TIMEOUT_S, trust_env=False)

    async def lines(self, query: str) -> list[bytes]:
        """Return the answer's rows, one JSON object each. Raises ConsoleError."""
        try:
            answer = await self._client.post("/api/sql", params={"format": "jsonl"}, content=query.encode())
        except httpx.HTTPError as error:
            raise ConsoleError(f"the console at {self._client.base_url} does not answer: {error!r}") from error
        if answer.status_code != httpx.codes.OK:
            raise ConsoleError(f"the console answered {answer.status_code}: {answer.text[:500]}")
        return answer.content.splitlines()

    async def close(self) -> None:
        """Let go of the connections."""
        await self._client.aclose()


async def rows_of(sql: ConsoleSql, run: Run, visitors: Sequence[int], since_ms: int) -> list[Row]:
    """Return every row of these visitors, whatever it says. Raises ConsoleError."""
    users = ",".join(f"'{run.user_id(number)}'" for number in visitors)
    return await _rows_where(sql, f"user_id IN ({users})", since_ms)


async def rows_between(sql: ConsoleSql, run: Run, first: int, last: int, since_ms: int) -> list[Row]:
    """Return every row of the visitors `first` to `last`, of those that nobody logged as well. Raises ConsoleError."""
    return await _rows_where(sql, f"user_id BETWEEN '{run.user_id(first)}' AND '{run.user_id(last)}'", since_ms)


async def _rows_where(sql: ConsoleSql, condition: str, since_ms: int) -> list[Row]:
    where = f"received_at >= fromUnixTimestamp64Milli({since_ms - _MARGIN_MS}) AND origin_part = 0 AND {condition}"
    exposures = await sql.lines(f"{_EXPOSURES} WHERE {where}")
    custom = await sql.lines(f"{_CUSTOM_EVENTS} WHERE {where}")
    return [_exposure(_decode_found(line)) for line in exposures] + [_custom(_decode_found(line)) for line in custom]


def _exposure(found: _Found) -> Row:
    unit = found.stable_id if found.name in _BY_DEVICE else found.user_id
    return Row(Item("exposures", found.name, unit, found.parameter), found.user_id, found.rule_id)


def _custom(found: _Found) -> Row:
    return Row(Item("custom_events", found.name, found.own_id), found.user_id)


async def internal_events(sql: ConsoleSql, run: Run, since_ms: int) -> int:
    """Return how many events the run's SDK logged on its own account. Raises ConsoleError."""
    since = f"received_at >= fromUnixTimestamp64Milli({since_ms - _MARGIN_MS})"
    sessions = f"{_SESSIONS} WHERE {since} AND startsWith(user_id, '{run.prefix}')"
    query = f"{_INTERNAL} WHERE {since} AND startsWith(event_name, 'statsig::') AND session_id IN ({sessions})"
    [line] = await sql.lines(query)
    return int(msgspec.json.decode(line)["internal"])
