"""Cutting by bytes: what is wrong in one event stays in it."""

import contextlib
import json

import pytest
from hypothesis import given
from hypothesis import strategies as st

import ingest.cut
from ingest.cut import CutError, cut, is_deeper_than
from schemas.limits import EVENTS_PER_REQUEST

# Anything whose quotes and brackets close, readable or not.
SCALARS = st.sampled_from(
    [
        b"1",
        b"-0.5e9",
        b"true",
        b"null",
        b"NaN",
        b"1e999",
        b"01",
        b"nonsense",
        b'""',
        b'"a,b:c"',
        b'"]}"',
        b'"[{"',
        b'"\\""',
    ]
) | st.text(alphabet='ab"\\[]{},: é', max_size=6).map(lambda text: json.dumps(text).encode())
SPACE = st.sampled_from([b"", b" ", b"\n\t"])


def joined(inner: st.SearchStrategy[bytes]) -> st.SearchStrategy[bytes]:
    arrays = st.lists(inner, max_size=3).map(lambda items: b"[" + b",".join(items) + b"]")
    members = st.tuples(SCALARS, inner).map(b":".join)
    objects = st.lists(members, max_size=3).map(lambda items: b"{" + b", ".join(items) + b"}")
    return arrays | objects


ELEMENTS = st.recursive(SCALARS, joined, max_leaves=10)


@given(st.lists(st.tuples(SPACE, ELEMENTS, SPACE), max_size=6), ELEMENTS, SPACE, st.booleans())
def test_every_event_comes_out_as_its_bytes_whatever_is_in_it(
    events: list[tuple[bytes, bytes, bytes]], other: bytes, space: bytes, events_first: bool
):
    array = b"[" + b",".join(before + event + after for before, event, after in events) + b"]"
    members = [b'"events"' + space + b":" + space + array, b'"other":' + other]
    body = space + b"{" + b",".join(members if events_first else members[::-1]) + b"}" + space
    pieces = cut(body)
    assert pieces.events == [event for _, event, _ in events]
    assert pieces.others == {"other": other}


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"   ",
        b"null",
        b"[]",
        b'"events"',
        b"{",
        b"{}",
        b'{"events"}',
        b'{"events":}',
        b'{"events":1}',
        b'{"events":null}',
        b'{"events":{}}',
        b'{"events":[}',
        b'{"events":[1,2}',
        b'{"events":[1,2]',
        b'{"events":[{"a":"unclosed}]}',
        b'{"events":[{"a":1]}',
        b'{"events":[]} x',
        b'{"events":[]}}',
        b'{"events":[]]',
        b"{events:[]}",
        b'{1:2,"events":[]}',
        b'{"other":1}',
        b"\xef\xbb\xbf{}",
        b'{"events":[]',
        b'{"events":[1:2]}',
    ],
)
def test_what_cannot_be_cut_is_refused(body: bytes):
    with pytest.raises(CutError):
        cut(body)


def test_brackets_of_the_wrong_kind_stay_inside_their_event():
    assert cut(b'{"events":[{"a":1],{"b":2},[3}]}').events == [b'{"a":1]', b'{"b":2}', b"[3}"]


@pytest.mark.parametrize("body", [b'{"events":[]}', b' { "events" : [ ] } ', b'{"a":{},"events":[]}'])
def test_no_events_are_no_error(body: bytes):
    assert cut(body).events == []


def test_the_last_of_two_lists_is_the_one_that_other_parsers_see():
    body = b'{"events":[1],"events":[2]}'
    assert cut(body).events == [b"2"]
    assert json.loads(body)["events"] == [2]


@pytest.mark.parametrize("levels", [1, 33, 1023, 100_000])
def test_a_deep_event_is_cut_like_any_other(levels: int):
    deep = b'{"a":' * levels + b"1" + b"}" * levels
    assert cut(b'{"events":[{},' + deep + b",1]}").events == [b"{}", deep, b"1"]


@pytest.mark.parametrize(
    ("text", "levels"),
    [
        (b"1", 0),
        (b"{}", 1),
        (b'{"a":[{}]}', 3),
        (b'"[[["', 0),
        (b'{"a":"\\"[[","b":[]}', 2),
        (b"[" * 50 + b"]" * 50, 50),
    ],
)
def test_depth_counts_brackets_outside_of_strings(text: bytes, levels: int) -> None:
    assert not is_deeper_than(text, levels)
    assert levels == 0 or is_deeper_than(text, levels - 1)


@given(ELEMENTS)
def test_depth_is_what_a_parser_finds(element: bytes) -> None:
    def depth_of(value: object) -> int:
        if isinstance(value, dict):
            return 1 + max(map(depth_of, value.values()), default=0)
        return 1 + max(map(depth_of, value), default=0) if isinstance(value, list) else 0

    try:
        parsed = json.loads(element)
    except ValueError:
        return
    # Of two members of one name the parser keeps the last; here both count.
    assert not is_deeper_than(element, 10)
    assert is_deeper_than(element, depth_of(parsed) - 1) or depth_of(parsed) == 0


@pytest.mark.parametrize(
    "body",
    [
        b'{"events":[{"a":[' + b'"",' * 1_000 + b"NaN]}]}",
        b'{"events":[{"a":[' + b"{}," * 1_000 + b"NaN]}]}",
        b"{" + b'"a":1,' * 1_000 + b'"events":[]}',
    ],
)
def test_a_broken_body_that_is_made_to_cost_time_is_refused(body: bytes, monkeypatch: pytest.MonkeyPatch) -> None:
    assert cut(body)
    monkeypatch.setattr(ingest.cut, "_STEPS", 1_000)
    with pytest.raises(CutError, match="intricate"):
        cut(body)


def test_of_too_many_events_only_one_more_is_cut_off() -> None:
    assert len(cut(b'{"events":[' + b"1," * 1_000_000 + b"1]}").events) == EVENTS_PER_REQUEST + 1


@given(st.binary(max_size=200))
def test_any_bytes_are_cut_or_refused(body: bytes):
    with contextlib.suppress(CutError):
        cut(b'{"events":[' + body)
