"""From the wire to JSON text: every encoding SDKs use, and what pretends to be one."""

import base64
import gzip
import random
import tracemalloc
import zlib

import brotli
import pytest
import zstandard
from hypothesis import given
from hypothesis import strategies as st

from ingest.body import decode
from ingest.refusal import Refusal
from schemas.limits import COMPRESSED_MEMBERS, DECODED_BODY_BYTES, KIB, MIB
from schemas.reasons import Reason

TEXT = b'{"events":[{"eventName":"purchase","value":"gr\xc3\xbcn"}]}'


def zstd_without_size(data: bytes) -> bytes:
    writer = zstandard.ZstdCompressor().compressobj()
    return writer.compress(data) + writer.flush()


def raw_deflate(data: bytes) -> bytes:
    writer = zlib.compressobj(wbits=-zlib.MAX_WBITS)
    return writer.compress(data) + writer.flush()


def reversed_base64(data: bytes) -> bytes:
    return base64.b64encode(data)[::-1]


GZIP, ZSTD, BR, ZLIB = gzip.compress(TEXT), zstandard.compress(TEXT), brotli.compress(TEXT), zlib.compress(TEXT)


@pytest.mark.parametrize(
    ("body", "encoding"),
    [
        (TEXT, b""),
        (TEXT, b"identity"),
        (GZIP, b"gzip"),
        (GZIP, b"GZIP"),
        (GZIP, b"x-gzip"),
        (ZSTD, b"zstd"),
        (zstd_without_size(TEXT), b"zstd"),
        (BR, b"br"),
        (ZLIB, b"deflate"),
        (raw_deflate(TEXT), b"deflate"),
        # announced by `gz=1` or not at all: the first bytes tell
        (GZIP, b""),
        (ZSTD, b""),
        # the header is wrong and the bytes are plain about it
        (TEXT, b"gzip"),
        (TEXT, b"br"),
        (TEXT, b"deflate"),
        (GZIP, b"zstd"),
        (ZSTD, b"gzip"),
        (GZIP, b"unheard-of"),
        (TEXT, b"unheard-of"),
        # two layers, as a proxy makes them
        (gzip.compress(GZIP), b"gzip"),
        (gzip.compress(GZIP), b"gzip, gzip"),
        (gzip.compress(ZSTD), b"zstd, gzip"),
        (gzip.compress(GZIP), b""),
        # members one behind another are one stream (RFC 1952)
        (gzip.compress(TEXT[:10]) + gzip.compress(TEXT[10:]), b"gzip"),
    ],
)
def test_a_body_is_decoded_by_what_it_says_or_is(body: bytes, encoding: bytes):
    assert decode(body, encoding) == TEXT


@pytest.mark.parametrize("size", [64 * KIB, 64 * KIB + 1, MIB, MIB + 1])
def test_a_brotli_body_is_decoded_whatever_its_first_byte_looks_like(size: int):
    """Between 64 KiB and 1 MiB brotli begins with the byte of "[", which no log request begins with."""
    body = TEXT + b" " * (size - len(TEXT))
    assert decode(brotli.compress(body), b"br") == body


@pytest.mark.parametrize(("over", "accepted"), [(-1, True), (0, True), (1, False)])
def test_a_gzip_body_has_a_limited_number_of_members(over: int, accepted: bool):
    """Each member costs a copy of all that follows: 400,000 empty ones took a minute."""
    body = gzip.compress(b"") * (COMPRESSED_MEMBERS + over - 1) + GZIP
    if accepted:
        assert decode(body, b"gzip") == TEXT
        return
    with pytest.raises(Refusal) as refused:
        decode(body, b"gzip")
    assert (refused.value.reason, refused.value.status) == (Reason.UNSUPPORTED_ENCODING, 415)


def test_a_reversed_base64_body_is_read_backwards():
    assert decode(reversed_base64(TEXT), reversed_base64=True) == TEXT
    assert decode(gzip.compress(reversed_base64(TEXT)), b"gzip", reversed_base64=True) == TEXT


