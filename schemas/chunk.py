"""The record of `events.raw`: what arrived for one partition, from one or several requests.

Chunks exist because a stream processor pays per message, whatever is in it. The events inside are
the bytes that the SDK sent, so that ids, retries and replays can be judged on what was received.
"""

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from schemas.limits import CHUNK_EVENTS, STORE_MAX_MS, TIME_MS

VERSION: Final = b"1"

VERSION_HEADER: Final = "chunk"
COUNT_HEADER: Final = "n"
REPLAY_HEADER: Final = "replay"
ATTEMPT_HEADER: Final = "attempt"
SPILLED_HEADER: Final = "spilled"
"""On a chunk that waited in a gateway's spill: when it was put there, in ms since the epoch, decimal."""

_MS_DIGITS: Final = 15

Headers = tuple[tuple[str, bytes], ...]


class RequestPart(msgspec.Struct, omit_defaults=True):
    """The events of one request that belong to one partition.

    `received_at` and `client_time` are ms since the epoch, `client_time` the sender's clock at send
    (0: not told). `occurrences` and `ids` are by position in `events`; `ids` holds hex event ids
    where the bytes here are not those that were received, or where the event is a replay.
    """

    project: str
    environment: str
    key_id: str
    request_id: str
    received_at: Annotated[int, Meta(ge=0, le=STORE_MAX_MS)]
    client_time: Annotated[int, Meta(ge=0, le=TIME_MS)] = 0
    statsigMetadata: msgspec.Raw = msgspec.Raw(b"{}")
    idempotency_key: str = ""
    occurrences: dict[int, Annotated[int, Meta(ge=0, lt=2**32)]] = {}
    ids: dict[int, str] = {}
    user_agent: str = ""
    ip: str = ""
    events: list[msgspec.Raw] = []


class Chunk(msgspec.Struct):
    """All that one record holds."""

    requests: list[RequestPart]


_encoder = msgspec.json.Encoder()
_decoder = msgspec.json.Decoder(Chunk)


def encode(chunk: Chunk) -> bytes:
    """Return the record's value; the events' bytes are copied in unchanged."""
    return _encoder.encode(chunk)


def decode(value: bytes) -> Chunk:
    """Read a record's value. Raises msgspec.MsgspecError when it is no chunk that a gateway writes."""
    chunk = _decoder.decode(value)
    events = sum([len(part.events) for part in chunk.requests])
    if events > CHUNK_EVENTS:
        raise msgspec.ValidationError(f"a chunk of {events} events; the limit is {CHUNK_EVENTS}")
    return chunk


def headers(events: int, spilled_ms: int = 0) -> Headers:
    """Return the headers of a chunk that holds `events` events; `spilled_ms` is when it was spilled, if it was."""
    told = ((VERSION_HEADER, VERSION), (COUNT_HEADER, b"%d" % events))
    return (*told, (SPILLED_HEADER, b"%d" % spilled_ms)) if spilled_ms else told


def outlived_claims(headers: Mapping[str, bytes | None], append_ms: int, claims_window_ms: int) -> bool:
    """Tell whether a chunk sat in a spill for so long that the claims may know nothing of its copies any more.

    Half of the window is left to the time between the two sendings. `append_ms` is the broker's clock
    at the chunk's append. A header that cannot be read counts as long.
    """
    if SPILLED_HEADER not in headers:
        return False
    spilled = headers[SPILLED_HEADER]
    if spilled is None or not spilled.isdigit() or len(spilled) > _MS_DIGITS:
        return True
    return append_ms - int(spilled) > claims_window_ms / 2
