"""The live stream on a real broker: quick, resumable, filtered, and honest about what it leaves out."""

import asyncio
import itertools
import socket
import threading
import time
import uuid
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import httpx
import msgspec
import orjson
import pytest
from aiokafka import AIOKafkaProducer
from support.brokers import run_apart
from support.console_crowd import crowd
from support.console_process import PATIENCE_S, RunningConsole, running_console
from support.waiting import until

from ops.commands.tail import Messages
from schemas import chunk, ledger
from schemas.chunk import Chunk, RequestPart
from schemas.dead_letter import DeadLetter
from schemas.kafka import PRODUCER, KafkaConnection
from schemas.ledger import Copies, Run
from schemas.reasons import Reason, Stage
from schemas.topics import DLQ_WORKER, EVENTS_RAW, LEDGER

pytestmark = pytest.mark.slow

Expose = Callable[..., None]


class Stream:
    """An open stream, read message by message."""

    def __init__(self, answer: httpx.Response) -> None:
        self._lines = answer.iter_lines()
        self._messages = Messages()

    @property
    def position(self) -> str:
        """The id to resume from."""
        return self._messages.last_id

    def messages(self) -> Iterator[tuple[str, dict[str, Any]]]:
        """Yield (event, data)."""
        for line in self._lines:
            if message := self._messages.take(line):
                yield message[0], orjson.loads(message[1])

    def until(self, event: str) -> dict[str, Any]:
        """Return the next message of a kind."""
        return next(data for kind, data in self.messages() if kind == event)

    def exposures(self, count: int) -> list[dict[str, Any]]:
        """Return the next exposures."""
        return list(itertools.islice((data for kind, data in self.messages() if kind == "exposure"), count))

    def settled(self) -> str:
        """Read on until nothing comes any more; return the position."""
        while self.until("tally")["matched"]:
            pass
        return self.position


@contextmanager
def watching(console: RunningConsole, position: str = "", **parameters: object) -> Iterator[Stream]:
    """Open a stream, and wait until it is live."""
    headers = {"last-event-id": position} if position else {}
    with (
        console.client() as client,
        client.stream("GET", "/api/exposures/stream", params=parameters, headers=headers) as answer,
    ):
        assert answer.status_code == 200, answer.read()
        yield Stream(answer)


@pytest.fixture
def name() -> str:
    """A name that no other test uses."""
    return f"experiment-{uuid.uuid4().hex}"


def test_an_exposure_is_shown_as_it_was_decided(console: RunningConsole, expose: Expose, name: str):
    with watching(console, name=name, tier="*") as stream:
        stream.until("status")
        expose({"name": name, "unit_id": "u9", "group_name": "Blue", "tier": "staging", "origin_offset": 5})
        (shown,) = stream.exposures(1)
    assert (shown["name"], shown["unit_id"], shown["group_name"], shown["tier"]) == (name, "u9", "Blue", "staging")
    assert shown["origin"] == "1/0/5/0/0"
    assert "user" not in shown


def test_an_exposure_is_on_the_stream_although_no_other_follows(console: RunningConsole, expose: Expose, name: str):
    with watching(console, name=name) as stream:
        stream.until("status")
        for number in range(20):
            expose({"name": name, "origin_offset": number})
            assert [each["origin"] for each in stream.exposures(1)] == [f"1/0/{number}/0/0"]


def test_only_what_the_filters_want_is_shown(console: RunningConsole, expose: Expose, name: str):
    with (
        watching(console, name=f"{name[:-4]}*", kind="gate", tier="production") as gates,
        watching(console, name=name, group="Blue,Green") as arms,
        watching(console, unit=f"{name}-unit") as unit,
    ):
        for stream in (gates, arms, unit):
            stream.until("status")
        expose(
            {"name": name, "kind": "gate", "tier": "staging", "group_name": "", "origin_offset": 1},
            {"name": name, "kind": "experiment", "group_name": "Control", "origin_offset": 2},
            {"name": name, "kind": "experiment", "group_name": "Blue", "origin_offset": 3},
            {"name": name, "kind": "experiment", "group_name": "Green", "origin_offset": 4},
            {"name": name, "kind": "gate", "group_name": "", "origin_offset": 5, "stable_id": f"{name}-unit"},
        )
        assert [each["origin"] for each in gates.exposures(1)] == ["1/0/5/0/0"]
        assert {each["group_name"] for each in arms.exposures(2)} == {"Blue", "Green"}
        assert [each["origin"] for each in unit.exposures(1)] == ["1/0/5/0/0"]


