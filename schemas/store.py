"""Where the store is: a ClickHouse server, or a folder for the same engine inside a process."""

from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client


@dataclass(frozen=True)
class StoreAddress:
    """A server (`http://user:password@host:8123/database`) or a folder for the embedded engine."""

    url: str = ""
    path: Path | None = None

    @property
    def is_embedded(self) -> bool:
        """Whether the engine runs inside this process. Only one process may open its folder."""
        return not self.url

    def connect(self) -> "Client":
        """Open a client. One client serves one thread at a time; an embedded store takes several.

        Raises clickhouse_connect.driver.exceptions.Error when the store cannot be reached or, for
        the embedded engine, when another process holds its folder.
        """
        from schemas import store_client  # noqa: PLC0415 - see there

        if not self.is_embedded:
            return store_client.open_server(self.url)
        if self.path is None:
            raise ValueError("an embedded store needs a folder")
        return store_client.open_embedded(self.path)
