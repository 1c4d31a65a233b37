"""Lights: from what is well to what makes results wrong. Pure."""

from collections.abc import Iterable
from typing import Final, Literal

Light = Literal["green", "yellow", "red", "unknown"]

GREEN: Final = "green"
YELLOW: Final = "yellow"
RED: Final = "red"
UNKNOWN: Final = "unknown"

_SEVERITY: Final[tuple[Light, ...]] = (UNKNOWN, GREEN, YELLOW, RED)


def severity(light: Light) -> int:
    """Return how bad a light is; what is not known is least."""
    return _SEVERITY.index(light)


def worst(lights: Iterable[Light]) -> Light:
    """Return the worst of some lights; what is not known counts only where nothing is known."""
    return max(lights, key=severity, default=UNKNOWN)


def by_threshold(value: float, yellow: float, red: float | None) -> Light:
    """Return the light of a value of which less is better."""
    if red is not None and value >= red:
        return RED
    return YELLOW if value >= yellow else GREEN


def percent(share: float) -> str:
    """Write a share for people: two digits that count, and none behind the dot from 10 % on."""
    value = share * 100
    return f"{value:.0f} %" if value >= 10 else f"{value:.2g} %"
