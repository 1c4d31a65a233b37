"""The sender's account: what was sent, acknowledged and refused is exactly what the other side saw."""

import asyncio
from collections import Counter
from collections.abc import AsyncIterator
from contextlib import asynccontextmanager
from pathlib import Path
from typing import Any

import orjson
import pytest
import pytest_asyncio

from ops.loadgen.bodies import LOAD_ID
from ops.loadgen.connection import read_answer
from ops.loadgen.ledger import Ledger
from ops.loadgen.send import Load, Sender
from ops.loadgen.summary import quantile

ACCEPTED = b'HTTP/1.1 202 Accepted\r\ncontent-type: application/json\r\ncontent-length: 16\r\n\r\n{"success":true}'
BUSY = b'HTTP/1.1 503 Service Unavailable\r\ncontent-length: 17\r\n\r\n{"success":false}'
REFUSED = b"HTTP/1.1 400 Bad Request\r\ncontent-length: 2\r\n\r\n{}"
RESET = b""


class Gateway:
    """Answers as it is told, then 202; counts the ids of what it accepted."""

    def __init__(self) -> None:
        self.answers: list[bytes] = []
        self.accepted: Counter[str] = Counter()
        self.requests = 0
        self.port = 0

    @asynccontextmanager
    async def listening(self) -> "AsyncIterator[Gateway]":
        server = await asyncio.start_server(self._serve, "127.0.0.1", 0)
        self.port = server.sockets[0].getsockname()[1]
        yield self
        server.close()
        await server.wait_closed()

    async def _serve(self, reader: asyncio.StreamReader, writer: asyncio.StreamWriter) -> None:
        try:
            while True:
                head = await reader.readuntil(b"\r\n\r\n")
                length = int(head.partition(b"content-length: ")[2].split(b"\r\n")[0])
                body = await reader.readexactly(length)
                self.requests += 1
                answer = self.answers.pop(0) if self.answers else ACCEPTED
                if answer == RESET:
                    break
                if answer == ACCEPTED:
                    self.accepted.update(event["metadata"][LOAD_ID] for event in orjson.loads(body)["events"])
                writer.write(answer)
        except (asyncio.IncompleteReadError, ConnectionResetError, asyncio.CancelledError):
            pass  # the sender is done, or the test is
        finally:
            writer.close()


@pytest_asyncio.fixture
async def gateway() -> AsyncIterator[Gateway]:
    async with Gateway().listening() as running:
        yield running


@pytest.fixture(autouse=True)
def _without_pauses(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr("ops.loadgen.send._FIRST_PAUSE_S", 0.01)
    monkeypatch.setattr("ops.loadgen.send._RECONNECT_S", 0.01)


def load(gateway: Gateway, **arguments: Any) -> Load:
    return Load(
        host="127.0.0.1", port=gateway.port, key="secret-key", run="ab12",
        **{"connections": 3, "seconds": 0.0, "events": 1_000, **arguments},
    )  # fmt: skip


async def test_so_many_events_are_sent_as_were_asked_for(gateway: Gateway):
    summary = await Sender(load(gateway, events=1_234)).run()
    assert (summary.sent, summary.acked, summary.refused) == (1_234, 1_234, 0)
    assert len(gateway.accepted) == 1_234
    assert set(gateway.accepted.values()) == {1}


async def test_what_was_answered_503_or_not_at_all_is_sent_again(gateway: Gateway):
    gateway.answers = [BUSY, ACCEPTED, RESET, BUSY, RESET]
    summary = await Sender(load(gateway)).run()
    assert (summary.acked, summary.refused) == (1_000, 0)
    assert summary.retried_requests == 4
    assert summary.lost_connections == 2
    assert len(gateway.accepted) == 1_000


async def test_what_was_refused_for_good_is_not_sent_again(gateway: Gateway):
    gateway.answers = [REFUSED]
    summary = await Sender(load(gateway)).run()
    assert (summary.acked, summary.refused) == (950, 50)
    assert gateway.requests == 20
    assert summary.statuses == {202: 19, 400: 1}


async def test_what_is_not_acknowledged_by_the_end_is_counted_as_refused(gateway: Gateway):
    gateway.answers = [BUSY] * 1_000
    summary = await Sender(load(gateway, drain_s=0.2)).run()
    assert summary.acked == 0
    assert summary.refused == summary.sent > 0


async def test_copies_are_the_bytes_of_what_was_acknowledged(gateway: Gateway):
    summary = await Sender(load(gateway, copies=1.0)).run()
    assert (summary.sent, summary.acked, summary.copies) == (1_000, 1_000, 1_000)
    assert set(gateway.accepted.values()) == {2}


async def test_the_ledger_names_what_was_sent_and_what_was_acknowledged(gateway: Gateway, tmp_path: Path):
    gateway.answers = [REFUSED, ACCEPTED, BUSY]
    path = tmp_path / "ledger.jsonl"
    await Sender(load(gateway, ledger=path)).run()
    ledger = Ledger(path)
    assert ledger.run == "ab12"
    assert ledger.acked == set(gateway.accepted)
    assert len(ledger.sent - ledger.acked) == 50


async def test_a_rate_is_kept_whether_answers_come_or_not(gateway: Gateway):
    summary = await Sender(load(gateway, rate=5_000.0, events=0, seconds=0.5)).run()
    assert summary.acked == summary.sent == 2_500


async def test_nobody_listening_is_an_error():
    with pytest.raises(OSError, match="Connect"):
        await Sender(Load(host="127.0.0.1", port=9, key="k", run="r")).run()


@pytest.mark.parametrize("cut", range(len(ACCEPTED)))
def test_an_answer_is_read_only_when_it_is_whole(cut: int):
    assert read_answer(ACCEPTED[:cut]) is None
    assert read_answer(ACCEPTED + b"HTTP") == (202, len(ACCEPTED))


@pytest.mark.parametrize("answer", [b"HTTP/1.1 200 OK\r\n\r\n", b"SSH-2.0\r\ncontent-length: 0\r\n\r\n"])
def test_what_is_no_answer_with_a_length_is_refused(answer: bytes):
    with pytest.raises(ValueError, match="content-length"):
        read_answer(answer)


def test_a_quantile_is_a_value_that_occurred():
    values = [float(number) for number in range(1, 101)]
    assert (quantile(values, 0.5), quantile(values, 0.99), quantile(values, 1.0)) == (50.0, 99.0, 100.0)
    assert quantile([7.0], 0.99) == 7.0
    assert quantile([], 0.99) == 0.0
