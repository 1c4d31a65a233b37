"""Cutting a request body into its events by bytes alone.

The fast decoder refuses a whole body for one lone surrogate or one NaN. Here only strings and
brackets are looked at, so that what is wrong inside an event stays inside it.
"""

import re
from collections.abc import Iterator
from typing import Final, NamedTuple

import orjson

# A string, or a quote that does not close; else a run of opening or of closing brackets.
_INSIDE: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|"|[\[{]+|[\]}]+', re.DOTALL)
# The same, with the commas and colons that end a value at the level where they stand.
_LEVEL: Final = re.compile(rb'"[^"\\]*(?:\\.[^"\\]*)*"|"|[\[{]|[\]}]|,|:', re.DOTALL)
_LONE_QUOTE: Final = b'"'
_SPACE: Final = b" \t\r\n"


class CutError(ValueError):
    """The body cannot be cut: its brackets or quotes do not close, or it is no object."""


class Cut(NamedTuple):
    """A request body in pieces: the elements of `events`, and every other value by its key."""

    events: list[bytes]
    others: dict[str, bytes]


def cut(body: bytes) -> Cut:
    """Cut a request body. Raises CutError."""
    if _first(body, 0) != b"{":
        raise CutError("the body is not a JSON object")
    values: dict[str, bytes] = {}
    position = body.index(b"{") + 1
    for key, value, end in _members(body, position):
        if key:
            values[key] = value
        position = end
    if body[position:].strip(_SPACE):
        raise CutError("there is something behind the body's last bracket")
    events = values.pop("events", None)
    if events is None:
        raise CutError('the body has no "events"')
    if events[:1] != b"[":
        raise CutError('"events" is not a list')
    return Cut(_elements(events), values)


def depth(text: bytes) -> int:
    """Return how deep brackets nest outside of strings, 0 for a scalar."""
    level = deepest = 0
    for match in _INSIDE.finditer(text):
        run = match[0]
        if run[0] in b"[{":
            level += len(run)
            deepest = max(deepest, level)
        elif run[0] != ord('"'):
            level -= len(run)
    return deepest


def _first(body: bytes, position: int) -> bytes:
    return body[position : position + 16].lstrip(_SPACE)[:1] or body[position:].lstrip(_SPACE)[:1]


def _members(body: bytes, position: int) -> Iterator[tuple[str, bytes, int]]:
    """Yield (key, value, end) of an object's members; `end` is behind the separator or bracket."""
    if _first(body, position) == b"}":
        yield "", b"", body.index(b"}", position) + 1
        return
    while True:
        colon = _separator(body, position)
        if body[colon : colon + 1] != b":":
            raise CutError("a member of the body has no value")
        end = _separator(body, colon + 1)
        closing = body[end : end + 1]
        if closing not in (b",", b"}"):
            raise CutError("the body's brackets do not match")
        yield _key(body[position:colon]), body[colon + 1 : end].strip(_SPACE), end + 1
        if closing == b"}":
            return
        position = end + 1


def _elements(array: bytes) -> list[bytes]:
    """Return the elements of an array, each as it stands, without the space around it."""
    position = 1
    if _first(array, position) == b"]":
        return []
    elements = []
    while True:
        end = _separator(array, position)
        closing = array[end : end + 1]
        if closing not in (b",", b"]"):
            raise CutError('the brackets of "events" do not match')
        elements.append(array[position:end].strip(_SPACE))
        if closing == b"]":
            return elements
        position = end + 1


def _separator(text: bytes, position: int) -> int:
    """Return where the value at `position` ends: the comma, colon or closing bracket behind it."""
    while True:
        match = _LEVEL.search(text, position)
        if match is None or match[0] == _LONE_QUOTE:
            raise CutError("the body ends too early")
        kind = match[0][0]
        if kind in b",:]}":
            return match.start()
        position = match.end() if kind == ord('"') else _closing(text, match.start())


def _closing(text: bytes, position: int) -> int:
    """Return the position behind the bracket that closes the one at `position`."""
    level = 0
    for match in _INSIDE.finditer(text, position):
        run = match[0]
        if run[0] in b"[{":
            level += len(run)
        elif run[0] != ord('"'):
            if len(run) >= level:
                return match.start() + level
            level -= len(run)
        elif run == _LONE_QUOTE:
            break
    raise CutError("the body ends too early")


def _key(text: bytes) -> str:
    try:
        key = orjson.loads(text)
    except orjson.JSONDecodeError as error:
        raise CutError("a member of the body has no readable name") from error
    if not isinstance(key, str):
        raise CutError("a member of the body has no name")
    return key
