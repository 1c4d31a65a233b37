"""Whom an event is about: the ids of its user, and the one that a decision was made on."""

from typing import Any

import msgspec

from schemas.wire import User, text_of

USER_ID = "userID"
STABLE_ID = "stableID"


_NO_CUSTOM: dict[str, str] = {}


class Ids(msgspec.Struct, frozen=True, gc=False):
    """The ids of an event's user; "" where there is none. `custom` holds every custom id as text."""

    user_id: str
    stable_id: str
    custom: dict[str, str]


def ids_of(user: User, request_stable_id: str) -> Ids:
    """Read the ids. A browser's own stableID stands only in the request's metadata."""
    custom: Any = user.customIDs
    user_id = user.userID
    if type(user_id) is not str:
        user_id = text_of(user_id)
    if not custom or not isinstance(custom, dict):
        return Ids(user_id, request_stable_id, _NO_CUSTOM)
    for value in custom.values():
        if type(value) is not str:
            custom = {name: text_of(value) for name, value in custom.items()}
            break
    return Ids(user_id, custom.get(STABLE_ID) or request_stable_id, custom)


def unit_of(ids: Ids, id_type: str) -> tuple[str, str]:
    """Return (unit type, unit id).

    The id type of the entity where it is known (SDKs look custom ids up by their name, then by its
    lower case; userID in any case), else the first of user, device and custom ids that is there.
    """
    if id_type:
        if id_type.lower() == "userid":
            return USER_ID, ids.user_id
        if id_type.lower() == "stableid":
            return STABLE_ID, ids.stable_id
        return id_type, ids.custom.get(id_type) or ids.custom.get(id_type.lower(), "")
    if ids.user_id:
        return USER_ID, ids.user_id
    if ids.stable_id:
        return STABLE_ID, ids.stable_id
    for name, value in ids.custom.items():
        if value:
            return name, value
    return "", ""
