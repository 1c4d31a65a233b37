"""The gateway's application and a client of it; a file that needs another `gateway` has its own."""

from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import httpx
import pytest
from support.memory_gateway import MemoryGateway
from support.served_gateway import Server

_SPECS: Final = Path(__file__).parents[2].joinpath("data", "specs.json").read_bytes()


@pytest.fixture
async def gateway() -> MemoryGateway:
    """An application that serves config specs."""
    made = MemoryGateway()
    made.push(_SPECS)
    return made


@pytest.fixture
async def http(gateway: MemoryGateway) -> AsyncIterator[httpx.AsyncClient]:
    """A client of the application under test."""
    async with httpx.AsyncClient(transport=httpx.ASGITransport(gateway.app), base_url="http://gateway") as client:
        yield client


@pytest.fixture
async def server() -> AsyncIterator[Server]:
    """An application that is served, with connections that end with the test."""
    made = Server(MemoryGateway())
    await made.http.start()
    yield made
    for client in made.clients:
        await client.close()
    await made.http.stop()
