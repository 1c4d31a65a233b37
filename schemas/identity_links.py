"""A link between an id and the user who was seen with it: the records of `identity.links`.

The last record of a key counts. Whoever writes one that is known writes it with an earlier time only.
"""

from typing import Annotated, Final

import msgspec
from msgspec import Meta

from schemas.limits import STORE_MAX_MS

STABLE_ID: Final = "stableID"
"""The id type of devices."""


class IdentityLink(msgspec.Struct, frozen=True, gc=False):
    """`user_id` was seen with the id of that type, first at `first_seen` (ms since the epoch)."""

    project: str
    environment: str
    id_type: str
    id: str
    user_id: str
    first_seen: Annotated[int, Meta(ge=0, le=STORE_MAX_MS)]


class LinkError(ValueError):
    """A record that is no link."""


Key = tuple[str, str, str, str, str]

_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(IdentityLink).decode
_decode_key: Final = msgspec.json.Decoder(Key).decode


def key_fields(link: IdentityLink) -> Key:
    """Return what tells a link from others."""
    return link.project, link.environment, link.id_type, link.id, link.user_id


def key_of(link: IdentityLink) -> bytes:
    """Return the key of its record: everything but the time."""
    return _encode(key_fields(link))


def encode(link: IdentityLink) -> bytes:
    """Return the value of its record."""
    return _encode(link)


def decode(value: bytes) -> IdentityLink:
    """Read the value of a record. Raises LinkError."""
    try:
        return _decode(value)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise LinkError(f"no identity link: {error}") from error


def decode_key(key: bytes) -> Key:
    """Read the key of a record: project, environment, id type, id, user id. Raises LinkError."""
    try:
        fields: Key = _decode_key(key)
    except (msgspec.MsgspecError, UnicodeDecodeError) as error:
        raise LinkError(f"no key of an identity link: {error}") from error
    return fields
