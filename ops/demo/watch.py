"""Follows the console's live stream of exposures, as the page does."""

import asyncio
from collections import deque
from typing import Any, Final

import httpx
import msgspec

from ops.demo.plan import Run

_RATE: Final = "6"
_RETRY_S: Final = 1.0
_CONNECT_TIMEOUT_S: Final = 5.0


def message_data(line: str) -> dict[str, Any] | None:
    """Return the object on a `data:` line of the stream, None for any other line."""
    if not line.startswith("data:"):
        return None
    try:
        data = msgspec.json.decode(line[len("data:") :])
    except msgspec.MsgspecError:
        return None
    return data if isinstance(data, dict) else None


async def watch_exposures(console: str, run: Run, latest: deque[dict[str, Any]]) -> None:
    """Put what the live stream shows of the run into `latest`, until cancelled; reconnect as often as needed.

    The stream is asked for no more than a person can read.
    """
    wanted = {"unit": f"demo-{run.name}-*", "rate": _RATE, "tier": "*", "outcome": "accepted"}
    timeout = httpx.Timeout(_CONNECT_TIMEOUT_S, read=None)
    async with httpx.AsyncClient(base_url=console, trust_env=False, timeout=timeout) as client:
        while True:
            try:
                async with client.stream("GET", "/api/exposures/stream", params=wanted) as answer:
                    async for line in answer.aiter_lines():
                        shown = message_data(line)
                        if shown is not None and "unit_id" in shown:
                            latest.append(shown)
            except httpx.HTTPError:
                await asyncio.sleep(_RETRY_S)
            else:
                await asyncio.sleep(_RETRY_S)
