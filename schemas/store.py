"""How the store is reached: a ClickHouse server, or the same engine inside this process."""

import threading
from dataclasses import dataclass
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import clickhouse_connect
from clickhouse_connect.driver.client import Client

_embedded: Final = threading.Lock()


@dataclass(frozen=True)
class StoreAddress:
    """A server (`http://user:password@host:8123/database`) or a folder for the embedded engine."""

    url: str = ""
    path: Path | None = None

    @property
    def is_embedded(self) -> bool:
        """Whether the engine runs inside this process. Only one process may open its folder."""
        return not self.url

    def connect(self) -> Client:
        """Open a client. One client serves one thread at a time; an embedded store takes several.

        Raises clickhouse_connect.driver.exceptions.Error when the store cannot be reached or, for
        the embedded engine, when another process holds its folder.
        """
        if self.is_embedded:
            if self.path is None:
                raise ValueError("an embedded store needs a folder")
            self.path.mkdir(parents=True, exist_ok=True)
            with _embedded:
                return clickhouse_connect.get_client(interface="chdb", path=str(self.path))
        return clickhouse_connect.get_client(**_server_arguments(self.url))


def _server_arguments(url: str) -> dict[str, Any]:
    parts = urlsplit(url)
    if parts.scheme not in ("http", "https") or not parts.hostname:
        raise ValueError(f"HEADRACE_CLICKHOUSE must be http[s]://[user:password@]host[:port][/database], not {url!r}")
    return {
        "host": parts.hostname,
        "port": parts.port or (8443 if parts.scheme == "https" else 8123),
        "secure": parts.scheme == "https",
        "username": unquote(parts.username or "default"),
        "password": unquote(parts.password or ""),
        "database": parts.path.strip("/") or "default",
        "autogenerate_session_id": False,
    }
