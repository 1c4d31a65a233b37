"""Makes the demo's key and config specs known: written to the log, then awaited at the gateway."""

import asyncio
import os
import time
from pathlib import Path
from typing import Final

import httpx
import msgspec

from ops.config import registry
from ops.demo.plan import SPECS_FILE
from ops.kafka import publish
from ops.settings import Settings
from schemas import keys, specs
from schemas.topics import KEYS

KEY_FILE: Final = "demo-key"
_POLL_S: Final = 0.05
_DEADLINE_S: Final = 30.0


class NotKnownError(Exception):
    """The gateway does not serve the demo's specs under the demo's key."""


def demo_key(data_dir: Path) -> str:
    """Return the demo's secret key of this data folder; the first call makes it, readable by its owner only."""
    path = data_dir / KEY_FILE
    data_dir.mkdir(parents=True, exist_ok=True)
    try:
        descriptor = os.open(path, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        key = path.read_text().strip()
        if key:
            return key
        path.unlink()  # its maker was killed between creating and writing it
        return demo_key(data_dir)
    key = keys.generate(keys.KeyKind.SECRET)
    with os.fdopen(descriptor, "w") as file:
        file.write(key + "\n")
    return key


async def make_known(settings: Settings, key: str) -> None:
    """Write key and specs to the log and wait until the gateway has both. Raises NotKnownError, KafkaError."""
    document = specs.parse(SPECS_FILE.read_bytes())
    now_ms = time.time_ns() // 1_000_000
    record = keys.record_of(key, keys.KeyKind.SECRET, settings.project, "production", now_ms, "headrace demo")
    await publish(settings.kafka, KEYS, [(record.key_hash.encode(), keys.encode(record))])
    history = await registry.read_history(settings.kafka)
    try:
        await registry.push(settings.kafka, history, settings.project, document, now_ms)
    except registry.PushRefusedError as error:
        raise NotKnownError(f"the demo's config specs are refused for project {settings.project}: {error}") from error
    await _wait_until_served(settings, key, document.time)


async def _wait_until_served(settings: Settings, key: str, specs_time: int) -> None:
    url = f"http://127.0.0.1:{settings.gateway_port}/v2/download_config_specs/{key}.json"
    last = "no answer"
    async with httpx.AsyncClient(trust_env=False, timeout=5, headers={"statsig-api-key": key}) as client:
        try:
            async with asyncio.timeout(_DEADLINE_S):
                while True:
                    last = await _served(client, url, specs_time)
                    if not last:
                        return
                    await asyncio.sleep(_POLL_S)
        except TimeoutError:
            raise NotKnownError(
                f"after {_DEADLINE_S:.0f} s the gateway does not serve the demo's config specs of project "
                f"{settings.project}: {last}"
            ) from None


async def _served(client: httpx.AsyncClient, url: str, specs_time: int) -> str:
    """Return "" when the gateway serves the document of that time, else what it does instead."""
    try:
        answer = await client.get(url)
    except httpx.HTTPError as error:
        return repr(error)
    if answer.status_code != httpx.codes.OK:
        return f"status {answer.status_code}: {answer.text[:200]}"
    served = msgspec.json.decode(answer.content).get("time")
    return "" if served == specs_time else f"it serves other specs, of time {served}"
