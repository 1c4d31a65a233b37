"""An exposure as its SDK sent it: what can be shown of one that was never enriched. Pure."""

from typing import Any, Final

import msgspec

from schemas.wire import Event, ExposureMetadata, User, exposure_of, flag_text, text_of

KIND_OF: Final = {
    "statsig::gate_exposure": "gate",
    "statsig::config_exposure": "experiment",
    "statsig::layer_exposure": "layer",
}
"""Event name → kind. Only specs tell a dynamic config from an experiment; `Names` knows those that were seen."""

_USER_ID: Final = "userID"
_STABLE_ID: Final = "stableID"
_NAMES_MAX: Final = 5_000

_decode_event: Final = msgspec.json.Decoder(Event).decode
_decode_user: Final = msgspec.json.Decoder(User).decode

UNREADABLE: Final = (msgspec.MsgspecError, UnicodeDecodeError, RecursionError)


def event_of(received: bytes) -> Event | None:
    """Read an event; None for what is none."""
    try:
        return _decode_event(received)
    except UNREADABLE:
        return None


def fields_of(event: Event, request_stable_id: str) -> dict[str, Any]:
    """Return what an exposure says of itself, by the names of the columns; what it does not say is left out."""
    kind = KIND_OF.get(text_of(event.eventName), "")
    shown = _metadata_of(event)
    name = text_of(shown.gate if kind == "gate" else shown.config)
    value = flag_text(shown.gateValue if kind == "gate" else shown.rulePassed)
    user = _user_of(event)
    return {
        "kind": kind,
        "name": name,
        "rule_id": text_of(shown.ruleID),
        "value": value,
        "allocated_experiment": text_of(shown.allocatedExperiment),
        "parameter": text_of(shown.parameterName),
        "stamped_version": text_of(shown.configVersion),
        "reason": text_of(shown.reason),
        "tier": _tier_of(user),
        **_ids_of(user, request_stable_id),
    }


def _metadata_of(event: Event) -> ExposureMetadata:
    try:
        return exposure_of(event.metadata)
    except UNREADABLE:
        return ExposureMetadata()


def _user_of(event: Event) -> User:
    try:
        return _decode_user(event.user)
    except UNREADABLE:
        return User()


def _tier_of(user: User) -> str:
    environment = user.statsigEnvironment
    tier = environment.get("tier") if isinstance(environment, dict) else None
    return tier if isinstance(tier, str) and tier else "production"


def _ids_of(user: User, request_stable_id: str) -> dict[str, Any]:
    """Return the ids; the unit is the first that there is, for which of them decided stands in the specs."""
    given = user.customIDs if isinstance(user.customIDs, dict) else {}
    custom = {name: text_of(value) for name, value in given.items()}
    ids = {_USER_ID: text_of(user.userID), _STABLE_ID: custom.get(_STABLE_ID) or request_stable_id, **custom}
    unit_type, unit_id = next(((name, value) for name, value in ids.items() if value), ("", ""))
    return {
        "unit_type": unit_type,
        "unit_id": unit_id,
        "user_id": ids[_USER_ID],
        "stable_id": ids[_STABLE_ID],
        "custom_ids": custom,
    }


class Names:
    """What the accepted exposures told of each rule: its kind and its group. Bounded; begins anew when full."""

    def __init__(self) -> None:
        self._known: dict[tuple[str, str, str], tuple[str, str]] = {}

    def learn(self, accepted: dict[str, Any]) -> None:
        """Take in an accepted exposure."""
        if len(self._known) >= _NAMES_MAX:
            self._known.clear()
        section = _section(accepted["kind"])
        self._known[section, accepted["name"], accepted["rule_id"]] = accepted["kind"], accepted["group_name"]

    def complete(self, fields: dict[str, Any]) -> dict[str, Any]:
        """Return the fields of an exposure as it was sent, with kind and group where they are known."""
        known = self._known.get((_section(fields["kind"]), fields["name"], fields["rule_id"]))
        return fields if known is None else {**fields, "kind": known[0], "group_name": known[1]}


def _section(kind: str) -> str:
    return "experiment" if kind == "dynamic_config" else kind
