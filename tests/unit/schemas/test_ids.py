"""Golden vectors: an id or partition that changes makes every retry in flight a new event."""

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.ids import (
    EVENT_ID_BYTES,
    EventIds,
    is_client_sdk,
    occurrences,
    partition_key,
    partition_of,
    scope_of,
    secondary_id,
)

PURCHASE = b'{"eventName":"purchase","user":{"userID":"u-1"},"time":1767225600000,"value":12.5}'
WITHOUT_TIME = b'{"eventName":"purchase","value":12.5}'

# Made apart from the code under test, with Python's hashlib alone: BLAKE2b of 16 bytes, person
# "headrace-event-1", over project, environment and scope (UTF-8) and the event, each behind its length
# as u32 little-endian, then the occurrence as u32 little-endian, then for an event without a time what
# stands in for it.
GOLDEN = [
    ("default", "production", "", PURCHASE, 0, "", "a4693703cae8f9d40e9cce29443a9e12"),
    ("default", "production", "", PURCHASE, 1, "", "8c0a12c421448e20a8378e45d9a47da4"),
    ("default", "staging", "", PURCHASE, 0, "", "9e05f95f4dc374fa92d2e02be56e12e9"),
    ("acme", "production", "", PURCHASE, 0, "", "55cf21148eaec148c5f6c0070523573a"),
    ("grün", "production", "", PURCHASE, 0, "", "18a759f6219506b68e7fce8d219f1b21"),
    ("default", "production", "stable-7", PURCHASE, 0, "", "85d6568072d3d831cb40a59705d5db3e"),
    ("default", "production", "", WITHOUT_TIME, 0, "req-1", "98c5493074173ef936fd24e1096423ee"),
    ("default", "production", "", WITHOUT_TIME, 0, "order-77", "5744952d74f2703fdb8e22542fcaa477"),
]


@pytest.mark.parametrize(("project", "environment", "scope", "event", "occurrence", "without_time", "hex_id"), GOLDEN)
def test_an_event_id_is_what_it_always_was(
    project: str, environment: str, scope: str, event: bytes, occurrence: int, without_time: str, hex_id: str
):
    ids = EventIds(project, environment, scope, without_time or "not asked")
    assert ids.of(event, occurrence, has_time=not without_time).hex() == hex_id


def test_a_secondary_id_is_what_it_always_was():
    # BLAKE2b of 16 bytes, person "headrace-event-1", over the parent's id and the part as u32 LE.
    parent = bytes.fromhex("a4693703cae8f9d40e9cce29443a9e12")
    assert secondary_id(parent, 1).hex() == "aaeb77a890c2a28a36687dded595774a"
    assert secondary_id(parent, 2).hex() == "9fc1597c8bdd9a05cb2a16a4388945e3"


# zlib.crc32, the CRC-32 of ISO 3309, whose check value for "123456789" is 0xCBF43926; librdkafka's
# `consistent` partitioner is the same number modulo the count.
@pytest.mark.parametrize(
    ("key", "of_4", "of_12"),
    [(b"123456789", 2, 2), (b"stable-7", 0, 4), (b"user-1", 0, 8), ("grün".encode(), 1, 5), (PURCHASE, 2, 6)],
)
def test_a_partition_is_what_it_always_was(key: bytes, of_4: int, of_12: int):
    assert partition_of(key, 4) == of_4
    assert partition_of(key, 12) == of_12


def test_an_event_with_a_time_has_one_id_in_every_request():
    first, second = EventIds("p", "e", "s", "request-1"), EventIds("p", "e", "s", "request-2")
    assert first.of(PURCHASE, 0, has_time=True) == second.of(PURCHASE, 0, has_time=True)
    assert first.of(WITHOUT_TIME, 0, has_time=False) != second.of(WITHOUT_TIME, 0, has_time=False)


@given(st.lists(st.tuples(st.text(max_size=3), st.text(max_size=3), st.text(max_size=3)), min_size=2, unique=True))
def test_fields_cannot_run_into_each_other(fields: list[tuple[str, str, str]]):
    made = {EventIds(*names, "").of(PURCHASE, 0, has_time=True) for names in fields}
    assert len(made) == len(fields)
    assert all(len(event_id) == EVENT_ID_BYTES for event_id in made)


@pytest.mark.parametrize(
    ("sdk_type", "stable_id", "session_id", "scope"),
    [
        ("javascript-client", "stable-1", "session-1", "stable-1"),
        ("javascript-client", "", "session-1", ""),
        ("py-server", "", "session-1", "session-1"),
        ("statsig-server-core-python", "", "session-1", "session-1"),
        ("statsig-node", "", "session-1", "session-1"),
        ("statsig-server-core-node", "", "session-1", "session-1"),
        ("go-sdk", "", "session-1", "session-1"),
        ("py-server", "stable-1", "session-1", "stable-1"),
        ("", "", "", ""),
    ],
)
def test_scope_is_the_device_else_the_server_process(sdk_type: str, stable_id: str, session_id: str, scope: str):
    assert scope_of(sdk_type, stable_id, session_id) == scope


@pytest.mark.parametrize(
    "sdk_type", ["javascript-client", "react-client", "ios-client", "android-client", "dart-client"]
)
def test_sdks_of_devices_are_known_as_such(sdk_type: str):
    assert is_client_sdk(sdk_type)


def test_occurrences_number_repeats_over_the_whole_request():
    a, b = b'{"a":1}', b'{"b":1}'
    assert occurrences([a, b]) == {}
    assert occurrences([a, b, a, a, b]) == {2: 1, 3: 2, 4: 1}
    assert occurrences([]) == {}


@given(st.lists(st.sampled_from([b"a", b"b", b"c"])))
def test_event_and_occurrence_together_are_unique_in_a_request(events: list[bytes]):
    repeats = occurrences(events)
    pairs = [(event, repeats.get(index, 0)) for index, event in enumerate(events)]
    assert len(set(pairs)) == len(events)
    assert 0 not in repeats.values()


@pytest.mark.parametrize(
    ("event", "stable_id", "key"),
    [
        (b'{"user":{"userID":"u","customIDs":{"stableID":"own"}}}', "request", b"own"),
        (b'{"user":{"userID":"u","customIDs":{"companyID":"c"}}}', "request", b"request"),
        (b'{"user":{"userID":"u","customIDs":{"stableID":""}}}', "", b"u"),
        (b'{"user":{"userID":"u"}}', "", b"u"),
        (b'{"user":{"userID":7}}', "", b"7"),
        (b'{"user":{"userID":7.0}}', "", b"7"),
        (b'{"user":{"userID":"u","customIDs":null}}', "", b"u"),
        (b'{"user":{"userID":"u","customIDs":[1]}}', "", b"u"),
        (b'{"user":null}', "request", b"request"),
        (b'{"user":null}', "", b'{"user":null}'),
        (b'{"user":{}}', "", b'{"user":{}}'),
        (b'{"user":"u"}', "", b'{"user":"u"}'),
        (b'{"user":{"userID":""}}', "", b'{"user":{"userID":""}}'),
        (b"not json", "", b"not json"),
        (b"not json", "request", b"request"),
    ],
)
def test_the_device_decides_the_partition_then_the_user_then_the_bytes(event: bytes, stable_id: str, key: bytes):
    assert partition_key(event, stable_id) == key


@given(st.binary(), st.integers(1, 1024))
def test_every_key_has_a_partition(key: bytes, partitions: int):
    assert 0 <= partition_of(key, partitions) < partitions
