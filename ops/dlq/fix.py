"""Rules that mend events: a small closed set, read from TOML or JSON, applied to an event's JSON. Pure.

    [[rule]]
    op = "cast"
    path = "/time"
    to = "time_ms"
    reason = "invalid_time"

Paths are JSON Pointers (RFC 6901). A rule whose `reason` or `event` does not fit a letter is passed
over; one whose path is not there does not apply, and then the event is not sent, unless the rule is
`optional`.
"""

import json
import tomllib
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Annotated, Any, Final, Literal

import msgspec
import orjson

RULES_MAX: Final = 100
_REPLACEMENT: Final = "\ufffd"


class FixError(ValueError):
    """Rules that cannot be read; the message names the rule."""


class DoesNotApplyError(Exception):
    """An event that a rule cannot be applied to, and why."""


class Rule(msgspec.Struct, frozen=True, forbid_unknown_fields=True, omit_defaults=True):
    """One change. Which of the fields beside `op` and `path` it takes is told by `_TAKES`."""

    op: Literal["set", "rename", "remove", "cast", "cut", "rekey"]
    path: str
    value: msgspec.UnsetType | Any = msgspec.UNSET
    to: str = ""
    length: Annotated[int, msgspec.Meta(ge=0)] | None = None
    keys: dict[str, str] = {}
    reason: str = ""
    event: str = ""
    optional: bool = False


class _Rules(msgspec.Struct, forbid_unknown_fields=True):
    rule: list[Rule]


_TAKES: Final = {
    "set": {"value"},
    "rename": {"to"},
    "remove": set[str](),
    "cast": {"to"},
    "cut": {"length"},
    "rekey": {"keys"},
}
_CASTS: Final = ("text", "number", "integer", "boolean", "time_ms")

_encode_rules: Final = msgspec.json.Encoder().encode
_decode_rules: Final = msgspec.json.Decoder(list[Rule]).decode


def read_rules(content: bytes, is_json: bool) -> list[Rule]:
    """Read a file of rules. Raises FixError."""
    try:
        given = orjson.loads(content) if is_json else tomllib.loads(content.decode())
        rules = msgspec.convert(given, _Rules).rule
    except (ValueError, msgspec.MsgspecError, RecursionError) as error:
        raise FixError(f"the rules cannot be read: {error}") from error
    if not 0 < len(rules) <= RULES_MAX:
        raise FixError(f"there are {len(rules)} rules; 1 to {RULES_MAX} are taken")
    for number, rule in enumerate(rules, 1):
        if wrong := _wrong(rule):
            raise FixError(f"rule {number} ({rule.op} {rule.path!r}): {wrong}")
    return rules


def _wrong(rule: Rule) -> str:
    given = {
        name
        for name, is_given in (
            ("value", rule.value is not msgspec.UNSET),
            ("to", bool(rule.to)),
            ("length", rule.length is not None),
            ("keys", bool(rule.keys)),
        )
        if is_given
    }
    if missing := _TAKES[rule.op] - given:
        return f"it needs {min(missing)}"
    if unwanted := given - _TAKES[rule.op]:
        return f"it takes no {min(unwanted)}"
    try:
        steps = _steps(rule.path)
        if rule.op == "rename":
            _steps(rule.to)
    except ValueError as error:
        return str(error)
    if not steps and rule.op not in ("set", "rekey", "cut"):
        return "the whole event cannot be meant"
    if rule.op == "cast" and rule.to not in _CASTS:
        return f"it casts to one of {', '.join(_CASTS)}"
    return ""


def written(rules: Sequence[Rule]) -> str:
    """Return the rules as they are written down with a replay."""
    return _encode_rules(rules).decode()


def read_written(text: str) -> list[Rule]:
    """Read what `written` wrote. Raises FixError."""
    try:
        return _decode_rules(text) if text else []
    except msgspec.MsgspecError as error:
        raise FixError(f"the rules of the replay cannot be read: {error}") from error


def meant_for(rules: Sequence[Rule], reason: str, event_name: str) -> list[tuple[int, Rule]]:
    """Return the rules that speak of such a letter, with their numbers from 1."""
    return [
        (number, rule)
        for number, rule in enumerate(rules, 1)
        if rule.reason in ("", reason) and rule.event in ("", event_name)
    ]


def mended(event: bytes, rules: Sequence[tuple[int, Rule]]) -> bytes:
    """Return the event after these rules, the very bytes where there are none. Raises DoesNotApplyError."""
    if not rules:
        return event
    document = _Document(event)
    for number, rule in rules:
        try:
            _APPLY[rule.op](document, rule)
        except DoesNotApplyError as error:
            if not rule.optional:
                raise DoesNotApplyError(f"rule {number} ({rule.op} {rule.path!r}): {error}") from error
    return document.encoded()


