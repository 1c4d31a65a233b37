"""A console over a store that holds a known truth, and a way to write exposures into the log."""

import asyncio
from collections.abc import Callable, Iterator, Sequence
from typing import Any

import httpx
import pytest
from aiokafka import AIOKafkaProducer
from support.brokers import run_apart
from support.console_process import RunningConsole, running_console
from support.console_truth import truth
from support.exposures import exposure, framed

from schemas.kafka import PRODUCER, KafkaConnection
from schemas.topics import EXPOSURES


@pytest.fixture(scope="session")
def console(tmp_path_factory: pytest.TempPathFactory, broker: KafkaConnection) -> Iterator[RunningConsole]:
    """A console on the shared broker, its store filled with `truth()`."""
    exposures = [exposure(**fields) for fields in truth()]
    with running_console(tmp_path_factory.mktemp("console"), broker, exposures) as running:
        yield running


@pytest.fixture
def api(console: RunningConsole) -> Iterator[httpx.Client]:
    """A client of that console."""
    with console.client() as client:
        yield client


@pytest.fixture
def ask(api: httpx.Client) -> Callable[..., httpx.Response]:
    """Ask in SQL."""

    def ask(query: str, form: str = "json") -> httpx.Response:
        return api.post("/api/sql", params={"format": form}, content=query.encode())

    return ask


@pytest.fixture
def expose(broker: KafkaConnection) -> Callable[..., None]:
    """Write exposures into the log, spread over the partitions."""

    def expose(*exposures: dict[str, Any], raw: Sequence[bytes] = ()) -> None:
        run_apart(write(broker, [framed(**fields) for fields in exposures] + list(raw)))

    return expose


async def write(broker: KafkaConnection, values: Sequence[bytes]) -> None:
    """Append records to the topic `exposures`, over its partitions in turn."""
    producer: Any = AIOKafkaProducer(**broker.client_settings(), **PRODUCER)
    try:
        await producer.start()
        partitions = len(await producer.partitions_for(EXPOSURES))
        sent = [
            await producer.send(EXPOSURES, value, partition=number % partitions) for number, value in enumerate(values)
        ]
        await asyncio.gather(*sent)
    finally:
        await producer.stop()
