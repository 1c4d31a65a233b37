"""Exposures that an application decided by itself and tells over plain HTTP (`/v1/log_custom_exposure`).

Each becomes the exposure that an SDK would have logged by hand, so that nothing behind the gateway
needs to know of it. Field names: the documented HTTP API.
"""

from collections.abc import Callable
from typing import Any, Final

import msgspec
import orjson

from ingest.answer import Answer
from ingest.auth import KnownKey
from ingest.cut import CutError, cut
from ingest.log_events import LogEvents
from ingest.receive import Request
from ingest.refusal import Refusal
from ingest.shared_user import with_shared_user
from schemas.reasons import Reason

RuleOf = Callable[[str, str], str]
"""(experiment, group name) → the group's rule id, "" where it is not known."""

_KEPT: Final = ("user", "time", "secondaryExposures")


class CustomExposures:
    """Answers `/v1/log_custom_exposure` as a log request is answered."""

    def __init__(self, log_events: LogEvents, rule_of: Callable[[str, str, str], str]) -> None:
        """`rule_of` looks up (project, experiment, group name) in the config specs."""
        self._log_events = log_events
        self._rule_of = rule_of

    async def __call__(self, request: Request) -> Answer:
        """Answer one request. Raises Refusal, DisconnectedError."""

        def rewrite(body: bytes, known: KnownKey) -> bytes:
            project = known.record.project
            return as_log_request(body, lambda experiment, group: self._rule_of(project, experiment, group))

        return await self._log_events.log(request, rewrite)


def as_log_request(body: bytes, rule_of: RuleOf) -> bytes:
    """Return the log request that means the same. Raises Refusal (400, 413).

    One event for each exposure, in order; an exposure that cannot be read stands there as it came,
    for whoever judges events to refuse it alone.
    """
    exposures, others = _cut(body)
    events = b",".join([as_event(exposure, rule_of) for exposure in exposures])
    rest = b"".join(
        [b',"%b":%b' % (name.encode(), others[name]) for name in ("statsigMetadata", "user") if others.get(name)]
    )
    return with_shared_user(b'{"events":[%b]%b}' % (events, rest))


def _cut(body: bytes) -> tuple[list[bytes], dict[str, bytes]]:
    start = body.find(b"{")
    if body[:start].strip():
        raise Refusal(Reason.UNDECODABLE_BODY, "the body is not a JSON object")
    try:
        others = cut(b'{"events":[],' + body[start + 1 :]).others
        exposures = others.pop("exposures", b"")
        events = cut(b'{"events":%b}' % exposures).events if exposures[:1] == b"[" else None
    except CutError as error:
        raise Refusal(Reason.UNDECODABLE_BODY, f"{error}") from error
    if events is None:
        raise Refusal(Reason.UNDECODABLE_BODY, 'the body has no list "exposures"')
    return events, others


def as_event(exposure: bytes, rule_of: RuleOf) -> bytes:
    """Return the exposure event as canonical JSON: sorted keys, so that equal exposures are equal bytes."""
    try:
        told = orjson.loads(exposure)
        msgspec.json.decode(exposure)
    except (orjson.JSONDecodeError, msgspec.MsgspecError, RecursionError):
        return exposure
    if not isinstance(told, dict):
        return exposure
    event: dict[str, Any] = {name: told[name] for name in _KEPT if told.get(name) is not None}
    if "gateName" in told:
        event["eventName"] = "statsig::gate_exposure"
        event["metadata"] = {"gate": told["gateName"], "gateValue": _flag(told.get("passes"))}
    else:
        event["eventName"] = "statsig::config_exposure"
        event["metadata"] = {"config": told.get("experimentName")}
    group = told.get("group")
    if group is not None:
        event["metadata"]["group"] = group
    event["metadata"]["ruleID"] = told.get("ruleID") or _rule(told.get("experimentName"), group, rule_of)
    event["metadata"]["isManualExposure"] = "true"
    return orjson.dumps(event, option=orjson.OPT_SORT_KEYS)


def _rule(experiment: object, group: object, rule_of: RuleOf) -> object:
    if isinstance(experiment, str) and isinstance(group, str):
        return rule_of(experiment, group) or group
    return group


def _flag(value: object) -> object:
    return {True: "true", False: "false"}[value] if isinstance(value, bool) else value
