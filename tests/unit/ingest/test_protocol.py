"""Requests as they come over a connection: in pieces, ahead of others, compressed, or asking for more."""

import asyncio
import gzip
import json
import threading

import pytest
from support.memory_gateway import CLIENT, SECRET
from support.served_gateway import BODY, EVENT, PATIENCE_S, Server, request
from uvicorn.protocols.http.flow_control import HIGH_WATER_LIMIT

import ingest.log_events
import ingest.protocol
from ingest.split import Split, split

BROKEN = b'{"eventName":"\\ud800"}'


async def test_one_connection_serves_request_after_request(server: Server) -> None:
    client = await server.connect()
    for _ in range(3):
        await client.send(request())
        status, headers, body = await client.answer()
        assert (status, body) == (202, b'{"success":true}')
        assert headers["content-type"] == "application/json"
        assert "date" in headers
    assert server.gateway.log.events() == [EVENT] * 3


UPGRADE = "connection: Upgrade, HTTP2-Settings\r\nupgrade: h2c\r\nhttp2-settings: AAMAAABk\r\n"


@pytest.mark.parametrize("step", [7, 100_000])
@pytest.mark.parametrize("framing", ["content-length", "chunked", "large"])
async def test_a_request_that_asks_for_another_protocol_is_taken_as_it_is(
    server: Server, framing: str, step: int
) -> None:
    """Java's own client asks for HTTP/2 with each first request; the upgrade may be passed over (RFC 9110, 7.8)."""
    events = 2_000 if framing == "large" else 2
    body = b'{"events":[' + b",".join([EVENT] * events) + b"]}"
    data = request(body, extra=UPGRADE)
    if framing == "chunked":
        data = data.replace(b"content-length: %d" % len(body), b"transfer-encoding: chunked")
        data = data[: -len(body)] + b"%x\r\n%b\r\n0\r\n\r\n" % (len(body), body)
    client = await server.connect()
    for start in range(0, len(data), step):
        await client.send(data[start : start + step])
    status, headers, answer = await client.answer()
    assert (status, answer) == (202, b'{"success":true}')
    assert server.gateway.log.events() == [EVENT] * events
    assert framing == "large" or headers["connection"] == "close"
    assert await client.is_closed()


async def test_what_stands_behind_a_request_that_asks_for_another_protocol_is_not_taken(server: Server) -> None:
    client = await server.connect()
    await client.send(request() + request(extra=UPGRADE) + request(b'{"events":[{},{}]}'))
    assert [(await client.answer())[0] for _ in range(2)] == [202, 202]
    assert await client.is_closed()
    assert server.gateway.log.events() == [EVENT] * 2


async def test_a_request_without_a_body_may_ask_for_another_protocol(server: Server) -> None:
    status, _, _ = await server.ask(f"GET /nothing HTTP/1.1\r\nhost: gateway\r\n{UPGRADE}\r\n".encode())
    assert status == 404


@pytest.mark.parametrize("step", [1, 7, 60])
async def test_a_request_may_come_in_pieces(server: Server, step: int) -> None:
    client = await server.connect()
    data = request()
    for position in range(0, len(data), step):
        await client.send(data[position : position + step])
    assert (await client.answer())[0] == 202
    assert server.gateway.log.events() == [EVENT]


