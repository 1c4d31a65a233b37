"""The health of an experiment, from its facts. Pure: what comes out is the answer of the API."""

import math
from collections.abc import Sequence
from typing import Any, Final

from console.health import signals
from console.health.lights import GREEN, RED, UNKNOWN, YELLOW, Light, severity, worst
from console.health.plan import Plan
from console.health.read import Facts, Version
from console.health.sequential import ALPHA, Look
from console.health.srm import Split, Verdict, chi_squared_light, judge
from console.questions import iso_s

Json = dict[str, Any]

_PATH_POINTS: Final = 240
_SEGMENTS_SHOWN: Final = 50
_BUCKET_MS_MIN: Final = 1000
FINAL_SHARE: Final = 0.999

_MEANING: Final = (
    "Units should fall into the arms as planned. Where they do not (sample ratio mismatch), something that depends on "
    "the arm adds or loses units, and whatever the arms are compared by is off by an unknown amount."
)
_ACTION: Final = (
    "Do not trust results of this version. See whether one segment alone is off, whether exposures are lost or late in "
    "one arm, whether the arm crashes, redirects or is slow before it exposes, and whether the SDKs use this version."
)


def p999_ms(facts: Facts) -> float | None:
    """Return the time within which 99.9 % of counted exposures are received; a bucket's upper end, so a little long."""
    total = sum(row["checks"] for row in facts.lateness)
    so_far = 0
    for row in facts.lateness:
        so_far += row["checks"]
        if so_far >= FINAL_SHARE * total:
            return float(_BUCKET_MS_MIN * 2 ** (row["lateness"] / 4))
    return None


def final_until_ms(facts: Facts) -> float | None:
    """Return the moment up to which numbers are final at 99.9 %."""
    late_ms = p999_ms(facts)
    return None if facts.as_of_ms is None or late_ms is None else facts.as_of_ms - late_ms


def population(facts: Facts) -> Json:
    """Return the units and checks that count, by group and with the plan of the newest version that has units."""
    newest = list(facts.courses)[-1] if facts.courses else None
    plan = facts.plan(newest) if newest is not None else Plan({}, "No unit counts yet.")
    checks = {row["group_name"]: row["checks"] for row in facts.checks if not row["excluded"]}
    total = sum(facts.newcomers.values())
    groups = sorted({*plan.shares, *facts.newcomers, *checks})
    return {
        "units": total,
        "checks": sum(checks.values()),
        "groups": [
            {
                "group": group,
                "units": facts.newcomers.get(group, 0),
                "share": facts.newcomers.get(group, 0) / total if total else None,
                "planned_share": plan.shares.get(group),
                "checks": checks.get(group, 0),
            }
            for group in groups
        ],
        "excluded": [{"reason": row["excluded"], "checks": row["checks"]} for row in facts.checks if row["excluded"]],
        "plan": {"config_version": newest[0] if newest else None, "why": plan.why_not},
    }


def verdicts(facts: Facts) -> dict[Version, Verdict]:
    """Test each version that has units, in the order in which they were first exposed."""
    return {
        version: judge(Split(facts.plan(version), course), position)
        for position, (version, course) in enumerate(facts.courses.items(), 1)
    }


def timeline(facts: Facts, found: dict[Version, Verdict]) -> list[Json]:
    """Return every config version with its plan, from the first on, and how its split is."""
    configs = facts.configs
    entries = []
    for number, config in enumerate(configs):
        verdict = found.get(config.version)
        following = configs[number + 1].version[1] if number + 1 < len(configs) else None
        entries.append(
            {
                "version": config.version[0],
                "from": iso_s(config.version[1] / 1000),
                "until": iso_s(following / 1000) if following is not None else None,
                "is_gone": config.is_gone,
                "planned": [{"group": group, "share": share} for group, share in config.plan.shares.items()] or None,
                "plan_why": config.plan.why_not,
                "units": sum(verdict.counts.values()) if verdict else 0,
                "light": verdict.light if verdict else UNKNOWN,
            }
        )
    return entries


def crossover(facts: Facts) -> Json:
    """Return how many units were in more than one arm of a version."""
    of = sum(facts.newcomers.values())
    return {"units": facts.crossed, "of": of, "rate": facts.crossed / of if of else None}


def health(facts: Facts) -> Json:
    """Return the light of an experiment and everything that it is made of."""
    found = verdicts(facts)
    srm = _srm(facts, found)
    segments = _segments(facts, list(found))
    signs = _signals(facts) if facts.checks else []
    parts: list[tuple[Light, str]] = [(srm["light"], srm["why"])]
    parts += [(RED, each["why"]) for each in segments if each["light"] == RED]
    parts += [(each["light"], f"{each['title']}: {each['why']}") for each in signs]
    light = worst(each for each, _ in parts)
    if srm["light"] == UNKNOWN and severity(light) <= severity(GREEN):
        light = UNKNOWN  # the split is what it is about: without it nothing is called well
    why = next((why for each, why in parts if each == light), srm["why"])
    final_ms = final_until_ms(facts)
    return {
        "as_of": iso_s(facts.as_of_ms / 1000) if facts.as_of_ms else None,
        "final_until": iso_s(final_ms / 1000) if final_ms is not None else None,
        "light": light,
        "why": why,
        "population": population(facts),
        "srm": srm,
        "segments": segments[:_SEGMENTS_SHOWN],
        "segments_tested": sum(facts.segments_of.values()),
        "signals": signs,
    }


