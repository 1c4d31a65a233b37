"""Cutting a request body into its events by bytes alone.

The fast decoder refuses a whole body for one lone surrogate or one NaN. Here only strings and
brackets are looked at, so that what is wrong inside an event stays inside it.
"""

import re
from typing import Final, NamedTuple

import orjson

from schemas.limits import EVENTS_PER_REQUEST

# A string, or a quote that does not close; else a run of opening or of closing brackets.
_INSIDE: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|"|[\[{]+|[\]}]+', re.DOTALL)
# The same, with the commas and colons that end a value at the level where they stand.
_LEVEL: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|"|[\[{]|[\]}]|,|:', re.DOTALL)
_STRING: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"', re.DOTALL)
_QUOTE: Final = ord('"')
_LONE_QUOTE: Final = b'"'
_SPACE: Final = b" \t\r\n"

_ONE_KIND: Final = bytes.maketrans(b"[]{}", b"()()")
_ALL_BUT_BRACKETS: Final = bytes(code for code in range(256) if code not in b"[]{}")

_STEPS: Final = 1_000_000
"""Strings and brackets that are looked at in one body: three times what 5,000 SDK events hold, and
half a second of work. A body that is broken and holds more is made to cost time."""


class CutError(ValueError):
    """The body cannot be cut: its brackets or quotes do not close, or it is no object."""


class Cut(NamedTuple):
    """A request body in pieces: the elements of `events`, and every other value by its key.

    Of more than `EVENTS_PER_REQUEST` events only one more is cut off.
    """

    events: list[bytes]
    others: dict[str, bytes]


def cut(body: bytes) -> Cut:
    """Cut a request body. Raises CutError."""
    scanner = _Scanner(body, _STEPS)
    position = _behind_space(body, 0)
    if body[position : position + 1] != b"{":
        raise CutError("the body is not a JSON object")
    values, end = scanner.members(position + 1)
    if _behind_space(body, end) != len(body):
        raise CutError("there is something behind the body's last bracket")
    events = values.pop("events", None)
    if events is None:
        raise CutError('the body has no "events"')
    if events[:1] != b"[":
        raise CutError('"events" is not a list')
    return Cut(_Scanner(events, scanner.steps).elements(), values)


def is_deeper_than(text: bytes, levels: int) -> bool:
    """Tell whether brackets outside of strings nest deeper than `levels`."""
    if text.count(b"{") + text.count(b"[") <= levels:
        return False
    brackets = _STRING.sub(b"", text).translate(_ONE_KIND, _ALL_BUT_BRACKETS)
    for _ in range(levels):
        brackets = brackets.replace(b"()", b"")  # the innermost level, wherever it is
    return bool(brackets)


class _Scanner:
    """Finds where values end. `steps` is how much more may be looked at."""

    def __init__(self, text: bytes, steps: int) -> None:
        self._text = text
        self.steps = steps

    def members(self, position: int) -> tuple[dict[str, bytes], int]:
        """Return the members of the object that opens before `position`, and where it ends."""
        text, values = self._text, {}
        start = _behind_space(text, position)
        if text[start : start + 1] == b"}":
            return {}, start + 1
        while True:
            colon = self._separator(position)
            if text[colon : colon + 1] != b":":
                raise CutError("a member of the body has no value")
            end = self._separator(colon + 1)
            values[_key(text[position:colon])] = text[colon + 1 : end].strip(_SPACE)
            closing = text[end : end + 1]
            if closing == b"}":
                return values, end + 1
            if closing != b",":
                raise CutError("the body's brackets do not match")
            position = end + 1

    def elements(self) -> list[bytes]:
        """Return the elements of the array that the text is, each without the space around it."""
        text, position = self._text, 1
        elements: list[bytes] = []
        start = _behind_space(text, position)
        if text[start : start + 1] == b"]":
            return []
        while len(elements) <= EVENTS_PER_REQUEST:
            end = self._separator(position)
            closing = text[end : end + 1]
            if closing not in (b",", b"]"):
                raise CutError('the brackets of "events" do not match')
            elements.append(text[position:end].strip(_SPACE))
            if closing == b"]":
                break
            position = end + 1
        return elements

    def _separator(self, position: int) -> int:
        """Return where the value at `position` ends: the comma, colon or closing bracket behind it."""
        while True:
            match = _LEVEL.search(self._text, position)
            if match is None or match[0] == _LONE_QUOTE:
                raise CutError("the body ends too early")
            self._step()
            kind = match[0][0]
            if kind in b",:]}":
                return match.start()
            position = match.end() if kind == _QUOTE else self._closing(match.start())

    def _closing(self, position: int) -> int:
        """Return the position behind the bracket that closes the one at `position`."""
        level = 0
        for match in _INSIDE.finditer(self._text, position):
            self._step()
            run = match[0]
            if run[0] in b"[{":
                level += len(run)
            elif run[0] != _QUOTE:
                if len(run) >= level:
                    return match.start() + level
                level -= len(run)
            elif run == _LONE_QUOTE:
                break
        raise CutError("the body ends too early")

    def _step(self) -> None:
        self.steps -= 1
        if self.steps < 0:
            raise CutError("the body is broken and too intricate to be taken apart")


def _behind_space(text: bytes, position: int) -> int:
    while text[position : position + 1] in _SPACES:
        position += 1
    return position


_SPACES: Final = frozenset((b" ", b"\t", b"\r", b"\n"))


def _key(text: bytes) -> str:
    try:
        key = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise CutError("a member of the body has no readable name") from error
    if not isinstance(key, str):
        raise CutError("a member of the body has no name")
    return key
