"""Whose an event is: the user who was seen with its device or with its other ids, first touch.

`Identities` is what is known; asking it changes no answer, `learn` and `take` do. docs/identity.md has the rules.
"""

from array import array
from collections.abc import Iterator
from typing import Final

import structlog

from processors.event_time import EventTime
from processors.unit import Ids
from schemas.identity_links import STABLE_ID, IdentityLink, LinkError, decode, decode_key
from schemas.limits import (
    IDENTITY_CHARS,
    IDENTITY_IDS_OF_EVENT,
    IDENTITY_IDS_OF_USER,
    IDENTITY_LINKS,
    IDENTITY_USERS_OF_ID,
)

log = structlog.get_logger()

Links = tuple[IdentityLink, ...]
Entry = tuple[tuple[str, int], ...]
"""The users of an id, each with the time at which it was first seen, first touch first."""

_CROWD: Final[Entry] = (("", 0),)
"""Of an id with too many users: they are forgotten, and no more are told."""

_COUNTERS: Final = 1 << 20


class Scope:
    """Within what an id is one id: an environment of a project."""

    __slots__ = ("_prefix", "devices", "environment", "number", "project")

    def __init__(self, project: str, environment: str) -> None:
        self.project = project
        self.environment = environment
        # Lengths in front, so that no two of them meet whatever their names are.
        self._prefix = f"{len(project)}.{len(environment)}.{project}{environment}"
        self.number = hash(self._prefix)
        self.devices = hash(self._prefix + STABLE_ID)
        """What the hash of a stableID is combined with."""

    def place_of(self, id_type: str, id_: str) -> int:
        """Return where an id stands: 64 bits, made of hashes that Python keys, in which no two of a million meet."""
        return hash(id_) ^ (self.devices if id_type == STABLE_ID else hash(self._prefix + id_type))


class _Generation:
    """Links that were met since some moment, by the places of their ids."""

    __slots__ = ("entries", "ids_of_user", "links")

    def __init__(self) -> None:
        self.entries: dict[int, Entry] = {}
        self.ids_of_user = array("I", bytes(4 * _COUNTERS))
        """Counted by some bits of a user's hash; so many counters that one is hardly ever shared."""
        self.links = 0

    def put(self, place: int, entry: Entry, scope: int) -> None:
        self.entries[place] = entry
        self._count(entry, scope, 1)

    def pop(self, place: int, scope: int) -> Entry:
        entry = self.entries.pop(place, ())
        self._count(entry, scope, -1)
        return entry

    def _count(self, entry: Entry, scope: int, change: int) -> None:
        self.links += change * len(entry)
        for user, _ in entry:
            self.ids_of_user[_counter(user, scope)] += change


def _counter(user: str, scope: int) -> int:
    return (hash(user) ^ scope) & (_COUNTERS - 1)


