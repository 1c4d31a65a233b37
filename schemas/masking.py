"""What of a dead letter may be shown: whatever is shown of one goes through `masked`.

The gateway removes secret keys and private attributes from what it can read. An event that it cannot
read waits in `dlq.ingest` as it was received, with both in it, because a replay needs its bytes. So
every tool that prints, serves or exports bytes of a dead letter (`original`, `request`, and
`partition_key`, which may be the whole event) shows `masked` of them and never the bytes themselves.
"""

import re
from typing import Final

_MASK: Final = "***"


def _spelled(text: str) -> str:
    r"""Return a pattern for a text in any spelling of JSON: `-` may be `\u002d`, in a string in a string `\\u002d`."""
    return "".join(rf"(?:{re.escape(char)}|\\{{1,8}}u00{ord(char):02x})" for char in text)


_KEY_CHARACTER: Final = r"(?:[a-z0-9_-]|\\{1,8}u00(?:2d|3[0-9]|4[1-9a-f]|5[0-9af]|6[1-9a-f]|7[0-9a]))"
_SLASH: Final = r"(?:\\*/|%2f|\\{1,8}u002f)"
_KEY: Final = re.compile(
    rf"(?<![a-z0-9_])({_spelled('secret')}|{_spelled('console')}){_spelled('-')}{_KEY_CHARACTER}{{4,}}", re.IGNORECASE
)
_SPECS_PATH: Final = re.compile(
    rf"({_spelled('download_config_specs')}{_SLASH})(?!\*)[^\s\"'\\/?&,}}]+?(\.json|(?=[\s\"'\\/?&,}}]|$))",
    re.IGNORECASE,
)
_PRIVATE: Final = re.compile(_spelled("privateAttributes"), re.IGNORECASE)
_BEFORE_VALUE: Final = re.compile(r"(?P<escape>\\*)\"\s*:\s*")
_IS_VALUE: Final = re.compile(r"\\*\"?\s*(?:[,\]}]|$)")

_NULL: Final = re.compile(r"null\b")
_SCALAR: Final = re.compile(r"[^\s,}\]\"'\[{]+")
_STRING: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_STEP: Final = re.compile(r'"[^"\\]*(?:\\.[^"\\]*)*"|["{}\[\]]', re.DOTALL)
_GOES_ON: Final = re.compile(r"\s*(?:[,}]|$)")


def masked(received: bytes) -> str:
    r"""Return the text of an event as it may be shown: without secret keys and the values of private attributes.

    It takes any bytes; what is no UTF-8 is shown as `\xff`. What cannot be told apart is left out:
    where it is not clear how far private attributes reach, nothing behind them is shown.
    """
    text = received.decode("utf-8", "backslashreplace")
    return _without_private(_KEY.sub(rf"\1-{_MASK}", _SPECS_PATH.sub(rf"\1{_MASK}\2", text)))


def _without_private(text: str) -> str:
    shown, position = [], 0
    while (name := _PRIVATE.search(text, position)) is not None:
        start, end = _value_behind(text, name.end())
        shown.append(text[position:start])
        if start != end:
            shown.append(f'"{_MASK}"')
        position = end
    return "".join(shown) + text[position:]


def _value_behind(text: str, end_of_name: int) -> tuple[int, int]:
    """Return where what has to be hidden behind a name begins and ends."""
    before = _BEFORE_VALUE.match(text, end_of_name)
    if before is None:
        # It is no name, or one that is damaged.
        return end_of_name, end_of_name if _IS_VALUE.match(text, end_of_name) else len(text)
    start = before.end()
    if (null := _NULL.match(text, start)) is not None and _GOES_ON.match(text, null.end()):
        return start, start
    if before["escape"]:
        return start, len(text)  # it stands inside of a string, whose own quotes cannot be told from its contents'
    end = _end_of_brackets(text, start) if text[start : start + 1] in ("{", "[") else _end_of_plain(text, start)
    return start, end if _GOES_ON.match(text, end) else len(text)


def _end_of_plain(text: str, start: int) -> int:
    value = _STRING.match(text, start) or _SCALAR.match(text, start)
    return len(text) if value is None else value.end()


def _end_of_brackets(text: str, start: int) -> int:
    level = 0
    for step in _STEP.finditer(text, start):
        if step[0] == '"':
            break  # a string that does not end
        level += {"{": 1, "[": 1, "}": -1, "]": -1}.get(step[0], 0)
        if level == 0:
            return step.end()
    return len(text)
