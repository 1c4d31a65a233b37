"""A landing table in the store: ClickHouse, or the same engine inside this process."""

from collections.abc import Sequence

from clickhouse_connect.driver.client import Client

from processors.landing import readback
from processors.landing.batch import Row
from processors.landing.insert import Inserter
from processors.landing.suspects import Landed, Prefix


class StoreTable:
    """The `Table` that `land` works on, over one client."""

    def __init__(self, client: Client, inserter: Inserter) -> None:
        self._client = client
        self._inserter = inserter

    def high_water(self, prefixes: Sequence[Prefix]) -> dict[Prefix, bytes]:
        """See `Table`."""
        return readback.high_water(self._client, self._inserter.landing, prefixes)

    def landed(self, suspects: Sequence[Row]) -> Landed:
        """See `Table`."""
        return readback.landed(self._client, self._inserter.landing, suspects)

    def insert(self, rows: Sequence[Row], query_id: str) -> None:
        """See `Table`."""
        self._inserter.insert(self._client, rows, query_id)
