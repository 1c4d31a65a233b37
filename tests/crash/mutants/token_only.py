"""A lander that leaves copies to the store's own deduplication of inserts, by a token, and reads nothing back."""

import sys
from collections.abc import Sequence
from typing import Any

from ops.processes.__main__ import main
from processors.landing import land
from processors.landing.insert import Inserter

_insert = Inserter.insert


class _WithToken:
    """A client that adds the token of a batch to its inserts."""

    def __init__(self, client: Any, table: str, token: str) -> None:
        self._client = client
        self._table = table
        self._token = token

    def command(self, statement: str) -> Any:
        self._client.command(f"ALTER TABLE {self._table} MODIFY SETTING non_replicated_deduplication_window = 1000")
        return self._client.command(f"{statement} SETTINGS insert_deduplication_token = '{self._token}'")


def insert(self: Inserter, client: Any, rows: Sequence[Any], query_id: str) -> None:
    token = f"{rows[0].origin.hex()}-{rows[-1].origin.hex()}"
    _insert(self, _WithToken(client, self.landing.table, token), rows, query_id)


if __name__ == "__main__":
    land.suspects = lambda *_: []
    Inserter.insert = insert
    sys.exit(main())
