"""From the bytes on the wire to JSON text.

Content-Encoding first, then what the bytes themselves say (browsers announce gzip with `gz=1` or not
at all), then `se=1` (base64, reversed). Output is capped, so that a small body cannot become a large
one. Content-Type is ignored: beacons send text/plain.
"""

import base64
import binascii
import re
import zlib
from collections.abc import Callable
from typing import Final

import brotli
import zstandard

from ingest.refusal import Refusal
from schemas.limits import COMPRESSED_MEMBERS, DECODED_BODY_BYTES, KIB
from schemas.reasons import Reason

_GZIP: Final = b"\x1f\x8b"
_ZSTD: Final = b"\x28\xb5\x2f\xfd"
_BEGINS_AS_REQUEST: Final = re.compile(rb"[ \t\r\n]*\{").match
"""Not every JSON: brotli begins with the byte of "[" where the content has 64 KiB to 1 MiB."""
_WINDOW_BYTES: Final = DECODED_BODY_BYTES
_PIECE_BYTES: Final = 256 * KIB
_ZSTD_STEP_BYTES: Final = 512
"""A zstd block of 128 KiB fits into 4 bytes, and its decompressor has no cap of its own."""
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
    # The trailer's size is a sender's word; it only spares the work where it already says too much.
    if int.from_bytes(body[-4:], "little") > DECODED_BODY_BYTES and len(body) >= 18:
        return _inflate_capped(body, 16 + zlib.MAX_WBITS, probe_only=True)
    return _inflate_capped(body, 16 + zlib.MAX_WBITS)


def _inflate_capped(body: bytes, wbits: int, probe_only: bool = False) -> bytes:
    """Inflate one or more members; with `probe_only` keep nothing, for what is known to be refused."""
    parts: list[bytes] = []
    size = members = 0
    rest = body
    while rest:
        members += 1
        if members > COMPRESSED_MEMBERS:
            raise Refusal(Reason.UNSUPPORTED_ENCODING, f"more than {COMPRESSED_MEMBERS} compressed members")
        inflater = zlib.decompressobj(wbits)
        try:
            while not inflater.eof:
                limit = _PIECE_BYTES if probe_only else DECODED_BODY_BYTES - size + 1
                part = inflater.decompress(rest, limit)
                rest = inflater.unconsumed_tail
                size += len(part)
                if size > DECODED_BODY_BYTES:
                    raise _too_large()
                if not part and not inflater.eof:
                    raise Refusal(Reason.UNDECODABLE_BODY, "the compressed body ends too early")
                if not probe_only:
                    parts.append(part)
        except zlib.error as error:
            raise Refusal(Reason.UNDECODABLE_BODY, f"the compressed body is damaged: {error}") from error
        rest = inflater.unused_data
    return parts[0] if len(parts) == 1 else b"".join(parts)


def _inflate(body: bytes) -> bytes:
    """Undo `deflate`: zlib as the standard says, raw as some clients do it."""
    has_zlib_header = len(body) >= 2 and body[0] & 0x0F == 8 and int.from_bytes(body[:2], "big") % 31 == 0
    return _inflate_capped(body, zlib.MAX_WBITS if has_zlib_header else -zlib.MAX_WBITS)


def _unzstd(body: bytes) -> bytes:
    try:
        frame = zstandard.get_frame_parameters(body)
        if frame.window_size > _WINDOW_BYTES:
            raise _too_large()
        decompressor = zstandard.ZstdDecompressor(max_window_size=_WINDOW_BYTES)
        if frame.content_size <= DECODED_BODY_BYTES:
            # The buffer is as large as the frame says, and a frame that lied does not fit into it.
            return decompressor.decompress(body, allow_extra_data=False)
        if frame.content_size != zstandard.CONTENTSIZE_UNKNOWN:
            raise _too_large()
        return _unzstd_in_steps(decompressor, body)
    except zstandard.ZstdError as error:
        raise Refusal(Reason.UNDECODABLE_BODY, f"the compressed body is damaged: {error}") from error


def _unzstd_in_steps(decompressor: zstandard.ZstdDecompressor, body: bytes) -> bytes:
    inflater = decompressor.decompressobj()
    parts: list[bytes] = []
    size = 0
    for start in range(0, len(body), _ZSTD_STEP_BYTES):
        part = inflater.decompress(body[start : start + _ZSTD_STEP_BYTES])
        size += len(part)
        if size > DECODED_BODY_BYTES:
            raise _too_large()
        parts.append(part)
        if inflater.eof and (inflater.unused_data or start + _ZSTD_STEP_BYTES < len(body)):
            raise Refusal(Reason.UNDECODABLE_BODY, "there are bytes behind the compressed body")
    if not inflater.eof:
        raise Refusal(Reason.UNDECODABLE_BODY, "the compressed body ends too early")
    return b"".join(parts)


def _unbrotli(body: bytes) -> bytes:
    decompressor = brotli.Decompressor()
    parts: list[bytes] = []
    size = 0
    rest = body
    try:
        while not decompressor.is_finished():
            part = decompressor.process(rest, output_buffer_limit=_PIECE_BYTES)
            if not part and not rest and not decompressor.is_finished():
                raise Refusal(Reason.UNDECODABLE_BODY, "the compressed body ends too early")
            rest = b""
            size += len(part)
            if size > DECODED_BODY_BYTES:
                raise _too_large()
            parts.append(part)
    except brotli.error as error:
        raise Refusal(Reason.UNDECODABLE_BODY, f"the compressed body is damaged: {error}") from error
    return b"".join(parts)


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
