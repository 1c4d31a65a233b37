"""The lander process: events, dead letters, config versions and identity links in, rows and rollups out."""

from ops.processes import lifecycle
from ops.processes.stage import Stage
from ops.settings import Settings
from processors.config_lander import ConfigLander
from processors.dead_letter_lander import DeadLetterLander
from processors.identity_lander import IdentityLander
from processors.lander import Lander, LanderConfig
from processors.roller import Roller
from processors.shadow_lander import ShadowLander
from schemas.metrics import (
    ArchiveMetrics,
    ConfigLanderMetrics,
    DeadLetterMetrics,
    IdentityLanderMetrics,
    LanderMetrics,
    RollupMetrics,
)


def landers_of(settings: Settings) -> tuple[Stage, ...]:
    """Return the landers of events, dead letters, config versions and identity links, rollups and archive."""
    config = LanderConfig(
        kafka=settings.kafka,
        store=settings.store,
        batch_rows=settings.lander_batch_rows,
        batch_ms=settings.lander_batch_ms,
        burst_guard=settings.burst_guard,
    )
    dead_letters = DeadLetterLander(settings.kafka, settings.store, DeadLetterMetrics())
    configs = ConfigLander(settings.kafka, settings.store, ConfigLanderMetrics())
    links = IdentityLander(settings.kafka, settings.store, IdentityLanderMetrics())
    roller = Roller(settings.store, RollupMetrics())
    return Lander(config, LanderMetrics()), dead_letters, configs, links, roller, *_archive_of(settings)


def _archive_of(settings: Settings) -> tuple[Stage, ...]:
    """Return what belongs to the archive: its writer, and the lander of what is replayed from it to be compared."""
    if not settings.archive:
        return ()
    from processors.archive_lander import ArchiveLander  # noqa: PLC0415 - half a second, for those who archive

    # On an embedded store there is no second lander, so that the one needs no name of its own.
    instance = "embedded" if settings.store.is_embedded else None
    metrics = ArchiveMetrics()
    writer = ArchiveLander(settings.kafka, settings.archive, settings.archive_file_s, metrics, instance=instance)
    return writer, ShadowLander(settings.kafka, settings.store)


def compose(settings: Settings) -> lifecycle.Composition:
    """Return all landers."""
    return lifecycle.Composition(landers_of(settings))


def run(settings: Settings) -> int:
    """Work until told to stop; return the exit code."""
    return lifecycle.run("lander", settings, compose)