def _srm(facts: Facts, found: dict[Version, Verdict]) -> Json:
    light = worst(verdict.light for verdict in found.values())
    named = [(version, verdict) for version, verdict in found.items() if verdict.light == light]
    if not named:
        why = "No unit counts yet."
    else:
        version, verdict = named[-1]
        why = verdict.why if len(found) == 1 else f"Version {version[0] or 'unknown'}: {verdict.why}"
    return {
        "light": light,
        "why": why,
        "meaning": _MEANING,
        "action": _ACTION if light in (YELLOW, RED) else "Nothing." if light == GREEN else "Wait, or push its config.",
        "alpha": ALPHA,
        "boundary_log10": math.log10(named[-1][1].boundary) if named else None,
        "tests": len(found),
        "versions": [_version(facts, version, verdict) for version, verdict in found.items()],
    }


def _version(facts: Facts, version: Version, verdict: Verdict) -> Json:
    plan = facts.plan(version)
    test, last = verdict.chi_squared, verdict.path[-1] if verdict.path else None
    crossed = next((look.at_ms for look in verdict.path if look.log10_e_max >= math.log10(verdict.boundary)), None)
    return {
        "version": version[0],
        "config_time": iso_s(version[1] / 1000) if version[1] else None,
        "light": verdict.light,
        "why": verdict.why,
        "units": verdict.units,
        "plan_why": plan.why_not,
        "groups": _groups(verdict, plan),
        "chi_squared": None
        if test is None
        else {
            "statistic": test.statistic,
            "degrees": test.degrees,
            "p": test.p,
            "deviation": verdict.deviation,
            "light": chi_squared_light(test, verdict.deviation),
        },
        "sequential": None
        if last is None
        else {
            "log10_e": last.log10_e,
            "log10_e_max": last.log10_e_max,
            "boundary_log10": math.log10(verdict.boundary),
            "p_always": 10 ** -min(last.log10_e_max, 300),
            "crossed_at": iso_s(crossed / 1000) if crossed is not None else None,
            "light": RED if crossed is not None else GREEN,
        },
        "path": [
            {
                "at": iso_s(look.at_ms / 1000),
                "units": look.units,
                "log10_e": look.log10_e,
                "log10_e_max": look.log10_e_max,
            }
            for look in thinned(verdict.path)
        ],
    }


def _groups(verdict: Verdict, plan: Plan) -> list[Json]:
    rows = []
    for group, units in verdict.counts.items():
        share = plan.shares.get(group)
        expected = None if share is None else verdict.units * share
        rows.append(
            {
                "group": group,
                "units": units,
                "expected": expected,
                "share": units / verdict.units if verdict.units and (share is not None or not plan.shares) else None,
                "planned_share": share,
                "deviation": (units - expected) / expected if expected else None,
            }
        )
    return rows


def thinned(path: Sequence[Look]) -> list[Look]:
    """Return at most 240 looks of a path, evenly spread, with the last."""
    if len(path) <= _PATH_POINTS:
        return list(path)
    step = (len(path) - 1) / (_PATH_POINTS - 1)
    return [path[round(number * step)] for number in range(_PATH_POINTS)]


def _segments(facts: Facts, versions: list[Version]) -> list[Json]:
    rows = []
    for (dimension, segment, version), course in facts.segments.items():
        plan = facts.plan(version)
        units = sum(sum(came.values()) for _, came in course)
        whole = sum(sum(came.values()) for _, came in facts.courses.get(version, []))
        if not plan.shares or units >= whole or version not in versions:
            continue  # what is all of it was tested already
        verdict = judge(
            Split(plan, course), versions.index(version) + 1, facts.segments_of[version], where=f"Of {segment}, "
        )
        rows.append(
            {
                "dimension": dimension,
                "segment": segment,
                "version": version[0],
                "units": units,
                "light": verdict.light,
                "log10_e_max": verdict.path[-1].log10_e_max if verdict.path else None,
                "boundary_log10": math.log10(verdict.boundary),
                "groups": [
                    {"group": group, "units": count, "planned_share": plan.shares.get(group)}
                    for group, count in verdict.counts.items()
                ],
                "why": verdict.why,
            }
        )
    return sorted(rows, key=lambda row: (-severity(row["light"]), -row["units"], row["dimension"], row["segment"]))


def _signals(facts: Facts) -> list[Json]:
    counted = [row for row in facts.checks if not row["excluded"]]

    def total(column: str) -> int:
        return sum(row[column] for row in counted)

    checks = total("checks")
    units = facts.newcomers
    return [
        signals.share("crossover", facts.crossed, sum(units.values()), "units were in two arms"),
        signals.share("stale_config", total("stale"), checks, "exposures were decided by an old version"),
        signals.share("assignment_mismatch", total("mismatched"), total("audited"), "checked exposures do not match"),
        signals.share("bots", total("bots"), checks, "exposures are of robots"),
        signals.share("duplicates", total("copies"), checks, "rows are copies that came after two days"),
        signals.lateness(p999_ms(facts)),
        signals.by_arm("late", facts.late, units, "late"),
        signals.by_arm(
            "loss", facts.lost, {arm: count + facts.lost.get(arm, 0) for arm, count in units.items()}, "lost"
        ),
    ]
