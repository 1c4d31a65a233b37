"""What goes into the processing of a record of `events.raw`, and what comes out of it."""

from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import NamedTuple

import msgspec

from processors.map_event import Mapped, Rejected, RequestContext
from schemas.dead_letter import DeadLetter
from schemas.identity_links import IdentityLink
from schemas.ids import partition_key
from schemas.origin import Origin
from schemas.readable import readable_of
from schemas.reasons import Stage
from schemas.wire import Event


class SourceRecord(NamedTuple):
    """A record of `events.raw` as it was read; `append_ms` is the broker's clock."""

    log: int
    partition: int
    offset: int
    append_ms: int
    headers: dict[str, bytes]
    value: bytes


@dataclass(slots=True)
class Processed:
    """Outcome of one record: `events` = len(emitted) - parts + duplicates + len(dead)."""

    events: int = 0
    duplicates: int = 0
    emitted: list[tuple[Mapped, bytes]] = field(default_factory=list)
    """Records that go on, each with its packed origin; an event's secondary exposures behind it."""
    parts: int = 0
    """How many of them are secondary exposures."""
    links: list[IdentityLink] = field(default_factory=list)
    """What the events that go on show of identities, as far as nobody knew it; a link may be there twice."""
    dead: list[DeadLetter] = field(default_factory=list)
    claimed: list[bytes] = field(default_factory=list)
    firsts: list[bytes] = field(default_factory=list)
    """Of a replay, beside `claimed`: the packed origins under which these ids came first."""
    ledger: bytes = b""
    """What the ledger says of the record."""


class Read(msgspec.Struct, gc=False):
    """An event of a chunk, before it is known whether it is a copy."""

    raw: bytes
    event: Event | None
    error: str
    event_id: bytes
    occurrence: int
    context: RequestContext


def emit(done: Processed, mapped: Mapped, origin: bytes) -> None:
    """Send an event on under its packed origin, its secondary exposures behind it, and the links that it shows."""
    done.emitted.append((mapped, origin))
    if mapped.links:
        done.links += mapped.links
    if mapped.parts:
        _emit_parts(done, mapped.parts, origin)


def _emit_parts(done: Processed, parts: Sequence[Mapped], parent: bytes) -> None:
    origin = Origin.unpack(parent)
    done.emitted += [(one, origin._replace(part=part).pack()) for part, one in enumerate(parts, 1)]
    done.parts += len(parts)


def dead_letter_of(item: Read, origin: Origin, record: SourceRecord, rejected: Rejected, now_ms: int) -> DeadLetter:
    """Return the envelope of an event that is rejected now; `origin` is where it came first."""
    part, context = item.context.part, item.context
    readable = readable_of(item.raw, context.stable_id)
    kept = msgspec.structs.replace(part, events=[], occurrences={}, ids={}, firsts={})
    return DeadLetter(
        stage=Stage.WORKER,
        reason=rejected.reason,
        message=rejected.message,
        original=item.raw,
        failed_at=now_ms,
        origin=origin,
        event_id=item.event_id,
        occurrence=item.occurrence,
        request=msgspec.json.encode(kept),
        chunk_headers=record.headers,
        partition_key=partition_key(item.raw, context.stable_id),
        project=part.project,
        environment=part.environment,
        key_id=part.key_id,
        request_id=part.request_id,
        sdk_type=context.sdk_type,
        sdk_version=context.sdk_version,
        event_name=readable.event_name,
        experiment=readable.experiment,
        rule_id=readable.rule_id,
        unit_id=readable.unit_id,
        received_at=part.received_at,
    )
