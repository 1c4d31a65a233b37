"""Avro records of the public topics, in the Confluent wire format (0x00, 4-byte schema id, body).

An Avro record is the concatenation of its fields, so its bytes can be made in blocks: what is the
same for a whole request, or for every exposure of one rule, is encoded once. Each field of a public
schema names its block, and the fields of a block stand together; `assemble` joins the blocks.
"""

import hashlib
import io
import struct
from collections.abc import Mapping, Sequence
from importlib.resources import files
from typing import Any, Final

import fastavro
import orjson

Json = dict[str, Any]

FRAME_BYTES: Final = 5
MARK: Final = "mark"
MARK_BYTES: Final = 8
_frame = struct.Struct(">bI")


class NotFramedError(ValueError):
    """A record's value does not begin as the Confluent wire format does."""


def schema_id(schema: Json) -> int:
    """Return the id of a schema where no registry gives one: 31 bits of the hash of its meaning.

    Computed from the content, so that two workers that publish at once publish the same.
    """
    return int.from_bytes(hashlib.sha256(_meaning(schema)).digest()[:4], "big") >> 1


def _meaning(schema: object) -> bytes:
    def strip(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: strip(value) for key, value in node.items() if key not in ("doc", "block")}
        return [strip(item) for item in node] if isinstance(node, list) else node

    return orjson.dumps(strip(schema), option=orjson.OPT_SORT_KEYS)


class RecordSchema:
    """One Avro record type: its JSON, its id, and encoding by block or whole.

    `earlier` are the versions that were written before this one. All of them can be read for good
    (Avro's BACKWARD_TRANSITIVE): a field that is new has a default, and none changes its type.
    """

    def __init__(self, schema: Json, earlier: Sequence[Json] = ()) -> None:
        self.json = schema
        self.earlier: dict[int, Json] = {schema_id(one): one for one in earlier}
        self.name: str = schema["name"]
        self.id = schema_id(schema)
        self.frame = _frame.pack(0, self.id)
        self.text = orjson.dumps(schema)
        self.columns: list[str] = [field["name"] for field in schema["fields"]]
        self._parsed = fastavro.parse_schema(orjson.loads(orjson.dumps(schema)))
        self._blocks = self._parse_blocks()

    def _parse_blocks(self) -> dict[str, Any]:
        blocks: dict[str, list[Json]] = {}
        last = None
        for field in self.json["fields"]:
            block = field.get("block", "")
            if block != last and block in blocks:
                raise ValueError(f"the fields of block {block!r} of {self.name} do not stand together")
            blocks.setdefault(block, []).append(field)
            last = block
        named = {"EventId": {"type": "fixed", "name": "EventId", "size": 16}}
        parsed = {}
        for block, fields in blocks.items():
            # A block is a record of its own to the encoder; a named type is spelt out at first use.
            spelt, seen = [], set()
            for field in fields:
                kind = field["type"]
                if isinstance(kind, dict) and "name" in kind:
                    seen.add(kind["name"])
                elif isinstance(kind, str) and kind in named and kind not in seen:
                    kind = named[kind]
                    seen.add(field["type"])
                spelt.append({"name": field["name"], "type": kind})
            record = {"type": "record", "name": f"{self.name}_{block or 'all'}", "fields": spelt}
            parsed[block] = fastavro.parse_schema(record)
        return parsed

    def block(self, name: str, values: Mapping[str, object]) -> bytes:
        """Encode the fields of one block. Raises ValueError or KeyError when one does not fit."""
        out = io.BytesIO()
        fastavro.schemaless_writer(out, self._blocks[name], values)
        return out.getvalue()

    def encode(self, values: Mapping[str, object]) -> bytes:
        """Encode a whole record, framed."""
        out = io.BytesIO()
        out.write(self.frame)
        fastavro.schemaless_writer(out, self._parsed, values)
        return out.getvalue()

    def decode(self, body: bytes) -> Json:
        """Decode a record's body (without the frame), timestamps as ms since the epoch."""
        record: Any = fastavro.schemaless_reader(io.BytesIO(body), self._without_logical_types(), None)
        return dict(record)

    def modern(self, writer_id: int, body: bytes) -> bytes | None:
        """Return a body of an earlier version as a framed record of this one; None where no version has that id.

        Raises ValueError when the body is not exactly one record. Costs some 50 µs: such records come
        for as long as the log reaches back over an upgrade.
        """
        written = self.earlier.get(writer_id)
        if written is None:
            return None
        stream = io.BytesIO(body)
        try:
            values: Any = fastavro.schemaless_reader(
                stream, orjson.loads(_strip_logical(written)), orjson.loads(_strip_logical(self.json))
            )
        except Exception as error:
            raise ValueError(f"the body is not an earlier {self.name}: {error!r}") from error
        if left := len(body) - stream.tell():
            raise ValueError(f"{left} bytes follow the record")
        return self.encode(values)

    def flaw(self, body: bytes) -> str:
        """Return why `body` is not exactly one record, or "" when it is."""
        stream = io.BytesIO(body)
        try:
            fastavro.schemaless_reader(stream, self._without_logical_types(), None)
        except Exception as error:  # noqa: BLE001 - the decoder raises whatever the bytes provoke
            return f"the body is not a {self.name}: {error!r}"
        left = len(body) - stream.tell()
        return f"{left} bytes follow the record" if left else ""

    def _without_logical_types(self) -> Any:
        if not hasattr(self, "_plain"):
            self._plain = fastavro.parse_schema(orjson.loads(_strip_logical(self.json)))
        return self._plain


