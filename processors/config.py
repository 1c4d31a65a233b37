"""What the worker needs to know to start."""

from dataclasses import dataclass, field

from processors.enrich.catalog import Enriching
from schemas.kafka import KafkaConnection
from schemas.limits import CLAIMS_WINDOW_MS, IDENTITY_LINKS, WORKER_STALL_S


@dataclass(frozen=True)
class WorkerConfig:
    """Settings of one worker.

    `instance` is the worker's slot: with one fixed name each, the group knows a restarted worker
    again and does not wait for its session to end.
    """

    kafka: KafkaConnection
    claims_window_ms: int = CLAIMS_WINDOW_MS
    instance: str = "0"
    enriching: Enriching = field(default_factory=Enriching)
    identity_links: int = IDENTITY_LINKS
    """How many links between ids and users are kept in memory."""
    stall_s: float = WORKER_STALL_S
    """How long reading, delivery or a commit may stand still before the process ends."""
    burst_guard: bool = True
    """Whether a run of failures that point at us stops a partition, instead of making dead letters of all events."""
