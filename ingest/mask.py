"""What must not get past the gateway: secret keys in diagnostics, and users' private attributes.

SDKs log the address they fetched their config specs from, and the server key is part of it
(`statsig::diagnostics`). Private attributes are meant for evaluation only.
"""

import re
from typing import Any, Final

import msgspec

MASK: Final = b"***"

DIAGNOSTICS: Final = "statsig::diagnostics"

_SPECS_PATH: Final = re.compile(rb'(download_config_specs(?:\\?/|%2[Ff]))[^"\\/?&]+?(\.json|(?=["\\/?&]))')
_KEY: Final = re.compile(rb"\b(secret|console)-[A-Za-z0-9_\-]{4,}")


class _User(msgspec.Struct, gc=False):
    privateAttributes: Any = None


class _Event(msgspec.Struct, gc=False):
    eventName: Any = None
    user: _User | None = None


class _EventOfAnyUser(msgspec.Struct, gc=False):
    eventName: Any = None


_decode_event: Final = msgspec.json.Decoder(_Event).decode
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
        found = _decode_event(event)
    except msgspec.ValidationError:  # its user is no object, so there is nothing private in it
        return _decode_event_of_any_user(event).eventName == DIAGNOSTICS, False
    user = found.user
    return found.eventName == DIAGNOSTICS, user is not None and user.privateAttributes is not None


def _mask_keys(event: bytes, key: bytes) -> bytes:
    event = _SPECS_PATH.sub(rb"\1" + MASK + rb"\2", event)
    event = _KEY.sub(rb"\1-" + MASK, event)
    return event.replace(key, MASK) if len(key) >= 8 else event


def _without_private_attributes(event: bytes) -> bytes:
    members = _decode_members(event)
    attributes = _decode_members(members["user"])
    del attributes["privateAttributes"]
    members["user"] = msgspec.Raw(_encode(attributes))
    return _encode(members)
