"""Whose an event is: first touch, whatever comes in whatever order, within bounds."""

import random
from collections.abc import Sequence
from typing import Any

import msgspec
import orjson
import pytest

from processors.claims import ClaimsIndex
from processors.enrich.catalog import Enriching, Enrichment
from processors.enrich.identity import Identities, Scope
from processors.event_time import EventTime
from processors.map_event import EventMapper
from processors.process_chunk import process
from processors.processed import Processed, SourceRecord
from processors.unit import Ids
from schemas import avro, chunk
from schemas.config_history import ConfigHistory
from schemas.identity_links import IdentityLink, LinkError, decode, decode_key, encode, key_of
from schemas.limits import (
    IDENTITY_CHARS,
    IDENTITY_IDS_OF_EVENT,
    IDENTITY_IDS_OF_USER,
    IDENTITY_USERS_OF_ID,
)

NOW_MS = 1_790_000_000_000
HERE = Scope("p", "production")


def link(device: str, user: str, first_seen: int = NOW_MS, **other: Any) -> IdentityLink:
    fields = {"project": "p", "environment": "production", "id_type": "stableID", **other}
    return IdentityLink(**fields, id=device, user_id=user, first_seen=first_seen)


def known(*links: IdentityLink) -> Identities:
    identities = Identities()
    for each in links:
        identities.learn(each)
    return identities


def at(moment_ms: int, flag: str = "ok") -> EventTime:
    return EventTime(moment_ms, moment_ms, moment_ms, flag, NOW_MS - moment_ms)


def owner(identities: Identities, ids: Ids, scope: Scope = HERE) -> str:
    return identities.of(scope, ids, at(NOW_MS), NOW_MS)[0]


def shown(identities: Identities, ids: Ids, time: EventTime | None = None) -> tuple[IdentityLink, ...]:
    return identities.of(HERE, ids, time or at(NOW_MS), NOW_MS)[1]


def anonymous(device: str = "d", **custom: str) -> Ids:
    return Ids("", device, custom)


def test_the_anonymous_event_of_a_device_is_its_users_before_and_after_it_logged_in():
    identities = known(link("d", "u"))
    assert owner(identities, anonymous()) == "u"
    assert owner(identities, anonymous("another")) == ""
    assert owner(identities, Ids("v", "d", {})) == "v", "an event that names its user is that user's"


@pytest.mark.parametrize("seed", range(5))
def test_the_first_user_of_a_shared_device_has_it_in_whatever_order_links_come(seed: int):
    users = [f"u{n:02}" for n in range(IDENTITY_USERS_OF_ID)]
    random.Random(seed).shuffle(users)
    links = [link("d", user, NOW_MS + n) for n, user in enumerate(users)]
    again = [link("d", user, NOW_MS + 1_000 - n) for n, user in enumerate(users)]
    told = [*links, *again]
    random.Random(seed).shuffle(told)
    assert owner(known(*told), anonymous()) == users[0]


def test_of_users_who_were_first_seen_at_one_time_the_one_whose_name_is_first_has_the_device():
    """As in the view `identity_owners`, or worker and store would answer differently."""
    links = [link("d", user) for user in ("b", "a", "c")]
    assert {owner(known(*order), anonymous()) for order in (links, links[::-1])} == {"a"}


def test_a_link_is_shown_once_and_again_only_by_an_earlier_event():
    identities, seen = Identities(), Ids("u", "d", {})
    (new,) = shown(identities, seen, at(NOW_MS - 10))
    assert new == link("d", "u", NOW_MS - 10)
    assert shown(identities, seen, at(NOW_MS - 10)) == (new,), "asking changes nothing"
    assert identities.learn(new)
    assert not identities.learn(new)
    assert shown(identities, seen) == ()
    (earlier,) = shown(identities, seen, at(NOW_MS - 11))
    assert earlier.first_seen == NOW_MS - 11


def test_a_clock_that_is_wrong_makes_no_link_the_first_for_good():
    for wrong in (at(1, "past"), at(NOW_MS + 500), at(NOW_MS + 10**9, "future")):
        assert shown(Identities(), Ids("u", "d", {}), wrong) == (link("d", "u", NOW_MS),)


