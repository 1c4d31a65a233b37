"""Log requests with anything in them, packed in any way, and damaged on their way."""

import gzip
import json
import zlib
from typing import NamedTuple

import brotli
import zstandard
from hypothesis import strategies as st
from support.hostile_gateway import request
from support.json_corpus import BROKEN, GOOD, OPEN

from ingest.body import decode
from ingest.cut import cut


class Fuzzed(NamedTuple):
    """A body as it is sent, how it is announced, and whether it is what its sender meant."""

    body: bytes
    announced: str
    is_intact: bool
    events: tuple[bytes, ...]

    def request(self) -> bytes:
        """Return it as a request of an SDK's."""
        headers = ["statsig-sdk-type: py-server", *([f"content-encoding: {self.announced}"] if self.announced else [])]
        return request(self.body, "/v1/log_event", *headers)

    def events_if_taken(self) -> list[bytes]:
        """Return the events that are in it, cut by brackets alone. Raises CutError, Refusal."""
        return cut(decode(self.body, self.announced.encode())).events if not self.is_intact else list(self.events)


def _zstd_without_size(data: bytes) -> bytes:
    writer = zstandard.ZstdCompressor().compressobj()
    return writer.compress(data) + writer.flush()


def _raw_deflate(data: bytes) -> bytes:
    writer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return writer.compress(data) + writer.flush()


_PACKED = {
    "": lambda data: data,
    "identity": lambda data: data,
    "gzip": lambda data: gzip.compress(data, mtime=0),
    "zstd": zstandard.compress,
    "zstd ": _zstd_without_size,
    "br": lambda data: brotli.compress(data, quality=1),
    "deflate": zlib.compress,
    "deflate ": _raw_deflate,
}
_SEEN_BY_ITS_FIRST_BYTES = ("gzip", "zstd", "zstd ")

_json = st.recursive(
    st.none() | st.booleans() | st.integers() | st.floats(allow_nan=False, allow_infinity=False) | st.text(max_size=12),
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(st.text(max_size=8), inner, max_size=3),
    max_leaves=8,
)
_values = st.sampled_from(GOOD + BROKEN) | _json.map(lambda value: json.dumps(value).encode())
_names = st.sampled_from([b"metadata", b"user", b"value", b"time", b"eventName", b"statsigMetadata", b"x"])


@st.composite
def _event(draw: st.DrawFn) -> bytes:
    members = draw(st.lists(st.tuples(_names, _values), max_size=4))
    return b"{" + b",".join(b'"%b":%b' % member for member in members) + b"}"


_events = st.lists(_event() | st.sampled_from(GOOD + BROKEN), max_size=5)
_metadata = st.sampled_from([b"", b',"statsigMetadata":{"stableID":"d"}', b',"statsigMetadata":null', b',"pad":[[]]'])


@st.composite
def fuzzed(draw: st.DrawFn) -> Fuzzed:
    """Draw a request."""
    # An event of nothing but space is none where it stands alone.
    events = [event for event in draw(_events) if event.strip(b" \t\r\n")]
    body = b'{"events":[' + b",".join(events) + b"]" + draw(_metadata) + b"}"
    packing = draw(st.sampled_from(sorted(_PACKED)))
    sent = _PACKED[packing](body)
    announced = packing.strip()
    if packing in _SEEN_BY_ITS_FIRST_BYTES:
        announced = draw(st.sampled_from([announced, "", "br", "unheard-of"]))
    damaged = draw(_damage(sent))
    return Fuzzed(damaged, announced, damaged == sent, tuple(event.strip(b" \t\r\n") for event in events))


@st.composite
def _damage(draw: st.DrawFn, body: bytes) -> bytes:
    how = draw(st.sampled_from(["not", "not", "cut", "change", "insert", "repeat"]))
    if how == "not" or not body:
        return body
    place = draw(st.integers(0, len(body) - 1))
    if how == "cut":
        return body[:place]
    if how == "change":
        return body[:place] + bytes([body[place] ^ draw(st.integers(1, 255))]) + body[place + 1 :]
    if how == "insert":
        return body[:place] + draw(st.binary(min_size=1, max_size=4) | st.sampled_from(OPEN)) + body[place:]
    return body[:place] + body[draw(st.integers(0, place)) :]
