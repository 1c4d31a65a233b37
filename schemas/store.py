"""How the store is reached: a ClickHouse server, or the same engine inside this process."""

import fcntl
import os
import threading
from dataclasses import dataclass
from pathlib import Path
from typing import TYPE_CHECKING, Any, Final
from urllib.parse import unquote, urlsplit

if TYPE_CHECKING:
    from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import OperationalError, ProgrammingError

_embedded: Final = threading.Lock()

CONNECT_TIMEOUT_S: Final = 5
ANSWER_TIMEOUT_S: Final = 60

# The engine is a guest among broker, worker and gateway: merges take half of the cores at the most,
# and memory half of the machine's; beyond, a query fails and not the machine.
_ENGINE: Final = {
    "background_pool_size": max(1, (os.cpu_count() or 2) // 2),
    "background_merges_mutations_concurrency_ratio": 1,
    "max_server_memory_usage_to_ram_ratio": 0.5,
}


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
        # A fifth of a second that processes which only know the address need not spend.
        import clickhouse_connect  # noqa: PLC0415

        if self.is_embedded:
            if self.path is None:
                raise ValueError("an embedded store needs a folder")
            self.path.mkdir(parents=True, exist_ok=True)
            with _embedded:
                try:
                    return clickhouse_connect.get_client(
                        interface="chdb", path=str(self.path), chdb_options=dict(_ENGINE)
                    )
                except ProgrammingError as error:
                    if _is_locked(self.path / "status"):
                        raise OperationalError(f"another process has the store in {self.path} open") from error
                    raise
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
        "connect_timeout": CONNECT_TIMEOUT_S,
        "send_receive_timeout": ANSWER_TIMEOUT_S,
    }


def _is_locked(file: Path) -> bool:
    """Tell whether another process holds the lock with which the engine guards its folder."""
    try:
        with file.open("rb") as opened:
            fcntl.flock(opened, fcntl.LOCK_EX | fcntl.LOCK_NB)
    except BlockingIOError:
        return True
    except OSError:
        return False
    return False