@pytest.mark.parametrize("size", [60_000, 65_536, 65_537, 400_000, 3_000_000])
@pytest.mark.parametrize("chunked", [False, True])
async def test_a_body_of_any_size_is_taken_whole(server: Server, size: int, chunked: bool) -> None:
    event = b'{"eventName":"' + b"x" * 1000 + b'","user":{"userID":"u"}}'
    body = b'{"events":[' + b",".join([event] * (size // len(event))) + b"]}"
    data = request(body)
    if chunked:
        pieces = [body[at : at + 50_000] for at in range(0, len(body), 50_000)]
        head = data[: data.index(b"content-length")] + b"transfer-encoding: chunked\r\n\r\n"
        data = head + b"".join(b"%x\r\n%b\r\n" % (len(piece), piece) for piece in pieces) + b"0\r\n\r\n"
    assert (await server.ask(data))[0] == 202
    assert len(server.gateway.log.events()) == size // len(event)


async def test_requests_that_are_sent_ahead_are_answered_in_order(server: Server) -> None:
    client = await server.connect()
    await client.send(request() + request(b"nonsense") + request(path="/nowhere") + request())
    assert [(await client.answer())[0] for _ in range(4)] == [202, 400, 404, 202]
    assert server.gateway.log.events() == [EVENT] * 2


@pytest.mark.parametrize("left", [1, len(BODY) - 1])
async def test_a_request_that_is_sent_ahead_in_part_is_taken_whole(server: Server, left: int) -> None:
    client = await server.connect()
    await client.send(request() + request()[:-left])
    assert (await client.answer())[0] == 202
    await client.send(request()[-left:])
    assert (await client.answer())[0] == 202
    assert server.gateway.log.events() == [EVENT] * 2


async def test_one_connection_goes_either_way(server: Server) -> None:
    client = await server.connect()
    large = b'{"events":[],"pad":"' + b"x" * 100_000 + b'"}'
    for data, status in ((request(), 202), (request(large), 202), (request(path="/nowhere"), 404), (request(), 202)):
        await client.send(data)
        assert (await client.answer())[0] == status


async def test_a_compressed_request_is_taken(server: Server) -> None:
    assert (await server.ask(request(gzip.compress(BODY), extra="content-encoding: gzip\r\n")))[0] == 202
    assert server.gateway.log.events() == [EVENT]


async def test_a_browser_is_answered_with_cors_headers_on_the_short_way(server: Server) -> None:
    data = request(path=f"/v1/rgstr?k={CLIENT}", extra="origin: https://shop.example\r\n")
    _, headers, _ = await server.ask(data.replace(f"statsig-api-key: {SECRET}\r\n".encode(), b""))
    assert headers["access-control-allow-origin"] == "*"


async def test_a_client_that_waits_to_be_asked_for_its_body_is_asked(server: Server) -> None:
    client = await server.connect()
    data = request(extra="expect: 100-continue\r\n")
    await client.send(data[: -len(BODY)])
    async with asyncio.timeout(PATIENCE_S):
        assert await client.reader.readuntil(b"\r\n\r\n") == b"HTTP/1.1 100 Continue\r\n\r\n"
    await client.send(BODY)
    assert (await client.answer())[0] == 202


@pytest.mark.parametrize("data", [request(extra="connection: close\r\n"), request(version="1.0")])
async def test_a_connection_that_asks_for_it_is_closed_after_its_answer(server: Server, data: bytes) -> None:
    client = await server.connect()
    await client.send(data)
    status, headers, _ = await client.answer()
    assert (status, headers["connection"]) == (202, "close")
    assert await client.is_closed()


async def test_a_refused_key_is_answered_before_the_body_has_come(server: Server) -> None:
    client = await server.connect()
    data = request().replace(SECRET.encode(), b"secret-wrong")
    await client.send(data[: -len(BODY)])
    status, _, body = await client.answer()
    assert (status, json.loads(body)["reason"]) == (401, "unknown_key")
    await client.send(BODY + request())
    assert (await client.answer())[0] == 202
    assert server.gateway.log.events() == [EVENT]


@pytest.mark.parametrize("length", [9 * 1024 * 1024, 10**17])
async def test_a_length_beyond_the_limit_is_refused_before_the_body_has_come(server: Server, length: int) -> None:
    status, _, body = await server.ask(request(b"", length=length))
    assert (status, json.loads(body)["reason"]) == (413, "body_too_large")


@pytest.mark.parametrize("extra", ["content-encoding: gzip\r\n", ""])
async def test_a_small_body_that_becomes_a_large_one_holds_up_nobody(
    server: Server, monkeypatch: pytest.MonkeyPatch, extra: str
) -> None:
    # One event with a lone surrogate makes the gateway judge all of them one by one: 0.6 s for 2.6 MiB.
    events = [EVENT.replace(b"purchase", b"purchase-%d" % n) for n in range(3_000)]
    body = gzip.compress(b'{"pad":"' + b"x" * 1_500_000 + b'","events":[' + b",".join([*events, BROKEN]) + b"]}")
    ran_in = []

    def spied(whole: bytes) -> Split:
        ran_in.append(threading.current_thread())
        return split(whole)

    monkeypatch.setattr(ingest.log_events, "split", spied)
    assert len(body) < HIGH_WATER_LIMIT
    status, _, answer = await server.ask(request(body, extra=extra))
    assert (status, json.loads(answer)["refused"][0]["index"]) == (202, 3_000)
    assert sorted(server.gateway.log.events()) == sorted(events)
    assert threading.main_thread() not in ran_in
    assert (await server.ask(request()))[0] == 202
    assert ran_in[-1] is threading.main_thread(), "what is small is not worth a thread"
    assert server.gateway.log_events.held_bytes() == 0


@pytest.mark.parametrize("pad", [0, HIGH_WATER_LIMIT], ids=["on the short way", "on the other"])
async def test_a_user_beside_many_events_is_put_into_each_of_them_where_it_holds_up_nobody(
    server: Server, monkeypatch: pytest.MonkeyPatch, pad: int
) -> None:
    """A body of 10 KB becomes one of megabytes."""
    ran_in = []

    def spied(whole: bytes) -> Split:
        ran_in.append(threading.current_thread())
        return split(whole)

    monkeypatch.setattr(ingest.log_events, "split", spied)
    user = {"userID": "u", "custom": {"x": "y" * 3_000}}
    body = json.dumps({"events": [{"eventName": "a"}] * 400, "user": user, "pad": "z" * pad}).encode()
    assert (await server.ask(request(body)))[0] == 202
    assert threading.main_thread() not in ran_in
    assert len(server.gateway.log.events()) == 400
    told = request(json.dumps({"events": [{"eventName": "a"}] * 400}).encode(), extra="statsig-sdk-type: go-sdk\r\n")
    assert (await server.ask(told))[0] == 202
    assert ran_in[-1] is threading.main_thread(), "nobody put anything into them"
    assert server.gateway.app.log_events.in_flight.held_bytes == 0
