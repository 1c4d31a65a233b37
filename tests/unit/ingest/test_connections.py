"""Connections: too many, too slow, half open, left early, and what becomes of them when a gateway stops."""

import asyncio
import contextlib
import gzip
import json
from collections.abc import Sequence
from pathlib import Path

import pytest
from support.clocks import ShiftedClock
from support.memory_gateway import SECRET
from support.served_gateway import BODY, EVENT, Server, request, until

import ingest.log_events
import ingest.protocol
from ingest.linger import Record
from schemas.limits import CONNECTIONS, GATEWAY_IN_FLIGHT_BYTES, HEADER_BLOCK_BYTES, IDLE_KEEP_ALIVE_S, WIRE_BODY_BYTES

SPECS = Path(__file__).parents[2].joinpath("data", "specs.json").read_bytes()


@pytest.mark.parametrize("cut", [5, 90, len(request()) - 10], ids=["request line", "headers", "body"])
@pytest.mark.parametrize("earlier", [0, 1])
async def test_a_request_that_is_on_its_way_in_is_answered_before_the_gateway_stops(
    server: Server, cut: int, earlier: int
) -> None:
    client, idle = await server.connect(), await server.connect()
    for used in (client, idle)[: 2 * earlier]:
        await used.send(request())
        assert (await used.answer())[0] == 202
    await client.send(request()[:cut])
    await until(lambda: any(connection._began_s for connection in server.http._server.server_state.connections))
    stopping = asyncio.create_task(server.http.stop())
    assert await idle.is_closed()
    await client.send(request()[cut:])
    status, headers, _ = await client.answer()
    assert (status, headers["connection"]) == (202, "close")
    assert await client.is_closed()
    await stopping
    assert server.gateway.log.events() == [EVENT] * (1 + 2 * earlier)


@pytest.mark.parametrize("more", [-1, 0, 1])
async def test_beyond_the_limit_on_connections_the_longest_idle_is_closed(
    server: Server, monkeypatch: pytest.MonkeyPatch, more: int
) -> None:
    monkeypatch.setattr(ingest.protocol, "most_connections", lambda: 4)
    begun = await server.connect()
    await begun.send(request()[:50])
    clients = []
    for _ in range(3 + more):
        clients.append(await server.connect())
        await clients[-1].send(request())
        assert (await clients[-1].answer())[0] == 202
    if more > 0:
        assert await clients[0].is_closed()
    for client in clients[max(0, more) :]:
        await client.send(request())
        assert (await client.answer())[0] == 202
    await begun.send(request()[50:])
    assert (await begun.answer())[0] == 202


async def test_where_no_connection_is_idle_a_new_one_is_refused(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest.protocol, "most_connections", lambda: 2)
    busy = [await server.connect() for _ in range(2)]
    for client in busy:
        await client.send(request()[:50])
    await until(lambda: sum(bool(one._began_s) for one in server.http._server.server_state.connections) == 2)
    new = await server.connect()
    status, headers, body = await new.answer()
    assert (status, headers["connection"], json.loads(body)["reason"]) == (503, "close", "overloaded")
    for client in busy:
        await client.send(request()[50:])
        assert (await client.answer())[0] == 202


def test_connections_never_need_more_files_than_the_process_may_open(monkeypatch: pytest.MonkeyPatch) -> None:
    most = ingest.protocol.most_connections.__wrapped__
    for files, expected in ((1024, 924), (50, 1), (10**6, CONNECTIONS)):
        monkeypatch.setattr("resource.getrlimit", lambda _, files=files: (files, files))
        assert most() == expected


@pytest.mark.parametrize("ahead", [0, 1, 3])
@pytest.mark.parametrize("size", [0, 100_000])
@pytest.mark.parametrize("rest", [b"", b"POST /v1/log_"])
async def test_a_client_that_will_send_no_more_gets_its_answers(
    server: Server, ahead: int, size: int, rest: bytes
) -> None:
    """`nc -N`, and everything else that closes its half when it has said what it has to say."""
    client = await server.connect()
    body = b'{"events":[' + EVENT + b'],"pad":"' + b"x" * size + b'"}'
    await client.send(request(body) * (1 + ahead) + rest)
    client.writer.write_eof()
    assert [(await client.answer())[0] for _ in range(1 + ahead)] == [202] * (1 + ahead)
    assert await client.is_closed()
    assert server.gateway.log.events() == [EVENT] * (1 + ahead)


