"""Events that nobody can read, that are too much, or that only look so."""

import json

from support.hostile_gateway import CLIENT, request
from support.hostile_table import FIRST_MS, Row, body, good, nested, of_size
from support.naughty_strings import NAUGHTY

from schemas.limits import EVENT_BYTES, EVENT_DEPTH, METADATA_KEYS


def _one_bad(bad: bytes) -> bytes:
    events = [good() for _ in range(99)]
    return request(body(*events[:42], bad, *events[42:]))


EVENTS = [
    Row(f"{name}, in a batch of 100", _one_bad(bad), 202, landed=99, dead=(reason,))
    for name, bad, reason in (
        ("one lone surrogate", good(',"metadata":{"a":"\\ud800"}'), "malformed_event"),
        ("NaN", good(',"metadata":{"a":NaN}'), "malformed_event"),
        ("1e999", good(',"metadata":{"a":1e999}'), "malformed_event"),
        ("Infinity", good(',"metadata":{"a":-Infinity}'), "malformed_event"),
        ("a bad escape", good(',"metadata":{"a":"\\x"}'), "malformed_event"),
        ("a control character", good(',"metadata":{"a":"\x01"}'), "malformed_event"),
        ("a comma too many", good(","), "malformed_event"),
        ("a number with a leading zero", good(',"metadata":{"a":01}'), "malformed_event"),
        ("a comment", good(',"metadata":{/*a*/}'), "malformed_event"),
        ("a number as event", b"17", "malformed_event"),
        ("null as event", b"null", "malformed_event"),
        ("a list as event", b"[]", "malformed_event"),
        ("33 levels", good(f',"metadata":{{"a":{nested(EVENT_DEPTH - 1)}}}'), "event_too_deep"),
        ("1,000 levels", good(f',"metadata":{{"a":{nested(998)}}}'), "event_too_deep"),
        ("1,023 levels", good(f',"metadata":{{"a":{nested(1_021)}}}'), "event_too_deep"),
        ("100,000 levels", good(f',"metadata":{{"a":{nested(100_000)}}}'), "event_too_deep"),
        ("an event above the limit", of_size(EVENT_BYTES + 1), "event_too_large"),
        (
            "257 metadata keys",
            good(',"metadata":' + json.dumps({f"k{n}": n for n in range(METADATA_KEYS + 1)})),
            "too_many_metadata_keys",
        ),
        ("no name", b'{"user":{"userID":"u"},"time":1767225600000}', "missing_event_name"),
        ("a number as name", b'{"eventName":17,"user":{"userID":"u"},"time":1767225600000}', "missing_event_name"),
        ("a user that is text", b'{"eventName":"x","user":"u-1","time":1767225600000}', "invalid_event"),
        (
            "an exposure of nothing",
            b'{"eventName":"statsig::gate_exposure","metadata":{},"time":1}',
            "invalid_exposure",
        ),
    )
] + [
    Row("32 levels", request(body(good(f',"metadata":{{"a":{nested(EVENT_DEPTH - 2)}}}'))), 202, landed=1),
    Row("an event at the limit", request(body(of_size(EVENT_BYTES))), 202, landed=1),
    Row(
        "256 metadata keys",
        request(body(good(',"metadata":' + json.dumps({f"k{n}": n for n in range(METADATA_KEYS)})))),
        202,
        landed=1,
    ),
    Row(
        "two anonymous browsers with byte-equal events in one millisecond",
        tuple(
            request(
                body(
                    b'{"eventName":"seen","user":null,"time":1767225600000}',
                    more=b',"statsigMetadata":{"stableID":"%b"}' % device,
                ),
                f"/v1/rgstr?k={CLIENT}&st=javascript-client",
                key="",
            )
            for device in (b"hostile-1", b"hostile-2")
        ),
        202,
        landed=2,
    ),
    Row(
        "two equal purchases without a time, in two requests",
        (request(body(b'{"eventName":"bought","user":{"userID":"twice"}}')),) * 2,
        202,
        landed=2,
    ),
    Row(
        "two equal events in one request",
        request(body(*[b'{"eventName":"equal","user":{"userID":"twice"},"time":1767225600000}'] * 2)),
        202,
        landed=2,
    ),
]


