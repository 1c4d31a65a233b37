"""From the bytes on the wire to JSON text.

Content-Encoding first, then what the bytes themselves say (browsers announce gzip with `gz=1` or not
at all), then `se=1` (base64, reversed). Output is capped, so that a small body cannot become a large
one. Content-Type is ignored: beacons send text/plain.
"""

import base64
import binascii
import re
import zlib
from collections.abc import Callable, Iterator
from functools import partial
from typing import Final

import brotli
import zstandard

from ingest.refusal import Refusal
from schemas.limits import COMPRESSED_MEMBERS, DECODED_BODY_BYTES, KIB, MIB
from schemas.reasons import Reason

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_BEGINS_AS_REQUEST: Final = re.compile(rb"[ \t\r\n]*\{").match
"""Not every JSON: brotli begins with the byte of "[" where the content has 64 KiB to 1 MiB."""
_ZSTD_WINDOW_BYTES: Final = 8 * MIB
"""What every decoder should support (RFC 8878, 3.1.1.1.2)."""
_ZSTD_BLOCK_BYTES: Final = 128 * KIB
_ZSTD_BLOCKS: Final = 16_384
"""Of one body: in 16 MiB are 128 full ones. Above: 415, since each costs time however little it holds."""
_ZSTD_RUN: Final = 1
"""The kind of block that is one byte, repeated (RFC 8878, 3.1.1.2)."""
_PIECE_BYTES: Final = MIB
_KEPT_BYTES: Final = 2 * MIB
_ROUNDS: Final = 2
"""A proxy that compresses what was compressed already makes two layers; more is an attack."""


def decode(body: bytes, content_encoding: bytes = b"", reversed_base64: bool = False) -> bytes:
    """Return the JSON text of a request body. Raises Refusal (400, 413 or 415).

    An encoding that is declared but was not applied is seen by the body's first bytes; so is one
    that was applied and not declared.
    """
    if content_encoding and content_encoding != b"identity":
        for name in reversed(_names(content_encoding)):
            body = _undo(name, body)
    for _ in range(_ROUNDS):
        if body[:2] == _GZIP:
            body = _gunzip(body)
        elif body[:4] == _ZSTD:
            body = _unzstd(body)
        else:
            break
    if reversed_base64:
        body = _unreverse(body)
    return body


def _names(content_encoding: bytes) -> list[bytes]:
    names = [name.strip() for name in content_encoding.lower().split(b",")]
    if len(names) > _ROUNDS:
        raise Refusal(Reason.UNSUPPORTED_ENCODING, f"more than {_ROUNDS} content encodings")
    return names


def _undo(name: bytes, body: bytes) -> bytes:
    if body[:2] == _GZIP or body[:4] == _ZSTD or _BEGINS_AS_REQUEST(body):
        return body  # the bytes say what they are, whatever the header says
    decoder = _DECODERS.get(name)
    if decoder is None:
        shown = name[:32].decode("latin-1")
        raise Refusal(
            Reason.UNSUPPORTED_ENCODING, f"content encoding {shown!r}; gzip, zstd, br and deflate are understood"
        )
    return decoder(body)


def _not_what_it_says(name: bytes) -> Callable[[bytes], bytes]:
    def refuse(_: bytes) -> bytes:
        raise Refusal(Reason.UNDECODABLE_BODY, f"the body is declared as {name.decode()} and is not")

    return refuse


def _gunzip(body: bytes) -> bytes:
    return _joined(partial(_inflated, body, 16 + zlib.MAX_WBITS))


def _inflate(body: bytes) -> bytes:
    """Undo `deflate`: zlib as the standard says, raw as some clients do it."""
    has_zlib_header = len(body) >= 2 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0
    return _joined(partial(_inflated, body, zlib.MAX_WBITS if has_zlib_header else -zlib.MAX_WBITS))


def _unbrotli(body: bytes) -> bytes:
    return _joined(partial(_unbrotlied, body))


def _joined(pieces: Callable[[], Iterator[bytes]]) -> bytes:
    """Join what a decompressor yields. Raises Refusal.

    A body that becomes larger than `_KEPT_BYTES` is decompressed twice: to its end without being kept
    first, since a bomb would be in memory as far as the cap otherwise.
    """
    kept: list[bytes] = []
    size = 0
    for piece in pieces():
        size += len(piece)
        if size > DECODED_BODY_BYTES:
            raise _too_large()
        kept.append(piece)
        if size > _KEPT_BYTES:
            kept.clear()
    if size > _KEPT_BYTES:
        kept = list(pieces())
    return kept[0] if len(kept) == 1 else b"".join(kept)