def test_a_body_that_is_not_compressed_is_not_copied():
    assert decode(TEXT) is TEXT


@pytest.mark.parametrize(
    ("body", "encoding", "reason", "status"),
    [
        (b"\x00\x01binary", b"unheard-of", Reason.UNSUPPORTED_ENCODING, 415),
        (TEXT, b"gzip, gzip, gzip", Reason.UNSUPPORTED_ENCODING, 415),
        (b"\x00\x01binary", b"gzip", Reason.UNDECODABLE_BODY, 400),
        (b"\x00\x01binary", b"zstd", Reason.UNDECODABLE_BODY, 400),
        (b"\x00\x01binary", b"br", Reason.UNDECODABLE_BODY, 400),
        (b"\x00\x01binary", b"deflate", Reason.UNDECODABLE_BODY, 400),
        (GZIP[:-1], b"gzip", Reason.UNDECODABLE_BODY, 400),
        (GZIP[:20], b"gzip", Reason.UNDECODABLE_BODY, 400),
        (GZIP[:4], b"gzip", Reason.UNDECODABLE_BODY, 400),
        (ZSTD[:-1], b"zstd", Reason.UNDECODABLE_BODY, 400),
        (zstd_without_size(TEXT)[:-1], b"zstd", Reason.UNDECODABLE_BODY, 400),
        (BR[:-1], b"br", Reason.UNDECODABLE_BODY, 400),
        (ZLIB[:-1], b"deflate", Reason.UNDECODABLE_BODY, 400),
        (GZIP + b"garbage", b"gzip", Reason.UNDECODABLE_BODY, 400),
        (ZSTD + b"garbage", b"zstd", Reason.UNDECODABLE_BODY, 400),
        (zstd_without_size(TEXT) + b"garbage", b"zstd", Reason.UNDECODABLE_BODY, 400),
        (BR + b"garbage", b"br", Reason.UNDECODABLE_BODY, 400),
        (ZLIB + b"garbage", b"deflate", Reason.UNDECODABLE_BODY, 400),
    ],
)
def test_a_damaged_body_is_refused_with_its_reason(body: bytes, encoding: bytes, reason: Reason, status: int):
    with pytest.raises(Refusal) as refused:
        decode(body, encoding)
    assert (refused.value.reason, refused.value.status) == (reason, status)


def test_a_body_that_is_no_reversed_base64_is_refused():
    with pytest.raises(Refusal) as refused:
        decode(b"{not base64}", reversed_base64=True)
    assert refused.value.reason is Reason.UNDECODABLE_BODY


def packed(name: str, data: bytes) -> bytes:
    return {
        "gzip": lambda: gzip.compress(data, 1),
        "zstd": lambda: zstandard.compress(data),
        "zstd without size": lambda: zstd_without_size(data),
        "br": lambda: brotli.compress(data, quality=1),
        "deflate": lambda: zlib.compress(data, 1),
    }[name]()


def declared(name: str) -> bytes:
    return name.split(maxsplit=1)[0].encode()


def status_of(body: bytes, encoding: bytes, reversed_base64: bool = False) -> int:
    """Decode, and tell how it ended; anything but a Refusal is an error of the test's."""
    try:
        decode(body, encoding, reversed_base64)
    except Refusal as refusal:
        return refusal.status
    return 200


@pytest.mark.parametrize("name", ["gzip", "zstd", "zstd without size", "br", "deflate"])
@pytest.mark.parametrize(("over", "accepted"), [(-1, True), (0, True), (1, False)])
def test_output_is_capped_and_the_cap_is_inclusive(name: str, over: int, accepted: bool):
    data = b" " * (DECODED_BODY_BYTES + over)
    body = packed(name, data)
    if accepted:
        assert len(decode(body, declared(name))) == len(data)
        return
    with pytest.raises(Refusal) as refused:
        decode(body, declared(name))
    assert (refused.value.reason, refused.value.status) == (Reason.BODY_TOO_LARGE, 413)