def test_custom_ids_are_linked_too_and_one_that_several_users_share_leads_to_nobody():
    identities = Identities()
    for each in shown(identities, Ids("u", "", {"visitorID": "v", "companyID": "acme", "userID": "u", "empty": ""})):
        identities.learn(each)
    assert owner(identities, anonymous("", visitorID="v")) == "u"
    assert owner(identities, anonymous("", companyID="acme")) == "u"
    for each in shown(identities, Ids("w", "", {"companyID": "acme"})):
        identities.learn(each)
    assert owner(identities, anonymous("", companyID="acme")) == ""
    assert len(identities) == 3


def test_a_chain_is_not_followed():
    """d was u's first and v's later, and e is v's: u and v are two people all the same."""
    identities = known(link("d", "u"), link("d", "v", NOW_MS + 1), link("e", "v", NOW_MS + 2))
    assert [owner(identities, anonymous(device)) for device in "de"] == ["u", "v"]


@pytest.mark.parametrize(
    "other",
    [Scope("q", "production"), Scope("p", "staging"), Scope("pp", "roduction"), Scope("", "pproduction")],
)
def test_projects_and_environments_never_mix(other: Scope):
    identities = known(link("d", "u"))
    assert owner(identities, anonymous(), other) == ""
    assert identities.of(other, Ids("u", "d", {}), at(NOW_MS), NOW_MS)[1] != ()


@pytest.mark.parametrize(("over", "is_device"), [(-1, True), (0, True), (1, False)])
def test_a_device_with_too_many_users_is_nobodys(over: int, is_device: bool):
    users = IDENTITY_USERS_OF_ID + over
    identities = known(*(link("kiosk", f"u{n}", NOW_MS + n) for n in range(users)))
    assert owner(identities, anonymous("kiosk")) == ("u0" if is_device else "")
    assert bool(shown(identities, Ids("one more", "kiosk", {}))) is is_device
    assert len(identities) == (users if is_device else 1)


@pytest.mark.parametrize(("over", "is_person"), [(-1, True), (0, True), (1, False)])
def test_a_user_with_too_many_ids_is_no_person(over: int, is_person: bool):
    identities = known(
        *(link(f"d{n}", "guest") for n in range(IDENTITY_IDS_OF_USER + over)),
        link("d0", "u", NOW_MS + 1),
        link("d0", "guest", project="q"),
    )
    assert owner(identities, anonymous("d0")) == ("guest" if is_person else "u")
    assert owner(identities, anonymous("d1")) == ("guest" if is_person else "")
    assert owner(identities, Ids("guest", "d0", {})) == ("guest" if is_person else "u")
    assert bool(shown(identities, Ids("guest", "one more", {}))) is is_person
    assert owner(identities, anonymous("d0"), Scope("q", "production")) == "guest"


@pytest.mark.parametrize(("over", "is_linked"), [(-1, True), (0, True), (1, False)])
def test_ids_that_are_too_long_are_nobodys(over: int, is_linked: bool):
    long = "x" * (IDENTITY_CHARS + over)
    assert bool(shown(Identities(), Ids("u", long, {}))) is is_linked
    assert bool(shown(Identities(), Ids(long, "d", {}))) is is_linked
    assert bool(shown(Identities(), Ids("u", "", {long: "c"}))) is is_linked
    assert owner(Identities(), Ids(long, "d", {})) == (long if is_linked else "")


@pytest.mark.parametrize(("over", "linked"), [(-1, -1), (0, 0), (1, 0)])
def test_an_event_shows_no_more_links_than_so_many(over: int, linked: int):
    ids = Ids("u", "d", {f"t{n}": f"c{n}" for n in range(IDENTITY_IDS_OF_EVENT + over - 1)})
    assert len(shown(Identities(), ids)) == IDENTITY_IDS_OF_EVENT + linked


def test_memory_is_bounded_and_what_was_met_lately_stays():
    identities = Identities(kept=1_000)
    identities.learn(link("mine", "me"))
    for n in range(10_000):
        identities.learn(link(f"d{n}", f"u{n}"))
        assert len(identities) <= 1_000
        if n % 400 == 0:
            assert owner(identities, anonymous("mine")) == "me"
    assert owner(identities, anonymous("d0")) == "", "it is forgotten, and its event lands with what is known"
    assert shown(identities, Ids("u0", "d0", {})) == (link("d0", "u0"),), "and told again"


