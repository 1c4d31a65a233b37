"""Opening the store: a ClickHouse server over HTTP, or the engine inside this process.

Apart from its address, because importing the client takes a fifth of a second, and most processes
only hand the address on.
"""

import fcntl
import os
import threading
from pathlib import Path
from typing import Any, Final
from urllib.parse import unquote, urlsplit

import clickhouse_connect
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


def open_embedded(path: Path) -> Client:
    """Open the engine's folder. Raises clickhouse_connect's Error, naming the folder when another process has it."""
    path.mkdir(parents=True, exist_ok=True)
    with _embedded:
        try:
            return clickhouse_connect.get_client(interface="chdb", path=str(path), chdb_options=dict(_ENGINE))
        except ProgrammingError as error:
            if _is_locked(path / "status"):
                raise OperationalError(f"another process has the store in {path} open") from error
            raise


def open_server(url: str) -> Client:
    """Connect to `http[s]://user:password@host:port/database`. Raises clickhouse_connect's Error, ValueError."""
    return clickhouse_connect.get_client(**_server_arguments(url))


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
