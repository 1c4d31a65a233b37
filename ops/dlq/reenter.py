"""From a dead letter to what the stage that refused it takes again. Pure.

Gateway and worker get a part of a chunk, which names the event's id and first origin; the lander gets
its record once more. The gateway's own code judges and masks what it had refused.
"""

from typing import Final

import msgspec

from ingest.judge import Verdict, judge
from ingest.mask import mask
from ops.dlq.fix import DoesNotApplyError, Rule, meant_for, mended
from ops.dlq.letters import Letter
from schemas import chunk
from schemas.dead_letter import DeadLetter, Envelope
from schemas.ids import EventIds, partition_key, partition_of, scope_of
from schemas.limits import STORE_MAX_MS
from schemas.origin import HEADER
from schemas.reasons import Reason, Stage
from schemas.topics import CUSTOM_EVENTS, EXPOSURES
from schemas.wire import Event, RequestMetadata, text_of

Headers = list[tuple[str, bytes]]


class NotReplayableError(Exception):
    """A letter that cannot come again, whatever the code; `why` is one of few, for counting."""

    def __init__(self, why: str, message: str) -> None:
        super().__init__(message)
        self.why = why


class RefusedAgainError(Exception):
    """The gateway's code refuses the event again."""

    def __init__(self, verdict: Verdict) -> None:
        super().__init__(verdict.message)
        self.verdict = verdict


class Part(msgspec.Struct, frozen=True, gc=False):
    """An event for a chunk: the JSON of a `RequestPart`, checked."""

    partition: int
    attempt: int
    events: int
    json: bytes
    event_ids: list[bytes]
    size_bytes: int


class Again(msgspec.Struct, frozen=True, gc=False):
    """A record for a public topic."""

    topic: str
    partition: int
    key: bytes
    value: bytes
    headers: Headers
    event_ids: list[bytes]


_decode_part: Final = msgspec.json.Decoder(chunk.RequestPart).decode
_decode_sender: Final = msgspec.json.Decoder(RequestMetadata).decode
_decode_event: Final = msgspec.json.Decoder(Event).decode
_UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)

_WHOLE_CHUNK: Final = frozenset({Reason.UNDECODABLE_CHUNK.value, Reason.UNKNOWN_CHUNK_VERSION.value})
_PUBLIC: Final = (EXPOSURES.encode(), CUSTOM_EVENTS.encode())


def reenter(letter: Letter, rules: list[Rule], replay: str, partitions: int) -> Part | Again:
    """Return what is sent of a letter.

    Raises NotReplayableError, RefusedAgainError, and DoesNotApplyError when a rule does not fit it.
    """
    stage = letter.stage
    if letter.now.stage not in (Stage.INGEST, Stage.WORKER, Stage.LANDER) or letter.envelope.stage != stage:
        raise NotReplayableError("forged", f"an envelope of stage {letter.envelope.stage!r} in {letter.place.topic}")
    meant = meant_for(rules, letter.now.reason, letter.now.event_name)
    if letter.origin is None:
        raise NotReplayableError("no_origin", "it never had an origin, so nobody could tell it from a copy")
    if stage == Stage.LANDER or letter.envelope.reason in _WHOLE_CHUNK:
        if meant:
            raise DoesNotApplyError(f"rule {meant[0][0]}: it is no JSON event, and rules change nothing else")
        return _record(letter, replay, partitions) if stage == Stage.LANDER else _chunk(letter, partitions)
    event = mended(letter.envelope.original, meant)
    if stage == Stage.INGEST:
        event = _through_the_gateway(event)
    return _part(letter, event, partitions)


def _through_the_gateway(event: bytes) -> bytes:
    verdict = judge(event)
    if verdict is not None:
        raise RefusedAgainError(verdict)
    return mask(event, b"")


def _part(letter: Letter, event: bytes, partitions: int) -> Part:
    envelope, origin = letter.envelope, letter.origin
    assert origin is not None
    if envelope.event_id is None:
        raise NotReplayableError("no_event_id", "its envelope names no event id")
    request = envelope.request.encode("utf-8", "surrogatepass")
    if not request.endswith(b"}") or len(request) < len(b'{"":0}'):
        raise NotReplayableError("forged", "its envelope does not hold the request it came with")
    occurrence = b',"occurrences":{"0":%d}' % envelope.occurrence if envelope.occurrence else b""
    text = b'%b%b,"ids":{"0":"%b"},"firsts":{"0":["%b",%d]},"events":[%b]}' % (
        request[:-1],
        occurrence,
        envelope.event_id.hex().encode(),
        origin.pack().hex().encode(),
        _moment_of(envelope),
        event,
    )
    try:
        read = _decode_part(text)
    except _UNREADABLE as error:
        raise NotReplayableError("forged", f"its envelope's request or event cannot be read: {error}") from error
    if len(read.events) != 1:
        raise NotReplayableError("forged", "its envelope holds more than one event")
    key = envelope.partition_key or partition_key(envelope.original, text_of(_sender_of(read).stableID))
    partition = partition_of(key, partitions)
    return Part(partition, letter.now.attempt + 1, 1, text, [envelope.event_id], len(event))


