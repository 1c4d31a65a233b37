"""What of a user is stored: each field is kept, hashed with a key, cut short or dropped. Pure.

It works on what becomes a row; the log and dead letters keep the bytes that were received. See docs/privacy.md.
"""

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from hashlib import blake2b
from ipaddress import IPv6Address, ip_address
from typing import Any, Final, Self

import msgspec

from processors.unit import STABLE_ID, USER_ID
from schemas.wire import User, text_of


class Action(StrEnum):
    """What becomes of a field."""

    KEEP = "keep"
    HASH = "hash"
    DROP = "drop"
    TRUNCATE = "truncate"
    """Of an IP address the network is kept: /24, of IPv6 /48."""


_NAMES: Final = {
    "user_id": "userID",
    "email": "email",
    "ip": "ip",
    "user_agent": "userAgent",
    "country": "country",
    "locale": "locale",
    "app_version": "appVersion",
}
"""As settings call the fields of a user, and as SDKs do."""

_IDS: Final = "customIDs"
_GROUPS: Final = {"custom": "custom", "custom_ids": _IDS}
"""Of these a setting names one member or, by `*`, all others."""

_ANY: Final = "*"
_PRIVATE: Final = "privateAttributes"
_PERSON: Final = b"headrace-privacy"
_HASH_BYTES: Final = 16
PRIVACY_KEY_BYTES: Final = range(16, 65)
"""BLAKE2b takes a key of 64 bytes at the most; a short one could be guessed."""

DEFAULT: Final = {"ip": Action.TRUNCATE}


@dataclass(frozen=True)
class PrivacyPolicy:
    """Actions by the fields' names in an SDK's JSON; `groups` by group and member."""

    fields: Mapping[str, Action] = field(default_factory=lambda: dict(DEFAULT))
    groups: Mapping[str, Mapping[str, Action]] = field(default_factory=dict)
    key: bytes = field(default=b"", repr=False)

    @classmethod
    def of(cls, asked: Mapping[str, str], key: str) -> Self:
        """Read settings. Raises ValueError that says what is wrong, and what would be right."""
        fields: dict[str, Action] = dict(DEFAULT)
        groups: dict[str, dict[str, Action]] = {}
        for name, text in asked.items():
            action = Action(text)
            if action is Action.TRUNCATE and name != "ip":
                raise ValueError(f"{name!r} cannot be truncated, only `ip` can; hash or drop it")
            group, _, member = name.partition(".")
            if name in _NAMES:
                fields[_NAMES[name]] = action
            elif group in _GROUPS and member:
                groups.setdefault(_GROUPS[group], {})[member] = action
            else:
                members = [f"{each}.NAME and {each}.*" for each in _GROUPS]
                raise ValueError(f"there is no field {name!r}; there are {', '.join((*_NAMES, *members))}")
        hashes = Action.HASH in (*fields.values(), *(action for group in groups.values() for action in group.values()))
        if hashes and not key:
            raise ValueError("a field is to be hashed and there is no key: set HEADRACE_PRIVACY_KEY")
        if key and len(key.encode()) not in PRIVACY_KEY_BYTES:
            raise ValueError(f"HEADRACE_PRIVACY_KEY has {len(key.encode())} bytes; 16 to 64 are needed")
        return cls(fields, groups, key.encode())


class Met:
    """The type of a member that the policy names: a decoder asks for one wherever such a member stands.

    To look for one so costs nothing where there is none, and sees both of two members of one name.
    """


_MET: Final = Met()


_COLUMNS: Final = frozenset(User.__struct_fields__)

Members = dict[str, msgspec.Raw]

_decode: Final = msgspec.json.Decoder(Members).decode
_decode_any: Final = msgspec.json.Decoder().decode
_encode: Final = msgspec.json.Encoder().encode
_NULL: Final = b"null"
_BYTE: Final = r"(?:25[0-5]|2[0-4]\d|1\d\d|[1-9]?\d)"
_IPV4: Final = re.compile(rf"{_BYTE}(?:\.{_BYTE}){{3}}", re.ASCII)


