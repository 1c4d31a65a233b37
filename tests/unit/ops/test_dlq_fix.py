"""Rules that mend events: each does what it says, or says why it does not."""

from typing import Any

import orjson
import pytest

from ops.dlq.fix import (
    RULES_MAX,
    DoesNotApplyError,
    FixError,
    meant_for,
    mended,
    read_rules,
    read_written,
    written,
)


def fixed(event: Any, **rule: Any) -> Any:
    content = event if isinstance(event, bytes) else orjson.dumps(event)
    rules = read_rules(orjson.dumps({"rule": [rule]}), is_json=True)
    return orjson.loads(mended(content, meant_for(rules, "invalid_time", "buy")))


@pytest.mark.parametrize(
    ("before", "rule", "after"),
    [
        ({}, {"op": "set", "path": "/a/b", "value": None}, {"a": {"b": None}}),
        ({"a": [1, 2]}, {"op": "set", "path": "/a/1", "value": 5}, {"a": [1, 5]}),
        ({"a": 1}, {"op": "set", "path": "", "value": {"b": 2}}, {"b": 2}),
        ({"a/b": 1, "~": 2}, {"op": "rename", "path": "/a~1b", "to": "/~0"}, {"~": 1}),
        ({"a": {"b": 1}}, {"op": "rename", "path": "/a/b", "to": "/c/d"}, {"a": {}, "c": {"d": 1}}),
        ({"a": 1}, {"op": "rename", "path": "/a", "to": "/a"}, {"a": 1}),
        ({"a": {"b": 1, "c": 2}}, {"op": "remove", "path": "/a/b"}, {"a": {"c": 2}}),
        ({"a": [1, 2]}, {"op": "remove", "path": "/a/0"}, {"a": [2]}),
        ({"t": "2026-01-01T00:00:00Z"}, {"op": "cast", "path": "/t", "to": "time_ms"}, {"t": 1_767_225_600_000}),
        ({"t": "1767225600"}, {"op": "cast", "path": "/t", "to": "time_ms"}, {"t": 1_767_225_600_000}),
        ({"t": 1_767_225_600_000.0}, {"op": "cast", "path": "/t", "to": "time_ms"}, {"t": 1_767_225_600_000}),
        ({"v": "12.5"}, {"op": "cast", "path": "/v", "to": "number"}, {"v": 12.5}),
        ({"v": "12"}, {"op": "cast", "path": "/v", "to": "integer"}, {"v": 12}),
        ({"v": "Yes"}, {"op": "cast", "path": "/v", "to": "boolean"}, {"v": True}),
        ({"v": [1]}, {"op": "cast", "path": "/v", "to": "text"}, {"v": "[1]"}),
        ({"v": "abcdef"}, {"op": "cut", "path": "/v", "length": 2}, {"v": "ab"}),
        ({"v": {"a": 1, "b": 2}}, {"op": "cut", "path": "/v", "length": 1}, {"v": {"a": 1}}),
        ({"v": [1, 2]}, {"op": "cut", "path": "/v", "length": 0}, {"v": []}),
        ({"m": {"a": 1, "b": 2}}, {"op": "rekey", "path": "/m", "keys": {"a": "b", "b": "a"}}, {"m": {"b": 1, "a": 2}}),
        ({"a": 1}, {"op": "rekey", "path": "", "keys": {"a": "b"}}, {"b": 1}),
        (b'{"v":NaN,"w":1}', {"op": "set", "path": "/v", "value": 0}, {"v": 0, "w": 1}),
        (b'{"v":1e999}', {"op": "remove", "path": "/v"}, {}),
        (rb'{"v":"a\ud800b"}', {"op": "cast", "path": "/v", "to": "text"}, {"v": "a\ufffdb"}),
        (b"no JSON at all", {"op": "set", "path": "", "value": {}}, {}),
    ],
)
def test_a_rule_changes_what_it_names_and_nothing_else(before: Any, rule: dict[str, Any], after: Any):
    assert fixed(before, **rule) == after


