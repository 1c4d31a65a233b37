"""The way of an event, told from its rows and its dead letters."""

from typing import Any

from console.events import HOPS, events_of

RECEIVED = "2026-01-31 12:00:00.000"


def row(event_id: str, landed: str, **fields: Any) -> dict[str, Any]:
    named = {"name": "buy", "unit_id": "u", "project": "p", "environment": "e", "key_id": "k", "request_id": "r"}
    return {**named, "event_id": event_id, "table": "custom_events", "origin": "1/0/7/3", "received": RECEIVED,
            "landed": landed, **fields}  # fmt: skip


def letter(event_id: str, attempt: int, failed: str) -> dict[str, Any]:
    said = {
        "stage": "worker",
        "reason": "invalid_time",
        "blame": "theirs",
        "message": "never",
        "replay": "",
        "place": "dlq.worker/0/1",
    }
    return {**row(event_id, ""), **said, "event_name": "buy", "attempt": attempt, "failed": failed}


def hops(event: dict[str, Any]) -> list[str]:
    return [hop["hop"] for hop in event["hops"]]


def test_an_event_that_was_dead_and_replayed_tells_all_of_it_in_order():
    letters = [letter("a", 2, "2026-01-31 12:05:00.000"), letter("a", 1, "2026-01-31 12:00:01.000")]
    (event,) = events_of([row("a", "2026-01-31 12:10:00.000")], letters)
    assert hops(event) == ["accepted", "dead", "dead", "landed"]
    assert [hop["attempt"] for hop in event["hops"][1:3]] == [1, 2]
    assert event["hops"][3]["at"] == "2026-01-31T12:10:00.000Z"


def test_an_exposure_says_how_it_was_enriched_before_it_landed():
    enriched = {
        "kind": "experiment",
        "group_name": "g",
        "rule_id": "r",
        "config_match": "exact",
        "config_version": "7",
        "assignment": "match",
    }
    (event,) = events_of([row("a", RECEIVED, **enriched)], [])
    assert hops(event) == ["accepted", "enriched", "landed"]
    assert event["hops"][1]["config_match"] == "exact"


def test_a_copy_that_came_after_the_claims_window_is_the_same_event_that_landed_again():
    (event,) = events_of([row("a", RECEIVED), row("a", "2026-02-03 12:00:00.000", origin="1/0/99/0")], [])
    assert hops(event) == ["accepted", "landed", "landed again"]
    assert event["hops"][2]["origin"] == "1/0/99/0"


def test_the_row_that_counts_is_the_one_that_was_received_first_whatever_the_order_of_rows():
    copy = row("a", "2026-02-03 12:00:00.100", origin="1/0/99/0", received="2026-02-03 12:00:00.000")
    for landed in ([copy, row("a", RECEIVED)], [row("a", RECEIVED), copy]):
        (event,) = events_of(landed, [])
        assert (event["origin"], event["received_at"]) == ("1/0/7/3", "2026-01-31T12:00:00.000Z")
        assert [hop["origin"] for hop in event["hops"]] == ["1/0/7/3", "1/0/7/3", "1/0/99/0"]


def test_what_never_was_an_event_of_ours_is_told_by_its_place():
    (event,) = events_of([], [letter("", 1, RECEIVED)])
    assert hops(event) == ["accepted", "dead"]
    assert set(HOPS) >= set(hops(event))


def test_the_newest_event_comes_first():
    later = row("b", "2026-01-31 13:00:00.001", received="2026-01-31 13:00:00.000")
    assert [event["event_id"] for event in events_of([row("a", RECEIVED), later], [])] == ["b", "a"]
