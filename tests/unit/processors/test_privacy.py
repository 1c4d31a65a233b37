"""What of a user is stored: what was asked for, in every column, and never what was private."""

from hashlib import blake2b
from typing import Any

import msgspec
import orjson
import pytest

from ops.settings import Settings
from processors.enrich.audit_assignment import MATCH
from processors.enrich.bucket import u64
from processors.enrich.catalog import Enriching, Enrichment
from processors.enrich.privacy import PRIVACY_KEY_BYTES, PrivacyPolicy, network_of
from processors.map_event import EventMapper, Mapped, RequestContext
from schemas import avro, specs
from schemas.chunk import RequestPart
from schemas.config_history import ConfigHistory, records_of_push
from schemas.wire import Event

NOW_MS = 1_790_000_000_000
KEY = "a key of 24 bytes or so."
USER = {
    "userID": "u1",
    "customIDs": {"stableID": "d1", "companyID": "acme", "number": 7},
    "email": "somebody@example.com",
    "ip": "203.0.113.77",
    "userAgent": "Mozilla/5.0",
    "country": "DE",
    "locale": "de_DE",
    "appVersion": "1.2",
    "custom": {"plan": "gold", "age": 31, "tags": ["a"], "none": None},
}


def hashed(text: str, key: str = KEY) -> str:
    return blake2b(text.encode(), digest_size=16, key=key.encode(), person=b"headrace-privacy").hexdigest()


def mapped(user: Any, asked: dict[str, str] | None = None, device: str = "", **more: Any) -> Mapped:
    enriching = Enriching(privacy=PrivacyPolicy.of(asked or {}, KEY), **more)
    metadata = msgspec.Raw(orjson.dumps({"stableID": device}))
    context = RequestContext(RequestPart("p", "e", "k", "r", NOW_MS, statsigMetadata=metadata), 1, 2, 3)
    raw = user if isinstance(user, bytes) else orjson.dumps(user)
    event = Event(eventName="visit", time=NOW_MS - 1, user=msgspec.Raw(raw))
    return EventMapper(ConfigHistory(), enriching).map(event, bytes(16), 0, context)


def row(user: Any, asked: dict[str, str] | None = None, device: str = "", **more: Any) -> dict[str, Any]:
    told = avro.CUSTOM_EVENT.decode(avro.unframe(mapped(user, asked, device, **more).value)[1])
    return told | {"user": orjson.loads(told["user"]) if told["user"] else None}


def test_addresses_are_cut_short_unless_told_otherwise_and_all_else_is_kept():
    assert row(USER)["user"] == USER | {"ip": "203.0.113.0"}
    assert row(USER, {"ip": "keep"})["user"] == USER
    assert row(USER, off=frozenset({Enrichment.PRIVACY}))["user"] == USER


@pytest.mark.parametrize(
    ("address", "network"),
    [
        ("203.0.113.77", "203.0.113.0"),
        (" 10.1.2.3 ", "10.1.2.0"),
        ("0.255.199.1", "0.255.199.0"),
        ("256.1.1.1", ""),
        ("10.01.2.3", ""),
        ("2001:db8:1:2:3:4:5:6", "2001:db8:1::"),
        ("::ffff:203.0.113.77", "203.0.113.0"),
        ("fe80::1%eth0", "fe80::"),
        ("203.0.113.77, 10.0.0.1", ""),
        ("203.0.113.77:443", ""),
        ("unknown", ""),
        ("", ""),
        (3405803853, ""),
        (["203.0.113.77"], ""),
    ],
)
def test_what_is_no_address_is_not_kept_in_the_place_of_one(address: object, network: str):
    assert network_of(address) == network
    assert row({"ip": address})["user"] == {"ip": network}


@pytest.mark.parametrize("field", ["email", "user_agent", "country", "locale", "app_version", "user_id"])
def test_a_field_is_hashed_or_dropped_wherever_it_stands(field: str):
    name = {"user_agent": "userAgent", "app_version": "appVersion", "user_id": "userID"}.get(field, field)
    secret = f"secret-{field}"
    for action in ("hash", "drop"):
        told = mapped(USER | {name: secret}, {field: action})
        assert secret.encode() not in told.key + told.value
        shown = row(USER | {name: secret}, {field: action})["user"]
        assert shown.get(name) == (hashed(secret) if action == "hash" else None)
        assert shown.keys() | {name} == USER.keys()


