"""Secrets and private attributes are gone, and everything else is untouched."""

import json
from typing import Any

import msgspec
import pytest
from hypothesis import given
from hypothesis import strategies as st

from ingest.mask import mask, needs_masking
from ingest.split import split

KEY = b"secret-Ab_c-123456789"
URL = b"http://gw/v1/download_config_specs/secret-Ab_c-123456789.json?sinceTime=1"


def diagnostics(markers: object) -> bytes:
    return json.dumps({"eventName": "statsig::diagnostics", "metadata": {"markers": markers}}).encode()


@pytest.mark.parametrize(
    "event",
    [
        diagnostics([{"url": URL.decode()}]),
        diagnostics(json.dumps([{"url": URL.decode()}])),  # core SDKs: JSON inside a string
        diagnostics([{"url": URL.decode()}]).replace(b"/", b"\\/"),
        diagnostics("the key is " + KEY.decode()),
        diagnostics("another is secret-zzzzzzzzzzzz"),
        diagnostics("console-zzzzzzzzzzzz"),
    ],
)
def test_keys_inside_diagnostics_are_masked(event: bytes):
    masked = mask(event, KEY)
    for secret in (b"Ab_c", b"123456789", b"zzzz"):
        assert secret not in masked
    assert json.loads(masked)["eventName"] == "statsig::diagnostics"
    assert needs_masking(event)


def test_an_imported_key_without_a_prefix_is_masked_too():
    masked = mask(
        diagnostics([{"url": "http://gw/v2/download_config_specs/legacykey99.json"}, "legacykey99"]), b"legacykey99"
    )
    assert b"legacykey99" not in masked


def test_keys_in_other_events_are_the_senders_own_words():
    event = b'{"eventName":"note","value":"secret-sauce1234"}'
    assert mask(event, b"secret-sauce1234") is event


@pytest.mark.parametrize("private", [{"plan": "gold"}, {}, [1], "x", 0])
def test_private_attributes_are_removed(private: object):
    user = {"userID": "u", "privateAttributes": private, "custom": {"a": 1.0}}
    event = json.dumps({"eventName": "x", "user": user, "value": 7.0}).encode()
    masked = json.loads(mask(event, KEY))
    assert "privateAttributes" not in masked["user"]
    assert masked == {"eventName": "x", "user": {"userID": "u", "custom": {"a": 1.0}}, "value": 7.0}
    assert needs_masking(event)


@pytest.mark.parametrize(
    "event",
    [
        b'{"user":{"userID":"u","privateAttributes":null}}',
        b'{"user":{"userID":"u","privateAttributes": null}}',
        b'{"user":null,"metadata":{"privateAttributes":{"a":1}}}',
        b'{"user":"privateAttributes"}',
        b'{"eventName":"privateAttributes"}',
    ],
)
def test_an_event_without_private_attributes_keeps_its_bytes(event: bytes):
    assert mask(event, KEY) is event


@pytest.mark.parametrize(
    "event",
    [
        rb'{"eventName":"x","user":{"userID":"u","private\u0041ttributes":{"plan":"gold"}}}',
        rb'{"eventName":"x","\u0075ser":{"userID":"u","privateAttributes":{"plan":"gold"}}}',
    ],
)
def test_private_attributes_are_removed_however_their_name_is_spelled(event: bytes):
    assert needs_masking(event)
    assert json.loads(mask(event, KEY)) == {"eventName": "x", "user": {"userID": "u"}}


SECRET = b'{"plan":"gold"}'


@pytest.mark.parametrize(
    "users",
    [
        b'"user":{"userID":"u","privateAttributes":%b,"privateAttributes":%b}' % (SECRET, SECRET),
        b'"user":{"userID":"u","privateAttributes":%b,"privateAttributes":null}' % SECRET,
        b'"user":{"userID":"u","privateAttributes":null,"privateAttributes":%b}' % SECRET,
        rb'"user":{"userID":"u","\u0070rivateAttributes":%b,"privateAttributes":null}' % SECRET,
        b'"user":{"privateAttributes":%b},"user":{"userID":"u"}' % SECRET,
        b'"user":{"privateAttributes":%b},"user":{"userID":"u","privateAttributes":null}' % SECRET,
        b'"user":{"userID":"u"},"user":{"userID":"u","privateAttributes":%b}' % SECRET,
        b'"user":"v","user":{"userID":"u","privateAttributes":%b}' % SECRET,
        b'"user":{"privateAttributes":%b},"user":7,"user":{"userID":"u"}' % SECRET,
        b'"user":7,"value":1e300,"user":{"privateAttributes":%b},"user":{"userID":"u"}' % SECRET,
        b'"user":{"customIDs":7,"privateAttributes":%b},"user":{"userID":"u"}' % SECRET,
        b'"user":{"customIDs":7,"customIDs":{},"userID":"u","privateAttributes":%b}' % SECRET,
    ],
)
def test_private_attributes_are_removed_though_their_name_or_the_users_is_said_twice(users: bytes):
    """The last one counts for every reader, and an earlier one would be in the log all the same."""
    event = b'{"eventName":"x",%b}' % users
    other = b'{"eventName":"y","user":{"userID":"v"}}'
    assert needs_masking(event)
    masked = mask(event, KEY)
    assert b"gold" not in masked
    assert msgspec.json.decode(masked)["user"]["userID"] == "u"
    for events in ((event, other), (other, event)):
        assert split(b'{"events":[%b]}' % b",".join(events)).needs_masking


@pytest.mark.parametrize("last", [b"null", b"7", b'"v"', b"[]"])
def test_a_user_that_is_taken_back_leaves_nothing_private_behind(last: bytes):
    event = b'{"eventName":"x","user":{"privateAttributes":%b},"user":%b}' % (SECRET, last)
    assert mask(event, KEY) == b'{"eventName":"x","user":%b}' % last


def test_keys_are_masked_however_the_name_of_diagnostics_is_spelled():
    event = rb'{"eventName":"statsig\u003a:diagnostics","value":"secret-zzzzzzzzzzzz"}'
    assert needs_masking(event)
    assert b"zzzz" not in mask(event, KEY)


@pytest.mark.parametrize(
    "event",
    [
        {"user": {"userID": "u", "privateAttributes": {"plan": "gold"}}},
        {"user": {"userID": "u", "privateAttributes": {}}},
        {"eventName": "statsig::diagnostics", "user": {"userID": "u"}},
        {"eventName": "statsig::diagnostics"},
        {"eventName": "statsig::diagnostics", "user": "u"},
    ],
)
@pytest.mark.parametrize("other", [{"user": {"userID": "v"}}, {"user": 7}])
def test_one_event_that_holds_what_must_go_is_seen_among_others(event: dict[str, Any], other: dict[str, Any]):
    def found(*events: dict[str, Any]) -> bool:
        return split(json.dumps({"events": [*events]}).encode()).needs_masking

    assert found(event, other)
    assert found(other, event)
    assert not found(other, other)
    assert not found({"user": {"userID": "u", "privateAttributes": None}}, other)


VALUES = st.none() | st.booleans() | st.integers() | st.text(max_size=5)


@given(
    st.dictionaries(st.text(max_size=5), VALUES, max_size=4), st.dictionaries(st.text(max_size=5), VALUES, max_size=4)
)
def test_what_is_not_private_stays_as_it_was(event: dict[str, Any], user: dict[str, Any]):
    user.pop("privateAttributes", None)
    event.pop("user", None)
    sent = json.dumps({**event, "user": {**user, "privateAttributes": {"p": 1}}}).encode()
    assert json.loads(mask(sent, KEY)) == {**event, "user": user}
