"""What a person gets to see of an event that nobody could read."""

import json
import random

import pytest
from hypothesis import given
from hypothesis import strategies as st

from schemas.masking import masked

KEY = "secret-Abc123_-xyz"


@pytest.mark.parametrize(
    ("received", "shown"),
    [
        (b'{"eventName":"x","value":"\\ud800"}', '{"eventName":"x","value":"\\ud800"}'),
        (b"", ""),
        (b'{"a":"\xff\xfe"}', '{"a":"\\xff\\xfe"}'),
        (b'"u":"secret-Abc123_-xyz",', '"u":"secret-***",'),
        (b'"u":"console-Abc123"', '"u":"console-***"'),
        (b'"u":"client-public1"', '"u":"client-public1"'),
        (b'"u":"secret\\u002dAbc\\u0031\\u005F23"', '"u":"secret-***"'),
        (b'"u":"\\u0073ecret-Abc123"', '"u":"\\u0073ecret-***"'),
        (b"https://h/v1/download_config_specs/imported.json?sinceTime=0", None),
        (b"https:\\/\\/h\\/v2\\/download_config_specs\\/imported.json", None),
        (b"h%2Fdownload_config_specs%2Fimported", None),
        (b'"download_config_specs/imported"', '"download_config_specs/***"'),
    ],
)
def test_keys_are_masked_in_whatever_spelling(received: bytes, shown: str | None):
    found = masked(received)
    assert "imported" not in found
    assert "Abc" not in found
    if shown is not None:
        assert found == shown
        assert masked(found.encode()) == found, "what was masked once is shown as it is"


@pytest.mark.parametrize("name", ["privateAttributes", "private\\u0041ttributes", "\\u0070rivateAttributes"])
@pytest.mark.parametrize(
    ("value", "behind"),
    [
        ('{"plan":"gold"}', ',"z":1'),
        ('{"plan":"gold}","a":{"b":["gold","]"]}}', ',"z":1'),
        ('"gold"', ',"z":1'),
        ('["gold",{"a":"\\"gold"}]', "}"),
        ("90017", ',"z":1'),
        ('{"plan":"gold\\ud800"}', ',"z":1'),
        ('{"plan":1e999,"b":"gold"}', ',"z":1'),
        ('{"a":' * 1000 + '"gold"' + "}" * 1000, ',"z":1'),
    ],
)
def test_private_attributes_are_masked_and_the_rest_is_shown(name: str, value: str, behind: str):
    text = f'{{"user":{{"userID":"u","{name}" : {value}{behind}}},"bad":NaN}}'
    found = masked(text.encode())
    assert "gold" not in found
    assert "90017" not in found
    assert found == text.replace(value, '"***"', 1)


@pytest.mark.parametrize(
    "tail",
    [
        '{"plan":"gold"',  # it ends too early
        '{"plan":"gold}',
        '{"plan":"he said "gold" to me","b":"gold"},"z":1}',  # quotes that are not escaped
        '{"plan":"a"} "gold"',
        "'gold'}",
        "",
    ],
)
def test_where_it_is_not_clear_how_far_they_reach_nothing_behind_them_is_shown(tail: str):
    assert "gold" not in masked(b'{"eventName":"x","user":{"privateAttributes":' + tail.encode())
    assert masked(b'{"eventName":"x","user":{"privateAttributes":' + tail.encode()).startswith('{"eventName":"x"')


def test_private_attributes_in_a_text_that_stands_in_a_text_are_masked():
    event = json.dumps({"value": json.dumps({"user": {"privateAttributes": {"plan": "gold"}}}), "more": "gold"})
    assert "gold" not in masked(event.encode())
    assert "gold" not in masked(json.dumps({"again": event}).encode())


@pytest.mark.parametrize(
    "text", ['{"privateAttributes":null}', '{"privateAttributes": null ,"a":1}', '"privateAttributes"']
)
def test_where_there_is_nothing_private_nothing_is_masked(text: str):
    assert masked(text.encode()) == text


@given(st.binary(max_size=300))
def test_any_bytes_can_be_shown(received: bytes):
    masked(received)
    assert KEY not in masked(received + b'"' + KEY.encode())


def test_an_event_of_any_size_is_shown_in_one_pass():
    size = 200_000
    hostile = b'{"privateAttributes":' * 2000 + b'{"a":"' + b"secret-" * size + b"\\u00" * size
    assert "secret-secret" not in masked(hostile + b"\\" * size + b"download_config_specs/" * 2000)


def test_cut_anywhere_no_private_value_is_shown():
    """An event that was cut off on its way is what `malformed_event` mostly means."""
    event = b'{"eventName":"buy","user":{"userID":"u","privateAttributes":{"plan":"gold","b":["gold"]},"email":"e"}}'
    for length in range(len(event)):
        assert "gold" not in masked(event[:length])
    damage = random.Random(4)
    for _ in range(300):
        position = damage.randrange(len(event))
        broken = event[:position] + bytes([damage.randrange(256)]) + event[position + 1 :]
        if b"privateAttributes" in broken:
            assert "gold" not in masked(broken), broken
