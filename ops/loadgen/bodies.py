"""Request bytes in the shape that a core server SDK sends, made by filling in a template.

The machine is shared with what is measured, so nothing is encoded per event: a request is one
`bytes % tuple`. Shapes and key order are those of recorded py-core requests.
"""

import zlib
from collections.abc import Callable, Iterator
from hashlib import shake_128
from typing import Final, Literal

import zstandard

LOAD_ID: Final = "load_id"
"""Metadata key of an event's own id: `<run>-<request number, 9 digits><place in the request, 3 digits>`."""

MOST_EVENTS_PER_REQUEST: Final = 1_000

Encoding = Literal["identity", "gzip", "zstd"]

_USER_ID_DIGITS: Final = 14
_DEVICE_DIGITS: Final = 32
"""As many as a UUID has. Real ids are random: a pipeline that compresses would look better than it is without."""

# Filled in for each event: request number, user, device, time.
_USER: Final = (
    '{"userID":"%b","customIDs":{"stableID":"%b"},"country":"{country}",'
    '"appVersion":"1.4.{minor}","custom":{"plan":"pro"},"statsigEnvironment":{"tier":"production"}}'
)
_EVENT: Final = (
    '{"eventName":"{name}","value":{value},"metadata":{metadata},"statsigMetadata":{sdk},'
    '"user":{user},"time":%b,"secondaryExposures":{secondary}}'
)
_EXPOSURE: Final = (
    '{{reads},"reason":"Network:Recognized","lcut":"1767225600000","receivedAt":"1767225600123",'
    '"load_id":"{run}-%b{place:03d}"}'
)
_CUSTOM: Final = '{"sku":"SKU-{place}","page":"/shop/{minor}","referrer":"search","load_id":"{run}-%b{place:03d}"}'

_LAYER: Final = (
    '"config":"checkout_layer","ruleID":"copy_friendly","allocatedExperiment":"checkout_copy",'
    '"parameterName":"title","isExplicitParameter":"true","configVersion":"9"'
)
# Six exposures and four custom events in ten, of entities that stand in the demo's specs.
_SHAPES: Final = (
    (
        "statsig::gate_exposure",
        '"gate":"new_navigation","gateValue":"true","ruleID":"nav_everyone","configVersion":"1"',
    ),
    ("page_view", "null"),
    (
        "statsig::config_exposure",
        '"config":"button_color","ruleID":"button_control","rulePassed":"true","configVersion":"4"',
    ),
    ("add_to_cart", "24.5"),
    (
        "statsig::config_exposure",
        '"config":"button_color","ruleID":"button_green","rulePassed":"true","configVersion":"4"',
    ),
    ("purchase", "49.9"),
    ("statsig::gate_exposure", '"gate":"fast_search","gateValue":"false","ruleID":"search_half","configVersion":"2"'),
    ("statsig::layer_exposure", _LAYER),
    ("page_view", "null"),
    (
        "statsig::config_exposure",
        '"config":"button_color","ruleID":"button_red","rulePassed":"true","configVersion":"4"',
    ),
)
_COUNTRIES: Final = ("CA", "DE", "FR", "IN", "US")

_SDK_METADATA: Final = (
    '{"sdkType":"statsig-server-core-python","sdkVersion":"0.24.0","sessionID":"{session}","os":"linux","arch":"x86_64",'
    '"languageVersion":"3.11","flushingIntervalMs":1000,"batchSize":{events},"maxPendingBatches":100,'
    '"flushType":"scheduled:full_batch"}'
)


def _fill(text: str, **values: object) -> str:
    """Replace `{name}` and `{name:03d}`; JSON's own braces stay."""
    for name, value in values.items():
        text = text.replace("{" + name + "}", str(value))
        if isinstance(value, int):
            text = text.replace("{" + name + ":03d}", f"{value:03d}")
    return text


def _event(run: str, place: int) -> str:
    name, detail = _SHAPES[place % len(_SHAPES)]
    country, minor = _COUNTRIES[place % len(_COUNTRIES)], place % 7
    is_exposure = name.startswith("statsig::")
    metadata = _fill(_EXPOSURE, reads=detail) if is_exposure else _CUSTOM
    text = _fill(
        _EVENT,
        name=name,
        value="null" if is_exposure else detail,
        metadata=metadata,
        sdk="{}" if is_exposure else "null",
        user=_USER,
        secondary="[]" if is_exposure else "null",
    )
    # The metadata's id precedes the user and the time, as the order of the values in `RequestMaker.make` says.
    return _fill(text, run=run, place=place, country=country, minor=minor)


class RequestMaker:
    """Makes the requests of one size."""

    def __init__(self, host: str, key: str, run: str, events: int, users: int, encoding: Encoding = "identity") -> None:
        """Prepare requests of `events` events, each of another user, out of about `users` users in all."""
        if not 1 <= events <= MOST_EVENTS_PER_REQUEST:
            raise ValueError(f"a request has 1 to {MOST_EVENTS_PER_REQUEST} events, not {events}")
        session = f"load-{run}"
        body = ",".join(_event(run, place) for place in range(events))
        metadata = _fill(_SDK_METADATA, session=session, events=events)
        self.events = events
        self._body = f'{{"events":[{body}],"statsigMetadata":{metadata}}}'.encode()
        self._blocks = max(1, users // events)
        self._compress = _COMPRESSORS[encoding]
        coding = "" if encoding == "identity" else f"content-encoding: {encoding}\r\n"
        self._head = (
            f"POST /v1/log_event HTTP/1.1\r\nhost: {host}\r\ncontent-type: application/json\r\n{coding}"
            f"statsig-api-key: {key}\r\nstatsig-sdk-type: statsig-server-core-python\r\nstatsig-sdk-version: 0.24.0\r\n"
            f"statsig-server-session-id: {session}\r\nstatsig-event-count: {events}\r\nstatsig-retry-count: 0\r\n"
            "accept: */*\r\nstatsig-client-time: %d\r\ncontent-length: %d\r\n\r\n"
        ).encode()

    def body(self, number: int, now_ms: int) -> bytes:
        """Return the JSON of request `number`."""
        name, time = b"%09d" % number, b"%013d" % now_ms
        values: list[bytes] = []
        for user, device in self._users(number % self._blocks):
            values += (name, user, device, time)
        return self._body % tuple(values)

    def _users(self, block: int) -> Iterator[tuple[bytes, bytes]]:
        """Yield the ids of the users and devices of a request, the same for every request of the block."""
        digits = _USER_ID_DIGITS + _DEVICE_DIGITS
        ids = shake_128(b"%d" % block).hexdigest(self.events * digits // 2).encode()
        for start in range(0, len(ids), digits):
            device = start + _USER_ID_DIGITS
            yield ids[start:device], ids[device : start + digits]

    def make(self, number: int, now_ms: int) -> bytes:
        """Return request `number`, head and body; equal arguments give equal bytes."""
        body = self._compress(self.body(number, now_ms))
        return self._head % (now_ms, len(body)) + body


def _gzip(body: bytes) -> bytes:
    compressor = zlib.compressobj(level=1, wbits=31)
    return compressor.compress(body) + compressor.flush()


_COMPRESSORS: Final[dict[Encoding, Callable[[bytes], bytes]]] = {
    "identity": bytes,
    "gzip": _gzip,
    "zstd": zstandard.ZstdCompressor(level=1).compress,
}