def _timed(time: str) -> bytes:
    return request(body(f'{{"eventName":"timed","user":{{"userID":"t"}},"time":{time}}}'.encode()))


TIMES = [
    Row(f"time {time}", _timed(time), 202, landed=1)
    for time in (
        "0",
        "-86400000",
        "253402300799000",
        '"2026-01-01T12:00:00Z"',
        '"2026-01-01"',
        "1767225600000.5",
        "null",
    )
] + [
    Row("time ten minutes ahead", _timed("4102444800000"), 202, landed=1),
    Row("no time", request(body(b'{"eventName":"timeless","user":{"userID":"t"}}')), 202, landed=1),
    *(
        Row(f"time {time[:20]}", _timed(time), 202, dead=("invalid_time",))
        for time in ('"yesterday"', "true", "[]", "1e300", '""')
    ),
]

_USERS = ["null", "{}", '{"userID":17}', '{"userID":""}', '{"userID":null,"customIDs":null}', '{"customIDs":{"a":7}}']
SHAPES = (
    [
        Row(
            f"user {user}",
            request(body(good().replace(b'"user":{', b'"user":%b,"was":{' % user.encode()))),
            202,
            landed=1,
        )
        for user in _USERS
    ]
    + [
        Row(f"value {value}", request(body(good(f',"value":{value}'))), 202, landed=1)
        for value in (
            '""',
            "7",
            "7.0",
            "null",
            "true",
            "[1]",
            '{"a":1}',
            "1e308",
            "-0",
            "123456789012345678901234567890",
        )
    ]
    + [
        Row("no user", request(body(b'{"eventName":"x","time":1767225600001}')), 202, landed=1),
        Row(
            "metadata null",
            request(body(good(',"metadata":null,"secondaryExposures":null,"statsigMetadata":null'))),
            202,
            landed=1,
        ),
        Row(
            "metadata of the request that is no object",
            request(body(good(), more=b',"statsigMetadata":17')),
            202,
            landed=1,
        ),
        Row("a member twice", request(body(good(',"value":1,"value":2'))), 202, landed=1),
        Row("members that nobody knows", request(body(good(',"__proto__":{"a":1},"constructor":null'))), 202, landed=1),
    ]
)


def naughty_event(text: str, time: int) -> dict[str, object]:
    """Return an event with a text in every field that holds one."""
    return {
        "eventName": text,
        "user": {
            "userID": text,
            "customIDs": {text: text, "stableID": text},
            "email": text,
            "country": text,
            "locale": text,
            "appVersion": text,
            "userAgent": text,
            "custom": {text: text},
            "statsigEnvironment": {"tier": text},
        },
        "time": time,
        "value": text,
        "metadata": {text: text},
    }


def naughty_exposure(text: str, time: int) -> dict[str, object]:
    """Return an exposure with a text in every field that holds one."""
    metadata = {"config": text, "ruleID": text, "reason": text, "configVersion": text, text: text}
    return {
        "eventName": "statsig::config_exposure",
        "user": {"userID": text},
        "time": time,
        "metadata": metadata,
    }


def naughty_request(text: str, *, escaped: bool) -> bytes:
    """Return a request of both, from a sender that calls itself so, in JSON's own escapes or in UTF-8."""
    time = FIRST_MS + escaped  # or they were the same event, sent again
    sender = {"sdkType": text, "sdkVersion": text, "sessionID": text, "stableID": text}
    content = {"events": [naughty_event(text, time), naughty_exposure(text, time)], "statsigMetadata": sender}
    data = json.dumps(content, ensure_ascii=escaped, separators=(",", ":"))
    return request(data.encode())


NAUGHTY_ROWS = [
    Row(
        f"{text[:24]!r} in every string{' (escaped)' if escaped else ''}",
        naughty_request(text, escaped=escaped),
        202,
        landed=2,
    )
    for text in NAUGHTY
    for escaped in (False, True)
]
