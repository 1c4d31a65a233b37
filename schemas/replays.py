"""The records of the topic `replays`: who replayed what, how far it is, and what became of it."""

from typing import Final, Literal

import msgspec

State = Literal["running", "sent", "done"]
"""Running or cut off; everything is on its way; what became of it is known."""


class ReplayRecord(msgspec.Struct, frozen=True):
    """One replay. The last record of its id counts. Times are ms since the epoch.

    `ends` and `done` are offsets by `<topic>/<partition>`: what the selection covers, and up to where
    everything is on the broker. Whoever goes on after a kill sends again what is beyond `done`, which
    changes nothing.
    """

    id: str
    state: State
    who: str
    started_at: int
    code_version: str
    selection: dict[str, list[str]]
    ends: dict[str, int]
    done: dict[str, int] = {}
    fix: str = ""
    note: str = ""
    limit: int = 0
    rate: int = 0
    finished_at: int = 0
    selected: int = 0
    sent: int = 0
    passed_over: dict[str, int] = {}
    """Letters that were selected and not sent, by why."""
    refused_again: dict[str, int] = {}
    """By reason: what the gateway's own code refused again, so that it went back with one attempt more."""
    swap_since: dict[str, int] = {}
    """Of a replay into the shadow, by `<topic>/<partition>`: behind these offsets of the public topics stands all that
    was emitted from chunks that the archive did not have."""
    outcome: dict[str, int] = {}
    """Of what was sent: `landed`, `copies` of events that others own, and `dead: <reason>`."""


class ReplayRecordError(ValueError):
    """A record of the topic is none that this code can read."""


_encode: Final = msgspec.json.Encoder().encode
_decode: Final = msgspec.json.Decoder(ReplayRecord).decode


def encode(record: ReplayRecord) -> bytes:
    """Return the record's value; its key is the id."""
    return _encode(record)


def decode(value: bytes) -> ReplayRecord:
    """Read a record's value; fields that a later version added are passed over. Raises ReplayRecordError."""
    try:
        return _decode(value)
    except msgspec.MsgspecError as error:
        raise ReplayRecordError(f"a record of a replay cannot be read: {error}") from error
