"""What the demo's visitors do: a pure function of the run, the seed and the visitor's number.

A visitor reads every entity of `specs.json` once and then acts. Ids carry the run, so that a second
run on kept data finds only its own events, and so that no SDK drops an exposure as seen lately.
"""

import random
from dataclasses import dataclass
from pathlib import Path
from typing import Final, NamedTuple

SPECS_FILE: Final = Path(__file__).with_name("specs.json")

EXPERIMENT: Final = "button_color"
"""The experiment whose arms the demo shows."""

OWN_ID: Final = "demo_id"
"""Metadata key under which a custom event carries an id of its own."""

_COUNTRIES: Final = ("CA", "DE", "FR", "IN", "US")
_PLANS: Final = ("free", "pro", "team")
_VERSIONS: Final = ("1.4.0", "1.4.1", "1.5.0")
_BUYS: Final = {"Control": 0.30, "Green": 0.45, "Red": 0.25}
_MOST_VIEWS: Final = 3


class Item(NamedTuple):
    """One event as the program that logs it knows it, and as SQL can find it.

    An exposure is (entity, unit, parameter), a custom event (event name, its own id, "").
    """

    table: str
    name: str
    unit: str
    parameter: str = ""


class Read(NamedTuple):
    """One entity that a visitor reads; reading it logs one exposure."""

    kind: str
    name: str
    parameter: str = ""
    by_device: bool = False


READS: Final = (
    Read("gate", "new_navigation"),
    Read("gate", "fast_search"),
    Read("experiment", EXPERIMENT),
    Read("config", "welcome_banner"),
    Read("experiment", "onboarding_flow", by_device=True),
    Read("layer", "checkout_layer", "title"),
    Read("layer", "checkout_layer", "button"),
)


@dataclass(frozen=True)
class Run:
    """One run of the demo. `name` is short, lower case and unique among the runs on one store."""

    name: str
    seed: int = 0

    @property
    def prefix(self) -> str:
        """What all user ids of the run begin with."""
        return f"demo-{self.name}-u"

    def user_id(self, number: int) -> str:
        """Return the user id of a visitor; ids sort as numbers do."""
        return f"{self.prefix}{number:09d}"


@dataclass(frozen=True)
class Visitor:
    """Who visits: ids and attributes as an application would hand them to its SDK."""

    user_id: str
    stable_id: str
    country: str
    app_version: str
    plan: str

    def exposure(self, read: Read) -> Item:
        """Return the exposure that `read` logs."""
        return Item("exposures", read.name, self.stable_id if read.by_device else self.user_id, read.parameter)


@dataclass(frozen=True)
class Action:
    """A custom event to log. `value` is a price or None."""

    name: str
    own_id: str
    value: float | None
    metadata: dict[str, str]

    @property
    def item(self) -> Item:
        """Return how the event is recognised."""
        return Item("custom_events", self.name, self.own_id)


def visitor(run: Run, number: int) -> Visitor:
    """Return the visitor of that number (from 0)."""
    dice = random.Random(f"{run.seed}:{number}")  # noqa: S311 - a plan, not a secret
    return Visitor(
        user_id=run.user_id(number),
        stable_id=f"demo-{run.name}-d{number:09d}",
        country=dice.choice(_COUNTRIES),
        app_version=dice.choice(_VERSIONS),
        plan=dice.choice(_PLANS),
    )


def actions(run: Run, number: int, group: str) -> list[Action]:
    """Return what the visitor does after being put into `group` of the demo's experiment, at least one thing."""
    dice = random.Random(f"{run.seed}:{number}:{group}")  # noqa: S311 - a plan, not a secret
    names: list[tuple[str, float | None]] = [("page_view", None)] * dice.randint(1, _MOST_VIEWS)
    if dice.random() < _BUYS.get(group, 0.0):
        price = round(dice.uniform(5, 120), 2)
        names += [("add_to_cart", price), ("purchase", price)]
    return [
        Action(
            name, own_id, value, {OWN_ID: own_id, "page": f"/shop/{dice.randint(1, 40)}", "plan": dice.choice(_PLANS)}
        )
        for place, (name, value) in enumerate(names)
        for own_id in [f"demo-{run.name}-e{number:09d}-{place}"]
    ]
