"""Which topic lands in which table, and how its record bodies are handed to the store."""

from dataclasses import dataclass
from typing import Any, Final

from schemas import avro, topics

_SIMPLE: Final = {"string": "String", "int": "Int32", "long": "Int64", "boolean": "Bool", "double": "Float64"}


def store_type(avro_type: Any) -> str:
    """Return the type that an Avro field is read as, before it is cast to its column's.

    Strings are read as String, not as the columns' LowCardinality: the Avro reader makes a
    dictionary a value for those, a cast makes one a block (17.2 against 9.3 µs a row in all).
    Raises ValueError for what no public record holds.
    """
    match avro_type:
        case str() if avro_type in _SIMPLE:
            return _SIMPLE[avro_type]
        case "EventId" | {"type": "fixed", "size": 16}:
            return "FixedString(16)"
        case {"type": "long", "logicalType": "timestamp-millis"}:
            return "DateTime64(3, 'UTC')"
        case {"type": "map", "values": values}:
            return f"Map(String, {store_type(values)})"
        case ["null", some]:
            return f"Nullable({store_type(some)})"
    raise ValueError(f"no column type for the Avro type {avro_type!r}")


@dataclass(frozen=True)
class Landing:
    """One public topic: its record type and the table that its records land in."""

    topic: str
    table: str
    schema: avro.RecordSchema

    def received_at(self, body: bytes) -> int | None:
        """Return when an event was received, in ms; None when the body cannot be decoded.

        Costs some 20 µs: for the few rows that are looked up, not for all.
        """
        try:
            return int(self.schema.decode(body)["received_at"])
        except Exception:  # noqa: BLE001 - the decoder raises whatever the bytes provoke
            return None

    def structure(self) -> str:
        """Return `name type, …` of a record in a container, as table functions want it."""
        columns = [f"{field['name']} {store_type(field['type'])}" for field in self.schema.json["fields"]]
        return ", ".join([*columns, f"{avro.MARK} FixedString({avro.MARK_BYTES})"])


LANDINGS: Final = (
    Landing(topics.EXPOSURES, "exposures", avro.EXPOSURE),
    Landing(topics.CUSTOM_EVENTS, "custom_events", avro.CUSTOM_EVENT),
)

SHADOWS: Final = tuple(
    Landing(topics.SHADOWS[landing.topic], f"shadow_{landing.table}", landing.schema) for landing in LANDINGS
)
"""Where a replay is landed apart, to be compared with the tables that count."""

BY_TOPIC: Final = {landing.topic: landing for landing in LANDINGS}
