"""Every limit of the pipeline, in one place.

A limit is inclusive: a value equal to it is accepted, one above is refused with the reason named
beside it. Tests take −1, 0 and +1 from here.
"""

from typing import Final

KIB: Final = 1024
MIB: Final = 1024 * KIB

# --- a request at the gateway ------------------------------------------------------------------
WIRE_BODY_BYTES: Final = 8 * MIB
"""Body as it came over the wire; above: 413 `body_too_large`."""

DECODED_BODY_BYTES: Final = 16 * MIB
"""Body after decompression. A core SDK's batch of 2,000 events of 4 kB users reaches 10 MB."""

COMPRESSED_MEMBERS: Final = 512
"""Members of a gzip body, one behind another (RFC 1952); 16 MiB in blocks of 64 KiB are 256. Above: 415."""

OTLP_BODY_BYTES: Final = 4 * MIB
"""An OTLP body after decompression; above: 413. Two bytes of protobuf are a message of seventy in memory."""

OTLP_PARTS: Final = 200_000
"""Of an OTLP body: objects in JSON, resources, scopes and records in protobuf; above: 413 `too_many_events`."""

REQUEST_METADATA_BYTES: Final = 64 * KIB
"""A request's `statsigMetadata`, which travels with each of its chunks; above: 413."""

EVENTS_PER_REQUEST: Final = 5_000
"""SDKs send at most 2,000; above: 413 `too_many_events`, and nothing of the request is taken."""

EVENT_BYTES: Final = 256 * KIB
"""One event; above: that event becomes a dead letter (`event_too_large`)."""

METADATA_KEYS: Final = 256
"""Keys of one event's `metadata` object; above: dead letter (`too_many_metadata_keys`)."""

SECONDARY_EXPOSURES: Final = 100
"""Secondary exposures of one event that become rows; those beyond are counted. 256 KiB could list 20,000."""

EVENT_DEPTH: Final = 32
"""Nesting of arrays and objects in one event, the event itself being 1; above: dead letter."""

HEADER_BLOCK_BYTES: Final = 32 * KIB
"""Request line and headers together; above: 431."""

UNFINISHED_REQUEST_S: Final = 10
"""How long a request may take to arrive whole."""

IDLE_KEEP_ALIVE_S: Final = 75
"""SDKs poll their specs every 10 s on one connection."""

DRAIN_S: Final = 8
"""How long a gateway that is told to stop waits for what is on its way in; then 503, and the end."""

CONNECTIONS: Final = 10_000
"""Connections of one gateway, or as many as its process may open; beyond: the longest idle are closed, else 503."""

GATEWAY_IN_FLIGHT_BYTES: Final = 256 * MIB
"""Bytes of requests that one gateway has in hand, being received, decompressed or not yet acknowledged; beyond: an
immediate 503."""

ANSWER_DEADLINE_S: Final = 2.5
"""The gateway answers 503 when the log has not acknowledged by then (Go SDKs give up at 3 s)."""

SPILL_BYTES: Final = 1024 * MIB
"""Chunks that a gateway's spill holds while Kafka is away, unless set otherwise; beyond: 503."""

# --- a record in Kafka -------------------------------------------------------------------------
CHUNK_EVENTS: Final = 1_000
"""Events in one record of `events.raw`."""

CHUNK_BYTES: Final = 512 * KIB
"""Event bytes in one record of `events.raw`; a chunk of a single event may exceed it."""

RECORD_BYTES: Final = 1_000 * KIB
"""Key and value of a record of a public topic, of which brokers take 1 MiB unless told otherwise. An id
that is almost all of a large event stands in the record five times; above: dead letter."""

LEDGER_NAME_CHARS: Final = 256
"""Of a project, an environment or a key id in the ledger; the rest is cut off, so that nobody's chunk
makes a ledger record that the broker refuses."""

ENVELOPE_BYTES: Final = 17 * MIB
"""`max.message.bytes` of dead-letter and specs topics, and `max_request_size` of their producers."""

PARTITION_KEY_BYTES: Final = 64 * KIB
"""What decides an event's partition, in its dead letter. A longer one is left out, so that the envelope
fits: it may be the whole event, and `schemas.ids.partition_key` finds it in the event again."""

DEAD_LETTER_NAME_CHARS: Final = 256
"""Of the names and the unit that a dead letter repeats from its event; the rest is cut off."""

DEAD_LETTER_MESSAGE_CHARS: Final = 1_000
"""Of a dead letter's message, which may quote the event; the rest is cut off."""

REPLAY_ATTEMPTS: Final = 5
"""Tries of one event, the first included; a dead letter of the last one is parked: replayed only when asked for so."""

SPECS_BYTES: Final = 16 * MIB
"""A config specs document; above: refused when it is pushed."""

# --- exactly once ------------------------------------------------------------------------------
CLAIMS_WINDOW_MS: Final = 48 * 3600 * 1000
"""How long an event_id stays owned, on the broker's append time."""

WORKER_STALL_S: Final = 90
"""How long a worker's reading, delivery, commit or recovery may stand still while Kafka answers and there
is something to do, unless set otherwise; then its process ends, and a restart recovers. A rebalance may
take 60 s."""

LANDER_STALL_S: Final = 150
"""How long a lander's call of Kafka or of the store may stand still while Kafka answers; then its process
ends. A rebalance may take 90 s, and an insert has less."""

# --- time --------------------------------------------------------------------------------------
FAR_FUTURE_MS: Final = 24 * 3600 * 1000
"""An event further ahead of its receipt is kept and flagged `future`."""

FAR_PAST_MS: Final = 30 * 24 * 3600 * 1000
"""An event older than this at its receipt is kept and flagged `past`; mobile SDKs keep days."""

LATE_MS: Final = 3600 * 1000
"""A first exposure that is received later than this after it happened is called late, and counted by group."""

TIME_MS: Final = 8_640_000_000_000_000
"""Largest time, either way from the epoch, that a clock can mean (ECMA-262, "Time Values")."""

STORE_MIN_MS: Final = -2_208_988_800_000
STORE_MAX_MS: Final = 10_413_791_999_999
"""What the store's DateTime64(3) can hold: 1900-01-01 to 2299-12-31."""

# --- identity ----------------------------------------------------------------------------------
IDENTITY_CHARS: Final = 256
"""Of an id that is linked, of its type and of a user id; a longer one is nobody's, and its event lands all the same."""

IDENTITY_IDS_OF_EVENT: Final = 8
"""Ids of one event that are linked to its user, its stableID first; those beyond are not looked at."""

IDENTITY_USERS_OF_ID: Final = 16
"""Users of one stableID; above, it is no device of somebody's (a kiosk, a constant) and leads to nobody."""

IDENTITY_IDS_OF_USER: Final = 1_000
"""Ids of one user; above, it is no person (`guest`, `0`) and nothing leads to it."""

IDENTITY_LINKS: Final = 400_000
"""Links that a worker keeps in memory, unless set otherwise; beyond, those that it met least lately are forgotten."""