class Identities:
    """The links that are known, `kept` of them at the most: the half that was met least lately makes room.

    A link that was forgotten is unknown, and told again when it is met.
    """

    def __init__(self, kept: int = IDENTITY_LINKS) -> None:
        self._half = max(kept // 2, 1)
        self._young = _Generation()
        self._old = _Generation()
        self._crowds: set[int] = set()
        """The counters of users with too many ids, for as long as the process lives: hardly ever one."""
        self.outcomes = dict.fromkeys(("linked", "resolved", "unresolved"), 0)
        """What became of events: of anonymous ones, and links that nobody knew."""

    def __len__(self) -> int:
        """Return how many links are kept."""
        return self._young.links + self._old.links

    def of(self, scope: Scope, ids: Ids, time: EventTime, received_ms: int) -> tuple[str, Links]:
        """Return whose an event is, "" where that is not known, and the links that it shows and nobody knew."""
        user = ids.user_id
        if not user or len(user) > IDENTITY_CHARS or (self._crowds and not self._is_person(user, scope)):
            return self._owner(scope, ids), ()
        # A clock that is wrong must not make a link the first for good.
        seen_ms = time.corrected_ms if time.flag == "ok" and time.lateness_ms >= 0 else received_ms
        stable_id, custom = ids.stable_id, ids.custom
        if stable_id:
            known = self._young.entries.get(hash(stable_id) ^ scope.devices)
            if known is None or known[0][0] != user or known[0][1] > seen_ms:
                return user, self._unknown(scope, ids, seen_ms)
        if custom and (len(custom) > 1 or STABLE_ID not in custom):
            return user, self._unknown(scope, ids, seen_ms)
        return user, ()

    def learn(self, link: IdentityLink) -> bool:
        """Remember a link, and tell whether it was new. In whatever order they come, the earliest time counts."""
        scope = Scope(link.project, link.environment)
        place = scope.place_of(link.id_type, link.id)
        known = self._entry(place, scope)
        if not _is_new(known, link.user_id, link.first_seen):
            return False
        users = dict(known) | {link.user_id: link.first_seen}
        self._young.pop(place, scope.number)
        self._young.put(place, _CROWD if len(users) > IDENTITY_USERS_OF_ID else _in_order(users), scope.number)
        at = _counter(link.user_id, scope.number)
        if self._young.ids_of_user[at] + self._old.ids_of_user[at] > IDENTITY_IDS_OF_USER:
            self._crowds.add(at)
        self._make_room()
        return True

    def take(self, key: bytes, value: bytes | None) -> None:
        """Take a record of the topic; one that cannot be read is logged and changes nothing."""
        try:
            if value is None:
                self._forget(IdentityLink(*decode_key(key), 0))
            else:
                self.learn(decode(value))
        except LinkError as error:
            log.warning("identity_link_unreadable", error=str(error))

    def _forget(self, link: IdentityLink) -> None:
        scope = Scope(link.project, link.environment)
        place = scope.place_of(link.id_type, link.id)
        users = dict(self._entry(place, scope))
        if users.pop(link.user_id, None) is not None:
            self._young.pop(place, scope.number)
            if users:
                self._young.put(place, _in_order(users), scope.number)

    def _unknown(self, scope: Scope, ids: Ids, seen_ms: int) -> Links:
        """Return the links of an event with a user that are not known."""
        new = tuple(
            IdentityLink(scope.project, scope.environment, id_type, id_, ids.user_id, seen_ms)
            for id_type, id_ in _linked(ids)
            if _is_new(self._entry(scope.place_of(id_type, id_), scope), ids.user_id, seen_ms)
        )
        self.outcomes["linked"] += len(new)
        return new

    def _owner(self, scope: Scope, ids: Ids) -> str:
        """Return the user who is behind an event that names none."""
        owner = ""
        for id_type, id_ in _linked(ids):
            users = self._entry(scope.place_of(id_type, id_), scope)
            persons = [user for user, _ in users if self._is_person(user, scope)] if users is not _CROWD else []
            # Who shares a device has it one after the other; what else is shared is a company or a class.
            if persons and (id_type == STABLE_ID or len(persons) == 1):
                owner = persons[0]
                break
        self.outcomes["resolved" if owner else "unresolved"] += 1
        return owner

    def _is_person(self, user: str, scope: Scope) -> bool:
        return _counter(user, scope.number) not in self._crowds

    def _entry(self, place: int, scope: Scope) -> Entry:
        """Return the users of an id, and keep them for longer."""
        entry = self._young.entries.get(place)
        if entry is None:
            entry = self._old.pop(place, scope.number)
            if entry:
                self._young.put(place, entry, scope.number)
                self._make_room()
        return entry

    def _make_room(self) -> None:
        if self._young.links >= self._half:
            self._old, self._young = self._young, _Generation()


def _is_new(known: Entry, user: str, seen_ms: int) -> bool:
    if known is _CROWD:
        return False
    return all(other != user or first_ms > seen_ms for other, first_ms in known)


def _in_order(users: dict[str, int]) -> Entry:
    return tuple(sorted(users.items(), key=lambda each: (each[1], each[0])))


def _linked(ids: Ids) -> Iterator[tuple[str, str]]:
    """Yield type and id of what is linked to the user of an event: its device first."""
    found = [(STABLE_ID, ids.stable_id)]
    if ids.custom:
        found += [each for each in ids.custom.items() if each[0] != STABLE_ID]
    for id_type, id_ in found[:IDENTITY_IDS_OF_EVENT]:
        if id_ and id_ != ids.user_id and len(id_) <= IDENTITY_CHARS and len(id_type) <= IDENTITY_CHARS:
            yield id_type, id_
