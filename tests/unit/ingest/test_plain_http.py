"""What senders without an SDK may do: exposures of their own, one user for all events, keys in specs paths."""

import gzip
import json
from typing import Any

import brotli
import httpx
import pytest
from structlog.testing import capture_logs
from support.memory_gateway import CLIENT, CONSOLE, SECRET, MemoryGateway

HEADER = {"statsig-api-key": SECRET}
EXPOSURES = {
    "exposures": [
        {"user": {"userID": "u-1"}, "experimentName": "button_color_exp", "group": "Green"},
        {"user": {"userID": "u-2"}, "gateName": "gate_half", "passes": True, "ruleID": "rule_half"},
    ]
}


def events_of(gateway: MemoryGateway) -> list[dict[str, Any]]:
    return sorted((json.loads(event) for event in gateway.log.events()), key=lambda event: event["user"]["userID"])


@pytest.mark.parametrize("key", [SECRET, CLIENT])
async def test_custom_exposures_are_in_the_log_with_the_rule_of_their_group(
    gateway: MemoryGateway, http: httpx.AsyncClient, key: str
):
    answer = await http.post("/v1/log_custom_exposure", json=EXPOSURES, headers={"statsig-api-key": key})
    assert (answer.status_code, answer.json()) == (202, {"success": True})
    experiment, gate = events_of(gateway)
    assert experiment["metadata"]["ruleID"] == "grp_green"
    assert gate["metadata"]["gateValue"] == "true"
    assert gateway.count("headrace_gateway_requests_total", endpoint="custom_exposure", status="202") == 1


@pytest.mark.parametrize(
    ("headers", "content", "status"),
    [
        ({}, json.dumps(EXPOSURES).encode(), 401),
        ({"statsig-api-key": CONSOLE}, json.dumps(EXPOSURES).encode(), 401),
        (HEADER, b'{"exposures":17}', 400),
        ({**HEADER, "content-encoding": "br"}, brotli.compress(json.dumps(EXPOSURES).encode()), 202),
        (HEADER, gzip.compress(json.dumps(EXPOSURES).encode()), 202),
    ],
)
async def test_custom_exposures_are_let_in_and_decoded_like_events(
    gateway: MemoryGateway, http: httpx.AsyncClient, headers: dict[str, str], content: bytes, status: int
):
    answer = await http.post("/v1/log_custom_exposure", content=content, headers=headers)
    assert answer.status_code == status
    assert len(gateway.log.events()) == 2 * (status == 202)


async def test_an_exposure_that_says_nothing_useful_waits_in_the_dead_letters(
    gateway: MemoryGateway, http: httpx.AsyncClient
):
    answer = await http.post("/v1/log_custom_exposure", content=b'{"exposures":[17]}', headers=HEADER)
    assert answer.json() == {"success": True, "refused": [{"index": 0, "reason": "malformed_event"}]}
    assert [letter["original"] for _, letter in gateway.log.letters] == [b"17"]


@pytest.mark.parametrize(
    ("headers", "query", "user"),
    [
        ({}, "", {"userID": "shared"}),
        # SDKs say who they are; nothing of theirs is looked at twice.
        ({"statsig-sdk-type": "py-server"}, "", None),
        ({}, "?st=javascript-client", None),
    ],
)
async def test_one_user_may_stand_for_all_events_where_no_sdk_sent_them(
    gateway: MemoryGateway, http: httpx.AsyncClient, headers: dict[str, str], query: str, user: Any
):
    body = {"user": {"userID": "shared"}, "events": [{"eventName": "purchase", "time": "2026-01-01T00:00:00Z"}]}
    answer = await http.post(f"/v1/log_event{query}", json=body, headers={**HEADER, **headers})
    assert answer.status_code == 202
    (event,) = gateway.log.events()
    assert json.loads(event).get("user") == user


@pytest.mark.parametrize(
    ("key", "status"), [(SECRET, 200), (CLIENT, 403), ("secret-unknown", 401), ("", 401), ("k%2Fk", 404)]
)
async def test_the_key_of_a_specs_path_counts_where_there_is_no_header(http: httpx.AsyncClient, key: str, status: int):
    assert (await http.get(f"/v2/download_config_specs/{key}.json")).status_code == status


async def test_the_key_of_the_header_counts_more_than_that_of_the_path(http: httpx.AsyncClient):
    answer = await http.get(f"/v2/download_config_specs/{CLIENT}.json", headers=HEADER)
    assert answer.status_code == 200
    answer = await http.get(f"/v2/download_config_specs/{SECRET}.json", headers={"statsig-api-key": CLIENT})
    assert answer.status_code == 403


async def test_no_log_line_holds_the_key_of_a_path(gateway: MemoryGateway, http: httpx.AsyncClient):
    gateway.shelf.find = None  # type: ignore[assignment, method-assign]
    with capture_logs() as lines:
        answer = await http.get(f"/v2/download_config_specs/{SECRET}.json")
    assert answer.status_code == 503
    assert len(lines) == 1
    assert SECRET not in str(lines)


@pytest.mark.parametrize("form", ["{}", "W/{}", '"other", {}', 'W/"other",W/{}'])
async def test_specs_that_the_asker_has_are_not_sent_again(http: httpx.AsyncClient, form: str):
    path = f"/v2/download_config_specs/{SECRET}.json"
    etag = (await http.get(path)).headers["etag"]
    answer = await http.get(path, headers={"if-none-match": form.format(etag)})
    assert (answer.status_code, answer.content, answer.headers["etag"]) == (304, b"", etag)
    assert answer.headers["cache-control"] == "private, max-age=5", "no cache that others share may keep it"
    assert (await http.get(path, headers={"if-none-match": '"other"'})).status_code == 200
