"""The record of `events.raw`: what arrived for one partition, from one or several requests.

Chunks exist because a stream processor pays per message, whatever is in it. The events inside are
the bytes that the SDK sent, so that ids, retries and replays can be judged on what was received.
"""

from collections.abc import Mapping
from typing import Annotated, Final

import msgspec
from msgspec import Meta

from schemas.ids import EVENT_ID_BYTES
from schemas.limits import CHUNK_EVENTS, STORE_MAX_MS, TIME_MS
from schemas.origin import PACKED_BYTES

VERSION: Final = b"1"

VERSION_HEADER: Final = "chunk"
COUNT_HEADER: Final = "n"
REPLAY_HEADER: Final = "replay"
"""On a chunk of dead letters that come again, and on what becomes of them: the id of the replay."""
ATTEMPT_HEADER: Final = "attempt"
"""Beside it: which try of its events this is, decimal; the first was 1."""
FAILED_HEADER: Final = "failed"
"""On a record that a replay puts into a public topic: when it failed first, in ms since the epoch, decimal."""
SPILLED_HEADER: Final = "spilled"
"""On a chunk that waited in a gateway's spill: when it was put there, in ms since the epoch, decimal."""

_MS_DIGITS: Final = 15
_ATTEMPT_DIGITS: Final = 9

Headers = tuple[tuple[str, bytes], ...]


class First(msgspec.Struct, frozen=True, array_like=True, gc=False):
    """Of a replayed event: the origin that it was given, packed, in hex, and when it failed first (ms)."""

    origin: str
    failed_at: Annotated[int, Meta(ge=0, le=STORE_MAX_MS)]


class RequestPart(msgspec.Struct, omit_defaults=True):
    """The events of one request that belong to one partition.

    `received_at` and `client_time` are ms since the epoch, `client_time` the sender's clock at send
    (0: not told). `occurrences` and `ids` are by position in `events`; `ids` holds hex event ids
    where the bytes here are not those that were received, or where the event is a replay; of a replay
    every event has one, and a `First`.
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
    firsts: dict[int, First] = {}
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


def decode(value: bytes, *, is_replay: bool = False) -> Chunk:
    """Read a record's value. Raises msgspec.MsgspecError when it is no chunk that a gateway or a replay writes."""
    chunk = _decoder.decode(value)
    events = sum([len(part.events) for part in chunk.requests])
    if events > CHUNK_EVENTS:
        raise msgspec.ValidationError(f"a chunk of {events} events; the limit is {CHUNK_EVENTS}")
    if is_replay:
        for part in chunk.requests:
            _check_replayed(part)
    return chunk


def _check_replayed(part: RequestPart) -> None:
    for position in range(len(part.events)):
        first, event_id = part.firsts.get(position), part.ids.get(position, "")
        if first is None or not _is_hex(first.origin, PACKED_BYTES) or not _is_hex(event_id, EVENT_ID_BYTES):
            raise msgspec.ValidationError("an event of a replay that does not say its id and its first origin")


def _is_hex(text: str, size: int) -> bool:
    if len(text) != 2 * size:
        return False
    try:
        return len(bytes.fromhex(text)) == size  # it passes over blanks
    except ValueError:
        return False


def headers(events: int, spilled_ms: int = 0) -> Headers:
    """Return the headers of a chunk that holds `events` events; `spilled_ms` is when it was spilled, if it was."""
    told = ((VERSION_HEADER, VERSION), (COUNT_HEADER, b"%d" % events))
    return (*told, (SPILLED_HEADER, b"%d" % spilled_ms)) if spilled_ms else told


def replay_headers(events: int, replay: str, attempt: int) -> Headers:
    """Return the headers of a chunk of dead letters that come again, all of them for the same time."""
    return (*headers(events), (REPLAY_HEADER, replay.encode()), (ATTEMPT_HEADER, b"%d" % attempt))


def attempt_of(header: bytes | None) -> int:
    """Read the header `attempt`; 1 where it says nothing. The envelope has 32 bits for it."""
    return int(header) if header is not None and header.isdigit() and len(header) <= _ATTEMPT_DIGITS else 1


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
