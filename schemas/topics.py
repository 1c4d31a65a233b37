"""The topics: names, how many partitions, and how long they keep what they hold."""

from dataclasses import dataclass, field
from typing import Final

from schemas.limits import ENVELOPE_BYTES
from schemas.reasons import Stage

EVENTS_RAW: Final = "events.raw"
EXPOSURES: Final = "exposures"
CUSTOM_EVENTS: Final = "custom_events"
DLQ_INGEST: Final = "dlq.ingest"
DLQ_WORKER: Final = "dlq.worker"
DLQ_LANDER: Final = "dlq.lander"
LEDGER: Final = "ledger"
CONFIG_SPECS: Final = "config.specs"
CONFIG_VERSIONS: Final = "config.versions"
KEYS: Final = "keys"
LOGS: Final = "logs"
SCHEMAS: Final = "schemas"
REPLAYS: Final = "replays"
IDENTITY_LINKS: Final = "identity.links"
ERASURES: Final = "erasures"
SHADOW_EXPOSURES: Final = "shadow.exposures"
SHADOW_CUSTOM_EVENTS: Final = "shadow.custom_events"

SHADOWS: Final = {EXPOSURES: SHADOW_EXPOSURES, CUSTOM_EVENTS: SHADOW_CUSTOM_EVENTS}
"""By public topic: where a replay's records go that are to be compared before they count."""

DEAD_LETTERS: Final = {DLQ_INGEST: Stage.INGEST, DLQ_WORKER: Stage.WORKER, DLQ_LANDER: Stage.LANDER}
"""The topics of dead letters in the order of an event's path, each with the stage that writes it."""

WORKER_APP_ID: Final = "headrace-worker"
CLAIMS_TABLE: Final = "claims"
CLAIMS_CHANGELOG: Final = f"{WORKER_APP_ID}-{CLAIMS_TABLE}-changelog"
LANDER_GROUP: Final = "headrace-lander"
DEAD_LETTER_GROUP: Final = "headrace-dead-letters"
ARCHIVE_GROUP: Final = "headrace-archive"
IDENTITY_GROUP: Final = "headrace-identity-links"
SHADOW_GROUP: Final = "headrace-shadow"


def raw_topic(log: int) -> str:
    """Return the name of the topic of a log that follows another."""
    return f"{EVENTS_RAW}.{log}"


def worker_group(raw: str) -> str:
    """Return the consumer group of the workers of a topic of raw events: each log has its own.

    While workers go from one log to the next their subscriptions differ, and a group of Faust's gives
    every member partitions of all topics.
    """
    return WORKER_APP_ID + raw.removeprefix(EVENTS_RAW)


RAW_DAYS: Final = 7
"""How long `events.raw` is kept: at least three claims windows."""

LEDGER_DAYS: Final = 2 * RAW_DAYS
"""How long the ledger is kept: longer than the chunks it speaks of."""

_DAY_MS: Final = 24 * 3600 * 1000


@dataclass(frozen=True)
class Topic:
    """One topic as it must exist. `partitioned` topics have as many partitions as `events.raw`."""

    name: str
    partitioned: bool
    settings: dict[str, str] = field(default_factory=dict)


def _kept(days: int) -> dict[str, str]:
    return {"cleanup.policy": "delete", "retention.ms": str(days * _DAY_MS)}


_COMPACT: Final = {"cleanup.policy": "compact"}
_COMPACT_AND_DELETE: Final = {"cleanup.policy": "compact,delete"}
_LARGE: Final = {"max.message.bytes": str(ENVELOPE_BYTES)}
_FOREVER: Final = {"cleanup.policy": "delete", "retention.ms": "-1", **_LARGE}

TOPICS: Final[tuple[Topic, ...]] = (
    # The claims window and the offsets' lack of holes both rest on these settings.
    Topic(EVENTS_RAW, True, {**_kept(RAW_DAYS), "message.timestamp.type": "LogAppendTime"}),
    Topic(EXPOSURES, True, _kept(3)),
    Topic(CUSTOM_EVENTS, True, _kept(3)),
    Topic(SHADOW_EXPOSURES, True, _kept(3)),
    Topic(SHADOW_CUSTOM_EVENTS, True, _kept(3)),
    Topic(DLQ_INGEST, True, _FOREVER),
    Topic(DLQ_WORKER, True, _FOREVER),
    Topic(DLQ_LANDER, True, _FOREVER),
    # Compacted, because what is read again is written again; deleted, because 750 chunks a second are
    # 5 GB a day. By the broker's clock, so that a time finds a chunk's record behind its chunk. One
    # partition, because a batch more for each in every flight was 1.6 µs an event at 4,000 events a second.
    Topic(LEDGER, False, {**_kept(LEDGER_DAYS), **_COMPACT_AND_DELETE, "message.timestamp.type": "LogAppendTime"}),
    # Faust declares the same; made here so that it exists before the first worker.
    Topic(CLAIMS_CHANGELOG, True, _COMPACT),
    Topic(CONFIG_SPECS, False, {**_COMPACT, **_LARGE}),
    # One entity may be almost the whole of a document.
    Topic(CONFIG_VERSIONS, False, {**_COMPACT, **_LARGE}),
    Topic(KEYS, False, _COMPACT),
    Topic(LOGS, False, _COMPACT),
    Topic(SCHEMAS, False, _COMPACT),
    Topic(REPLAYS, False, _COMPACT),
    # One partition, as the ledger has: a link is written once, and a batch more for each in every flight is dear.
    Topic(IDENTITY_LINKS, False, _COMPACT),
    Topic(ERASURES, False, _COMPACT),
)
