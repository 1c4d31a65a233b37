"""Which dead letters are meant: the filter of `replay`, and of `list` in SQL. Pure."""

import re
from collections.abc import Sequence
from dataclasses import dataclass, field, fields
from datetime import UTC, datetime
from typing import Final

from ops.dlq.letters import Letter, parse_origin
from ops.duration import milliseconds
from schemas.ids import EVENT_ID_BYTES

_EVENT_ID: Final = re.compile(rf"[0-9a-f]{{{2 * EVENT_ID_BYTES}}}")


class ChoiceError(ValueError):
    """A filter that cannot be understood."""


@dataclass(frozen=True)
class Choice:
    """All that is given must hold; of several values of one field one must. Times are ms since the epoch, 0: open."""

    reasons: tuple[str, ...] = ()
    stages: tuple[str, ...] = ()
    projects: tuple[str, ...] = ()
    environments: tuple[str, ...] = ()
    event_names: tuple[str, ...] = ()
    sdks: tuple[str, ...] = ()
    code_versions: tuple[str, ...] = ()
    since: int = 0
    until: int = 0
    event_ids: frozenset[bytes] = field(default_factory=frozenset)
    origins: frozenset[bytes] = field(default_factory=frozenset)

    def matches(self, letter: Letter) -> bool:
        """Tell whether a letter is meant, as it stands now."""
        now = letter.now
        return (
            (not self.reasons or now.reason in self.reasons)
            and (not self.stages or now.stage in self.stages)
            and (not self.projects or now.project in self.projects)
            and (not self.environments or now.environment in self.environments)
            and (not self.event_names or now.event_name in self.event_names)
            and (not self.sdks or now.sdk_type in self.sdks)
            and (not self.code_versions or now.code_version in self.code_versions)
            and now.last_failed_at >= self.since
            and (not self.until or now.last_failed_at < self.until)
            and (not (self.event_ids or self.origins) or self._is_named(letter))
        )

    def _is_named(self, letter: Letter) -> bool:
        if letter.envelope.event_id in self.event_ids:
            return True
        return letter.origin is not None and letter.origin.pack() in self.origins

    @property
    def is_everything(self) -> bool:
        """Whether nothing is left out."""
        return self == Choice()

    def told(self) -> dict[str, list[str]]:
        """Return the filter as it is written down with a replay."""
        said: dict[str, list[str]] = {}
        for one in fields(self):
            value = getattr(self, one.name)
            if not value:
                continue
            if isinstance(value, frozenset):
                said[one.name] = sorted(item.hex() for item in value)
            else:
                said[one.name] = [str(value)] if isinstance(value, int) else list(value)
        return said

    @classmethod
    def of_told(cls, said: dict[str, list[str]]) -> "Choice":
        """Read what `told` wrote. Raises ChoiceError."""
        known = {one.name for one in fields(cls)}
        if unknown := set(said) - known:
            raise ChoiceError(f"the replay was chosen by {min(unknown)}, which this version does not know")
        read: dict[str, object] = {}
        for name, values in said.items():
            if name in ("since", "until"):
                read[name] = int(values[0])
            elif name in ("event_ids", "origins"):
                read[name] = frozenset(bytes.fromhex(value) for value in values)
            else:
                read[name] = tuple(values)
        return cls(**read)  # type: ignore[arg-type]  # the types follow from the names

    def where(self) -> str:
        """Return the same as a condition on the table `dead_letters`."""
        columns = {
            "reason": self.reasons,
            "stage": self.stages,
            "project": self.projects,
            "environment": self.environments,
            "event_name": self.event_names,
            "sdk_type": self.sdks,
            "code_version": self.code_versions,
        }
        conditions = [f"{name} IN ({', '.join(map(quoted, some))})" for name, some in columns.items() if some]
        if self.since:
            conditions.append(f"last_failed_at >= fromUnixTimestamp64Milli({self.since})")
        if self.until:
            conditions.append(f"last_failed_at < fromUnixTimestamp64Milli({self.until})")
        return " AND ".join(conditions) or "1"


def quoted(text: str) -> str:
    """Return a text as SQL writes it."""
    escaped = text.replace("\\", "\\\\").replace("'", "\\'")
    return f"'{escaped}'"


def moment_ms(text: str, now_ms: int) -> int:
    """Read `24h` (so long ago) or an ISO 8601 moment, UTC where it names no zone. Raises ChoiceError."""
    if not text:
        return 0
    try:
        return now_ms - milliseconds(text)
    except ValueError:
        pass
    try:
        moment = datetime.fromisoformat(text)
    except ValueError:
        raise ChoiceError(f"{text!r} is no time: write 90m, 24h, 7d or 2026-01-31T12:00:00Z") from None
    if moment.tzinfo is None:
        moment = moment.replace(tzinfo=UTC)
    return int(moment.timestamp() * 1000)


def named(lines: Sequence[str]) -> tuple[frozenset[bytes], frozenset[bytes]]:
    """Read event ids and origins, one a line; return both kinds. Raises ChoiceError, which names the line."""
    event_ids, origins = set(), set()
    for number, line in enumerate(lines, 1):
        text = line.strip()
        if not text or text.startswith("#"):
            continue
        if _EVENT_ID.fullmatch(text.lower()):
            event_ids.add(bytes.fromhex(text))
        elif (origin := parse_origin(text)) is not None:
            origins.add(origin)
        else:
            raise ChoiceError(f"line {number}: {text[:60]!r} is neither an event id nor log/partition/offset/index")
    if not event_ids and not origins:
        raise ChoiceError("the file names no event")
    return frozenset(event_ids), frozenset(origins)
