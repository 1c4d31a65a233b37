"""Visitors whose devices, logins and arms are known, and the exposures that they send."""

import random
from collections import defaultdict
from dataclasses import dataclass, field
from typing import Any

from schemas.limits import IDENTITY_IDS_OF_USER, IDENTITY_USERS_OF_ID

Json = dict[str, Any]

EXPERIMENT = "checkout"
RULES = {"a": "Control", "b": "Treatment"}
DAY_MS = 24 * 3600 * 1000


@dataclass
class Population:
    """What is sent, in the order of its arrival, and what is true of it."""

    seed: int
    end_ms: int
    people: int = 150
    guests: int = IDENTITY_USERS_OF_ID * 2
    events: list[Json] = field(default_factory=list)
    logins: dict[str, dict[str, int]] = field(default_factory=lambda: defaultdict(dict))
    """By device: its users and when each was first seen with it."""
    exposed: list[tuple[str, str, str]] = field(default_factory=list)
    """Device, user ("" where nobody was logged in) and rule of every exposure."""

    def __post_init__(self) -> None:
        """Make everything up."""
        self._chance = random.Random(self.seed)
        for person in range(self.people):
            for device in range(self._chance.choice((1, 1, 2, 2, 3, 5))):
                self._use(f"device-{person}-{device}", [f"user-{person}"])
        for family in range(self.people // 10):
            self._use(f"tablet-{family}", [f"user-{family}", f"user-{family + 1}", f"kid-{family}"])
        self._use("kiosk", [f"passer-by-{n}" for n in range(self.guests)])
        for shop in range(IDENTITY_IDS_OF_USER + 1):
            self._use(f"till-{shop}", ["guest"], exposures=int(shop < self.people))
        self._chance.shuffle(self.events)  # links arrive days after exposures, and before

    def _use(self, device: str, users: list[str], exposures: int = 3) -> None:
        chance = self._chance
        rule = chance.choice(tuple(RULES))
        is_broken = chance.random() < 0.05
        never_logs_in = len(users) == 1 and users != ["guest"] and chance.random() < 0.2
        began_ms = self.end_ms - chance.randrange(2 * DAY_MS, 9 * DAY_MS)
        for number in range(exposures):
            broken = "b" if is_broken and number and rule == "a" else rule
            self._expose(device, "", broken, began_ms + chance.randrange(2 * DAY_MS))
        for user in () if never_logs_in else users:
            at_ms = began_ms + chance.randrange(DAY_MS)
            self._tell({"eventName": "login"}, device, user, at_ms)
            for _ in range(min(exposures, 1)):
                self._expose(device, user, rule, at_ms + chance.randrange(DAY_MS))

    def _expose(self, device: str, user: str, rule: str, at_ms: int) -> None:
        metadata = {"config": EXPERIMENT, "ruleID": rule, "rulePassed": "true"}
        self._tell({"eventName": "statsig::config_exposure", "metadata": metadata}, device, user, at_ms)
        self.exposed.append((device, user, rule))

    def _tell(self, event: Json, device: str, user: str, at_ms: int) -> None:
        ids: Json = {"customIDs": {"stableID": device}} | ({"userID": user} if user else {})
        self.events.append({**event, "time": at_ms, "user": ids})
        if user:
            seen = self.logins[device]
            seen[user] = min(seen.get(user, at_ms), at_ms)

    def person(self, device: str, user: str) -> str:
        """Return who is behind an exposure, "" where nobody can tell."""
        if user and user != "guest":
            return user
        known = self.logins.get(device, {})
        people = [each for each in known if each != "guest"]
        return (
            min(people, key=lambda each: (known[each], each)) if people and len(known) <= IDENTITY_USERS_OF_ID else ""
        )

    def crossed(self) -> set[str]:
        """Return the devices that were in several arms."""
        return _in_several([(device, rule) for device, _, rule in self.exposed])

    def crossed_merged(self) -> set[str]:
        """Return the people, and the devices of nobody, that were in several arms."""
        return _in_several([(self.person(device, user) or device, rule) for device, user, rule in self.exposed])


def _in_several(arms: list[tuple[str, str]]) -> set[str]:
    found = defaultdict(set)
    for unit, arm in arms:
        found[unit].add(arm)
    return {unit for unit, its in found.items() if len(its) > 1}
