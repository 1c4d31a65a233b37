"""What becomes of the requests that real SDKs sent, retries and all."""

import base64
import json
from pathlib import Path
from typing import Any, NamedTuple

import msgspec
import pytest

from ingest.body import decode
from ingest.chunks import RequestHead, event_ids_of, has_time, parts_of
from ingest.receive import query_of
from ingest.split import Split, split
from schemas.chunk import RequestPart
from schemas.ids import occurrences, partition_key, partition_of

CAPTURES = Path(__file__).parents[2] / "data" / "captures"
KEYS = (b"secret-lab-key", b"client-lab-key")


class Captured(NamedTuple):
    headers: dict[str, str]
    query: dict[bytes, bytes]
    body: bytes

    @property
    def decoded(self) -> bytes:
        return decode(self.body, self.headers.get("content-encoding", "").encode(), self.query.get(b"se") == b"1")

    @property
    def count_told(self) -> int | None:
        told = self.headers.get("statsig-event-count") or self.query.get(b"ec", b"").decode()
        return int(told) if told else None


def log_requests(name: str) -> list[Captured]:
    found = []
    for request in json.loads(CAPTURES.joinpath(f"{name}.json").read_bytes())["requests"]:
        method, target, _ = request["request_line"].split(" ")
        path, _, query = target.partition("?")
        if method == "POST" and path in ("/v1/log_event", "/v1/rgstr"):
            headers = {key.lower(): value for key, value in request["headers"]}
            found.append(Captured(headers, query_of(query.encode()), base64.b64decode(request["body_b64"])))
    assert found
    return found


def head_of(number: int) -> RequestHead:
    names = b'{"project":"default","environment":"production","key_id":"k"'
    return RequestHead(names, "default", "production", f"request-{number}", 1)


def ids_of(number: int, found: Split) -> list[str]:
    ids, repeats = event_ids_of(head_of(number), found), occurrences(found.events)
    return [ids.of(event, repeats.get(i, 0), has_time(event)).hex() for i, event in enumerate(found.events)]


def parts_as_read(number: int, request: Captured) -> list[tuple[int, RequestPart]]:
    body = request.decoded
    parts = parts_of(head_of(number), split(body), 4, KEYS[0], len(body))
    return [(part.partition, msgspec.json.decode(part.json, type=RequestPart)) for part in parts]


ALL = sorted(path.stem for path in CAPTURES.glob("*.json"))


@pytest.mark.parametrize("name", ALL)
def test_every_event_of_every_sdk_is_accepted(name: str):
    for request in log_requests(name):
        found = split(request.decoded)
        assert found.refused == []
        assert [json.loads(event) for event in found.events] == json.loads(request.decoded)["events"]
        if request.count_told is not None:
            assert len(found.events) == request.count_told


@pytest.mark.parametrize("name", ALL)
def test_every_event_lies_in_the_partition_of_its_device_with_its_id(name: str):
    for number, request in enumerate(log_requests(name)):
        found = split(request.decoded)
        seen = {}
        for partition, part in parts_as_read(number, request):
            for position, event in enumerate(part.events):
                seen[bytes(event), part.occurrences.get(position, 0)] = partition
                if position not in part.ids:
                    assert partition == partition_of(partition_key(bytes(event), stable_id_of(found)), 4)
        assert len(seen) == len(found.events)


def stable_id_of(found: Split) -> str:
    told: Any = found.sender.stableID
    return told if isinstance(told, str) else ""


@pytest.mark.parametrize("name", ALL)
def test_no_secret_key_and_no_private_attribute_gets_past(name: str):
    for number, request in enumerate(log_requests(name)):
        for _, part in parts_as_read(number, request):
            for event in part.events:
                assert KEYS[0] not in bytes(event)
                user = json.loads(bytes(event)).get("user") or {}
                assert user.get("privateAttributes") is None


@pytest.mark.parametrize("name", [name for name in ALL if name.endswith("basic")])
def test_masked_events_carry_the_id_of_what_was_received(name: str):
    for number, request in enumerate(log_requests(name)):
        received = set(ids_of(number, split(request.decoded)))
        for _, part in parts_as_read(number, request):
            assert set(part.ids.values()) <= received
            for position, event in enumerate(part.events):
                assert (position in part.ids) == (bytes(event) not in request.decoded)


# In each of these the server refused or answered oddly, and the SDK sent its events again: whole
# batches, other batches, merged with newer events, compressed or not.
@pytest.mark.parametrize(
    ("name", "received", "distinct"),
    [
        ("py_legacy-retry_503_twice", 12, 6),
        ("py_core-retry_503_twice", 16, 6),
        ("node_legacy-retry_503_twice", 12, 6),
        ("node_core-retry_500", 10, 6),
        ("node_core-ok_204", 10, 6),
        ("js_browser-retry_500", 27, 14),
    ],
)
def test_events_that_are_sent_again_keep_their_ids(name: str, received: int, distinct: int):
    ids = [event_id for number, r in enumerate(log_requests(name)) for event_id in ids_of(number, split(r.decoded))]
    assert len(ids) == received
    assert len(set(ids)) == distinct
