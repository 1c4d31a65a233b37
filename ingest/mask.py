"""What must not get past the gateway: secret keys in diagnostics, and users' private attributes.

SDKs log the address they fetched their config specs from, and the server key is part of it
(`statsig::diagnostics`). Private attributes are meant for evaluation only.
"""

import json
import re
from typing import Any, Final, Never

import msgspec

MASK: Final = b"***"

DIAGNOSTICS: Final = "statsig::diagnostics"

_SPECS_PATH: Final = re.compile(rb'(download_config_specs(?:\\?/|%2[Ff]))[^"\\/?&]+?(\.json|(?=["\\/?&]))')
_KEY: Final = re.compile(rb"\b(secret|console)-[A-Za-z0-9_\-]{4,}")


class PrivateError(Exception):
    """Private attributes were met while JSON was read."""


class Private:
    """The type of private attributes that are there: nothing has it, so that `met` is called wherever they stand.

    Of a name that is said twice a reader sees the last, and both are in the bytes.
    """


def met(_type: type, _value: object) -> Never:
    """Be the `dec_hook` of a decoder that knows `Private`. Raises PrivateError."""
    raise PrivateError


class _User(msgspec.Struct, gc=False):
    privateAttributes: Private | None = None


class _Event(msgspec.Struct, gc=False):
    eventName: Any = None
    user: _User | None = None


class _EventOfAnyUser(msgspec.Struct, gc=False):
    eventName: Any = None


class _Members(list[tuple[str, Any]]):
    """An object with every member that was said, the same name twice where it was said twice."""


_decode_event: Final = msgspec.json.Decoder(_Event, dec_hook=met).decode
_decode_event_of_any_user: Final = msgspec.json.Decoder(_EventOfAnyUser).decode
_decode_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode: Final = msgspec.json.Encoder().encode


def needs_masking(event: bytes) -> bool:
    """Tell whether an event holds what has to be removed. It must be a readable JSON object."""
    return any(_what_hides(event))


def mask(event: bytes, key: bytes) -> bytes:
    """Return the event without what has to be removed; unchanged when there is nothing.

    `key` is the key the request came with. The event must be a readable JSON object.
    """
    is_diagnostics, has_private = _what_hides(event)
    if is_diagnostics:
        event = _mask_keys(event, key)
    return _without_private_attributes(event) if has_private else event


def _what_hides(event: bytes) -> tuple[bool, bool]:
    """Tell whether an event is diagnostics, and whether its user has private attributes.

    Names are decoded, not searched for: JSON can spell each of them in many ways.
    """
    try:
        return _decode_event(event).eventName == DIAGNOSTICS, False
    except PrivateError:
        has_private = True
    except msgspec.ValidationError:  # one of its users is no object
        has_private = _says_private(event)
    return _decode_event_of_any_user(event).eventName == DIAGNOSTICS, has_private


def _says_private(event: bytes) -> bool:
    # Numbers stay text: Python reads none of more than 4,300 digits.
    members = json.loads(event, object_pairs_hook=_Members, parse_int=str, parse_float=str)
    users = [value for name, value in members if name == "user" and isinstance(value, _Members)]
    return any(name == "privateAttributes" and value is not None for user in users for name, value in user)


def _mask_keys(event: bytes, key: bytes) -> bytes:
    event = _SPECS_PATH.sub(rb"\1" + MASK + rb"\2", event)
    event = _KEY.sub(rb"\1-" + MASK, event)
    return event.replace(key, MASK) if len(key) >= 8 else event


def _without_private_attributes(event: bytes) -> bytes:
    # Each name is there once then: what was said before the last of it is gone too.
    members = _decode_members(event)
    if bytes(members["user"])[:1] == b"{":
        attributes = _decode_members(members["user"])
        attributes.pop("privateAttributes", None)
        members["user"] = msgspec.Raw(_encode(attributes))
    return _encode(members)
