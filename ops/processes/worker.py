"""The worker process: chunks in, exposures and custom events out."""

from ops.processes import lifecycle
from ops.settings import Settings
from processors.config import WorkerConfig
from processors.worker import Worker
from schemas.metrics import WorkerMetrics


def compose(settings: Settings) -> lifecycle.Composition:
    """Return the worker."""
    config = WorkerConfig(
        kafka=settings.kafka,
        claims_window_ms=settings.claims_window_ms,
        instance=settings.worker_instance,
        burst_guard=settings.burst_guard,
        identity_links=settings.identity_links,
        enriching=settings.enriching,
    )
    return lifecycle.Composition([Worker(config, WorkerMetrics())])


def run(settings: Settings) -> int:
    """Work until told to stop; return the exit code."""
    return lifecycle.run("worker", settings, compose)