@pytest.mark.parametrize(
    ("before", "rule"),
    [
        ({}, {"op": "remove", "path": "/a"}),
        ({"a": []}, {"op": "remove", "path": "/a/0"}),
        ({"a": 1}, {"op": "set", "path": "/a/b", "value": 1}),
        ({"a": 1, "b": []}, {"op": "rename", "path": "/a", "to": "/b/0"}),
        ({"a": "x"}, {"op": "cast", "path": "/a", "to": "integer"}),
        ({"a": "later"}, {"op": "cast", "path": "/a", "to": "time_ms"}),
        ({"a": 1}, {"op": "cut", "path": "/a", "length": 1}),
        ({"a": {"b": 1}}, {"op": "rekey", "path": "/a", "keys": {"c": "d"}}),
        (b'{"v":NaN,"w":1}', {"op": "set", "path": "/w", "value": 0}),
        (b"{", {"op": "remove", "path": "/a"}),
        (b"[" * 100_000, {"op": "remove", "path": "/a"}),
    ],
)
def test_a_rule_that_does_not_apply_says_so_and_an_optional_one_is_passed_over(before: Any, rule: dict[str, Any]):
    with pytest.raises(DoesNotApplyError, match=r"rule 1|no JSON"):
        fixed(before, **rule)
    content = before if isinstance(before, bytes) else orjson.dumps(before)
    rules = read_rules(orjson.dumps({"rule": [{**rule, "optional": True}]}), is_json=True)
    if b"NaN" not in content:
        assert mended(content, meant_for(rules, "", "")) == content


def test_rules_speak_of_the_reasons_and_events_they_name():
    rules = read_rules(
        b'[[rule]]\nop="remove"\npath="/a"\nreason="invalid_time"\n[[rule]]\nop="remove"\npath="/b"\nevent="buy"\n',
        is_json=False,
    )
    assert [number for number, _ in meant_for(rules, "invalid_time", "sell")] == [1]
    assert [number for number, _ in meant_for(rules, "invalid_event", "buy")] == [2]


def test_an_event_that_no_rule_speaks_of_keeps_its_very_bytes():
    rules = read_rules(b'[[rule]]\nop="remove"\npath="/a"\nreason="invalid_time"', is_json=False)
    event = b' { "a" : 1.50 } '
    assert mended(event, meant_for(rules, "invalid_event", "")) == event


def test_rules_are_written_down_with_a_replay_and_read_again():
    rules = read_rules(
        b'[[rule]]\nop="set"\npath="/a"\nvalue={b=[1,"x"]}\n[[rule]]\nop="cut"\npath="/a"\nlength=0', is_json=False
    )
    assert read_written(written(rules)) == rules


@pytest.mark.parametrize(
    ("content", "complaint"),
    [
        (b'[[rule]]\nop="drop"\npath="/a"', "Invalid enum value 'drop'"),
        (b'[[rule]]\nop="set"\npath="/a"', "it needs value"),
        (b'[[rule]]\nop="remove"\npath="/a"\nto="/b"', "it takes no to"),
        (b'[[rule]]\nop="remove"\npath="a"', "JSON Pointer"),
        (b'[[rule]]\nop="remove"\npath=""', "the whole event cannot be meant"),
        (b'[[rule]]\nop="cast"\npath="/a"\nto="date"', "it casts to one of"),
        (b'[[rule]]\nop="remove"\npath="/a"\nwhy="?"', "unknown field `why`"),
        (b"rule = []", "there are 0 rules"),
        (b"", "missing required field `rule`"),
        (b"rule: []", "cannot be read"),
        (b"\xff", "cannot be read"),
        (b'[[rule]]\nop="remove"\npath="/a"\n' * (RULES_MAX + 1), "101 rules"),
    ],
)
def test_rules_that_cannot_be_understood_are_refused_before_anything_is_sent(content: bytes, complaint: str):
    with pytest.raises(FixError, match=complaint):
        read_rules(content, is_json=False)


@pytest.mark.parametrize("count", [RULES_MAX - 1, RULES_MAX])
def test_as_many_rules_as_the_limit_says_are_taken(count: int):
    assert len(read_rules(b'[[rule]]\nop="remove"\npath="/a"\n' * count, is_json=False)) == count