BOMB = bytes(64 * MIB)
BOMBS = {
    **{name: (packed(name, BOMB), declared(name)) for name in ("gzip", "zstd", "zstd without size", "br", "deflate")},
    "gzip that lies about its size": (gzip.compress(BOMB)[:-4] + (10).to_bytes(4, "little"), b"gzip"),
    "gzip of two members": (gzip.compress(bytes(15 * MIB)) * 2, b"gzip"),
}


@pytest.mark.parametrize("name", BOMBS)
def test_a_bomb_is_refused_without_being_held(name: str):
    body, encoding = BOMBS[name]
    assert len(body) < DECODED_BODY_BYTES // 32
    tracemalloc.start()
    try:
        with pytest.raises(Refusal) as refused:
            decode(body, encoding)
        _, peak_bytes = tracemalloc.get_traced_memory()
    finally:
        tracemalloc.stop()
    assert refused.value.reason is Reason.BODY_TOO_LARGE
    assert peak_bytes < 8 * MIB


@pytest.mark.parametrize("name", ["gzip", "zstd", "zstd without size", "br", "deflate"])
@pytest.mark.parametrize("size", [MIB - 1, 2 * MIB, 2 * MIB + 1, 5 * MIB])
def test_a_body_of_any_size_is_what_was_packed(name: str, size: int):
    data = random.Random(size).randbytes(size // 2) * 2 + b"x" * (size % 2)
    assert decode(packed(name, data), declared(name)) == data


@pytest.mark.parametrize(("blocks", "status"), [(16_383, 200), (16_384, 200), (16_385, 415)])
def test_a_zstd_body_of_countless_blocks_is_refused(blocks: int, status: int):
    """Each block costs time, however little it holds."""
    whole = zstd_without_size(TEXT)
    run_of_one, last_and_empty = b"\x0a\x00\x00x", b"\x01\x00\x00"
    body = whole[: zstandard.frame_header_size(whole)] + run_of_one * (blocks - 1) + last_and_empty
    assert status_of(body, b"zstd") == status


def test_a_gzip_trailer_that_says_too_much_does_not_decide_alone():
    lying = GZIP[:-4] + (DECODED_BODY_BYTES + 1).to_bytes(4, "little")
    with pytest.raises(Refusal) as refused:
        decode(lying, b"gzip")
    assert refused.value.reason is Reason.UNDECODABLE_BODY


def test_a_zstd_window_larger_than_any_body_is_refused():
    parameters = zstandard.ZstdCompressionParameters(window_log=27, write_content_size=False)
    writer = zstandard.ZstdCompressor(compression_params=parameters).compressobj()
    body = writer.compress(TEXT) + writer.flush()
    with pytest.raises(Refusal) as refused:
        decode(body, b"zstd")
    assert refused.value.reason is Reason.BODY_TOO_LARGE


@given(
    st.binary(max_size=400),
    st.sampled_from([b"", b"gzip", b"zstd", b"br", b"deflate", b"x", b"gzip,br"]),
    st.booleans(),
)
def test_any_bytes_are_decoded_or_refused(body: bytes, encoding: bytes, reverse: bool):
    assert status_of(body, encoding, reverse) in (200, 400, 413, 415)


@given(st.binary(max_size=400), st.sampled_from(["gzip", "zstd", "zstd without size", "br", "deflate"]), st.data())
def test_a_changed_byte_is_noticed_or_harmless(data: bytes, name: str, draw: st.DataObject):
    body = bytearray(packed(name, data))
    position = draw.draw(st.integers(0, len(body) - 1))
    body[position] ^= draw.draw(st.integers(1, 255))
    assert status_of(bytes(body), declared(name)) in (200, 400, 413, 415)
