"""A whole stack that strangers send to, and what became of each thing they sent."""

import contextlib
import re
import socket
import time
from collections import Counter, defaultdict
from collections.abc import AsyncIterator, Callable, Iterable, Iterator, Sequence
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any, NamedTuple

import httpx
import orjson
from aiokafka import TopicPartition
from support.read_log import read_whole
from support.sdk_bench import Bench

from ops.stack.local import LocalStack
from schemas import avro, chunk, keys
from schemas.keys import KeyKind
from schemas.topics import DLQ_INGEST, DLQ_WORKER, EVENTS_RAW, KEYS

PATIENCE_S = 60.0
SECRET, CLIENT, CONSOLE, REVOKED = (
    keys.generate(kind) for kind in (KeyKind.SECRET, KeyKind.CLIENT, KeyKind.CONSOLE, KeyKind.SECRET)
)

Pieces = Callable[[], Iterable[bytes]]
"""What is sent piece after piece, until it ends or the gateway has had enough."""


class Answer(NamedTuple):
    """One answer; status 0: the connection was closed without one."""

    status: int
    headers: dict[str, str]
    body: bytes
    is_closed: bool

    @property
    def reason(self) -> str:
        """Why the request was refused, "" if it was not."""
        return str(orjson.loads(self.body).get("reason", "")) if self.body[:1] == b"{" else ""

    @property
    def request_id(self) -> str:
        """What its rows carry."""
        return self.headers.get("x-headrace-request-id", "")


NO_ANSWER = Answer(0, {}, b"", is_closed=True)


def request(body: bytes, path: str = "/v1/log_event", *headers: str, key: str = SECRET, method: str = "POST") -> bytes:
    """Return a request as an SDK would send it, byte for byte. A header of the name "" is left out."""
    head = [f"{method} {path} HTTP/1.1", "host: gateway", f"content-length: {len(body)}", *headers]
    if key:
        head.append(f"statsig-api-key: {key}")
    return "\r\n".join([*head, "", ""]).encode() + body


def chunked(pieces: list[bytes]) -> bytes:
    """Return a request whose body comes in chunks (RFC 9112, 7.1)."""
    head = request(b"").replace(b"content-length: 0", b"transfer-encoding: chunked")
    return head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"


class Connection:
    """A bare connection that blocks."""

    def __init__(self, port: int) -> None:
        self._socket = socket.create_connection(("127.0.0.1", port), PATIENCE_S)
        self._received = b""

    def send(self, pieces: Iterable[bytes]) -> None:
        """Send, unless the other side has closed."""
        with contextlib.suppress(BrokenPipeError, ConnectionResetError):
            for piece in pieces:
                self._socket.sendall(piece)

    def end_sending(self) -> None:
        """Say that nothing more will come, and go on listening."""
        self._socket.shutdown(socket.SHUT_WR)

    def answer(self) -> Answer:
        """Wait for one answer, and see whether the connection is kept."""
        while b"\r\n\r\n" not in self._received:
            if not self._receive():
                return NO_ANSWER
        head, self._received = self._received.split(b"\r\n\r\n", 1)
        status, *lines = head.decode("latin-1").split("\r\n")
        headers = dict(line.lower().split(": ", 1) for line in lines)
        size = int(headers.get("content-length", 0))
        while len(self._received) < size:
            if not self._receive():
                return NO_ANSWER
        body, self._received = self._received[:size], self._received[size:]
        closed = headers.get("connection") == "close" and not self._receive()
        return Answer(int(status.split()[1]), headers, body, closed)

    def is_closed(self) -> bool:
        """Wait until the other side closes or says something."""
        return not self._receive()

    def close(self) -> None:
        """Hang up."""
        self._socket.close()

    def _receive(self) -> bool:
        try:
            piece = self._socket.recv(65_536)
        except ConnectionResetError:
            piece = b""
        self._received += piece
        return bool(piece)


@dataclass
class Fate:
    """What became of the events of one request."""

    landed: list[dict[str, Any]] = field(default_factory=list)
    in_log: list[bytes] = field(default_factory=list)
    refused: list[bytes] = field(default_factory=list)
    """What the gateway refused of it."""
    dead: list[tuple[str, bytes]] = field(default_factory=list)
    """Reason and bytes, of the gateway's and of the worker's dead letters."""

    @property
    def reasons(self) -> Counter[str]:
        """How many died of what."""
        return Counter(reason for reason, _ in self.dead)


