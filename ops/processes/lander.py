"""The lander process: exposures, custom events, dead letters and config versions in, rows of the store out."""

from ops.processes import lifecycle
from ops.processes.stage import Stage
from ops.settings import Settings
from processors.config_lander import ConfigLander
from processors.dead_letter_lander import DeadLetterLander
from processors.lander import Lander, LanderConfig
from schemas.metrics import ConfigLanderMetrics, DeadLetterMetrics, LanderMetrics


def landers_of(settings: Settings) -> tuple[Stage, ...]:
    """Return the lander that the settings describe, and those of dead letters and of config versions."""
    config = LanderConfig(
        kafka=settings.kafka,
        store=settings.store,
        batch_rows=settings.lander_batch_rows,
        batch_ms=settings.lander_batch_ms,
        burst_guard=settings.burst_guard,
    )
    dead_letters = DeadLetterLander(settings.kafka, settings.store, DeadLetterMetrics())
    configs = ConfigLander(settings.kafka, settings.store, ConfigLanderMetrics())
    return Lander(config, LanderMetrics()), dead_letters, configs


def compose(settings: Settings) -> lifecycle.Composition:
    """Return all landers."""
    return lifecycle.Composition(landers_of(settings))


def run(settings: Settings) -> int:
    """Work until told to stop; return the exit code."""
    return lifecycle.run("lander", settings, compose)
