"""The metrics of every process: names and meanings, in one place.

Labels take their values from closed lists only, never from what a sender wrote.
"""

from prometheus_client import CollectorRegistry, Counter, Gauge, Histogram, PlatformCollector, ProcessCollector

_SECONDS = (0.001, 0.0025, 0.005, 0.01, 0.025, 0.05, 0.1, 0.25, 0.5, 1.0, 2.5, 5.0, 10.0)


def _registry() -> CollectorRegistry:
    registry = CollectorRegistry(auto_describe=True)
    ProcessCollector(registry=registry)
    PlatformCollector(registry=registry)
    return registry


class GatewayMetrics:
    """What the gateway counts."""

    def __init__(self) -> None:
        self.registry = r = _registry()
        self.requests = Counter(
            "headrace_gateway_requests",
            "Requests answered, by endpoint and status.",
            ["endpoint", "status"],
            registry=r,
        )
        self.refused = Counter(
            "headrace_gateway_refused_requests", "Requests refused as a whole, by reason.", ["reason"], registry=r
        )
        self.events = Counter("headrace_gateway_events", "Events acknowledged by the log.", registry=r)
        self.chunks = Counter("headrace_gateway_chunks", "Records written to events.raw.", registry=r)
        self.dead_letters = Counter(
            "headrace_gateway_dead_letters", "Events written to dlq.ingest, by reason.", ["reason"], registry=r
        )
        self.body_bytes = Counter("headrace_gateway_body_bytes", "Bytes of log requests as received.", registry=r)
        self.otlp_not_taken = Counter(
            "headrace_gateway_otlp_not_taken",
            "Log records over OTLP that became no event, by why.",
            ["why"],
            registry=r,
        )
        self.in_flight_bytes = Gauge("headrace_gateway_in_flight_bytes", "Decoded bytes not yet answered.", registry=r)
        self.append_seconds = Histogram(
            "headrace_gateway_append_seconds",
            "From a chunk's send to its acknowledgement.",
            buckets=_SECONDS,
            registry=r,
        )
        self.spilled_chunks = Counter(
            "headrace_gateway_spilled_chunks", "Records committed to the spill, because Kafka was away.", registry=r
        )
        self.drained_chunks = Counter(
            "headrace_gateway_drained_chunks", "Records of the spill that Kafka has acknowledged since.", registry=r
        )
        self.spill_errors = Counter(
            "headrace_gateway_spill_errors", "Reads and commits of the spill that failed.", registry=r
        )
        self.spill_chunks = Gauge("headrace_gateway_spill_chunks", "Records that wait in the spill.", registry=r)
        self.spill_bytes = Gauge("headrace_gateway_spill_bytes", "Bytes that wait in the spill.", registry=r)
        self.spill_oldest_seconds = Gauge(
            "headrace_gateway_spill_oldest_seconds", "How long the oldest of them has waited.", registry=r
        )
        self.spill_commit_seconds = Histogram(
            "headrace_gateway_spill_commit_seconds", "Duration of a commit of the spill.", buckets=_SECONDS, registry=r
        )


class WorkerMetrics:
    """What the worker counts."""

    def __init__(self) -> None:
        self.registry = r = _registry()
        self.chunks = Counter("headrace_worker_chunks", "Records of events.raw processed.", registry=r)
        self.events = Counter("headrace_worker_events", "Events read.", registry=r)
        self.emitted = Counter("headrace_worker_emitted", "Events sent on, by topic.", ["topic"], registry=r)
        self.duplicates = Counter("headrace_worker_duplicates", "Events dropped: another origin owns them.", registry=r)
        self.dead_letters = Counter(
            "headrace_worker_dead_letters", "Events written to dlq.worker, by reason.", ["reason"], registry=r
        )
        self.enriched = Counter(
            "headrace_worker_enriched",
            "Events by what an enrichment made of them (docs/config.md).",
            ["enrichment", "outcome"],
            registry=r,
        )
        self.claims = Gauge("headrace_worker_claims", "Event ids held by the claims index.", registry=r)
        self.identity_links = Gauge("headrace_worker_identity_links", "Links of ids to users in memory.", registry=r)
        self.pending = Gauge("headrace_worker_pending_chunks", "Chunks sent and not yet acknowledged.", registry=r)
        self.recoveries = Counter("headrace_worker_recoveries", "Rebuilds of the claims index.", registry=r)

    def count_enriched(self, enrichment: str, outcome: str, number: int) -> None:
        """Add to `enriched`."""
        self.enriched.labels(enrichment, outcome).inc(number)


class LanderMetrics:
    """What the lander counts."""

    def __init__(self) -> None:
        self.registry = r = _registry()
        self.rows = Counter("headrace_lander_rows", "Rows inserted, by table.", ["table"], registry=r)
        self.repeats = Counter(
            "headrace_lander_repeats", "Records that had landed already, by table.", ["table"], registry=r
        )
        self.dead_letters = Counter(
            "headrace_lander_dead_letters", "Records written to dlq.lander, by reason.", ["reason"], registry=r
        )
        self.insert_seconds = Histogram(
            "headrace_lander_insert_seconds", "Duration of an insert.", buckets=_SECONDS, registry=r
        )
        self.readbacks = Counter("headrace_lander_readbacks", "Look-ups of what had landed.", registry=r)
        self.lag = Gauge("headrace_lander_lag_records", "Records not yet landed, by topic.", ["topic"], registry=r)


class LandedMetrics:
    """What a landing beside the lander's counts."""

    def __init__(self, name: str, meaning: str) -> None:
        self.registry = r = _registry()
        self.landed = Counter(name, meaning, registry=r)


class DeadLetterMetrics(LandedMetrics):
    """What the landing of dead letters counts."""

    def __init__(self) -> None:
        super().__init__("headrace_dead_letters_landed", "Rows inserted into dead_letters.")


class ArchiveMetrics:
    """What the archive counts."""

    def __init__(self) -> None:
        self.registry = r = _registry()
        self.records = Counter("headrace_archive_records", "Records of events.raw in finished files.", registry=r)
        self.files = Counter("headrace_archive_files", "Files finished.", registry=r)
        self.written = Counter("headrace_archive_bytes", "Bytes of finished files.", registry=r)
        self.lag = Gauge("headrace_archive_lag_records", "Records of events.raw that no file has yet.", registry=r)


class IdentityLanderMetrics(LandedMetrics):
    """What the landing of identity links counts."""

    def __init__(self) -> None:
        super().__init__("headrace_identity_links_landed", "Records of identity.links that landed.")


class ConfigLanderMetrics(LandedMetrics):
    """What the landing of config versions counts."""

    def __init__(self) -> None:
        super().__init__("headrace_config_versions_landed", "Rows inserted into config_versions.")


class RollupMetrics:
    """What the rollups of experiments count."""

    def __init__(self) -> None:
        self.registry = r = _registry()
        self.days = Counter("headrace_rollup_days", "Days whose rollups were made.", registry=r)
        self.seconds = Histogram(
            "headrace_rollup_seconds", "Duration of making a day.", buckets=(*_SECONDS, 30.0, 60.0), registry=r
        )
        self.failing = Gauge("headrace_rollup_failing", "1 while they cannot be made.", registry=r)


class ConsoleMetrics:
    """What the console counts."""

    def __init__(self) -> None:
        self.registry = r = _registry()
        self.queries = Counter("headrace_console_queries", "SQL queries, by outcome.", ["outcome"], registry=r)
        self.viewers = Gauge("headrace_console_viewers", "Open live streams.", registry=r)
        self.dropped = Counter("headrace_console_dropped_events", "Events that a slow viewer missed.", registry=r)
