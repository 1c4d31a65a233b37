"""Keys that let nobody in, and what is no HTTP."""

import gzip

from support.hostile_gateway import CLIENT, CONSOLE, REVOKED, SECRET, chunked, request
from support.hostile_table import Row, body, good

from schemas.limits import MIB

_GOOD = body(good())
_BOMB = gzip.compress(bytes(16 * MIB))

_OVERSIZED_KEY = "secret-" + "x" * MIB
_GET_SPECS = "/v1/download_config_specs"

KEYS = [
    Row("no key", request(_GOOD, key=""), 401, "missing_key"),
    Row("an empty key", request(_GOOD, "/v1/log_event", "statsig-api-key: ", key=""), 401, "missing_key"),
    Row("a wrong key", request(_GOOD, key="secret-wrong"), 401, "unknown_key"),
    Row("a key that is almost right", request(_GOOD, key=SECRET[:-1]), 401, "unknown_key"),
    Row("a key with a space behind it", request(_GOOD, key=SECRET + "x"), 401, "unknown_key"),
    Row("a revoked key", request(_GOOD, key=REVOKED), 401, "unknown_key"),
    Row("a key of other letters", request(_GOOD, key="sécret-ключ"), 401, "unknown_key"),
    Row("a key of other letters in the query", request(_GOOD, "/v1/rgstr?k=%ff%fe", key=""), 401, "unknown_key"),
    Row("a secret key in the query", request(_GOOD, f"/v1/rgstr?k={SECRET}", key=""), 401, "key_not_allowed"),
    Row("a console key in the query", request(_GOOD, f"/v1/rgstr?k={CONSOLE}", key=""), 401, "key_not_allowed"),
    Row("a console key", request(_GOOD, key=CONSOLE), 401, "key_not_allowed"),
    Row(
        "a wrong key in the header and a good one in the query",
        request(_GOOD, f"/v1/rgstr?k={CLIENT}", key="secret-wrong"),
        401,
        "unknown_key",
    ),
    Row("a key of 1 MB", request(_GOOD, key=_OVERSIZED_KEY), 431, "headers_too_large", closes=True),
    Row(
        "a key of 1 MB in the query",
        request(_GOOD, f"/v1/rgstr?k={_OVERSIZED_KEY}", key=""),
        431,
        "headers_too_large",
        closes=True,
    ),
    Row("a key of 30 KB", request(_GOOD, key="secret-" + "x" * 30_000), 401, "unknown_key"),
    Row("a client key for config specs", request(b"", _GET_SPECS, key=CLIENT, method="GET"), 403, "key_not_allowed"),
    Row(
        "a client key in the query for config specs",
        request(b"", f"{_GET_SPECS}?k={CLIENT}", key="", method="GET"),
        403,
        "key_not_allowed",
    ),
    Row(
        "a wrong key in the path of config specs",
        request(b"", f"{_GET_SPECS}/secret-wrong.json", key="", method="GET"),
        401,
        "unknown_key",
    ),
    Row("a wrong key and a body that is a bomb", request(_BOMB, key="secret-wrong"), 401, "unknown_key"),
]


def _broken(old: bytes, new: bytes) -> bytes:
    changed = request(_GOOD).replace(old, new, 1)
    assert changed != request(_GOOD)
    return changed


_HOST = b"host: gateway\r\n"