def test_columns_are_made_of_what_is_stored():
    told = row(USER, {"user_id": "hash", "country": "hash", "app_version": "drop", "custom_ids.companyID": "hash"})
    assert (told["user_id"], told["unit_id"], told["canonical_id"]) == (hashed("u1"),) * 3
    assert (told["country"], told["app_version"]) == (hashed("DE"), "")
    assert told["custom_ids"] == {"stableID": "d1", "companyID": hashed("acme"), "number": "7"}
    assert mapped(USER, {"user_id": "hash"}).key == hashed("u1").encode()


def test_members_of_custom_follow_their_own_rule_and_else_the_one_for_all():
    told = row(USER, {"custom.*": "drop", "custom.plan": "keep", "custom.age": "hash"})["user"]["custom"]
    assert told == {"plan": "gold", "age": hashed("31"), "none": None}
    told = row(USER, {"custom_ids.*": "hash", "custom_ids.number": "drop"})
    assert told["custom_ids"] == {"stableID": hashed("d1"), "companyID": hashed("acme")}
    assert row({"custom": ["what is this"]}, {"custom.*": "hash"})["user"] == {}


def test_equal_ids_stay_equal_wherever_they_stand_and_however_they_are_written():
    """Devices are joined with users, and a browser's device stands beside the user."""
    policy = {"user_id": "hash", "custom_ids.*": "hash"}
    browser, server = row(None, policy, device="d1"), row(USER, policy)
    assert browser["stable_id"] == server["stable_id"] == hashed("d1")
    assert row({"userID": 7.0}, policy)["user_id"] == row({"userID": "7"}, policy)["user_id"] == hashed("7")
    assert row(None, {"custom_ids.stableID": "drop"}, device="d1")["stable_id"] == ""
    (link, *_) = mapped(USER, policy).links
    assert (link.id, link.user_id) == (hashed("d1"), hashed("u1"))


@pytest.mark.parametrize("value", [True, False, {}, [], {"id": 1}, None, ""])
def test_what_is_no_id_is_none_after_hashing_either(value: object):
    """Its hash would be the id of everybody whose SDK sends it."""
    user = {"userID": value, "customIDs": {"stableID": value, "companyID": value}}
    plain, told = row(user), row(user, {"user_id": "hash", "custom_ids.*": "hash"})
    for column in ("user_id", "stable_id", "canonical_id", "unit_id", "unit_type", "custom_ids"):
        assert told[column] == plain[column]
    assert not told["user_id"] + told["stable_id"] + told["unit_id"]


@pytest.mark.parametrize(
    "raw",
    [
        b'{"privateAttributes":{"s":"secret"}}',
        b'{"privateAttributes":{"s":"secret"},"privateAttributes":null}',
        b'{"\\u0070rivateAttributes":{"s":"secret"},"userID":"u"}',
        b'{"ip":"203.0.113.secret","ip":null}',
        b'{"\\u0069p":"203.0.113.secret"}',
        b'{"email":"secret","email":null}',
        b'{"custom":{"plan":"secret"},"custom":{}}',
        b'{"custom":{"plan":"secret","plan":1}}',
    ],
)
def test_nothing_gets_past_by_being_said_twice_or_spelled_otherwise(raw: bytes):
    told = mapped(raw, {"email": "drop", "custom.plan": "hash"})
    assert b"secret" not in told.value


def test_bots_are_told_by_the_user_agent_that_is_not_stored():
    agent = "Mozilla/5.0 (compatible; Googlebot/2.1; +http://www.google.com/bot.html)"
    told = row(USER | {"userAgent": agent}, {"user_agent": "drop"})
    assert told["is_bot"]
    assert "userAgent" not in told["user"]


