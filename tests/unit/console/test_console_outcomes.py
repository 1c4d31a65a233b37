"""Duplicates and rejects as a viewer reads them: what is known of them, and nothing that is private."""

from types import SimpleNamespace
from typing import Any

import msgspec
import orjson
import pytest
from support.exposures import framed

from console.live.as_sent import Names
from console.live.copies import EVENTS_MAX, Copied, copied, exposures_of
from console.live.decode import Outcome, UnreadableRecordError, decode
from console.live.filters import filter_from
from console.live.rejects import rejected
from schemas import chunk, ledger
from schemas.chunk import Chunk, RequestPart
from schemas.dead_letter import DeadLetter
from schemas.ids import EventIds, scope_of
from schemas.ledger import Copies, Dead, Run
from schemas.origin import Origin
from schemas.reasons import Reason, Stage
from schemas.topics import DLQ_INGEST, DLQ_LANDER, DLQ_WORKER, EVENTS_RAW, LEDGER

GATE = {
    "eventName": "statsig::gate_exposure",
    "time": 1_700_000_000_000,
    "user": {
        "userID": "u1",
        "privateAttributes": {"email": "somebody@example.com"},
        "statsigEnvironment": {"tier": "staging"},
    },
    "metadata": {"gate": "new_search", "gateValue": "true", "ruleID": "r1"},
}
EXPERIMENT = {
    "eventName": "statsig::config_exposure",
    "time": 1_700_000_000_001,
    "user": {"userID": "u2"},
    "metadata": {"config": "checkout", "ruleID": "blue"},
}


def _letter(original: bytes, stage: Stage = Stage.WORKER, **fields: Any) -> bytes:
    fields = {"reason": Reason.INVALID_TIME, "message": "time is 'yesterday'", "failed_at": 7, **fields}
    return DeadLetter(stage=stage, original=original, **fields).encode()


def _record(value: bytes | None, topic: str = DLQ_WORKER, key: bytes = b"") -> Any:
    return SimpleNamespace(topic=topic, partition=2, offset=9, key=key, value=value, timestamp=5)


def test_a_rejected_exposure_says_where_and_why_it_was_refused_and_what_it_was_about():
    value = _letter(
        orjson.dumps(GATE), event_name="statsig::gate_exposure", origin=Origin(1, 2, 3, 4), event_id=bytes(16)
    )
    found = rejected(_record(value), Names())
    assert found is not None
    shown = found.fields
    assert (shown["outcome"], shown["rejected_at"], shown["rejected_for"]) == ("rejected", "worker", "invalid_time")
    assert (shown["kind"], shown["name"], shown["unit_id"], shown["tier"]) == ("gate", "new_search", "u1", "staging")
    assert shown["origin"] == "1/2/3/4/0"
    assert filter_from([("gate", "new_search"), ("tier", "staging"), ("reason", "invalid_time")]).wants(shown)


def test_nothing_private_and_no_secret_of_a_rejected_exposure_is_shown():
    secret = "secret-abcdefghijklmnop"
    said = {**GATE, "metadata": {"gate": secret, "ruleID": secret}}
    message = f'cannot be read: {{"privateAttributes":{{"email":"somebody@example.com"}},"key":"{secret}"}}'
    value = _letter(orjson.dumps(said), event_name="statsig::gate_exposure", unit_id=secret, message=message)
    found = rejected(_record(value), Names())
    assert found is not None
    assert b"somebody@example.com" not in found.frame
    assert secret.encode() not in found.frame
    assert secret not in repr(found.fields)


def test_an_event_that_cannot_be_read_is_shown_and_a_custom_event_is_not():
    unreadable = rejected(_record(_letter(b"{", Stage.INGEST, reason=Reason.MALFORMED_EVENT), DLQ_INGEST), Names())
    assert unreadable is not None
    assert unreadable.fields["origin"] == "dlq.ingest/2/9"
    assert filter_from([]).wants(unreadable.fields)
    assert rejected(_record(_letter(b"{}", event_name="purchase")), Names()) is None


