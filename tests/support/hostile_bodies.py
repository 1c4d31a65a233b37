"""Bodies that are too large, packed in every way, or nothing at all."""

import base64
import gzip
import zlib
from collections.abc import Iterator

import brotli
import zstandard
from support.hostile_gateway import CLIENT, chunked, request
from support.hostile_table import Row, body, good, nested

from schemas.limits import EVENT_DEPTH, EVENTS_PER_REQUEST, MIB, REQUEST_METADATA_BYTES, WIRE_BODY_BYTES

BOMB_BYTES = 200 * MIB


def _padded_to(size: int) -> bytes:
    start, end = b'{"events":[' + good() + b'],"pad":"', b'"}'
    return start + b"x" * (size - len(start) - len(end)) + end


def _zstd_stream(size: int, window_log: int = 0) -> bytes:
    """Return a frame that does not say what it holds."""
    parameters = zstandard.ZstdCompressionParameters.from_level(3, **({"window_log": window_log} if window_log else {}))
    writer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    return b"".join([writer.compress(bytes(MIB)) for _ in range(size // MIB)]) + writer.flush()


def _raw_deflate(data: bytes) -> bytes:
    writer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return writer.compress(data) + writer.flush()


def _encoded(data: bytes, encoding: str) -> bytes:
    return request(data, "/v1/log_event", f"content-encoding: {encoding}")


def _endless() -> Iterator[bytes]:
    yield request(b"").replace(b"content-length: 0", b"transfer-encoding: chunked")
    piece = b"10000\r\n" + b"x" * 65_536 + b"\r\n"
    while True:
        yield piece


_ZEROS = bytes(BOMB_BYTES)
_FEWER_ZEROS = bytes(64 * MIB)
_GZIP_BOMB = gzip.compress(_ZEROS, 9)

# First of all, while the process has not yet held anything large.
BOMBS = [
    Row(name, _encoded(data, encoding), 413, "body_too_large", is_bomb=True)
    for name, data, encoding in (
        ("gzip bomb, 204 KB of 200 MiB", _GZIP_BOMB, "gzip"),
        ("gzip bomb that lies about its size", _GZIP_BOMB[:-4] + b"\x10\0\0\0", "gzip"),
        ("gzip bomb, not announced", _GZIP_BOMB, "identity"),
        ("gzip bomb in gzip", gzip.compress(_GZIP_BOMB, 9), "gzip"),
        ("gzip bomb of two members", gzip.compress(bytes(15 * MIB)) + gzip.compress(bytes(15 * MIB)), "gzip"),
        ("zstd bomb, 6 KB of 200 MiB", zstandard.compress(_ZEROS), "zstd"),
        ("zstd bomb that does not say its size", _zstd_stream(BOMB_BYTES), "zstd"),
        ("zstd with a window of 128 MiB", _zstd_stream(MIB, window_log=27), "zstd"),
        ("brotli bomb", brotli.compress(_FEWER_ZEROS, quality=5), "br"),
        ("deflate bomb", zlib.compress(_FEWER_ZEROS), "deflate"),
    )
] + [Row("endless chunked body", _endless, 413, "body_too_large", is_bomb=True)]
del _ZEROS, _FEWER_ZEROS

_GOOD = body(good())
_UNREADABLE = [
    ("empty body", b""),
    ("only spaces", b"  \r\n"),
    ("not JSON", b"events=1"),
    ("a JSON string", b'"events"'),
    ("a list instead of an object", b"[" + good() + b"]"),
    ("no events", b'{"event":[]}'),
    ("events that are no list", b'{"events":{}}'),
    ("cut off", _GOOD[:-5]),
    ("cut off in a string", _GOOD[:40]),
    ("two bodies", _GOOD + _GOOD),
    ("byte order mark", b"\xef\xbb\xbf" + _GOOD),
    ("UTF-16", _GOOD.decode().encode("utf-16")),
    ("UTF-16 without a mark", _GOOD.decode().encode("utf-16-le")),
    ("invalid UTF-8 in an event", _GOOD.replace(b"hostile", b"h\xff")),
    ("overlong UTF-8", _GOOD.replace(b"hostile", b"h\xc0\xaf")),
    ("a surrogate in UTF-8", _GOOD.replace(b"hostile", b"h\xed\xa0\x80")),
    ("gzip that ends too early", gzip.compress(_GOOD)[:-3]),
    ("nothing but the head of gzip", b"\x1f\x8b"),
    ("metadata 33 levels deep", body(good(), more=b',"statsigMetadata":{"a":%b}' % nested(EVENT_DEPTH).encode())),
    ("metadata 1,023 levels deep", body(good(), more=b',"statsigMetadata":{"a":%b}' % nested(1_022).encode())),
    ("metadata 100,000 levels deep", body(good(), more=b',"statsigMetadata":{"a":%b}' % nested(100_000).encode())),
    ("100,000 levels beside the events", body(good(), more=b',"pad":%b' % nested(100_000).encode())),
    ("100,000 levels and nothing else", b"[" * 100_000),
]

BODIES = [Row(name, request(data), 400, "undecodable_body") for name, data in _UNREADABLE] + [
    Row(
        "33 levels beside the events",
        request(body(good(), more=b',"pad":%b' % nested(33).encode())),
        202,
        landed=1,
        why="nothing of it is kept, and a 4xx would make SDKs drop good events",
    ),
    Row("body below the limit", request(_padded_to(WIRE_BODY_BYTES - 1)), 202, landed=1),
    Row("body at the limit", request(_padded_to(WIRE_BODY_BYTES)), 202, landed=1),
    Row("body above the limit", request(_padded_to(WIRE_BODY_BYTES + 1)), 413, "body_too_large"),
    Row(
        "body above the limit, before it is sent",
        request(b"").replace(b"length: 0", b"length: %d" % (WIRE_BODY_BYTES + 1)),
        413,
        "body_too_large",
    ),
    Row("body below the limit, in pieces", chunked([_padded_to(WIRE_BODY_BYTES - 1)]), 202, landed=1),
    Row("body at the limit, in pieces", chunked([_padded_to(WIRE_BODY_BYTES)]), 202, landed=1),
    Row("body above the limit, in pieces", chunked([_padded_to(WIRE_BODY_BYTES + 1)]), 413, "body_too_large"),
    Row("a length of 10^17", request(b"").replace(b"length: 0", b"length: %d" % 10**17), 413, "body_too_large"),
    Row("0 events", request(body()), 202),
    Row("2,000 events", request(body(*[good() for _ in range(2_000)])), 202, landed=2_000),
    Row("4,999 events", request(body(*[good() for _ in range(EVENTS_PER_REQUEST - 1)])), 202, landed=4_999),
    Row("5,000 events", request(body(*[good() for _ in range(EVENTS_PER_REQUEST)])), 202, landed=5_000),
    Row("5,001 events", request(body(*[good() for _ in range(EVENTS_PER_REQUEST + 1)])), 413, "too_many_events"),
    Row(
        "5,001 events, one of them broken",
        request(body(b"NaN", *[good() for _ in range(EVENTS_PER_REQUEST)])),
        413,
        "too_many_events",
    ),
    Row(
        "metadata of the request above its limit",
        request(body(good(), more=b',"statsigMetadata":{"a":"%b"}' % (b"x" * REQUEST_METADATA_BYTES))),
        413,
        "body_too_large",
    ),
]

ENCODINGS = [
    Row("gzip", _encoded(gzip.compress(body(good())), "gzip"), 202, landed=1),
    Row("zstd", _encoded(zstandard.compress(body(good())), "zstd"), 202, landed=1),
    Row("brotli", _encoded(brotli.compress(body(good())), "br"), 202, landed=1),
    Row("deflate", _encoded(zlib.compress(body(good())), "deflate"), 202, landed=1),
    Row("deflate without zlib's head", _encoded(_raw_deflate(body(good())), "deflate"), 202, landed=1),
    Row("gzip in gzip", _encoded(gzip.compress(gzip.compress(body(good()))), "gzip"), 202, landed=1),
    Row(
        "gzip in gzip, both announced",
        _encoded(gzip.compress(gzip.compress(body(good()))), "gzip, gzip"),
        202,
        landed=1,
    ),
    Row(
        "gzip, three times",
        _encoded(gzip.compress(gzip.compress(gzip.compress(body()))), "gzip"),
        400,
        "undecodable_body",
    ),
    Row("garbage behind gzip", _encoded(gzip.compress(body(good())) + b"garbage", "gzip"), 400, "undecodable_body"),
    Row(
        "garbage behind zstd", _encoded(zstandard.compress(body(good())) + b"garbage", "zstd"), 400, "undecodable_body"
    ),
    Row("zstd that ends too early", _encoded(zstandard.compress(body(good()))[:-3], "zstd"), 400, "undecodable_body"),
    Row("brotli that ends too early", _encoded(brotli.compress(body(good()))[:-3], "br"), 400, "undecodable_body"),
    Row("garbage behind brotli", _encoded(brotli.compress(body(good())) + b"garbage", "br"), 400, "undecodable_body"),
    Row("deflate that ends too early", _encoded(zlib.compress(body(good()))[:-6], "deflate"), 400, "undecodable_body"),
    Row("announced as gzip and plain", _encoded(body(good()), "gzip"), 202, landed=1),
    Row("announced as zstd and gzip", _encoded(gzip.compress(body(good())), "zstd"), 202, landed=1),
    Row("announced as gzip and nothing of the kind", _encoded(b"\x00\x01\x02", "gzip"), 400, "undecodable_body"),
    Row("an encoding that nobody knows", _encoded(b"\x00\x01\x02", "snappy"), 415, "unsupported_encoding"),
    Row("three encodings", _encoded(body(good()), "gzip, zstd, br"), 415, "unsupported_encoding"),
    Row(
        "an encoding that nobody knows, and plain",
        _encoded(body(good()), "snappy"),
        202,
        landed=1,
        why="a request begins with a brace, and nothing compressed does",
    ),
    Row("gz=1", request(gzip.compress(body(good())), f"/v1/rgstr?k={CLIENT}&gz=1", key=""), 202, landed=1),
    Row("gz=1 and plain", request(body(good()), f"/v1/rgstr?k={CLIENT}&gz=1", key=""), 202, landed=1),
    Row("se=1", request(base64.b64encode(body(good()))[::-1], f"/v1/rgstr?k={CLIENT}&se=1", key=""), 202, landed=1),
    Row("se=1 and plain", request(body(good()), f"/v1/rgstr?k={CLIENT}&se=1", key=""), 400, "undecodable_body"),
    Row("text/plain", request(body(good()), "/v1/log_event", "content-type: text/plain;charset=UTF-8"), 202, landed=1),
    Row(
        "beacon",
        request(
            body(good()), f"/v1/rgstr?k={CLIENT}&ec=1", "sec-fetch-mode: no-cors", "origin: https://a.example", key=""
        ),
        202,
        landed=1,
    ),
    Row("beacon of the old client", request(body(good()), f"/v1/log_event_beacon?k={CLIENT}", key=""), 202, landed=1),
    Row("in pieces of a byte", chunked([bytes([byte]) for byte in body(good())]), 202, landed=1),
]

del _GZIP_BOMB
