"""The form of everything the doctor finds."""

from enum import StrEnum

import msgspec


class Verdict(StrEnum):
    """`bad`: it will not work like this. `warn`: it will, but look at it."""

    OK = "ok"
    WARN = "warn"
    BAD = "bad"


class Finding(msgspec.Struct, frozen=True):
    """One thing that was looked at."""

    verdict: Verdict
    part: str
    found: str
    remedy: str = ""


def ok(part: str, found: str) -> Finding:
    """All is well."""
    return Finding(Verdict.OK, part, found)


def warn(part: str, found: str, remedy: str) -> Finding:
    """It works, or would, and still wants a look."""
    return Finding(Verdict.WARN, part, found, remedy)


def bad(part: str, found: str, remedy: str) -> Finding:
    """It does not work."""
    return Finding(Verdict.BAD, part, found, remedy)
