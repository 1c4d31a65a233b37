"""Which evaluations of a feature flag count as exposures: a setting, since OpenTelemetry records every one."""

from dataclasses import dataclass
from typing import Final, Self

REASONS: Final = (
    "cached",
    "default",
    "disabled",
    "error",
    "split",
    "stale",
    "static",
    "targeting_match",
    "unknown",
)
"""Well-known values of `feature_flag.result.reason` (OpenTelemetry semantic conventions, feature flags)."""

_ALL: Final = "all"


@dataclass(frozen=True)
class ExposureRule:
    """By default no evaluation is an exposure. `text` is the rule as it was set."""

    text: str = ""
    takes_all: bool = False
    reasons: frozenset[str] = frozenset()

    @classmethod
    def of(cls, text: str) -> Self:
        """Read "" (none), "all", or reasons with commas between them. Raises ValueError."""
        names = [name.strip().lower() for name in text.split(",")] if text.strip() else []
        if names == [_ALL]:
            return cls(text, takes_all=True)
        for name in names:
            if name not in REASONS:
                raise ValueError(f"{name!r} is neither {_ALL!r} alone nor one of {', '.join(REASONS)}")
        return cls(text, reasons=frozenset(names))

    def takes(self, reason: str) -> bool:
        """Tell whether an evaluation is an exposure. OpenFeature writes its reasons in upper case."""
        return self.takes_all or reason.lower() in self.reasons


NO_EVALUATION: Final = ExposureRule()
"""The rule unless one is set."""