def test_who_comes_back_is_shown_what_happened_meanwhile_and_nothing_twice(
    console: RunningConsole, expose: Expose, name: str
):
    with watching(console, name=name) as stream:
        stream.until("status")
        expose(*[{"name": name, "origin_offset": number} for number in range(10)])
        before = stream.exposures(10)
        position = stream.settled()
    expose(*[{"name": name, "origin_offset": number} for number in range(10, 30)])
    with watching(console, position, name=name) as stream:
        meanwhile = stream.exposures(20)
        stream.until("status")
        expose({"name": name, "origin_offset": 30})
        after = stream.exposures(1)
    offsets = [int(each["origin"].split("/")[2]) for each in before + meanwhile + after]
    assert sorted(offsets) == list(range(31))


def test_who_opens_the_stream_can_begin_with_the_last_few(console: RunningConsole, expose: Expose, name: str):
    expose(*[{"name": name, "origin_offset": number} for number in range(30)])
    with watching(console, name=name, recent=5) as stream:
        assert [each["name"] for each in stream.exposures(5)] == [name] * 5
        stream.until("status")


def test_a_position_that_is_long_gone_or_foreign_does_no_harm(console: RunningConsole, expose: Expose, name: str):
    for position in ("0-0.1-0", "7-1", "0-999999999999"):
        with watching(console, position, name=name) as stream:
            stream.until("status")
            expose({"name": name, "origin_offset": 1})
            assert stream.exposures(1)[0]["name"] == name


def test_records_that_are_no_exposures_are_counted_and_end_nothing(console: RunningConsole, expose: Expose, name: str):
    with watching(console, name=name) as stream:
        stream.until("status")
        expose({"name": name}, raw=[b"", b"\x00", b"random bytes", b"\x00\x00\x00\x00\x01body", b"\x00" * 50])
        stream.exposures(1)
        unreadable = 0
        while unreadable < 5:
            unreadable += stream.until("tally")["unreadable"]
    assert unreadable == 5


def test_too_much_to_read_is_sampled_and_the_true_rate_is_told(console: RunningConsole, expose: Expose, name: str):
    with watching(console, name=name, rate=5) as stream:
        stream.until("status")
        expose(*[{"name": name, "origin_offset": number} for number in range(2000)])
        read = shown = matched = left_out = 0
        took_s = 0.0
        while read < 2000:
            tally = stream.until("tally")
            took_s += tally["seconds"]
            read += tally["read"]
            shown += tally["shown"]
            matched += tally["matched"]
            left_out += tally["sampled_out"]
    assert read == 2000
    assert 5 <= shown <= 5 * (1 + took_s)
    assert matched == shown + left_out


def test_fifty_viewers_are_all_shown_everything(console: RunningConsole, expose: Expose, name: str):
    seen: dict[int, int] = {}

    def watch(number: int, live: threading.Barrier) -> None:
        with watching(console, name=name) as stream:
            stream.until("status")
            live.wait(PATIENCE_S)
            seen[number] = len({each["origin"] for each in stream.exposures(100)})

    live = threading.Barrier(51)
    viewers = [threading.Thread(target=watch, args=(number, live)) for number in range(50)]
    for viewer in viewers:
        viewer.start()
    live.wait(PATIENCE_S)
    expose(*[{"name": name, "origin_offset": number} for number in range(100)])
    for viewer in viewers:
        viewer.join(PATIENCE_S)
    assert seen == dict.fromkeys(range(50), 100)


async def test_without_a_log_everything_says_so_and_sql_still_answers(tmp_path: Path):
    nobody = KafkaConnection("127.0.0.1:9")
    with running_console(tmp_path / "alone", nobody) as console, console.client() as client:
        with watching(console) as stream:
            status = stream.until("status")
            assert status["state"] == "waiting"
            assert status["message"]
        await until(lambda: client.get("/api/pipeline").json()["log"]["state"] == "unreachable")
        pipeline = client.get("/api/pipeline").json()
        assert pipeline["log"]["events_per_s"] is None
        assert pipeline["store"]["state"] == "ok"
        assert client.get("/api/sql", params={"query": "SELECT 1"}).json()["rows"] == [[1]]
        assert client.get("/api/experiments").json()["experiments"] == []


