"""The gateway's application over a log in memory, served as it is, and bare connections to it."""

import asyncio
from collections.abc import Callable

from support.memory_gateway import SECRET, MemoryGateway

from ingest.protocol import GatewayProtocol
from ops.http_server import HttpServer, bind

EVENT = b'{"eventName":"purchase","user":{"userID":"u-1"},"time":1767225600000}'
BODY = b'{"events":[' + EVENT + b"]}"
PATIENCE_S = 60.0


class Client:
    """A bare connection: it sends what it is told, byte for byte."""

    def __init__(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        self.reader = reader
        self.writer = writer

    async def send(self, data: bytes) -> None:
        self.writer.write(data)
        await self.writer.drain()

    async def answer(self) -> tuple[int, dict[str, str], bytes]:
        """Read one answer: status, headers, body."""
        async with asyncio.timeout(PATIENCE_S):
            head = (await self.reader.readuntil(b"\r\n\r\n")).decode("latin-1")
            status_line, *lines = head.rstrip().split("\r\n")
            headers = dict(line.lower().split(": ", 1) for line in lines)
            body = await self.reader.readexactly(int(headers.get("content-length", 0)))
        return int(status_line.split(" ")[1]), headers, body

    async def is_closed(self) -> bool:
        async with asyncio.timeout(PATIENCE_S):
            try:
                return await self.reader.read(1) == b""
            except ConnectionResetError:
                return True

    async def close(self) -> None:
        self.writer.close()


def request(
    body: bytes = BODY, *, path: str = "/v1/log_event", version: str = "1.1", extra: str = "", length: int | None = None
) -> bytes:
    told = len(body) if length is None else length
    head = f"POST {path} HTTP/{version}\r\nhost: gateway\r\nstatsig-api-key: {SECRET}\r\n"
    head += f"content-length: {told}\r\n{extra}\r\n"
    return head.encode("latin-1") + body


class Server:
    def __init__(self, gateway: MemoryGateway) -> None:
        self.gateway = gateway
        self.http = HttpServer(gateway.app, bind("127.0.0.1", 0, "X"), protocol=GatewayProtocol, drain_s=5)
        self.clients: list[Client] = []

    async def connect(self) -> Client:
        client = Client(*await asyncio.open_connection("127.0.0.1", self.http.port, limit=1 << 20))
        self.clients.append(client)
        return client

    async def ask(self, data: bytes) -> tuple[int, dict[str, str], bytes]:
        client = await self.connect()
        await client.send(data)
        return await client.answer()


async def until(condition: Callable[[], object]) -> None:
    async with asyncio.timeout(PATIENCE_S):
        while not condition():  # noqa: ASYNC110 - what is waited for tells nobody when it happens
            await asyncio.sleep(0.005)
