"""What can be wrong with an experiment besides its split: each with a value, a light, and what to do. Pure."""

import math
from collections.abc import Mapping
from dataclasses import dataclass
from typing import Any, Final

from console.health.chi_squared import independence
from console.health.lights import GREEN, RED, UNKNOWN, YELLOW, Light, by_threshold, percent
from console.health.sequential import ALPHA, SplitTest

Json = dict[str, Any]


@dataclass(frozen=True)
class Meaning:
    """What a signal is called, from when on it is yellow and red, what it means and what to do about it."""

    title: str
    unit: str
    yellow: float
    red: float | None
    meaning: str
    action: str


MEANINGS: Final = {
    "crossover": Meaning(
        "Units in two arms",
        "share",
        0.001,
        0.01,
        "Units that saw more than one arm of a config version dilute what the arms do; each counts in its first.",
        "Look for units whose id changes (log-in, cleared storage), for clients with another id type, and for caches.",
    ),
    "stale_config": Meaning(
        "Decided by an old config",
        "share",
        0.01,
        0.1,
        "Exposures decided by a version of the config that had been replaced for more than a minute.",
        "Find the SDKs that do not poll (`SELECT sdk_type, sdk_version, count() FROM exposures WHERE "
        "config_match = 'stale' GROUP BY ALL`): a stuck server, a caching proxy, an offline client.",
    ),
    "assignment_mismatch": Meaning(
        "In another arm than the config says",
        "share",
        0.0001,
        0.001,
        "The bucket was computed again and gives another arm: the split is no longer by chance alone.",
        "Find them with `assignment = 'mismatch'`: a wrong salt, a changed unit id, or a cache that mixes versions.",
    ),
    "bots": Meaning(
        "Robots",
        "share",
        0.05,
        0.2,
        "Exposures of what says it is a robot. They are in both arms alike, but do not behave like people.",
        "Leave them out of the analysis (`is_bot`), or do not ask the SDK for them.",
    ),
    "duplicates": Meaning(
        "Copies after two days",
        "share",
        0.01,
        None,
        "Rows whose event had landed more than the claims window (48 h) before. They bias nothing here: a unit counts "
        "once. Earlier copies never land; /api/ledger counts them.",
        "Ask `exposures_current` instead of `exposures`, and find the client that re-sends for days.",
    ),
    "lateness": Meaning(
        "How late exposures are",
        "ms",
        6 * 3_600_000.0,
        None,
        "999 of 1,000 exposures are received within this time; the numbers of what is longer ago are final.",
        "Wait for `final_until` before you read the last hours. Mobile SDKs keep events while they are offline.",
    ),
    "late": Meaning(
        "Late in one arm",
        "p",
        0.01,
        ALPHA,
        "Whether units whose first exposure came more than an hour late are as frequent in every arm. If not, the arm "
        "that is late looks smaller than it is until they have come.",
        "Look at what that arm does to the network or the app's life: slow pages, crashes, longer offline times.",
    ),
    "loss": Meaning(
        "Lost in one arm",
        "p",
        0.01,
        ALPHA,
        "Whether units whose exposures were refused (dead letters that have not landed since) are as frequent in every "
        "arm. Losing exposures of one arm biases results; losing as many of all does not.",
        "`headrace dlq list` says why they were refused; `headrace dlq replay` brings them back.",
    ),
}  # fmt: skip


def share(key: str, count: int, of: int, what: str) -> Json:
    """Return a signal that is `count` of `of`; `what` says of which things."""
    meaning = MEANINGS[key]
    value = count / of if of else None
    light: Light = UNKNOWN if value is None else by_threshold(value, meaning.yellow, meaning.red)
    return _signal(key, value, light, f"{count:,} of {of:,} {what}.", count=count, of=of)


def lateness(p999_ms: float | None) -> Json:
    """Return the signal of how late 99.9 % of exposures are at most."""
    meaning = MEANINGS["lateness"]
    if p999_ms is None:
        return _signal("lateness", None, UNKNOWN, "There were no exposures.")
    light = by_threshold(p999_ms, meaning.yellow, meaning.red)
    return _signal("lateness", p999_ms, light, f"99.9 % are received within {_duration(p999_ms / 1000)}.")


def by_arm(key: str, hits: Mapping[str, int], totals: Mapping[str, int], word: str) -> Json:
    """Return the signal of a rate that should be the same in every arm: units hit, of all units of the arm.

    p is Pearson's test of independence, which is for one look. Red is what the multinomial e-process says of the units
    hit against the shares of all units, at this moment; that one holds whenever one looks (the shares are taken
    as known: they are those of many more units).
    """
    arms = [arm for arm in totals if totals[arm] > 0]
    counts, units = [hits.get(arm, 0) for arm in arms], [totals[arm] for arm in arms]
    count, of = sum(counts), sum(units)
    rows = [
        {"group": arm, word: hit, "of": total, "rate": hit / total}
        for arm, hit, total in zip(arms, counts, units, strict=True)
    ]
    test = independence([min(hit, total) for hit, total in zip(counts, units, strict=True)], units)
    said = f"{count:,} of {of:,} units were {word}"
    if len(arms) < 2:
        return _signal(key, None, UNKNOWN, f"{said}; there are no two arms to compare.", rows, count, of)
    light: Light = GREEN
    if SplitTest([total / of for total in units]).log_e(counts) >= -math.log(ALPHA):
        light = RED
    elif test is None and count:
        light = UNKNOWN
        said += ", too few to compare arms"
    elif test is not None and test.p < MEANINGS[key].yellow:
        light = YELLOW
    rates = ", ".join(f"{arm} {percent(hit / total)}" for arm, hit, total in zip(arms, counts, units, strict=True))
    return _signal(key, test.p if test else None, light, f"{said} ({rates}).", rows, count, of)


def _signal(
    key: str,
    value: float | None,
    light: Light,
    why: str,
    by_group: list[Json] | None = None,
    count: int | None = None,
    of: int | None = None,
) -> Json:
    meaning = MEANINGS[key]
    return {
        "key": key,
        "title": meaning.title,
        "light": light,
        "why": why,
        "value": value,
        "unit": meaning.unit,
        "threshold": {YELLOW: meaning.yellow, RED: meaning.red},
        "count": count,
        "of": of,
        "by_group": by_group,
        "meaning": meaning.meaning,
        "action": meaning.action,
    }


def _duration(seconds: float) -> str:
    for size, word in ((86_400, "d"), (3_600, "h"), (60, "min")):
        if seconds >= 2 * size:
            return f"{seconds / size:.0f} {word}"
    return f"{seconds:.0f} s"
