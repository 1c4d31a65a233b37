"""What an identifier is as text, whichever SDK wrote it."""

import msgspec
import pytest

from schemas.wire import ExposureMetadata, RequestBody, exposure_of, peek_of, text_of


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


def test_the_metadata_of_an_exposure_is_read_as_it_was_sent():
    sent = b'{"gate":"g","gateValue":true,"ruleID":"r","configVersion":4,"lcut":"17","extra":[1,{"deep":2}]}'
    expected = ExposureMetadata(gate="g", gateValue=True, ruleID="r", configVersion=4, lcut="17")
    assert exposure_of(sent) == expected


@pytest.mark.parametrize(
    ("sent", "expected"),
    [
        (b'{"gate":"g","gateValue":1}', ExposureMetadata(gate="g", gateValue="1")),
        (b'{"gate":"g","gateValue":{}}', ExposureMetadata(gate="g", gateValue="")),
        (b'{"config":7.0,"rulePassed":"yes"}', ExposureMetadata(config="7", rulePassed="yes")),
        (b'{"config":"c","lcut":17.5,"ruleID":true}', ExposureMetadata(config="c", lcut="17.5", ruleID="")),
        (b'{"gate":["g"],"isManualExposure":true}', ExposureMetadata(gate="", isManualExposure="true")),
    ],
)
def test_metadata_of_types_that_no_sdk_sends_becomes_text(sent: bytes, expected: ExposureMetadata):
    assert exposure_of(sent) == expected


@pytest.mark.parametrize("sent", [b"[]", b'"x"', b"1", b"{", b'{"gate":"\xff"}'])
def test_metadata_that_is_no_object_is_an_error(sent: bytes):
    with pytest.raises((msgspec.MsgspecError, UnicodeDecodeError)):
        exposure_of(sent)
