"""The enrichments: what each fills, and whether it is on."""

from collections.abc import Callable
from dataclasses import dataclass, field
from enum import StrEnum

from processors.enrich.privacy import PrivacyPolicy


class Enrichment(StrEnum):
    """Every enrichment there is; the value is its name in settings, metrics and docs."""

    CONFIG_MATCH = "config_match"
    """`match_config.py`: config_version, config_time, config_match."""
    ASSIGNMENT_AUDIT = "assignment_audit"
    """`audit_assignment.py`: assignment, expected_group. Needs `config_match`."""
    BOTS = "bots"
    """`bots.py`: is_bot."""
    SECONDARY_EXPOSURES = "secondary_exposures"
    """`secondary.py`: a row for each gate and holdout on the way to a decision."""
    IDENTITY = "identity"
    """`identity.py`: canonical_id, and the links in `identity.links`."""
    PRIVACY = "privacy"
    """`privacy.py`: user, and every column that is made of it."""


@dataclass(frozen=True)
class Enriching:
    """Which enrichments are on, and how far they go."""

    off: frozenset[Enrichment] = frozenset()
    stale_after_ms: int = 60_000
    """How long after a version is known here an SDK may still decide by the one before.

    SDKs ask every 10 s, and so does `headrace config watch`; caches in between add theirs.
    """
    privacy: PrivacyPolicy = field(default_factory=PrivacyPolicy)
    audit_rate: float = 1.0
    """Share of the exposures whose bucket is recomputed; which ones follows from the event id."""

    def has(self, enrichment: Enrichment) -> bool:
        """Whether an enrichment is on."""
        return enrichment not in self.off


def hand_over(enrichment: Enrichment, counts: dict[str, int], count: Callable[[str, str, int], None]) -> None:
    """Give what an enrichment counted, by outcome, to `count(enrichment, outcome, number)`, and begin anew."""
    for outcome, number in counts.items():
        if number:
            count(enrichment.value, outcome, number)
            counts[outcome] = 0