def _inflated(body: bytes, wbits: int) -> Iterator[bytes]:
    """Inflate one or more members, one behind another (RFC 1952)."""
    rest = body
    for _ in range(COMPRESSED_MEMBERS):
        inflater = zlib.decompressobj(wbits)
        try:
            while not inflater.eof:
                piece = inflater.decompress(rest, _PIECE_BYTES)
                rest = inflater.unconsumed_tail
                if not piece and not inflater.eof:
                    raise _ends_too_early()
                yield piece
        except zlib.error as error:
            raise _damaged(error) from error
        rest = inflater.unused_data
        if not rest:
            return
    raise Refusal(Reason.UNSUPPORTED_ENCODING, f"more than {COMPRESSED_MEMBERS} compressed members")


def _unzstd(body: bytes) -> bytes:
    try:
        frame = zstandard.get_frame_parameters(body)
        if frame.content_size <= DECODED_BODY_BYTES:
            # The buffer is as large as the frame says, and a frame that lied does not fit into it.
            return zstandard.ZstdDecompressor().decompress(body, allow_extra_data=False)
        if frame.content_size != zstandard.CONTENTSIZE_UNKNOWN or frame.window_size > _ZSTD_WINDOW_BYTES:
            raise _too_large()
    except zstandard.ZstdError as error:
        raise _damaged(error) from error
    return _joined(partial(_unzstded, body))


def _unzstded(body: bytes) -> Iterator[bytes]:
    """Decompress some blocks at a time: a decompressor has no cap of its own, and 4 bytes may be 128 KiB."""
    inflater = zstandard.ZstdDecompressor(max_window_size=_ZSTD_WINDOW_BYTES).decompressobj()
    start = 0
    try:
        for end in _ends_of_blocks(body):
            yield inflater.decompress(body[start:end])
            start = end
        yield inflater.decompress(body[start:])  # the checksum, if there is one
    except zstandard.ZstdError as error:
        raise _damaged(error) from error
    if not inflater.eof:
        raise _ends_too_early()
    if inflater.unused_data:
        raise Refusal(Reason.UNDECODABLE_BODY, "there are bytes behind the compressed body")


def _ends_of_blocks(body: bytes) -> Iterator[int]:
    """Yield where the blocks of a zstd frame end, in steps of at most `_PIECE_BYTES` of content.

    (RFC 8878, 3.1.1.2.) What is no block is left to the decompressor, which says what is wrong.
    """
    position = zstandard.frame_header_size(body)
    for number in range(1, _ZSTD_BLOCKS + 1):
        header = int.from_bytes(body[position : position + 3], "little")
        is_last, kind, size = header & 1, header >> 1 & 3, header >> 3
        position += 3 + (1 if kind == _ZSTD_RUN else size)
        if is_last or position >= len(body):
            return
        if number % (_PIECE_BYTES // _ZSTD_BLOCK_BYTES) == 0:
            yield position
    raise Refusal(Reason.UNSUPPORTED_ENCODING, f"more than {_ZSTD_BLOCKS} zstd blocks")


def _unbrotlied(body: bytes) -> Iterator[bytes]:
    decompressor = brotli.Decompressor()
    rest = body
    try:
        while not decompressor.is_finished():
            piece = decompressor.process(rest, output_buffer_limit=_PIECE_BYTES)
            if not piece and not rest and not decompressor.is_finished():
                raise _ends_too_early()
            rest = b""
            yield piece
    except brotli.error as error:
        raise _damaged(error) from error


def _ends_too_early() -> Refusal:
    return Refusal(Reason.UNDECODABLE_BODY, "the compressed body ends too early")


def _damaged(error: Exception) -> Refusal:
    return Refusal(Reason.UNDECODABLE_BODY, f"the compressed body is damaged: {error}")


def _unreverse(body: bytes) -> bytes:
    try:
        return base64.b64decode(body[::-1], validate=True)
    except binascii.Error as error:
        raise Refusal(Reason.UNDECODABLE_BODY, f"se=1, and the body is no reversed base64: {error}") from error


def _too_large() -> Refusal:
    return Refusal(Reason.BODY_TOO_LARGE, f"the body is larger than {DECODED_BODY_BYTES} bytes when decompressed")


_DECODERS: Final[dict[bytes, Callable[[bytes], bytes]]] = {
    b"gzip": _not_what_it_says(b"gzip"),
    b"x-gzip": _not_what_it_says(b"gzip"),
    b"zstd": _not_what_it_says(b"zstd"),
    b"br": _unbrotli,
    b"deflate": _inflate,
    b"identity": lambda body: body,
}
