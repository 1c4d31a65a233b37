"""Which events have landed, asked of the console: the embedded store has no other door."""

from collections.abc import Iterable, Iterator, Sequence
from itertools import islice
from typing import Any, Final

import httpx
import orjson

from ops.console_client import client_of
from ops.settings import Settings

_IDS_A_QUERY: Final = 5_000
"""An answer has 10,000 rows, and an id may stand in both tables."""

_ANSWER_S: Final = 60.0

_LANDED: Final = (
    "WITH arrayMap(text -> toFixedString(unhex(text), 16), splitByChar(',', '{ids}')) AS ids "
    "SELECT DISTINCT event_id FROM ("
    "SELECT event_id FROM exposures WHERE event_id_bytes IN (SELECT arrayJoin(ids)) UNION ALL "
    "SELECT event_id FROM custom_events WHERE event_id_bytes IN (SELECT arrayJoin(ids)))"
)


class StoreError(Exception):
    """The console refused a question; the message is what it said."""


class Store:
    """Questions to the console. Blocks; raises httpx.TransportError and StoreError."""

    def __init__(self, settings: Settings) -> None:
        self._client = client_of(settings, _ANSWER_S)

    def close(self) -> None:
        """Let go of the connection."""
        self._client.close()

    def rows(self, statement: str) -> list[list[object]]:
        """Return the rows of a read-only statement."""
        answer = self._client.post(
            "/api/sql",
            params={"format": "json"},
            content=statement.encode("utf-8", "replace"),
            headers={"content-type": "text/plain"},
        )
        if answer.status_code != httpx.codes.OK:
            raise StoreError(_said(answer))
        rows: list[list[object]] = orjson.loads(answer.content)["rows"]
        return rows

    def post(self, path: str, body: dict[str, Any]) -> Any:
        """Ask for something to be changed; return the answer."""
        answer = self._client.post(path, content=orjson.dumps(body), headers={"content-type": "application/json"})
        if answer.status_code != httpx.codes.OK:
            raise StoreError(_said(answer))
        return orjson.loads(answer.content)

    def landed(self, event_ids: Iterable[bytes]) -> frozenset[bytes]:
        """Return those of the events that have a row, under whatever origin and of whatever day."""
        found: set[bytes] = set()
        for some in _pieces(sorted(set(event_ids))):
            statement = _LANDED.replace("{ids}", ",".join(event_id.hex() for event_id in some))
            found.update(bytes.fromhex(str(row[0])) for row in self.rows(statement))
        return frozenset(found)


def _pieces(ids: Sequence[bytes]) -> Iterator[list[bytes]]:
    rest = iter(ids)
    while piece := list(islice(rest, _IDS_A_QUERY)):
        yield piece


def _said(answer: httpx.Response) -> str:
    try:
        return str(orjson.loads(answer.content)["error"]["message"])
    except (ValueError, KeyError, TypeError):
        return f"the console answered {answer.status_code}"
