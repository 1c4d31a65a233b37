"""What SDKs send: the shapes of a request body and of an event.

Every field is optional and loosely typed on purpose. Eight SDKs disagree about null, {}, "" and
absent, and about numbers and strings; what a field means is decided where it is used, so that no
disagreement costs an event.
"""

from typing import Any, Final

import msgspec

NOTHING: Final = msgspec.Raw(b"")
"""A raw field that was absent."""


class RequestBody(msgspec.Struct):
    """A log request. Events stay the bytes they came as; their content is judged one by one."""

    events: list[msgspec.Raw]
    statsigMetadata: msgspec.Raw = NOTHING
    user: msgspec.Raw = NOTHING


class RequestMetadata(msgspec.Struct):
    """The request's `statsigMetadata`: who is sending."""

    sdkType: Any = None
    sdkVersion: Any = None
    sessionID: Any = None
    stableID: Any = None


class Event(msgspec.Struct):
    """The seven keys that occur in SDK events; others are kept in the raw bytes only."""

    eventName: Any = None
    time: Any = None
    value: Any = None
    user: msgspec.Raw = NOTHING
    metadata: msgspec.Raw = NOTHING
    secondaryExposures: msgspec.Raw = NOTHING
    statsigMetadata: Any = None


class User(msgspec.Struct):
    """The parts of an event's `user` that become columns."""

    userID: Any = None
    customIDs: Any = None
    country: Any = None
    appVersion: Any = None
    userAgent: Any = None
    statsigEnvironment: Any = None


_Name = str | int | None
_Flag = str | bool | None


class ExposureMetadata(msgspec.Struct, frozen=True, gc=False):
    """The `metadata` of gate, config and layer exposures.

    Hashable, and of types whose equal values have equal texts, so that it can be the key of what it
    was turned into. `exposure_of` reads it from metadata of any types.
    """

    gate: _Name = None
    config: _Name = None
    gateValue: _Flag = None
    rulePassed: _Flag = None
    ruleID: _Name = None
    allocatedExperiment: _Name = None
    overrideConfigName: _Name = None
    parameterName: _Name = None
    configVersion: _Name = None
    isManualExposure: _Flag = None
    reason: _Name = None
    lcut: _Name = None
    configSyncTime: _Name = None


_FLAGS: Final = ("gateValue", "rulePassed", "isManualExposure")


class _PeekUser(msgspec.Struct):
    userID: Any = None
    customIDs: dict[str, Any] | None = None


class _Peek(msgspec.Struct):
    user: _PeekUser | None = None


_peek = msgspec.json.Decoder(_Peek)
_decode_exposure: Final = msgspec.json.Decoder(ExposureMetadata).decode
_decode_object: Final = msgspec.json.Decoder(dict[str, Any]).decode


def text_of(value: object) -> str:
    """Return an identifier as text: strings as they are, numbers in their shortest form, else "".

    7 and 7.0 are one id: core SDKs rewrite integers as floats.
    """
    if isinstance(value, str):
        return value
    if isinstance(value, bool) or value is None:
        return ""
    if isinstance(value, float):
        return str(int(value)) if value.is_integer() and abs(value) < 2**53 else repr(value)
    return str(value) if isinstance(value, int) else ""


def flag_text(value: object) -> str:
    """Return "true" or "false" for JSON and textual booleans, text for the rest, "" for nothing."""
    if isinstance(value, bool):
        return "true" if value else "false"
    return text_of(value)


def exposure_of(metadata: bytes | msgspec.Raw) -> ExposureMetadata:
    """Read the metadata of an exposure; fields of types that no SDK sends become their text.

    Raises msgspec.MsgspecError or UnicodeDecodeError when it is no object.
    """
    try:
        return _decode_exposure(metadata)
    except msgspec.ValidationError:
        found = _decode_object(metadata)
    names = [name for name in ExposureMetadata.__struct_fields__ if name in found]
    return ExposureMetadata(**{name: (flag_text if name in _FLAGS else text_of)(found[name]) for name in names})


def peek_of(event: bytes) -> tuple[str, str]:
    """Return (customIDs.stableID, userID) of an event, "" where there is none.

    Never raises: what cannot be read has no device and no user.
    """
    try:
        user = _peek.decode(event).user
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError):
        return _peek_slowly(event)
    if user is None:
        return "", ""
    device = user.customIDs.get("stableID") if user.customIDs else None
    return text_of(device), text_of(user.userID)


def _peek_slowly(event: bytes) -> tuple[str, str]:
    try:
        user = msgspec.json.decode(event)["user"]
        if not isinstance(user, dict):
            return "", ""
        ids = user.get("customIDs")
        return text_of(ids.get("stableID") if isinstance(ids, dict) else None), text_of(user.get("userID"))
    except (msgspec.MsgspecError, UnicodeDecodeError, RecursionError, KeyError, TypeError):
        return "", ""
