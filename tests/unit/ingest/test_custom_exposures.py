"""An exposure told over plain HTTP is the exposure that an SDK would have logged by hand."""

import json
from typing import Any

import pytest

from ingest.custom_exposures import as_event, as_log_request
from ingest.refusal import Refusal
from ingest.split import split
from schemas.limits import EVENTS_PER_REQUEST
from schemas.reasons import Reason

RULES = {("button_color_exp", "Green"): "grp_green"}
USER = {"userID": "u-1"}


def rule_of(experiment: str, group: str) -> str:
    return RULES.get((experiment, group), "")


def event_of(**exposure: Any) -> dict[str, Any]:
    return dict(json.loads(as_event(json.dumps({"user": USER, **exposure}).encode(), rule_of)))


def metadata_of(**exposure: Any) -> dict[str, Any]:
    return dict(event_of(**exposure)["metadata"])


@pytest.mark.parametrize(
    ("told", "rule"),
    [
        ({"ruleID": "grp_red"}, "grp_red"),
        ({"group": "Green"}, "grp_green"),
        ({"group": "Green", "ruleID": "grp_red"}, "grp_red"),
        ({"group": "Green", "ruleID": ""}, "grp_green"),
        ({"group": "a group that no specs know"}, "a group that no specs know"),
        ({}, None),
    ],
)
def test_a_group_is_found_by_its_name_or_kept_as_it_was_told(told: dict[str, Any], rule: str | None):
    event = event_of(experimentName="button_color_exp", **told)
    assert (event["eventName"], event["user"]) == ("statsig::config_exposure", USER)
    metadata = event["metadata"]
    assert (metadata["config"], metadata["ruleID"], metadata["isManualExposure"]) == ("button_color_exp", rule, "true")
    assert metadata.get("group") == told.get("group")


@pytest.mark.parametrize(("passes", "value"), [(True, "true"), (False, "false"), ("true", "true"), (None, None)])
def test_a_gate_says_whether_it_passed(passes: object, value: object):
    metadata = metadata_of(gateName="gate_half", passes=passes, ruleID="rule_half")
    assert metadata == {"gate": "gate_half", "gateValue": value, "ruleID": "rule_half", "isManualExposure": "true"}


def test_what_else_is_documented_goes_with_it():
    secondary = [{"gate": "is_employee", "gateValue": "false", "ruleID": "default"}]
    event = event_of(experimentName="e", ruleID="r", time="2026-01-01T00:00:00Z", secondaryExposures=secondary)
    assert (event["time"], event["secondaryExposures"]) == ("2026-01-01T00:00:00Z", secondary)


def test_equal_exposures_are_equal_bytes_whatever_the_order_of_their_keys():
    one = as_event(b'{"user":{"userID":"u","email":"e"},"experimentName":"x","ruleID":"r"}', rule_of)
    other = as_event(b'{ "ruleID":"r", "experimentName":"x", "user":{"email":"e","userID":"u"} }', rule_of)
    assert one == other


@pytest.mark.parametrize("odd", [b"17", b"null", b'{"experimentName":"\\ud800"}', b"{broken}", b'{"n":1e999}'])
def test_an_exposure_that_cannot_be_read_is_refused_alone(odd: bytes):
    good = b'{"user":{"userID":"u"},"gateName":"g","passes":true}'
    found = split(as_log_request(b'{"exposures":[%b,%b,%b]}' % (good, odd, good), rule_of))
    assert len(found.events) == 2
    ((position, event, _, verdict),) = found.refused
    assert (position, event, verdict.reason) == (1, odd, Reason.MALFORMED_EVENT)


def test_user_and_metadata_of_the_request_count_as_in_a_log_request():
    body = b'{"statsigMetadata":{"sdkType":"curl"},"exposures":[{"gateName":"g"}],"user":{"userID":"shared"}}'
    found = split(as_log_request(body, rule_of))
    assert json.loads(found.events[0])["user"] == {"userID": "shared"}
    assert found.sender.sdkType == "curl"


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"{}",
        b"[]",
        b"not json",
        b'{"exposures":{}}',
        b'{"exposures":[}',
        b'{"events":[]}',
        b'\xef\xbb\xbf{"exposures":[]}',
    ],
)
def test_a_body_without_exposures_is_refused(body: bytes):
    with pytest.raises(Refusal) as refused:
        as_log_request(body, rule_of)
    assert refused.value.status == 400


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_as_many_exposures_as_events_are_taken(over: int):
    items = b",".join([b'{"gateName":"g"}'] * (EVENTS_PER_REQUEST + over))
    body = as_log_request(b'{"exposures":[%b]}' % items, rule_of)
    if over > 0:
        with pytest.raises(Refusal) as refused:
            split(body)
        assert refused.value.status == 413
    else:
        assert len(split(body).events) == EVENTS_PER_REQUEST + over
