"""What the SDK's process says of itself: JSON lines, each written before the events it names are logged."""

from collections.abc import Iterable, Iterator
from typing import Final, Literal

import msgspec

from ops.demo.plan import Item


class Logged(msgspec.Struct, tag="logged", frozen=True):
    """These events are about to be handed to the SDK, by the visitor of this number."""

    visitor: int
    items: list[Item]


class Arm(msgspec.Struct, tag="arm", frozen=True):
    """The SDK put this unit into this rule and group of the demo's experiment."""

    visitor: int
    unit: str
    rule_id: str
    group: str


class Progress(msgspec.Struct, tag="progress", frozen=True):
    """How far the program is, said after each flush.

    `events` have been logged, the gateway has acknowledged `acknowledged` (the SDK's own count, its
    internal events included), and the SDK has dropped `given_up` batches after its last retry.
    """

    state: Literal["ready", "flushed", "finished"]
    events: int
    acknowledged: int = 0
    given_up: int = 0


Line = Logged | Arm | Progress

_encoder: Final = msgspec.json.Encoder()
_decoder: Final[msgspec.json.Decoder[Line]] = msgspec.json.Decoder(Line)


def encode(line: Line) -> bytes:
    """Return one line, its newline included."""
    return _encoder.encode(line) + b"\n"


def decode(line: bytes) -> Line:
    """Read one line. Raises msgspec.MsgspecError when it is not whole."""
    return _decoder.decode(line)


def read_whole_lines(lines: Iterable[bytes]) -> Iterator[Line]:
    """Read a ledger file. A last line that a killed process left unfinished is left out: its events were not logged."""
    for line in lines:
        if line.endswith(b"\n"):
            yield decode(line)
