"""Telling the ledger what was dropped because its event had landed under another origin."""

import asyncio
from collections.abc import Mapping

from aiokafka import AIOKafkaProducer

from schemas import ledger, topics


async def publish(producer: AIOKafkaProducer, owners: Mapping[bytes, bytes]) -> None:
    """Return when the broker has a record for each dropped origin, {its own: the owner's}. Raises KafkaError."""
    acknowledged = []
    for origin, owner in owners.items():
        value = ledger.encode_dropped(owner)
        acknowledged.append(await producer.send(topics.LEDGER, key=origin, value=value, partition=0))
    await asyncio.gather(*acknowledged)