def _chunk(letter: Letter, partitions: int) -> Part:
    """Return the events of a chunk that could not be read as a whole, as this code reads it."""
    envelope, origin = letter.envelope, letter.origin
    assert origin is not None
    headers = envelope.chunk_headers
    if headers.get(chunk.VERSION_HEADER, chunk.VERSION) != chunk.VERSION:
        raise NotReplayableError("unreadable", "a chunk of a version that this code does not know either")
    try:
        parts = chunk.decode(envelope.original).requests
    except _UNREADABLE as error:
        raise NotReplayableError("unreadable", f"it is still no chunk: {error}") from error
    count = sum(len(part.events) for part in parts)
    if headers.get(chunk.COUNT_HEADER) != b"%d" % count:
        raise NotReplayableError("miscounted", f"it holds {count} events, and another number was accepted")
    texts, event_ids, index = [], [], 0
    failed_at = _moment_of(envelope)
    for part in parts:
        ids = _ids_of(part)
        firsts = {
            place: chunk.First(origin._replace(index=index + place).pack().hex(), failed_at)
            for place in range(len(ids))
        }
        named = {place: event_id.hex() for place, event_id in enumerate(ids)}
        texts.append(msgspec.json.encode(msgspec.structs.replace(part, ids=named, firsts=firsts)))
        event_ids += ids
        index += len(ids)
    attempt = letter.now.attempt + 1
    partition = origin.partition if origin.partition < partitions else origin.partition % partitions
    return Part(partition, attempt, count, b",".join(texts), event_ids, len(envelope.original))


def _moment_of(envelope: Envelope) -> int:
    """Return when a letter failed first; what no clock can have said is an end of what a replay may say."""
    return min(max(envelope.first_failed_at, 0), STORE_MAX_MS)


def _ids_of(part: chunk.RequestPart) -> list[bytes]:
    sender = _sender_of(part)
    scope = scope_of(text_of(sender.sdkType), text_of(sender.stableID), text_of(sender.sessionID))
    ids = EventIds(part.project, part.environment, scope, part.idempotency_key or part.request_id)
    found = []
    for place, raw in enumerate(part.events):
        given = part.ids.get(place, "")
        try:
            has_time = _decode_event(raw).time is not None
        except _UNREADABLE:
            has_time = False
        own = ids.of(bytes(raw), part.occurrences.get(place, 0), has_time)
        found.append(bytes.fromhex(given) if len(given) == 2 * len(own) else own)
    return found


def _sender_of(part: chunk.RequestPart) -> RequestMetadata:
    try:
        return _decode_sender(part.statsigMetadata)
    except _UNREADABLE:
        return RequestMetadata()


def _record(letter: Letter, replay: str, partitions: int) -> Again:
    envelope, origin = letter.envelope, letter.origin
    assert origin is not None
    headers = envelope.chunk_headers
    topic = headers.get("source_topic", b"")
    if topic not in _PUBLIC:
        raise NotReplayableError("forged", f"its envelope names no public topic it came from: {topic!r:.60}")
    if envelope.event_id is None:
        raise NotReplayableError("unreadable", "it is no record of an event: " + envelope.message)
    source = headers.get("source_partition", b"")
    partition = int(source) if source.isdigit() and len(source) < 6 else origin.partition
    own: Headers = [
        (HEADER, origin.pack()),
        (chunk.REPLAY_HEADER, replay.encode()),
        (chunk.ATTEMPT_HEADER, b"%d" % (letter.now.attempt + 1)),
        (chunk.FAILED_HEADER, b"%d" % _moment_of(envelope)),
    ]
    if partition >= partitions:
        partition = partition_of(envelope.partition_key, partitions)
    return Again(topic.decode(), partition, envelope.partition_key, envelope.original, own, [envelope.event_id])


def refused_again(letter: Letter, verdict: Verdict, replay: str, now_ms: int) -> DeadLetter:
    """Return the envelope of an event that the gateway's code refuses again: the same, one attempt older."""
    first = letter.envelope
    assert letter.origin is not None
    return DeadLetter(
        stage=Stage.INGEST,
        reason=verdict.reason,
        message=verdict.message,
        original=first.original,
        failed_at=now_ms,
        origin=letter.origin,
        attempt=letter.now.attempt + 1,
        first_failed_at=first.first_failed_at,
        replay=replay,
        **{
            name: getattr(first, name)
            for name in (
                "event_id", "occurrence", "chunk_headers", "partition_key", "project", "environment", "key_id",
                "request_id", "sdk_type", "sdk_version", "event_name", "experiment", "rule_id", "unit_id",
                "received_at",
            )
        },
        request=first.request.encode("utf-8", "replace"),
    )  # fmt: skip