def test_a_record_is_read_as_it_was_written_and_garbage_changes_nothing():
    one = link("d", "u")
    assert decode(encode(one)) == one
    assert decode_key(key_of(one)) == ("p", "production", "stableID", "d", "u")
    identities = Identities()
    identities.take(key_of(one), encode(one))
    for garbage in (b"", b"{}", b"\xff", b'{"project":1}', encode(one).replace(b"17", b"-17")):
        with pytest.raises(LinkError):
            decode(garbage)
        identities.take(b"k", garbage)
    identities.take(b"garbage", None)
    assert owner(identities, anonymous()) == "u"
    identities.take(key_of(one), None)
    assert owner(identities, anonymous()) == ""
    assert len(identities) == 0


def record_of(events: Sequence[dict[str, Any]], offset: int = 7) -> SourceRecord:
    part = chunk.RequestPart("p", "production", "k", "r", NOW_MS, events=[msgspec.Raw(orjson.dumps(e)) for e in events])
    return SourceRecord(1, 0, offset, NOW_MS, {}, chunk.encode(chunk.Chunk([part])))


def event(user: str = "", device: str = "d", name: str = "visit") -> dict[str, Any]:
    return {"eventName": name, "time": NOW_MS - 1, "user": {"userID": user, "customIDs": {"stableID": device}}}


def canonical(done: Processed) -> list[str]:
    rows = [avro.CUSTOM_EVENT.decode(avro.unframe(mapped.value)[1]) for mapped, _ in done.emitted]
    return [row["canonical_id"] for row in rows]


def test_a_chunk_that_is_processed_again_after_a_crash_tells_its_links_again():
    """They are in no memory then: the claims say that the event is the record's own, so it goes on once more."""
    record, index = record_of([event("u"), event("u", name="second")]), ClaimsIndex(1_000)
    before, after = EventMapper(ConfigHistory()), EventMapper(ConfigHistory())
    done = process(record, index, before, NOW_MS)
    index.claim(record.offset, NOW_MS, done.claimed)
    again = process(record, index, after, NOW_MS)
    assert again.links == done.links != []
    assert {each.id for each in done.links} == {"d"}


def test_of_a_copy_no_link_is_told():
    record, index = record_of([event("u")]), ClaimsIndex(1_000)
    done = process(record, index, EventMapper(ConfigHistory()), NOW_MS)
    index.claim(record.offset, NOW_MS, done.claimed)
    copy = process(record_of([event("u")], 8), index, EventMapper(ConfigHistory()), NOW_MS)
    assert (copy.duplicates, copy.links) == (1, [])


def test_each_row_says_whose_it_is_as_far_as_it_was_known():
    identities = known(link("d", "u", NOW_MS - 5))
    rows = [event(), event("u"), event("v"), event(device="other"), event("v", "")]
    assert canonical(process(record_of(rows), ClaimsIndex(1_000), mapper_of(identities), NOW_MS)) == [
        "u", "u", "v", "", "v",
    ]  # fmt: skip


def test_identity_that_is_off_says_nothing_and_tells_no_links():
    mapper = EventMapper(ConfigHistory(), Enriching(off=frozenset({Enrichment.IDENTITY})), known(link("d", "u")))
    done = process(record_of([event(), event("v")]), ClaimsIndex(1_000), mapper, NOW_MS)
    assert (canonical(done), done.links) == (["", ""], [])


def test_what_became_of_events_is_counted():
    counted: dict[tuple[str, str], int] = {}
    mapper = mapper_of(known(link("d", "u")))
    process(record_of([event(), event(device="x"), event("v")]), ClaimsIndex(1_000), mapper, NOW_MS)
    mapper.report(lambda enrichment, outcome, number: counted.update({(enrichment, outcome): number}))
    assert counted == {("identity", "resolved"): 1, ("identity", "unresolved"): 1, ("identity", "linked"): 1}


def mapper_of(identities: Identities) -> EventMapper:
    return EventMapper(ConfigHistory(), identities=identities)
