"""How long an accepted event takes until a query finds it, seen from outside: probes sent, and asked for."""

import asyncio
import time
from typing import Final

import httpx
import orjson

from ops.demo.landed import ConsoleSql

EVENT: Final = "bench_probe"
_SEND_EVERY_S: Final = 0.1
_ASK_EVERY_S: Final = 0.05
_WAIT_AT_END_S: Final = 10.0


class Probe:
    """Sends an event every 100 ms and asks for all every 50 ms: a latency is at most 50 ms and one query too long."""

    def __init__(self, gateway: str, key: str, console: str, name: str) -> None:
        self._gateway = gateway
        self._key = key
        self._sql = ConsoleSql(console)
        self._name = name
        self._accepted: dict[str, float] = {}
        self._seen: list[tuple[float, float]] = []

    async def run(self, until: asyncio.Event) -> None:
        """Probe until told to end. Raises httpx.HTTPError and ops.demo.landed.ConsoleError."""
        asking = asyncio.create_task(self._ask(until))
        headers = {"statsig-api-key": self._key}
        async with httpx.AsyncClient(base_url=self._gateway, trust_env=False, headers=headers) as client:
            number = 0
            while not until.is_set():
                began = time.monotonic()
                await self._send(client, f"{self._name}-{number}")
                number += 1
                await asyncio.sleep(max(0.0, _SEND_EVERY_S - (time.monotonic() - began)))
        await asking
        await self._sql.close()

    def latencies_ms(self, since: float, until: float) -> list[float]:
        """Return the latencies of the probes accepted between two moments (seconds since the epoch), in order."""
        return sorted(latency for accepted, latency in self._seen if since <= accepted <= until)

    @property
    def seen(self) -> int:
        """How many probes a query has found."""
        return len(self._seen)

    @property
    def unseen(self) -> int:
        """How many probes no query has found."""
        return len(self._accepted)

    async def _send(self, client: httpx.AsyncClient, probe: str) -> None:
        event = {"eventName": EVENT, "time": time.time_ns() // 1_000_000, "metadata": {"probe": probe}}
        event["user"] = {"userID": probe}
        body = {"events": [event], "statsigMetadata": {"sdkType": "bench", "sdkVersion": "1", "sessionID": self._name}}
        answer = await client.post("/v1/log_event", content=orjson.dumps(body))
        answer.raise_for_status()
        self._accepted[probe] = time.time()

    async def _ask(self, until: asyncio.Event) -> None:
        query = (
            "SELECT JSONExtractString(metadata, 'probe') AS probe FROM custom_events "
            f"WHERE project = 'default' AND event_name = '{EVENT}' AND session_id = '{self._name}' "
            "AND received_at > now64(3) - INTERVAL 15 SECOND"
        )
        ends_at = float("inf")
        while time.monotonic() < ends_at and (self._accepted or not until.is_set()):
            began = time.monotonic()
            if until.is_set():
                ends_at = min(ends_at, began + _WAIT_AT_END_S)
            for line in await self._sql.lines(query):
                probe = orjson.loads(line)["probe"]
                accepted = self._accepted.pop(probe, None)
                if accepted is not None:
                    self._seen.append((accepted, (time.time() - accepted) * 1000))
            await asyncio.sleep(max(0.0, _ASK_EVERY_S - (time.monotonic() - began)))
