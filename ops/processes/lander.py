"""The lander process: exposures and custom events in, rows of the store out."""

from ops.processes import lifecycle
from ops.processes.stage import Stage
from ops.settings import Settings
from processors.lander import Lander, LanderConfig
from schemas.metrics import LanderMetrics


def lander_of(settings: Settings) -> Stage:
    """Return the lander that the settings describe."""
    config = LanderConfig(
        kafka=settings.kafka,
        store=settings.store,
        batch_rows=settings.lander_batch_rows,
        batch_ms=settings.lander_batch_ms,
    )
    return Lander(config, LanderMetrics())


def compose(settings: Settings) -> lifecycle.Composition:
    """Return the lander alone."""
    return lifecycle.Composition([lander_of(settings)])


def run(settings: Settings) -> int:
    """Work until told to stop; return the exit code."""
    return lifecycle.run("lander", settings, compose)
