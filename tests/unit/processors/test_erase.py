"""An erased unit's events go from a chunk, and nobody else's move."""

import msgspec
import orjson
import pytest

from processors.erase import is_erased_letter, units_of_event, without_erased
from schemas import chunk, dead_letter
from schemas.archive import ArchivedRecord
from schemas.dead_letter import DeadLetter
from schemas.erasures import Erasure, ErasureList, Unit, digest_of, encode
from schemas.reasons import Reason, Stage

AT_MS = 5_000


def erased(*units: Unit, project: str = "p", at: int = AT_MS) -> ErasureList:
    found = ErasureList()
    for unit in units:
        found.take(*encode(Erasure("e1", project, unit[0], digest_of(project, unit), at)))
    return found


def event_of(**user: object) -> bytes:
    return orjson.dumps({"eventName": "buy", "time": 1, "user": user})


def record_of(*parts: chunk.RequestPart) -> ArchivedRecord:
    return ArchivedRecord(3, 4_000, b"k", chunk.encode(chunk.Chunk(list(parts))), [("chunk", b"1")])


def part_of(*events: bytes, received: int = 4_000, stable_id: str = "", project: str = "p") -> chunk.RequestPart:
    metadata = msgspec.Raw(orjson.dumps({"sdkType": "js-client", "stableID": stable_id} if stable_id else {}))
    raw = [msgspec.Raw(event) for event in events]
    return chunk.RequestPart(
        project, "e", "k", "r", received, statsigMetadata=metadata, user_agent="agent", ip="1.2.3.4", events=raw
    )


def events_of(record: ArchivedRecord) -> list[list[bytes]]:
    return [[bytes(event) for event in part.events] for part in chunk.decode(record.value or b"").requests]


@pytest.mark.parametrize(
    ("unit", "user"),
    [
        (("userID", "alice"), {"userID": "alice"}),
        (("userID", "7"), {"userID": 7.0}),
        (("userID", "ä"), {"userID": "ä"}),
        (("stableID", "s1"), {"customIDs": {"stableID": "s1"}}),
        (("companyID", "c"), {"userID": "bob", "customIDs": {"companyID": "c"}}),
    ],
)
def test_a_unit_is_found_by_each_of_its_ids_however_it_is_spelled(unit: Unit, user: dict[str, object]):
    raw = event_of(**user).replace("ä".encode(), b"\\u00e4")
    assert unit in units_of_event(raw, "")
    kept = event_of(userID="bob")
    after = without_erased(record_of(part_of(kept, raw, kept)), erased(unit))
    assert events_of(after) == [[kept, b"null", kept]]
    assert after.erased == [1]


def test_places_count_over_the_whole_chunk_and_a_request_without_events_names_nobody():
    mine, other = event_of(userID="alice"), event_of(userID="bob")
    before = record_of(part_of(other, mine), part_of(mine, mine, stable_id="s"), part_of(other))
    after = without_erased(before, erased(("userID", "alice")))
    assert events_of(after) == [[other, b"null"], [b"null", b"null"], [other]]
    assert after.erased == [1, 2, 3]
    first, gone, _ = chunk.decode(after.value or b"").requests
    assert (first.ip, gone.ip, gone.user_agent, bytes(gone.statsigMetadata)) == ("1.2.3.4", "", "", b"{}")
    assert without_erased(after, erased(("userID", "alice"))) is after
    both = without_erased(after, erased(("userID", "bob")))
    assert both.erased == [0, 1, 2, 3, 4]


def test_a_browser_is_known_by_the_device_of_its_request():
    raw = event_of()
    assert without_erased(record_of(part_of(raw, stable_id="s1")), erased(("stableID", "s1"))).erased == [0]


@pytest.mark.parametrize(
    ("received", "project", "is_gone"),
    [(AT_MS - 1, "p", True), (AT_MS, "p", False), (AT_MS + 1, "p", False), (AT_MS - 1, "another", False)],
)
def test_what_comes_later_or_is_of_another_project_stays(received: int, project: str, is_gone: bool):
    record = record_of(part_of(event_of(userID="alice"), received=received, project=project))
    after = without_erased(record, erased(("userID", "alice")))
    assert bool(after.erased) is is_gone
    if not is_gone:
        assert after is record


@pytest.mark.parametrize("value", [None, b"", b"\xff", b"[]", b'{"requests":[{}]}'])
def test_what_is_no_chunk_stays_as_it_is(value: bytes | None):
    record = ArchivedRecord(3, 4, None, value, [])
    assert without_erased(record, erased(("userID", "alice"))) is record


def test_an_id_of_one_type_is_not_that_of_another_and_the_list_has_no_ids():
    listed = erased(("userID", "alice"))
    assert not listed.covers("p", [("stableID", "alice"), ("userID", "")], 1)
    assert listed.covers("p", [("userID", "alice")], 1)
    _, value = encode(Erasure("e1", "p", "userID", digest_of("p", ("userID", "alice")), 1))
    assert b"alice" not in value
    listed.take(b"k", b"no record")
    listed.take(b"k", None)
    assert listed.covers("p", [("userID", "alice")], 1)


def test_a_dead_letter_is_known_by_its_event_and_by_the_device_of_its_request():
    fields = {"project": "p", "received_at": AT_MS - 1, "failed_at": 1}
    by_event = DeadLetter(Stage.WORKER, Reason.INVALID_TIME, "", event_of(userID="alice"), **fields)  # type: ignore[arg-type]
    request = orjson.dumps({"project": "p", "environment": "e", "key_id": "k", "request_id": "r", "received_at": 1})
    request = request[:-1] + b',"statsigMetadata":{"stableID":"s1"}}'
    by_device = DeadLetter(Stage.INGEST, Reason.MALFORMED_EVENT, "", b"{NaN", request=request, **fields)  # type: ignore[arg-type]
    read = [dead_letter.read(letter.encode()) for letter in (by_event, by_device)]
    assert [is_erased_letter(erased(("userID", "alice")), letter) for letter in read] == [True, False]
    assert [is_erased_letter(erased(("stableID", "s1")), letter) for letter in read] == [False, True]