def test_an_assignment_is_checked_by_the_id_that_was_decided_on():
    """Its bucket is that of the plain id; of the hash it would be another one for half of the users."""
    conditions = [{"type": "user_bucket", "operator": "lt", "targetValue": 500, "field": None, "idType": "userID"}]
    conditions[0]["additionalValues"] = {"salt": "s"}
    rule = {"name": "a", "id": "a", "salt": "a", "passPercentage": 100, "returnValue": {}, "idType": "userID"}
    spec = {"name": "exp", "type": "dynamic_config", "salt": "s", "enabled": True, "defaultValue": {}, "version": 1}
    spec |= {"idType": "userID", "entity": "experiment", "rules": [rule | {"groupName": "A", "conditions": conditions}]}
    document = {"time": NOW_MS, "feature_gates": [], "dynamic_configs": [spec], "layer_configs": []}
    history = ConfigHistory()
    for record in records_of_push(None, "p", specs.parse(orjson.dumps(document)), NOW_MS):
        history.put(record)
    mapper = EventMapper(history, Enriching(privacy=PrivacyPolicy.of({"user_id": "hash"}, KEY)))
    context = RequestContext(RequestPart("p", "e", "k", "r", NOW_MS), 1, 2, 3)
    for number in range(40):
        rule_id = "a" if u64(f"s.u{number}") % 1000 < 500 else "default"
        metadata = {"config": "exp", "ruleID": rule_id, "configVersion": "1", "lcut": NOW_MS}
        event = {"eventName": "statsig::config_exposure", "time": NOW_MS, "user": {"userID": f"u{number}"}}
        decoded = msgspec.json.decode(orjson.dumps(event | {"metadata": metadata}), type=Event)
        told = avro.EXPOSURE.decode(avro.unframe(mapper.map(decoded, bytes(16), 0, context).value)[1])
        assert (told["assignment"], told["unit_id"]) == (MATCH, hashed(f"u{number}"))


@pytest.mark.parametrize(
    ("asked", "key", "why"),
    [
        ({"email": "hash"}, "", "set HEADRACE_PRIVACY_KEY"),
        ({"custom.*": "hash"}, "", "set HEADRACE_PRIVACY_KEY"),
        ({"email": "truncate"}, KEY, "only `ip`"),
        ({"emial": "drop"}, KEY, "there is no field 'emial'"),
        ({"custom": "drop"}, KEY, "custom.NAME"),
        ({"email": "hide"}, KEY, "hide"),
        ({}, "short", "16 to 64"),
    ],
)
def test_a_policy_that_cannot_be_kept_is_refused_with_what_would_be_right(asked: dict[str, str], key: str, why: str):
    with pytest.raises(ValueError, match="(?s)" + why.replace("*", r"\*")):
        PrivacyPolicy.of(asked, key)
    with pytest.raises(ValueError, match=r"PRIVACY|privacy"):
        Settings(privacy=asked, privacy_key=key)


@pytest.mark.parametrize(("over", "fits"), [(-1, True), (0, True), (1, False)])
def test_a_key_has_as_many_bytes_as_the_hash_takes(over: int, fits: bool):
    for key, is_right in (("k" * (max(PRIVACY_KEY_BYTES) + over), fits), ("k" * (min(PRIVACY_KEY_BYTES) - over), fits)):
        if is_right:
            assert Settings(privacy={"email": "hash"}, privacy_key=key).enriching.privacy.key == key.encode()
        else:
            with pytest.raises(ValueError, match="16 to 64"):
                PrivacyPolicy.of({}, key)


def test_the_key_is_shown_nowhere():
    settings = Settings(privacy={"email": "hash"}, privacy_key=KEY)
    assert KEY not in repr(settings) + repr(settings.enriching)


def test_what_was_changed_is_counted():
    enriching = Enriching(privacy=PrivacyPolicy.of({"email": "hash", "locale": "drop"}, KEY))
    mapper = EventMapper(ConfigHistory(), enriching)
    context = RequestContext(RequestPart("p", "e", "k", "r", NOW_MS), 1, 2, 3)
    mapper.map(Event(eventName="visit", user=msgspec.Raw(orjson.dumps(USER))), bytes(16), 0, context)
    counted: dict[str, int] = {}
    mapper.report(lambda what, outcome, number: counted.update({f"{what} {outcome}": number}))
    assert counted.items() >= {"privacy hashed": 1, "privacy dropped": 1, "privacy truncated": 1}.items()
