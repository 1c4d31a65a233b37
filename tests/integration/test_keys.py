"""`headrace keys`, against a real broker."""

import asyncio
from uuid import uuid4

import orjson
import pytest
from support.commands import Headrace

from ops.config import registry
from ops.kafka import publish, read_compacted
from schemas import keys
from schemas.kafka import KafkaConnection
from schemas.keys import KeyRecord
from schemas.topics import KEYS


@pytest.fixture
def headrace(monkeypatch: pytest.MonkeyPatch, broker: KafkaConnection) -> Headrace:
    return Headrace(monkeypatch).at(broker)


def test_a_created_key_is_shown_once_and_only_its_hash_is_written(headrace: Headrace, broker: KafkaConnection):
    created = headrace("keys", "create", "--kind", "client", "--environment", "staging", "--json")
    assert created.exit_code == 0, created.stderr
    answer = orjson.loads(created.stdout)
    assert answer["key"].startswith("client-")
    topic = asyncio.run(read_compacted(broker, KEYS))
    record = keys.decode(topic[keys.hash_of(answer["key"]).encode()])
    assert (record.kind, record.project, record.environment) == ("client", "default", "staging")
    assert answer["key"].encode() not in b"".join(topic) + b"".join(topic.values())
    listed = headrace("keys", "list", "--json")
    assert answer["key_id"] in [key["key_id"] for key in orjson.loads(listed.stdout)]
    assert answer["key"] not in listed.stdout


def test_an_imported_key_is_read_from_standard_input(headrace: Headrace, broker: KafkaConnection):
    key = f"secret-{uuid4().hex}"
    imported = headrace("keys", "import", "--kind", "secret", "--project", "shop", "--key", "-", stdin=f"{key}\n")
    assert imported.exit_code == 0, imported.stderr
    assert key not in imported.output
    topic = asyncio.run(read_compacted(broker, KEYS))
    assert keys.decode(topic[keys.hash_of(key).encode()]).project == "shop"


@pytest.mark.parametrize("key", ["", "with space", "café", "x" * 1025, "client-filed-as-a-secret"])
def test_a_key_that_no_sdk_could_send_or_of_another_kind_is_refused(headrace: Headrace, key: str):
    refused = headrace("keys", "import", "--kind", "secret", f"--key={key}")
    assert refused.exit_code == 2
    assert "error:" in refused.stderr


def test_an_import_does_not_bring_a_revoked_key_back_nor_move_one(headrace: Headrace, broker: KafkaConnection):
    """Scripts import the keys they were given at each start; what somebody revoked in need stays revoked."""
    key = f"secret-{uuid4().hex}"
    options = ("--kind", "secret", "--project", "shop", f"--key={key}")
    assert [headrace("keys", "import", *options).exit_code for _ in range(2)] == [0, 0]
    moved = headrace("keys", "import", *options, "--environment", "staging")
    assert (moved.exit_code, "of shop/production" in moved.stderr) == (1, True)
    [record] = [each for each in _records(broker).values() if each.key_hash == keys.hash_of(key)]
    assert headrace("keys", "revoke", record.key_id).exit_code == 0
    again = headrace("keys", "import", *options)
    assert (again.exit_code, "revoked since" in again.stderr) == (1, True)
    assert _records(broker)[record.key_id].revoked_at


def _records(broker: KafkaConnection) -> dict[str, KeyRecord]:
    topic = asyncio.run(read_compacted(broker, KEYS))
    return {record.key_id: record for record in map(keys.decode, topic.values())}


def test_whatever_stands_beside_a_key_it_is_listed(headrace: Headrace, broker: KafkaConnection):
    """A note is nobody's markup, and a record that somebody else wrote into the topic is none."""
    assert headrace("keys", "create", "--kind", "client", "--note", "[/n]\x1b[2J").exit_code == 0
    asyncio.run(publish(broker, KEYS, [(b"junk", b"junk")]))
    try:
        listed = headrace("keys", "list")
    finally:
        asyncio.run(registry._write(broker, [(KEYS, b"junk", None)]))
    assert listed.exit_code == 0, listed.output
    assert "\x1b" not in listed.output
    assert "junk" in listed.stderr