HTTP = [
    Row(name, data, status, reason, closes=True)
    for name, data, status, reason in (
        ("no HTTP", b"nonsense\r\n\r\n", 400, "malformed_request"),
        ("TLS", b"\x16\x03\x01\x02\x00\x01\x00\x01", 400, "malformed_request"),
        ("HTTP/2", b"PRI * HTTP/2.0\r\n\r\nSM\r\n\r\n", 400, "malformed_request"),
        ("HTTP/9.9", _broken(b"HTTP/1.1", b"HTTP/9.9"), 400, "malformed_request"),
        ("length and chunks", _broken(_HOST, _HOST + b"transfer-encoding: chunked\r\n"), 400, "malformed_request"),
        ("two lengths", _broken(b"content-length", b"content-length: 1\r\ncontent-length"), 400, "malformed_request"),
        ("two equal lengths", _broken(_HOST, _HOST + b"content-length: %d\r\n" % len(_GOOD)), 400, "malformed_request"),
        ("a negative length", _broken(b"content-length: ", b"content-length: -"), 400, "malformed_request"),
        ("a length in hex", _broken(b"content-length: ", b"content-length: 0x"), 400, "malformed_request"),
        ("xchunked", chunked([_GOOD]).replace(b"chunked", b"xchunked", 1), 400, "malformed_request"),
        ("chunked twice", chunked([_GOOD]).replace(b"chunked", b"chunked, chunked", 1), 400, "malformed_request"),
        (
            "chunked, then something else",
            chunked([_GOOD]).replace(b"chunked", b"chunked, identity", 1),
            400,
            "malformed_request",
        ),
        (
            "a size of a chunk that is none",
            chunked([_GOOD]).replace(b"\r\n\r\n", b"\r\n\r\nxyz", 1),
            400,
            "malformed_request",
        ),
        ("bare line feeds", request(_GOOD).replace(b"\r\n", b"\n"), 400, "malformed_request"),
        ("NUL in a header", _broken(_HOST, _HOST + b"x-null: a\x00b\r\n"), 400, "malformed_request"),
        ("NUL in the path", _broken(b"/v1/log_event", b"/v1/log\x00_event"), 400, "malformed_request"),
        ("a space before a colon", _broken(b"content-length:", b"content-length :"), 400, "malformed_request"),
        ("a name of a header that is none", _broken(_HOST, _HOST + b"x(y): a\r\n"), 400, "malformed_request"),
        ("a folded header", _broken(_HOST, _HOST + b"x-folded: a\r\n b\r\n"), 400, "malformed_request"),
        ("no host", _broken(_HOST, b""), 400, "malformed_request"),
        ("two hosts", _broken(_HOST, _HOST * 2), 400, "malformed_request"),
        ("a head of 200 KB", _broken(_HOST, _HOST + b"x-pad: %b\r\n" % (b"x" * 200_000)), 431, "headers_too_large"),
        ("10,000 headers", _broken(_HOST, _HOST + b"x: y\r\n" * 10_000), 431, "headers_too_large"),
    )
] + [
    Row("a path that is not there", request(_GOOD, "/v1/../../etc/passwd"), 404, "unknown_path"),
    Row("a path of escapes", request(_GOOD, "/v1/%2e%2e/%00%0d%0aset-cookie:a"), 404, "unknown_path"),
    Row("a method that is not there", request(_GOOD, method="PUT"), 405, "wrong_method"),
    Row(
        "initialize",
        request(b"{}", f"/v1/initialize?k={CLIENT}", "origin: https://a.example", key=""),
        501,
        "not_built",
    ),
    Row(
        "preflight from any origin",
        request(
            b"",
            f"/v1/rgstr?k={CLIENT}",
            "origin: https://a.example",
            "access-control-request-method: POST",
            key="",
            method="OPTIONS",
        ),
        204,
    ),
    Row(
        "control characters of the other half in what a client says it is",
        request(body(good()), f"/v1/rgstr?k={CLIENT}", "user-agent: \x9b31mred\t\x85\xad", key=""),
        202,
        landed=1,
    ),
    Row(
        "ANSI in what a client says it is",
        _broken(_HOST, _HOST + b"user-agent: \x1b[31mred\r\n"),
        400,
        "malformed_request",
        closes=True,
        why="no header may hold it (RFC 9110, 5.5), and no client writes it",
    ),
    Row(
        "HTTP/1.0",
        request(body(good())).replace(b"HTTP/1.1", b"HTTP/1.0"),
        202,
        landed=1,
        closes=True,
    ),
]
