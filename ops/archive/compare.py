"""Whether two tables hold the same events: counts, variants, and the digest of what is the events' own."""

from collections import Counter
from collections.abc import Iterator
from dataclasses import dataclass, field
from typing import Final

from ops.dlq.landed import Store
from processors.reprocess import Span
from schemas.immutable import MODULUS, SCHEMAS, digest_sql

TABLES: Final = tuple(SCHEMAS)

_SLICE_MS: Final = 3600 * 1000
"""Of a question: the console answers none that takes longer than some seconds."""

_VARIANT: Final = {"exposures": "concat(wire_name, ' / ', rule_id)", "custom_events": "event_name"}
_VARIANTS_MAX: Final = 5_000


@dataclass
class Contents:
    """What a table holds of a span."""

    rows: int = 0
    origins: int = 0
    events: int = 0
    digest: int = 0
    variants: Counter[str] = field(default_factory=Counter)

    def told(self) -> dict[str, int | str]:
        """Return it as JSON has it."""
        return {"rows": self.rows, "origins": self.origins, "events": self.events, "digest": f"{self.digest:032x}"}


@dataclass(frozen=True)
class Comparison:
    """Of one landing table: what it holds, and what its shadow holds."""

    table: str
    live: Contents
    shadow: Contents

    @property
    def is_equal(self) -> bool:
        """Whether every row has its like, to the byte of what is the event's own."""
        return self.live == self.shadow

    def variants(self) -> dict[str, tuple[int, int]]:
        """Return the variants whose numbers of rows differ: (in the table, in its shadow)."""
        names = sorted(self.live.variants.keys() | self.shadow.variants.keys())
        pairs = {name: (self.live.variants[name], self.shadow.variants[name]) for name in names}
        return {name: pair for name, pair in pairs.items() if pair[0] != pair[1]}


def compare(store: Store, span: Span) -> list[Comparison]:
    """Compare both landing tables with their shadows. Raises StoreError and httpx.TransportError."""
    return [
        Comparison(table, contents(store, table, table, span), contents(store, table, f"shadow_{table}", span))
        for table in TABLES
    ]


def contents(store: Store, kind: str, table: str, span: Span) -> Contents:
    """Return what `table`, which is made like the landing table `kind`, holds of a span."""
    found = Contents()
    for where in _slices(span):
        [[rows, origins, events, digest]] = store.rows(
            "SELECT count(), uniqExact(origin_log, origin_partition, origin_offset, origin_index, origin_part), "  # noqa: S608
            f"uniqExact(event_id_bytes), {digest_sql(kind)} FROM {table} WHERE {where}"
        )
        found.rows += int(str(rows))
        found.origins += int(str(origins))
        found.events += int(str(events))
        found.digest = (found.digest + int(str(digest))) % MODULUS
        variants = store.rows(
            f"SELECT {_VARIANT[kind]} AS variant, count() FROM {table} WHERE {where} GROUP BY variant "  # noqa: S608
            f"ORDER BY variant LIMIT {_VARIANTS_MAX}"
        )
        found.variants.update({str(name): int(str(count)) for name, count in variants})
    return found


def _slices(span: Span) -> Iterator[str]:
    for since in range(span.since, span.until, _SLICE_MS):
        until = min(since + _SLICE_MS, span.until)
        yield (
            f"received_at >= fromUnixTimestamp64Milli({since}, 'UTC') "
            f"AND received_at < fromUnixTimestamp64Milli({until}, 'UTC')"
        )
