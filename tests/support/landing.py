"""Records as the lander reads them, and a landing table in memory."""

import hashlib
from collections.abc import Sequence
from dataclasses import dataclass, field
from typing import Any

from clickhouse_connect.driver.exceptions import OperationalError
from support.exposures import exposure

from processors.landing.batch import REPLAYED, Row
from processors.landing.insert import RefusedError
from processors.landing.suspects import PREFIX_BYTES, Landed, Prefix
from schemas.avro import CUSTOM_EVENT, EXPOSURE
from schemas.origin import HEADER, Origin


@dataclass
class FakeRecord:
    """What of an aiokafka record the lander looks at."""

    value: bytes | None
    headers: Sequence[tuple[str, bytes]] = ()
    topic: str = "exposures"
    partition: int = 0
    offset: int = 0
    timestamp: int = 0
    key: bytes | None = b"u1"


def id_of(origin: Origin, salt: str = "") -> bytes:
    """Return the event id that the event at `origin` has in tests."""
    return hashlib.md5(repr((origin, salt)).encode()).digest()


def origin_fields(origin: Origin) -> dict[str, int]:
    """Return the columns that hold an origin."""
    return {f"origin_{name}": value for name, value in origin._asdict().items()}


def exposure_at(origin: Origin, **fields: Any) -> bytes:
    """Return a framed exposure with this origin."""
    return EXPOSURE.encode(exposure(**{"event_id_bytes": id_of(origin), **origin_fields(origin), **fields}))


def custom_event_at(origin: Origin, **fields: Any) -> bytes:
    """Return a framed custom event with this origin."""
    own = {"event_name": "purchase", "value_number": 1.5, "value_string": ""}
    values = exposure(**{"event_id_bytes": id_of(origin), **origin_fields(origin), **own, **fields})
    return CUSTOM_EVENT.encode({name: values[name] for name in CUSTOM_EVENT.columns})


def record_at(origin: Origin, **overrides: Any) -> FakeRecord:
    """Return the record that the worker writes for the event at `origin`."""
    return FakeRecord(
        **{
            "value": exposure_at(origin),
            "headers": ((HEADER, origin.pack()),),
            "partition": origin.partition,
            **overrides,
        }
    )


def row_at(origin: Origin, doubt: int = 0, event_id: bytes | None = None) -> Row:
    """Return a row whose body is nothing but an event id."""
    return Row(origin.pack(), bytes(5) + (event_id or id_of(origin)), None, doubt)


@dataclass
class MemoryTable:
    """A landing table that fails when it is told to, and refuses the rows it is told to."""

    rows: list[Row] = field(default_factory=list)
    refused: set[bytes] = field(default_factory=set)
    fail_after: int | None = None
    """The next insert writes so many of its rows and then breaks."""
    inserts: int = 0

    def high_water(self, prefixes: Sequence[Prefix]) -> dict[Prefix, bytes]:
        """See `Table`."""
        return {
            prefix: max((row.origin for row in self.rows if row.origin[:PREFIX_BYTES] == prefix), default=b"")
            for prefix in prefixes
        }

    def landed(self, suspects: Sequence[Row]) -> Landed:
        """See `Table`."""
        origins = {row.origin for row in suspects}
        replayed = {row.event_id for row in suspects if row.doubt & REPLAYED}
        return Landed(
            {row.origin: row.event_id for row in self.rows if row.origin in origins},
            {row.event_id: row.origin for row in self.rows if row.event_id in replayed},
        )

    def insert(self, rows: Sequence[Row], query_id: str) -> None:
        """See `Table`."""
        assert query_id
        self.inserts += 1
        if self.fail_after is not None:
            written, self.fail_after = self.fail_after, None
            self.rows += rows[:written]
            raise OperationalError("the connection was reset")
        if self.refused & {row.origin for row in rows}:
            # As the engine does it: blocks before the refused row may have been written.
            self.rows += rows[:1] if rows[0].origin not in self.refused else []
            raise RefusedError("this row is refused")
        self.rows += rows