async def test_a_console_that_is_told_to_stop_ends_its_streams_and_queries_and_then_itself(
    tmp_path: Path, broker: KafkaConnection
):
    with running_console(tmp_path / "stopped", broker, time_limit_s=3600) as console:
        with watching(console) as stream:
            stream.until("status")
            async with crowd(console) as endless:
                console.process.terminate()
                assert await asyncio.to_thread(console.process.wait, PATIENCE_S) == 0
                answers = await asyncio.gather(*endless.inside, return_exceptions=True)
            with pytest.raises((httpx.TransportError, StopIteration)):
                stream.until("never")
        for answer in answers:
            assert isinstance(answer, httpx.TransportError) or answer.status_code == 503
        assert "Traceback" not in console.log.read_text()


def test_a_duplicate_and_a_reject_are_on_the_stream_with_what_became_of_them(
    console: RunningConsole, broker: KafkaConnection, name: str
):
    with (
        watching(console, experiment=name, outcome="duplicate") as copies,
        watching(console, experiment=name, outcome="rejected", reason="invalid_time") as rejects,
    ):
        for stream in (copies, rejects):
            stream.until("status")
        run_apart(refuse_and_repeat(broker, name))
        (copy,), (reject,) = copies.exposures(1), rejects.exposures(1)
        resumed = copies.settled()
    assert (copy["outcome"], copy["unit_id"], copy["rule_id"]) == ("duplicate", "u-copy", "blue")
    assert (reject["outcome"], reject["unit_id"], reject["rejected_at"]) == ("rejected", "u-refused", "worker")
    assert "never shown" not in repr(reject)
    run_apart(refuse_and_repeat(broker, name))
    with watching(console, resumed, experiment=name, outcome="duplicate,rejected") as stream:
        assert {each["outcome"] for each in stream.exposures(2)} == {"duplicate", "rejected"}


def test_a_viewer_that_reads_nothing_is_dropped_and_harms_nobody(
    tmp_path: Path, broker: KafkaConnection, expose: Expose, name: str
):
    with running_console(tmp_path / "slow", broker, viewer_patience_s=0.2) as console, socket.socket() as slow:
        slow.setsockopt(socket.SOL_SOCKET, socket.SO_RCVBUF, 4096)
        host, port = console.address.removeprefix("http://").split(":")
        slow.connect((host, int(port)))
        slow.sendall(f"GET /api/exposures/stream?name={name} HTTP/1.1\r\nHost: {host}\r\n\r\n".encode())
        with watching(console, name=name, rate=1) as quick:
            quick.until("status")
            long = "x" * 50_000
            while "slow_viewer_dropped" not in console.log.read_text():
                expose(*[{"name": name, "unit_id": f"{number}{long}"} for number in range(50)])
            assert quick.exposures(1)[0]["name"] == name
            quick.until("tally")
    assert console.log.read_text().count("slow_viewer_dropped") == 1


async def refuse_and_repeat(broker: KafkaConnection, name: str) -> None:
    """Write what gateway and worker would: a chunk of one event, that it was a copy, and that another is dead."""
    event = {"eventName": "statsig::config_exposure", "time": 1, "metadata": {"config": name, "ruleID": "blue"}}
    events = [msgspec.Raw(orjson.dumps({**event, "user": {"userID": "u-copy"}}))]
    part = RequestPart("default", "production", "k", "r", int(time.time() * 1000), events=events)
    refused = {**event, "user": {"userID": "u-refused", "privateAttributes": {"email": "never shown"}}}
    letter = DeadLetter(
        Stage.WORKER, Reason.INVALID_TIME, "no time", orjson.dumps(refused), 1, event_name=event["eventName"]
    )
    producer: Any = AIOKafkaProducer(**broker.client_settings(), **PRODUCER)
    try:
        await producer.start()
        at = await producer.send_and_wait(EVENTS_RAW, chunk.encode(Chunk([part])), partition=1)
        value = ledger.encode([Run("default", "production", "k", 0, 1)], [Copies(0, 1, 1, 0)], [])
        await producer.send_and_wait(LEDGER, value, key=ledger.key_of(1, 1, at.offset))
        await producer.send_and_wait(DLQ_WORKER, letter.encode())
    finally:
        await producer.stop()