def test_a_rotated_key_lives_on_for_the_overlap_beside_its_successor(headrace: Headrace, broker: KafkaConnection):
    options = ("--kind", "client", "--environment", "staging", "--project", "shop", "--note", "web")
    old = orjson.loads(headrace("keys", "create", *options, "--json").stdout)
    rotated = headrace("keys", "rotate", old["key_id"], "--overlap", "36h", "--json")
    assert rotated.exit_code == 0, rotated.stderr
    answer = orjson.loads(rotated.stdout)
    records = _records(broker)
    new, ended = records[answer["key_id"]], records[old["key_id"]]
    assert new.key_hash == keys.hash_of(answer["key"]) != ended.key_hash
    assert (new.kind, new.project, new.environment, new.note) == ("client", "shop", "staging", "web")
    assert not new.revoked_at
    assert ended.revoked_at == new.created_at + 36 * 3_600_000
    assert ended.is_valid_at(ended.revoked_at - 1)
    assert not ended.is_valid_at(ended.revoked_at)


def test_a_quota_is_set_kept_and_handed_on_to_a_successor(headrace: Headrace, broker: KafkaConnection):
    key, options = f"secret-{uuid4().hex}", ("keys", "import", "--kind", "secret", "--project", "shop")
    key_id = orjson.loads(headrace(*options, f"--key={key}", "--quota-events-per-s", "500", "--json").stdout)["key_id"]
    assert _records(broker)[key_id].quota_events_per_s == 500
    assert headrace(*options, f"--key={key}").exit_code == 0
    assert _records(broker)[key_id].quota_events_per_s == 500, "who imports its keys at each start takes nothing back"
    said = headrace("keys", "quota", key_id, "2000")
    assert (said.exit_code, "2,000 events a second" in said.output) == (0, True)
    successor = orjson.loads(headrace("keys", "rotate", key_id, "--json").stdout)["key_id"]
    assert [_records(broker)[each].quota_events_per_s for each in (key_id, successor)] == [2000, 2000]
    listed = {each["key_id"]: each for each in orjson.loads(headrace("keys", "list", "--json").stdout)}
    assert listed[successor]["quota_events_per_s"] == 2000
    assert headrace("keys", "quota", successor, "0").exit_code == 0
    assert _records(broker)[successor].quota_events_per_s == 0
    created = headrace("keys", "create", "--kind", "client", "--quota-events-per-s", "7", "--json")
    assert orjson.loads(created.stdout)["quota_events_per_s"] == 7
    assert headrace("keys", "quota", successor, "-5").exit_code == 2


def test_a_revoked_key_stays_revoked(headrace: Headrace, broker: KafkaConnection):
    key_id = orjson.loads(headrace("keys", "create", "--kind", "secret", "--json").stdout)["key_id"]
    assert headrace("keys", "revoke", key_id, "--after", "7d").exit_code == 0
    later = _records(broker)[key_id].revoked_at
    assert headrace("keys", "revoke", key_id, "--after", "30d").exit_code == 0
    assert _records(broker)[key_id].revoked_at == later, (
        "a key that is to end does not live longer by being ended again"
    )
    assert headrace("keys", "revoke", key_id).exit_code == 0
    for command in (["revoke", key_id], ["rotate", key_id]):
        refused = headrace("keys", *command)
        assert refused.exit_code == 1
        assert "revoked since" in refused.stderr


def test_a_key_is_named_by_as_much_of_its_id_as_tells_it_apart(headrace: Headrace):
    created = [headrace("keys", "create", "--kind", "console", "--json") for _ in range(2)]
    first, second = (orjson.loads(done.stdout)["key_id"] for done in created)
    assert headrace("keys", "revoke", first.removeprefix("console-")[:8]).exit_code == 0
    ambiguous = headrace("keys", "revoke", "console-")
    assert ambiguous.exit_code == 2
    assert first in ambiguous.stderr
    assert second in ambiguous.stderr
    unknown = headrace("keys", "revoke", "secret-nobody")
    assert unknown.exit_code == 1
    assert "keys list" in unknown.stderr


def test_a_length_of_time_that_is_none_is_a_usage_error(headrace: Headrace):
    for length in ("soon", "-1h", "1w", "1.5h", ""):
        assert headrace("keys", "rotate", "secret-x", f"--overlap={length}").exit_code == 2


def test_keys_are_listed_by_project(headrace: Headrace):
    project = uuid4().hex
    key_id = orjson.loads(headrace("keys", "create", "--kind", "secret", "--project", project, "--json").stdout)[
        "key_id"
    ]
    assert [key["key_id"] for key in orjson.loads(headrace("keys", "list", "--project", project, "--json").stdout)] == [
        key_id
    ]


def test_a_broker_that_is_not_there_is_named_with_the_remedy(monkeypatch: pytest.MonkeyPatch):
    nowhere = Headrace(monkeypatch).at(KafkaConnection("127.0.0.1:1"))
    for command in (["keys", "create", "--kind", "secret"], ["keys", "list"]):
        refused = nowhere(*command)
        assert refused.exit_code == 3
        assert "127.0.0.1:1" in refused.stderr
        assert "headrace up" in refused.stderr
