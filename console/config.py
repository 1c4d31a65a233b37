"""What the console needs to know."""

from dataclasses import dataclass, field
from pathlib import Path
from typing import Final

from console.rehearsal import Command
from schemas.kafka import KafkaConnection
from schemas.store import StoreAddress

MIB: Final = 1024 * 1024


@dataclass(frozen=True)
class SqlLimits:
    """What one query of a stranger may cost."""

    time_s: float = 10.0
    memory_bytes: int = 1024 * MIB
    engine_threads: int = 2
    query_bytes: int = 256 * 1024
    """Longer statements are refused before they are parsed."""
    table_rows: int = 10_000
    """Rows of an answer for people; what is beyond is cut off and said so."""
    file_rows: int = 2_000_000
    """Rows of an answer for programs; more is refused, never cut off."""
    answer_bytes: int = 256 * MIB
    concurrent: int = 8
    waiting: int = 16


@dataclass(frozen=True)
class ConsoleConfig:
    """Where the log and the store are, and what a query may cost."""

    kafka: KafkaConnection
    store: StoreAddress
    sql: SqlLimits = field(default_factory=SqlLimits)
    allowed_hosts: tuple[str, ...] = ()
    """Names besides localhost under which a console on a loopback address may be asked for."""
    asks_for_keys: bool = False
    """Whether the API asks for a console key: beyond a loopback address."""
    charts: Path | None = None
    """Folder with the jar of the chart library, whether or not it is there yet."""
    dry_run: Command = field(default_factory=Command)
    viewer_patience_s: float = 30.0
    """A viewer of the live stream that takes nothing for so long, although something waits, is let go of."""