def _strip_logical(schema: Json) -> bytes:
    def strip(node: Any) -> Any:
        if isinstance(node, dict):
            return {key: strip(value) for key, value in node.items() if key != "logicalType"}
        return [strip(item) for item in node] if isinstance(node, list) else node

    return orjson.dumps(strip(schema))


def varint(number: int) -> bytes:
    """Encode an int or long as Avro does: zigzag, then 7 bits a byte, low ones first."""
    rest = (number << 1) ^ (number >> 63)
    if rest < _TWO_BYTES:
        return _LAST[rest]
    # Times in ms share their high bytes for 8 s, and every event has several.
    high = rest >> 14
    tail = _tails.get(high)
    if tail is None:
        if len(_tails) >= _TAILS_KEPT:
            _tails.clear()
        tail = _tails[high] = _unsigned(high)
    return _CONTINUED[rest & 0x3FFF] + tail


def _unsigned(rest: int) -> bytes:
    out = b""
    while rest >= _TWO_BYTES:
        out += _CONTINUED[rest & 0x3FFF]
        rest >>= 14
    return out + _LAST[rest]


_TAILS_KEPT: Final = 50_000
_tails: Final[dict[int, bytes]] = {}
_TWO_BYTES: Final = 1 << 14
_CONTINUED: Final = [bytes(((n & 0x7F) | 0x80, (n >> 7) | 0x80)) for n in range(_TWO_BYTES)]
_LAST: Final = [bytes((n,)) if n < 0x80 else bytes(((n & 0x7F) | 0x80, n >> 7)) for n in range(_TWO_BYTES)]
_ONE_LOOKUP: Final = _TWO_BYTES >> 1
_double: Final = struct.Struct("<d").pack


def string(text: str) -> bytes:
    """Encode a string. Lone surrogates, which UTF-8 has no bytes for, become "?"."""
    try:
        content = text.encode()
    except UnicodeEncodeError:
        content = text.encode("utf-8", "replace")
    size = len(content)
    return _LAST[size << 1] + content if size < _ONE_LOOKUP else varint(size) + content


def utf8(text: bytes) -> bytes:
    """Encode a string that is UTF-8 already."""
    size = len(text)
    return _LAST[size << 1] + text if size < _ONE_LOOKUP else varint(size) + text


