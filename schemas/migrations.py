"""The store's tables, as numbered SQL files that are applied once each and recorded."""

import hashlib
from collections.abc import Iterator
from dataclasses import dataclass
from importlib.resources import files
from typing import Final

from clickhouse_connect.driver.client import Client

_RECORD: Final = """
CREATE TABLE IF NOT EXISTS schema_migrations (
    number UInt32, name String, sha256 String, applied_at DateTime64(3, 'UTC') DEFAULT now64(3)
) ENGINE = MergeTree ORDER BY number
"""


class ChangedMigrationError(Exception):
    """A migration that was applied is not the one in the package any more."""


@dataclass(frozen=True)
class Migration:
    """One numbered SQL file."""

    number: int
    name: str
    text: str

    @property
    def sha256(self) -> str:
        """Hash of the file, so that an edit of an applied migration is noticed."""
        return hashlib.sha256(self.text.encode()).hexdigest()

    def statements(self) -> Iterator[str]:
        """Yield the statements; a line that ends with `;` ends one."""
        lines: list[str] = []
        for line in self.text.splitlines():
            if line.lstrip().startswith("--"):
                continue
            lines.append(line)
            if line.rstrip().endswith(";"):
                yield "\n".join(lines).strip().rstrip(";")
                lines = []
        if rest := "\n".join(lines).strip():
            yield rest


def known() -> list[Migration]:
    """Return the package's migrations in order."""
    folder = files("schemas").joinpath("sql")
    found = [
        Migration(int(entry.name.split("_", 1)[0]), entry.name, entry.read_text("utf-8"))
        for entry in folder.iterdir()
        if entry.name.endswith(".sql")
    ]
    return sorted(found, key=lambda migration: migration.number)


def pending(client: Client) -> list[Migration]:
    """Return what is not yet applied, without changing anything. Raises ChangedMigrationError."""
    if not client.query("EXISTS TABLE schema_migrations").result_rows[0][0]:
        return known()
    applied = _applied(client)
    return [migration for migration in known() if migration.number not in applied]


def apply(client: Client) -> list[Migration]:
    """Apply what is not yet applied and return it.

    Statements are written to be repeatable (IF NOT EXISTS), since the engine has no transactional
    DDL: a migration that was cut short is applied again. Raises ChangedMigrationError.
    """
    client.command(_RECORD)
    fresh = []
    for migration in pending(client):
        for statement in migration.statements():
            client.command(statement)
        row = [migration.number, migration.name, migration.sha256]
        client.insert("schema_migrations", [row], column_names=["number", "name", "sha256"])
        fresh.append(migration)
    return fresh


def _applied(client: Client) -> set[int]:
    """Return the numbers of what is applied. Raises ChangedMigrationError."""
    recorded = client.query("SELECT number, any(sha256) FROM schema_migrations GROUP BY number").result_rows
    applied: dict[int, str] = {int(number): str(sha256) for number, sha256 in recorded}
    for migration in known():
        if applied.get(migration.number, migration.sha256) != migration.sha256:
            raise ChangedMigrationError(f"{migration.name} was changed after it was applied; add a new one instead")
    return set(applied)