class _Document:
    """An event as Python values; read when a rule first needs it, as leniently as can be."""

    def __init__(self, event: bytes) -> None:
        self._event = event
        self._is_read = False
        self._root: Any = None

    @property
    def root(self) -> Any:
        if not self._is_read:
            try:
                # The standard library's: it takes NaN, numbers beyond a double and lone surrogates.
                self._root = json.loads(self._event)
            except (ValueError, RecursionError) as error:
                raise DoesNotApplyError(f"the event is no JSON: {error}") from error
            self._is_read = True
        return self._root

    @root.setter
    def root(self, value: Any) -> None:
        self._root, self._is_read = value, True

    def encoded(self) -> bytes:
        if not self._is_read:
            return self._event
        try:
            return json.dumps(self._root, ensure_ascii=False, allow_nan=False, separators=(",", ":")).encode()
        except (ValueError, RecursionError) as error:
            raise DoesNotApplyError(f"what the rules leave is no JSON that can be read: {error}") from error

    def parent_of(self, path: str) -> tuple[Any, Any]:
        """Return the container of a place that is there, and its key in it. Raises DoesNotApplyError."""
        *way, last = _steps(path)
        node = self.root
        for step in way:
            node = node[_key_of(node, step)]
        return node, _key_of(node, last)

    def put(self, path: str, value: Any) -> None:
        """Write a value; objects on the way are made where there are none."""
        steps = _steps(path)
        if not steps:
            self.root = value
            return
        node = self.root
        for step in steps[:-1]:
            if isinstance(node, dict) and step not in node:
                node[step] = {}
            node = node[_key_of(node, step)]
        if isinstance(node, dict):
            node[steps[-1]] = value
        else:
            node[_key_of(node, steps[-1])] = value


def _steps(path: str) -> list[str]:
    if path and not path.startswith("/"):
        raise ValueError("a path is a JSON Pointer: it begins with / or is empty")
    return [step.replace("~1", "/").replace("~0", "~") for step in path.split("/")[1:]]


def _key_of(node: Any, step: str) -> Any:
    if isinstance(node, dict) and step in node:
        return step
    if isinstance(node, list) and step.isascii() and step.isdigit() and len(step) < 10 and int(step) < len(node):
        return int(step)
    raise DoesNotApplyError(f"there is no {step!r}")


def _set(document: _Document, rule: Rule) -> None:
    document.put(rule.path, rule.value)


def _rename(document: _Document, rule: Rule) -> None:
    node, key = document.parent_of(rule.path)
    if rule.to == rule.path:
        return
    document.put(rule.to, node[key])
    del node[key]


def _remove(document: _Document, rule: Rule) -> None:
    node, key = document.parent_of(rule.path)
    del node[key]


def _cast(document: _Document, rule: Rule) -> None:
    node, key = document.parent_of(rule.path)
    node[key] = _cast_value(node[key], rule.to)


def _cut(document: _Document, rule: Rule) -> None:
    length = rule.length or 0
    if not rule.path:
        document.root = _shortened(document.root, length)
        return
    node, key = document.parent_of(rule.path)
    node[key] = _shortened(node[key], length)


def _rekey(document: _Document, rule: Rule) -> None:
    node = document.root
    for step in _steps(rule.path):
        node = node[_key_of(node, step)]
    if not isinstance(node, dict):
        raise DoesNotApplyError("it is no object")
    if not set(rule.keys) & set(node):
        raise DoesNotApplyError(f"there is no {min(rule.keys)!r}")
    renamed = {rule.keys.get(name, name): value for name, value in node.items()}
    node.clear()
    node.update(renamed)


_APPLY: Final[dict[str, Callable[[_Document, Rule], None]]] = {
    "set": _set,
    "rename": _rename,
    "remove": _remove,
    "cast": _cast,
    "cut": _cut,
    "rekey": _rekey,
}


def _shortened(value: Any, length: int) -> Any:
    if isinstance(value, str | list):
        return value[:length]
    if isinstance(value, dict):
        return dict(list(value.items())[:length])
    raise DoesNotApplyError("only texts, lists and objects can be cut")


def _cast_value(value: Any, to: str) -> Any:
    try:
        match to:
            case "text":
                return _text(value)
            case "number":
                return float(value)
            case "integer":
                return int(float(value)) if not isinstance(value, int) else int(value)
            case "boolean":
                return _boolean(value)
            case _:
                return _time_ms(value)
    except (TypeError, ValueError, OverflowError) as error:
        raise DoesNotApplyError(f"{value!r:.60} cannot be cast to {to}: {error}") from error


def _text(value: Any) -> str:
    text = value if isinstance(value, str) else json.dumps(value, ensure_ascii=False, separators=(",", ":"))
    return text.encode("utf-16", "surrogatepass").decode("utf-16", "replace").replace("\x00", _REPLACEMENT)


def _boolean(value: Any) -> bool:
    known = {"true": True, "1": True, "yes": True, "false": False, "0": False, "no": False}
    if isinstance(value, bool):
        return value
    text = str(value).strip().lower()
    if text not in known:
        raise ValueError("it is neither true nor false")
    return known[text]


def _time_ms(value: Any) -> int:
    """Read a moment: ISO 8601 (UTC where it names no zone), or a number of seconds or milliseconds."""
    if isinstance(value, str):
        try:
            value = float(value)
        except ValueError:
            moment = datetime.fromisoformat(value.strip())
            if moment.tzinfo is None:
                moment = moment.replace(tzinfo=UTC)
            return int(moment.timestamp() * 1000)
    number = float(value)
    return int(number * 1000) if abs(number) < _SECONDS_BELOW else int(number)


_SECONDS_BELOW: Final = 100_000_000_000
"""A number below is seconds (the year 5138), above milliseconds (1973)."""
