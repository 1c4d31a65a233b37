"""Threads that ask the store, each with clients of its own.

A client serves one thread at a time, and a query blocks its thread until the engine answers. What
strangers ask runs in one pool and what the console itself asks in another, so that the first can
never keep the second waiting.
"""

import asyncio
import contextlib
import threading
from collections.abc import Callable
from concurrent.futures import Future, ThreadPoolExecutor
from dataclasses import dataclass
from typing import Final, TypeVar

import structlog
from clickhouse_connect.driver.client import Client
from clickhouse_connect.driver.exceptions import ClickHouseError, DatabaseError

from console.answers import RefusedError
from schemas.store import StoreAddress

log = structlog.get_logger()

T = TypeVar("T")


@dataclass(frozen=True)
class Profile:
    """The settings of a session, in the order they are set: after `readonly` none can be."""

    name: str
    settings: tuple[tuple[str, str | float], ...]


OWN: Final = Profile("own", (("max_threads", 2), ("max_execution_time", 20), ("readonly", 1)))
"""What the console's own questions run under."""


def unavailable(error: Exception) -> RefusedError:
    """Say that the store cannot be asked."""
    text = str(error).strip().split("\n", 1)[0][:300]
    return RefusedError(
        503,
        "store_unavailable",
        f"The store does not answer: {text}",
        "Start it with `headrace up` (or see that HEADRACE_CLICKHOUSE names a server that runs), then ask again.",
    )


class StorePool:
    """A few threads that ask the store."""

    def __init__(self, address: StoreAddress, threads: int, name: str) -> None:
        self._address = address
        self._executor = ThreadPoolExecutor(threads, thread_name_prefix=name)
        self._local = threading.local()
        self._lock = threading.Lock()
        self._clients: list[Client] = []

    async def ask(self, question: Callable[[Client], T], profile: Profile = OWN) -> T:
        """Run `question` in a thread of the pool and return its answer.

        Raises RefusedError (503) when the store cannot be reached, and what `question` raises.
        """
        return await asyncio.wrap_future(self.submit(question, profile))

    def submit(self, question: Callable[[Client], T], profile: Profile) -> Future[T]:
        """Begin to run `question`; a future that is still waiting for a thread can be cancelled."""
        return self._executor.submit(self._run, question, profile)

    def _run(self, question: Callable[[Client], T], profile: Profile) -> T:
        try:
            client = self._client(profile)
        except (ClickHouseError, RuntimeError, OSError) as error:
            raise unavailable(error) from error
        try:
            return question(client)
        except DatabaseError as error:
            # Without a code the engine never answered, so the way to it is in doubt. And the embedded
            # engine puts what a failed query had written in front of the next answer of that client.
            if error.code is None or self._address.is_embedded:
                self._forget(profile, client)
            if error.code is None:
                raise unavailable(error) from error
            raise
        except (ClickHouseError, OSError) as error:
            self._forget(profile, client)
            raise unavailable(error) from error

    def _client(self, profile: Profile) -> Client:
        mine: dict[str, Client] = self._local.__dict__.setdefault("clients", {})
        if profile.name not in mine:
            client = self._address.connect()
            try:
                for name, value in profile.settings:
                    client.set_client_setting(name, value)
            except BaseException:
                client.close()
                raise
            with self._lock:
                self._clients.append(client)
            mine[profile.name] = client
        return mine[profile.name]

    def _forget(self, profile: Profile, client: Client) -> None:
        self._local.clients.pop(profile.name, None)
        with self._lock, contextlib.suppress(ValueError):
            self._clients.remove(client)
        client.close()

    async def close(self, patience_s: float) -> None:
        """Let queries under way end, for `patience_s` at the most, and close what they used."""
        ended = asyncio.to_thread(self._executor.shutdown, wait=True, cancel_futures=True)
        try:
            await asyncio.wait_for(ended, patience_s)
        except TimeoutError:
            log.warning("store_queries_still_running", seconds=patience_s)
            return
        with self._lock:
            clients, self._clients = self._clients, []
        for client in clients:
            client.close()