def test_what_the_lander_refused_is_shown_as_it_was_enriched():
    value = _letter(
        framed(name="checkout", group_name="Blue", tier="staging"), Stage.LANDER, reason=Reason.INSERT_REFUSED
    )
    found = rejected(_record(value, DLQ_LANDER), Names())
    assert found is not None
    assert (found.fields["name"], found.fields["group_name"], found.fields["outcome"]) == (
        "checkout", "Blue", Outcome.REJECTED,
    )  # fmt: skip


@pytest.mark.parametrize("value", [None, b"", b"random", b"\x00\x00\x00\x00\x01x"])
def test_what_is_no_envelope_is_unreadable_and_nothing_worse(value: bytes | None):
    with pytest.raises(UnreadableRecordError):
        rejected(_record(value), Names())


def _chunk(*events: dict[str, Any]) -> tuple[bytes, RequestPart]:
    metadata = {"sdkType": "py-server", "sdkVersion": "1", "sessionID": "s"}
    part = RequestPart(
        "p", "production", "k", "r", 1_700_000_000_500,
        statsigMetadata=msgspec.Raw(orjson.dumps(metadata)),
        events=[msgspec.Raw(orjson.dumps(event)) for event in events],
    )  # fmt: skip
    return chunk.encode(Chunk([part])), part


def test_a_duplicate_is_named_by_the_ledger_and_shown_with_the_id_of_what_it_repeats():
    value, part = _chunk(GATE, EXPERIMENT, {"eventName": "purchase"})
    record = _record(
        ledger.encode([Run("p", "production", "k", 0, 3)], [Copies(1, 2, 5, 0)], []), LEDGER, ledger.key_of(1, 2, 9)
    )
    one = copied(record)
    assert one == Copied(1, 2, 9, (1, 2), 2)
    (found,) = exposures_of(one, _record(value, EVENTS_RAW), Names())
    ids = EventIds("p", "production", scope_of("py-server", "", "s"), "r")
    assert found.fields["event_id"] == ids.of(bytes(part.events[1]), 0, True).hex()
    assert (found.fields["outcome"], found.fields["experiment"], found.fields["unit_id"]) == (
        "duplicate", "checkout", "u2",
    )  # fmt: skip
    assert found.fields["origin"] == "1/2/9/1/0"


def test_a_duplicate_has_the_group_of_its_rule_once_an_accepted_exposure_told_it():
    value, _ = _chunk(EXPERIMENT)
    names = Names()
    names.learn(decode(framed(name="checkout", rule_id="blue", group_name="Blue", kind="dynamic_config"), 0, 0).fields)
    (found,) = exposures_of(Copied(1, 2, 9, (0,), 1), _record(value, EVENTS_RAW), names)
    assert (found.fields["kind"], found.fields["group_name"]) == ("dynamic_config", "Blue")


def test_what_nobody_repeated_is_no_duplicate():
    run = [Run("p", "production", "k", 0, 1)]
    nothing = ledger.encode(run, [], [Dead(0, 1, "invalid_time")])
    replay = ledger.encode_replay([bytes(19)], [Copies(0, 1, 0, 0)], [])
    dropped = ledger.encode_dropped(bytes(19))
    key = ledger.key_of(1, 2, 9)
    for record in (_record(nothing, LEDGER, key), _record(replay, LEDGER, key), _record(None, LEDGER, key)):
        assert copied(record) is None
    assert copied(_record(dropped, LEDGER, bytes(19))) is None


def test_of_a_chunk_of_many_duplicates_some_are_read_and_all_are_counted():
    run = [Run("p", "production", "k", 0, 1000)]
    value = ledger.encode(run, [Copies(0, 1000, 1, 0)], [])
    one = copied(_record(value, LEDGER, ledger.key_of(1, 0, 0)))
    assert one is not None
    assert (len(one.indexes), one.count) == (EVENTS_MAX, 1000)


def test_a_chunk_that_cannot_be_read_shows_nothing_and_does_no_harm():
    for value in (None, b"", b"random", b'{"requests":[]}'):
        assert exposures_of(Copied(1, 2, 9, (0,), 1), _record(value, EVENTS_RAW), Names()) == []
