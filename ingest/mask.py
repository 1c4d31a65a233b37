"""What must not get past the gateway: secret keys in diagnostics, and users' private attributes.

SDKs log the address they fetched their config specs from, and the server key is part of it
(`statsig::diagnostics`). Private attributes are meant for evaluation only.
"""

import re
from typing import Final

import msgspec

MASK: Final = b"***"

_DIAGNOSTICS: Final = b"statsig::diagnostics"
_PRIVATE: Final = b"privateAttributes"
_PRIVATE_IS_NULL: Final = b'"privateAttributes":null'  # node-legacy writes it on every user

_SPECS_PATH: Final = re.compile(rb'(download_config_specs(?:\\?/|%2[Ff]))[^"\\/?&]+?(\.json|(?=["\\/?&]))')
_KEY: Final = re.compile(rb"\b(secret|console)-[A-Za-z0-9_\-]{4,}")

_decode_members: Final = msgspec.json.Decoder(dict[str, msgspec.Raw]).decode
_encode: Final = msgspec.json.Encoder().encode


def may_need_masking(body: bytes) -> bool:
    """Tell whether an event of a request may hold what has to be removed. False is certain, True is not."""
    if _DIAGNOSTICS in body:
        return True
    return _PRIVATE in body and body.count(_PRIVATE) != body.count(_PRIVATE_IS_NULL)


def mask(event: bytes, key: bytes) -> bytes:
    """Return the event without what has to be removed; unchanged when there is nothing.

    `key` is the key the request came with. The event must be a readable JSON object.
    """
    if _DIAGNOSTICS in event:
        event = _mask_keys(event, key)
    if _PRIVATE in event:
        event = _without_private_attributes(event)
    return event


def _mask_keys(event: bytes, key: bytes) -> bytes:
    event = _SPECS_PATH.sub(rb"\1" + MASK + rb"\2", event)
    event = _KEY.sub(rb"\1-" + MASK, event)
    return event.replace(key, MASK) if len(key) >= 8 else event


def _without_private_attributes(event: bytes) -> bytes:
    members = _decode_members(event)
    user = members.get("user")
    if user is None or bytes(user)[:1] != b"{":
        return event
    attributes = _decode_members(user)
    if bytes(attributes.get("privateAttributes", msgspec.Raw(b"null"))) == b"null":
        return event
    del attributes["privateAttributes"]
    members["user"] = msgspec.Raw(_encode(attributes))
    return _encode(members)