class Privacy:
    """Applies a policy; counts what it changed."""

    def __init__(self, policy: PrivacyPolicy) -> None:
        self._fields = {name: action for name, action in policy.fields.items() if action is not Action.KEEP}
        self._groups = {name: group for name, group in policy.groups.items() if set(group.values()) != {Action.KEEP}}
        self._key = policy.key
        self._device = self._action_of("customIDs", STABLE_ID)
        names = (_PRIVATE, *self._fields, *self._groups)
        self.is_always_met = self._device is not Action.KEEP or not _COLUMNS.isdisjoint(names)
        """Whether nearly every user holds what must not be stored as it is, or stands beside it."""
        told = [(name, Met | None, None) for name in names if name not in _COLUMNS]
        read = msgspec.defstruct("UserToStore", told, bases=(User,), gc=False)
        decoder: msgspec.json.Decoder[Any] = msgspec.json.Decoder(read, dec_hook=self._meet)
        self.read: Callable[[bytes], User] = decoder.decode
        """Decodes a user as a decoder does, and sets `has_met` for one that holds what must not be stored as it is."""
        self.has_met = False
        self.outcomes = dict.fromkeys(("hashed", "dropped", "truncated"), 0)

    def _meet(self, _type: type, _value: object) -> Met:
        self.has_met = True
        return _MET

    def device(self, stable_id: str) -> str:
        """Return a request's stableID as it may be stored."""
        if not stable_id or self._device is Action.KEEP:
            return stable_id
        return self.hashed(stable_id) if self._device is Action.HASH else ""

    def user(self, raw_user: bytes) -> bytes:
        """Return the user as it may be stored. It must be a JSON object; of members of one name the last counts."""
        self.has_met = False
        members = _decode(raw_user)
        if members.pop(_PRIVATE, None) is not None:
            self.outcomes["dropped"] += 1
        for name, action in self._fields.items():
            if name in members:
                self._apply(members, name, action, is_id=name == USER_ID)
        for name, group in self._groups.items():
            if name in members:
                self._apply_to_group(members, name, group)
        return _encode(members)

    def hashed(self, text: str) -> str:
        """Return the hash of a text: 32 hex digits, equal for equal texts, whichever field they stand in."""
        content = text.encode("utf-8", "surrogatepass")
        return blake2b(content, digest_size=_HASH_BYTES, key=self._key, person=_PERSON).hexdigest()

    def _action_of(self, group: str, member: str) -> Action:
        actions = self._groups.get(group, {})
        return actions.get(member, actions.get(_ANY, Action.KEEP))

    def _apply_to_group(self, members: Members, name: str, actions: Mapping[str, Action]) -> None:
        try:
            group = _decode(members[name])
        except msgspec.ValidationError:
            # No SDK sends anything but an object; what else may be in it nobody knows.
            self._apply(members, name, Action.DROP)
            return
        for member in list(group):
            action = actions.get(member, actions.get(_ANY, Action.KEEP))
            self._apply(group, member, action, is_id=name == _IDS)
        members[name] = msgspec.Raw(_encode(group))

    def _apply(self, members: Members, name: str, action: Action, *, is_id: bool = False) -> None:
        raw = bytes(members[name])
        if action is Action.KEEP or raw == _NULL:
            return
        if action is Action.DROP:
            del members[name]
            self.outcomes["dropped"] += 1
            return
        value = _decode_any(raw)
        if action is Action.HASH:
            # What is no text and no number has its JSON for a text. As an id it names nobody, and its hash would be
            # one that all have who send it.
            text = text_of(value) or ("" if is_id or value == "" else raw.decode())
            members[name] = msgspec.Raw(_encode(self.hashed(text) if text else ""))
            self.outcomes["hashed"] += 1
            return
        members[name] = msgspec.Raw(_encode(network_of(value)))
        self.outcomes["truncated"] += 1


def network_of(address: Any) -> str:
    """Return the network of an IP address, /24 or of IPv6 /48, as its first address; "" for what is none."""
    if not isinstance(address, str):
        return ""
    if _IPV4.fullmatch(address):
        return f"{address.rpartition('.')[0]}.0"  # to understand it takes ten times as long
    try:
        found = ip_address(address.strip())
    except ValueError:
        return ""
    if isinstance(found, IPv6Address):
        if found.ipv4_mapped is None:
            return str(IPv6Address(int(found) >> 80 << 80))
        found = found.ipv4_mapped
    return f"{str(found).rpartition('.')[0]}.0"
