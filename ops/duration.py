"""Lengths of time as people write them on a command line."""

import re
from typing import Final

_UNIT_MS: Final = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_FORM: Final = re.compile(r"([0-9]{1,9})([smhd])")
_LONGEST_DAYS: Final = 36_500
"""A moment beyond the year 9999 could not be printed any more."""


def milliseconds(text: str) -> int:
    """Read `90s`, `15m`, `36h` or `7d`; `0` is none at all. Raises ValueError with what is expected."""
    if text == "0":
        return 0
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no length of time: write 90s, 15m, 36h or 7d")
    length_ms = int(found[1]) * _UNIT_MS[found[2]]
    if length_ms > _LONGEST_DAYS * _UNIT_MS["d"]:
        raise ValueError(f"{text!r} is longer than {_LONGEST_DAYS} days")
    return length_ms