class HostileGateway:
    """The gateway of a running stack, and all that stands behind it."""

    def __init__(self, bench: Bench, stack: LocalStack) -> None:
        self.bench = bench
        self.settings = stack.settings
        self.port = stack.settings.gateway_port
        self.log = stack.log_path("gateway")
        self.process_id = bench.process("gateway")
        admin = f"http://127.0.0.1:{stack.settings.admin_port('gateway')}"
        self._admin = httpx.Client(base_url=admin, trust_env=False, timeout=PATIENCE_S)

    async def prepare(self) -> None:
        """Make the keys known, and begin to look at the log here."""
        now_ms = time.time_ns() // 1_000_000
        others = [
            keys.record_of(CONSOLE, KeyKind.CONSOLE, "default", "production", now_ms),
            keys.KeyRecord(keys.hash_of(REVOKED), "secret-gone", KeyKind.SECRET, "default", "production", 1, 2),
        ]
        await self.bench._write([(KEYS, record.key_hash.encode(), keys.encode(record)) for record in others])
        await self.bench.know([SECRET, CLIENT])

    @contextlib.contextmanager
    def connection(self) -> Iterator[Connection]:
        """Connect, and hang up at the end."""
        made = Connection(self.port)
        try:
            yield made
        finally:
            made.close()

    def ask(self, data: bytes | Pieces) -> Answer:
        """Send one request over a connection of its own and return its answer. Blocks."""
        with self.connection() as connection:
            connection.send([data] if isinstance(data, bytes) else data())
            return connection.answer()

    async def fates(self) -> dict[str, Fate]:
        """Return what became of each request since `prepare`, by request id, when all of it has."""
        await self.bench.settle()
        found: dict[str, Fate] = defaultdict(Fate)
        for record in await self._records(EVENTS_RAW):
            for part in chunk.decode(record.value).requests:
                found[part.request_id].in_log += map(bytes, part.events)
        for topic in (DLQ_INGEST, DLQ_WORKER):
            for record in await self._records(topic):
                letter = avro.DEAD_LETTER.decode(record.value[avro.FRAME_BYTES :])
                fate = found[letter["request_id"]]
                fate.dead.append((letter["reason"], letter["original"]))
                fate.refused += [letter["original"]] if topic == DLQ_INGEST else []
        for table in ("exposures WHERE origin_part = 0", "custom_events"):
            for row in await self.bench._rows(f"SELECT * FROM {table}"):
                found[row["request_id"]].landed.append(row)
        return found

    async def _records(self, topic: str) -> Sequence[Any]:
        partitions = [TopicPartition(topic, number) for number in range(self.settings.partitions)]
        return await read_whole(self.settings.kafka, partitions)

    def counted(self, name: str) -> float:
        """Return a metric of the gateway, with its labels as they stand there. Blocks."""
        return sum(
            float(line.rpartition(" ")[2]) for line in self.metrics().splitlines() if line.startswith(f"{name} ")
        )

    def metrics(self) -> str:
        """Return all metrics of the gateway. Blocks."""
        return self._admin.get("/metrics").text

    def close(self) -> None:
        """Let go of the connections."""
        self._admin.close()

    def resident_bytes(self) -> int:
        """Return the memory that the gateway's process has in hand now."""
        return self._memory("VmRSS")

    def forget_peak(self) -> None:
        """Let `peak_bytes` count from here (proc(5), /proc/pid/clear_refs)."""
        Path(f"/proc/{self.process_id}/clear_refs").write_text("5")

    def peak_bytes(self) -> int:
        """Return the most memory that the gateway's process had in hand since `forget_peak`."""
        return self._memory("VmHWM")

    def _memory(self, name: str) -> int:
        status = Path(f"/proc/{self.process_id}/status").read_text()
        found = re.search(rf"^{name}:\s+(\d+) kB$", status, re.MULTILINE)
        assert found is not None
        return int(found[1]) * 1024


@contextlib.asynccontextmanager
async def running_hostile_gateway(stack: LocalStack) -> AsyncIterator[HostileGateway]:
    """Run a whole stack for hostile senders."""
    async with stack:
        bench = Bench(stack)
        try:
            await bench.prepare()
            gateway = HostileGateway(bench, stack)
            try:
                await gateway.prepare()
                yield gateway
            finally:
                gateway.close()
        finally:
            await bench.close()
