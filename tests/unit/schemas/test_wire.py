"""What an identifier is as text, whichever SDK wrote it."""

import msgspec
import pytest

from schemas.wire import RequestBody, peek_of, text_of


@pytest.mark.parametrize(
    ("value", "text"),
    [
        ("u-1", "u-1"),
        ("", ""),
        (7, "7"),
        (7.0, "7"),
        (7.5, "7.5"),
        (2.0**60, "1.152921504606847e+18"),
        (None, ""),
        (True, ""),
        (False, ""),
        ([], ""),
        ({}, ""),
    ],
)
def test_an_identifier_is_text_or_nothing(value: object, text: str):
    assert text_of(value) == text


@pytest.mark.parametrize(
    "event", [b"", b"{", b"[" * 5000, b"\xff", b'{"user":[]}', b'{"user":{"customIDs":"x"}}', b'"\\ud800"', b"1e999"]
)
def test_peeking_never_raises(event: bytes):
    assert peek_of(event) == ("", "")


def test_events_stay_the_bytes_they_came_as():
    spaced = b'{"events":[ {"a" : 1.0,"b":"\\u00e9"} , {} ],"statsigMetadata":{ }}'
    body = msgspec.json.decode(spaced, type=RequestBody)
    assert [bytes(event) for event in body.events] == [b'{"a" : 1.0,"b":"\\u00e9"}', b"{}"]