async def test_a_client_that_will_send_no_more_and_waits_for_nothing_is_let_go(server: Server) -> None:
    for data in (b"", b"POST /v1/log_", request(length=len(BODY) + 10), request(length=400_000)):
        client = await server.connect()
        await client.send(data)
        client.writer.write_eof()
        assert await client.is_closed()
    await until(lambda: not server.http._server.server_state.connections)
    assert server.gateway.log.events() == []


@pytest.mark.parametrize("over", [-1, 0, 1])
async def test_the_rest_of_a_request_that_is_answered_is_read_so_far_and_no_further(server: Server, over: int) -> None:
    client = await server.connect()
    rest = WIRE_BODY_BYTES + over
    await client.send(request(b"", length=rest).replace(SECRET.encode(), b"secret-wrong"))
    assert (await client.answer())[0] == 401
    for _ in range(rest // 65_536):
        await client.send(b"x" * 65_536)
    await client.send(b"x" * (rest % 65_536))
    if over > 0:
        assert await client.is_closed()
        return
    await client.send(request())
    assert (await client.answer())[0] == 202


async def test_an_answered_request_that_never_ends_is_cut_without_a_second_answer(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest.protocol, "UNFINISHED_REQUEST_S", 0.2)
    client = await server.connect()
    await client.send(request(length=90).replace(SECRET.encode(), b"secret-wrong"))
    assert (await client.answer())[0] == 401
    assert await client.is_closed()


@pytest.mark.parametrize(("over", "status"), [(-1, 202), (0, 202), (1, 503)])
@pytest.mark.parametrize("how", ["small", "large", "compressed"])
async def test_what_a_gateway_holds_has_a_bound_whatever_it_waits_for(
    server: Server, how: str, over: int, status: int
) -> None:
    size = {"small": 500, "large": 300_000, "compressed": 2_000_000}[how]
    body = b'{"events":[' + EVENT + b'],"pad":"' + b"x" * (size - len(EVENT) - 22) + b'"}'
    server.gateway.log_events.in_flight.take(GATEWAY_IN_FLIGHT_BYTES - len(body) + over)
    before = server.gateway.log_events.held_bytes()
    data = request(gzip.compress(body), extra="content-encoding: gzip\r\n") if how == "compressed" else request(body)
    client = await server.connect()
    for _ in range(2):
        await client.send(data)
        answered, headers, answer = await client.answer()
        assert (answered, json.loads(answer).get("reason", "")) == (status, "overloaded" if status == 503 else "")
        assert headers.get("connection") is None, "a sender that waits for others keeps its connection"
        assert server.gateway.log_events.held_bytes() == before
    assert len(server.gateway.log.events()) == 2 * (status == 202)


@pytest.mark.parametrize(
    "part", [request()[:70], request(length=60_000), request(length=200_000), request(length=8_000_000)]
)
async def test_what_has_come_of_a_request_counts_until_it_is_over(server: Server, part: bytes) -> None:
    clients = [await server.connect() for _ in range(3)]
    for client in clients:
        await client.send(part)
    held = server.gateway.log_events.held_bytes
    await until(lambda: held() >= 3 * min(len(part), len(BODY)))
    for client in clients:
        await client.close()
    await until(lambda: held() == 0)


@pytest.mark.parametrize("path", ["/v1/sdk_exception", "/v1/download_config_specs", "/v1/log_custom_exposure"])
async def test_what_comes_on_any_path_counts(server: Server, path: str) -> None:
    server.gateway.log_events.in_flight.take(GATEWAY_IN_FLIGHT_BYTES - 299_999)
    before = server.gateway.log_events.held_bytes()
    status, _, answer = await server.ask(request(b" " * 300_000, path=path))
    assert (status, json.loads(answer)["reason"]) == (503, "overloaded")
    assert server.gateway.log_events.held_bytes() == before


async def test_where_too_much_is_half_arrived_more_is_told_to_come_again(server: Server) -> None:
    server.gateway.log_events.in_flight.take(GATEWAY_IN_FLIGHT_BYTES - 40)
    client = await server.connect()
    await client.send(request(length=60_000))
    status, _, answer = await client.answer()
    assert (status, json.loads(answer)["reason"]) == (503, "overloaded")
    await client.send(b" " * (60_000 - len(BODY)))
    server.gateway.log_events.in_flight.give_back(GATEWAY_IN_FLIGHT_BYTES - 40)
    await client.send(request())
    assert (await client.answer())[0] == 202
    assert server.gateway.log.events() == [EVENT]


async def test_a_client_that_leaves_in_mid_body_leaves_nothing(server: Server) -> None:
    for data in (request(length=len(BODY) + 10), request(b"{" + b" " * 99_999, length=200_000)):
        client = await server.connect()
        await client.send(data)
        await client.close()
    await until(lambda: not server.http._server.server_state.connections)
    assert (await server.ask(request()))[0] == 202
    assert server.gateway.log.events() == [EVENT]
    assert server.gateway.log_events.held_bytes() == 0


def held_back(server: Server) -> asyncio.Event:
    """Let nothing reach the log before the event that is returned is set."""
    append, release = server.gateway.log.append, asyncio.Event()

    async def slow_append(partition: int, records: Sequence[Record]) -> None:
        await release.wait()
        await append(partition, records)

    server.gateway.linger._append = slow_append
    return release


async def test_a_client_that_leaves_before_its_answer_harms_nobody(server: Server) -> None:
    release = held_back(server)
    for size in (0, 100_000):
        client = await server.connect()
        await client.send(request(b'{"events":[' + EVENT + b'],"pad":"' + b"x" * size + b'"}'))
        await until(lambda: server.gateway.log_events.held_bytes() > 0)
        await client.close()
    release.set()
    await until(lambda: server.gateway.log_events.held_bytes() == 0)
    assert (await server.ask(request()))[0] == 202


def head_of(size: int) -> bytes:
    """Return a request whose request line and headers are counted as `size` bytes."""
    plain = request(extra="x-pad: \r\n")
    counted = len(plain) - len(BODY) - len("POST  HTTP/1.1\r\n") - len("\r\n")
    return request(extra=f"x-pad: {'x' * (size - counted)}\r\n")


@pytest.mark.parametrize(("over", "status"), [(-1, 202), (0, 202), (1, 431), (300_000, 431)])
async def test_the_limit_on_headers_is_inclusive(server: Server, over: int, status: int) -> None:
    client = await server.connect()
    await client.send(head_of(HEADER_BLOCK_BYTES + over))
    got, _, body = await client.answer()
    assert got == status
    if status == 431:
        assert json.loads(body)["reason"] == "headers_too_large"
        assert await client.is_closed()


CHUNKED = (
    f"POST /v1/log_event HTTP/1.1\r\nhost: gateway\r\nstatsig-api-key: {SECRET}\r\ntransfer-encoding: chunked\r\n\r\n"
)


@pytest.mark.parametrize("key", [SECRET, "unknown"])
@pytest.mark.parametrize("piece", [b"a: b\r\n" * 200, b"a: b\r\nlong: ", b"x" * 1000], ids=["many", "one", "no line"])
async def test_what_comes_behind_a_body_and_never_ends_is_cut(server: Server, key: str, piece: bytes) -> None:
    """Trailers, which nobody sends and nobody here reads, and what stands behind the size of a chunk."""
    client = await server.connect()
    await client.send(CHUNKED.replace(SECRET, key).encode() + (b"0\r\n" if piece.startswith(b"a") else b"0;"))
    with contextlib.suppress(ConnectionError):
        async with asyncio.timeout(60):
            for _ in range(20_000):
                await client.send(piece)
                (kept,) = server.http._server.server_state.connections or {None}
                assert kept is None or len(kept.headers or ()) < 10
                if kept is None or kept.transport.is_closing():
                    break
                piece = b"y" * 10_000 if piece.endswith(b"long: ") else piece
            else:
                pytest.fail("it went on for ever")
    await until(lambda: not server.http._server.server_state.connections)


async def test_a_body_in_small_chunks_with_a_trailer_comes_in_whatever_way_it_is_cut(server: Server) -> None:
    body = b'{"events":[' + EVENT + b'],"pad":"' + b"x" * 10_000 + b'"}'
    chunks = b"".join(b"1;extension\r\n%c\r\n" % code for code in body)
    client = await server.connect()
    data = CHUNKED.encode() + chunks + b"0\r\nsum: 1\r\n\r\n"
    assert len(chunks) > 4 * HEADER_BLOCK_BYTES
    for start in range(0, len(data), 11):
        client.writer.write(data[start : start + 11])
        await asyncio.sleep(0)
    assert (await client.answer())[0] == 202
    await client.send(request())
    assert (await client.answer())[0] == 202
    assert server.gateway.log.events() == [EVENT] * 2


@pytest.mark.parametrize("start", [b"POST /v1/log_event?k=", b"POST /v1/log_event HTTP/1.1\r\nstatsig-api-key: "])
async def test_a_head_without_an_end_is_cut(server: Server, start: bytes) -> None:
    client = await server.connect()
    await client.send(start)
    for _ in range(40):
        await asyncio.sleep(0)
        await client.send(b"x" * 4096)
        if server.gateway.count("headrace_gateway_refused_requests_total", reason="headers_too_large"):
            break
    assert (await client.answer())[0] == 431


@pytest.mark.parametrize(
    "start",
    [
        b"P",
        b"POST /v1/log_event HTTP/1.1\r\nhost: x\r\n",
        request()[:-3],
        request(length=200_000),
        request(length=7_000_000),
    ],
)
async def test_a_request_that_does_not_arrive_whole_in_time_is_cut(
    server: Server, start: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest.protocol, "UNFINISHED_REQUEST_S", 0.2)
    client = await server.connect()
    await client.send(start)
    status, headers, body = await client.answer()
    assert (status, headers["connection"], json.loads(body)["reason"]) == (408, "close", "unfinished_request")
    assert await client.is_closed()
    assert server.gateway.log.events() == []


async def test_a_slow_request_does_not_get_more_time_for_every_byte(
    server: Server, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest.protocol, "UNFINISHED_REQUEST_S", 0.3)
    client = await server.connect()
    answered = asyncio.create_task(client.answer())
    for byte in request():
        if answered.done():
            break
        await client.send(bytes([byte]))
        await asyncio.sleep(0.02)
    assert (await answered)[0] == 408


async def test_an_idle_connection_is_kept_and_then_closed(server: Server) -> None:
    clock = ShiftedClock()
    never_used, used = await server.connect(), await server.connect()
    await until(lambda: len(server.http._server.server_state.connections) == 2)
    for _ in range(2):
        clock.advance(IDLE_KEEP_ALIVE_S * 2 / 3)  # a multiple of the time that a request may take
        await used.send(request())
        assert (await used.answer())[0] == 202
    assert await never_used.is_closed()
    clock.advance(IDLE_KEEP_ALIVE_S)
    assert await used.is_closed()


async def test_stopping_answers_what_is_in_hand(server: Server) -> None:
    release = held_back(server)
    client = await server.connect()
    await client.send(request())
    await until(lambda: server.gateway.log_events.held_bytes() > 0)
    stopping = asyncio.create_task(server.http.stop())
    (connection,) = server.http._server.server_state.connections
    await until(lambda: not connection.cycle.keep_alive)
    assert not stopping.done()
    release.set()
    status, headers, _ = await client.answer()
    assert (status, headers["connection"]) == (202, "close")
    await stopping
    assert server.gateway.log.events() == [EVENT]


@pytest.mark.parametrize("part", [request()[:5], request()[:90], request()[:-10], request(length=400_000)])
async def test_what_does_not_come_whole_while_a_gateway_stops_is_told_to_come_again(
    server: Server, part: bytes, monkeypatch: pytest.MonkeyPatch
) -> None:
    monkeypatch.setattr(ingest.protocol, "DRAIN_S", 0.2)
    client = await server.connect()
    await client.send(part)
    await until(lambda: any(connection._began_s for connection in server.http._server.server_state.connections))
    stopping = asyncio.create_task(server.http.stop())
    status, headers, body = await client.answer()
    assert (status, headers["connection"], json.loads(body)["reason"]) == (503, "close", "draining")
    assert await client.is_closed()
    await stopping
    assert server.gateway.log.events() == []


@pytest.mark.parametrize("asked", [1, 3])
async def test_who_asks_and_never_reads_is_cut_off(server: Server, asked: int, monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setattr(ingest.protocol, "UNFINISHED_REQUEST_S", 0.2)
    monkeypatch.setattr(ingest.protocol, "IDLE_KEEP_ALIVE_S", 0.2)
    large = {**json.loads(SPECS), "padding": "x" * 12_000_000}
    server.gateway.push(json.dumps(large).encode())
    client = await server.connect()
    client.writer.transport.pause_reading()  # type: ignore[attr-defined]
    ask = f"GET /v1/download_config_specs HTTP/1.1\r\nhost: gateway\r\nstatsig-api-key: {SECRET}\r\n\r\n"
    await client.send(ask.encode() * asked)
    await until(lambda: any(one.cycle for one in server.http._server.server_state.connections))
    await until(lambda: not server.http._server.server_state.connections)
