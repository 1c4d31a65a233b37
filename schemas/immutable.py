"""What of a landed row is the event's own, and equal whenever and by whom it was emitted: the digest of rows.

All other columns say what was known when the row landed: what its config was, whose the unit is, whether
the sender is a robot. They may differ between the first time and a replay.
"""

from typing import Final

from schemas import avro

TOLD: Final = frozenset(
    {
        "unit_type", "unit_id", "canonical_id", "is_bot", "kind", "name", "group_name", "allocated_experiment",
        "config_version", "config_time", "config_match", "assignment", "expected_group",
    }
)  # fmt: skip
"""Columns that depend on what was known."""

SCHEMAS: Final = {"exposures": avro.EXPOSURE, "custom_events": avro.CUSTOM_EVENT}

IMMUTABLE: Final = {
    table: tuple(name for name in schema.columns if name not in TOLD) for table, schema in SCHEMAS.items()
}
"""By landing table: the columns that make the digest, in the order of the record."""

MODULUS: Final = 2**128


def _nullable(table: str) -> frozenset[str]:
    fields = SCHEMAS[table].json["fields"]
    return frozenset(field["name"] for field in fields if isinstance(field["type"], list))


def digest_sql(table: str) -> str:
    """Return an aggregate over rows of `table` or of one made like it: the sum of their hashes, as text.

    A sum does not depend on the order of rows and sees doubles, which an XOR does not. Sums of parts add up
    modulo `MODULUS`.
    """
    nullable = _nullable(table)
    columns = ", ".join(
        f"isNull({name}), assumeNotNull({name})" if name in nullable else name for name in IMMUTABLE[table]
    )
    return f"toString(sumWithOverflow(reinterpretAsUInt128(sipHash128({columns}))))"
