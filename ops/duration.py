"""Lengths of time as people write them on a command line."""

import re
from typing import Final

_UNIT_MS: Final = {"s": 1000, "m": 60_000, "h": 3_600_000, "d": 86_400_000}
_FORM: Final = re.compile(r"([0-9]{1,9})([smhd])")


def milliseconds(text: str) -> int:
    """Read `90s`, `15m`, `36h` or `7d`; `0` is none at all. Raises ValueError with what is expected."""
    if text == "0":
        return 0
    found = _FORM.fullmatch(text)
    if found is None:
        raise ValueError(f"{text!r} is no length of time: write 90s, 15m, 36h or 7d")
    return int(found[1]) * _UNIT_MS[found[2]]