LONGEST_WORD: Final = 200
"""Characters of a string that a vocabulary keeps; senders decide how long theirs are."""


class Vocabulary:
    """Encodes strings that repeat (tiers, versions, countries) once each, unless they are long."""

    def __init__(self, kept: int = 10_000) -> None:
        self._encoded: dict[str, bytes] = {}
        self._kept = kept

    def string(self, text: str) -> bytes:
        """Encode a string, from memory where it was met before."""
        encoded = self._encoded.get(text)
        if encoded is None:
            encoded = string(text)
            if len(text) <= LONGEST_WORD:
                if len(self._encoded) >= self._kept:
                    self._encoded.clear()
                self._encoded[text] = encoded
        return encoded


def double(number: float) -> bytes:
    """Encode a double."""
    return _double(number)


def boolean(flag: bool) -> bytes:
    """Encode a boolean."""
    return b"\x01" if flag else b"\x00"


def unframe(value: bytes) -> tuple[int, bytes]:
    """Split a framed value into (schema id, body). Raises NotFramedError."""
    if len(value) < FRAME_BYTES or value[0] != 0:
        raise NotFramedError("the value does not begin with 0x00 and a schema id")
    return _frame.unpack_from(value)[1], value[FRAME_BYTES:]


class Container:
    """Splices framed values of one schema into an Avro object container file, without decoding.

    The format: magic, metadata map, sync marker; then per block count, bytes, records, sync marker
    (Avro 1.11 specification, "Object Container Files"). Two fields are added to the schema. The
    frame comes first, so that values are joined as they are and not cut one by one. A mark comes
    last: Avro has no lengths, so a value that holds more or less than one record would shift all
    that follow, and ClickHouse does not notice. A reader that finds another mark than the one it
    expects has met such a value.
    """

    def __init__(self, schema: Json) -> None:
        framed = _plain(schema)
        framed["fields"] = [
            {"name": "frame", "type": {"type": "fixed", "name": "Frame", "size": FRAME_BYTES}},
            *framed["fields"],
            {"name": MARK, "type": {"type": "fixed", "name": "Mark", "size": MARK_BYTES}},
        ]
        text = orjson.dumps(framed)
        self._sync = hashlib.md5(text, usedforsecurity=False).digest()
        meta = b"".join(
            varint(len(part)) + part for pair in ((b"avro.schema", text), (b"avro.codec", b"null")) for part in pair
        )
        self._head = b"Obj\x01" + varint(2) + meta + b"\x00" + self._sync

    def splice(self, values: Sequence[bytes], mark: bytes) -> bytes:
        """Return a container that holds the framed `values`, in order, each followed by `mark`.

        A mark that no writer of a value can know (random, new for each container) cannot be forged.
        """
        assert len(mark) == MARK_BYTES
        joined = mark.join(values)
        size = len(joined) + (MARK_BYTES if values else 0)
        return b"".join((self._head, varint(len(values)), varint(size), joined, mark if values else b"", self._sync))


def _plain(schema: Json) -> Json:
    plain: Json = orjson.loads(_meaning(schema))
    return plain


def _load(name: str) -> RecordSchema:
    """Load `<name>.avsc`, and as its earlier versions `<name>.1.avsc`, `<name>.2.avsc` and so on."""
    folder = files("schemas").joinpath("avsc")
    texts = [folder.joinpath(f"{name}.avsc")]
    while (earlier := folder.joinpath(f"{name}.{len(texts)}.avsc")).is_file():
        texts.append(earlier)
    present, *before = [orjson.loads(text.read_bytes()) for text in texts]
    return RecordSchema(present, before)


EXPOSURE: Final = _load("exposure")
CUSTOM_EVENT: Final = _load("custom_event")
DEAD_LETTER: Final = _load("dead_letter")
