"""Keeping the registry as an upstream's documents are."""

import asyncio
import time

from aiokafka.errors import KafkaError

from ops.config import registry
from ops.config.watch import POLL_S, Teller, Upstream, UpstreamError
from schemas.config_history import ConfigHistory
from schemas.kafka import KafkaConnection
from schemas.specs import Specs


async def follow_upstream(
    connection: KafkaConnection,
    project: str,
    upstream: Upstream,
    teller: Teller,
    poll_s: float = POLL_S,
    once: bool = False,
) -> bool:
    """Push each new document until cancelled, or, `once`, after one question; return whether that went well.

    A document is asked for again until it is in the log. What is wrong with the upstream or with Kafka
    is told once and waited out. Raises KafkaError or TimeoutError when Kafka cannot be read at the start.
    """
    history = await registry.read_history(connection)
    configs = history.project(project)
    upstream.since_ms = configs.newest_ms if configs else 0
    while True:
        well = False
        etag = upstream.etag
        try:
            document = await upstream.ask()
            if document is not None:
                await _take(connection, history, project, document, teller)
                upstream.since_ms = document.time
            well = True
            teller.well()
        except (UpstreamError, registry.PushRefusedError) as error:
            upstream.etag = etag  # who is told that nothing changed would take a refused document for a good one
            teller.trouble(str(error))
        except (KafkaError, OSError, TimeoutError) as error:
            upstream.etag = etag
            teller.trouble(f"Kafka cannot be written: {error!r}")
        if once:
            return well
        await asyncio.sleep(poll_s)


async def _take(
    connection: KafkaConnection, history: ConfigHistory, project: str, document: Specs, teller: Teller
) -> None:
    configs = history.project(project)
    known = configs.documents.get(document.time) if configs else None
    pushed = await registry.push(connection, history, project, document, time.time_ns() // 1_000_000)
    if known is None:
        teller.pushed(project=project, time=document.time, changed=pushed.changed)
