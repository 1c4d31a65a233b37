"""What is known of every config at every time, built from the records of `config.versions`."""

from bisect import bisect_left, bisect_right
from collections.abc import Iterator, Sequence
from operator import attrgetter
from typing import Final

import msgspec
import orjson
import structlog

from schemas.config_versions import (
    DOCUMENT,
    SECTION_OF,
    RecordError,
    VersionRecord,
    decode,
    djb2,
    document_record,
    entity_records,
    gone,
    key_of,
)
from schemas.specs import Kind, Section, Specs

log = structlog.get_logger()

_time_of: Final = attrgetter("time")
_SECTIONS: Final[tuple[Section, ...]] = ("gate", "config", "layer")


class ProjectConfigs:
    """The documents of one project, and the versions of its entities in the order of their times."""

    def __init__(self) -> None:
        self.documents: dict[int, VersionRecord] = {}
        self._times: list[int] = []
        self._timelines: dict[tuple[Section, str], list[VersionRecord]] = {}
        self._hashed: dict[Section, dict[str, str]] = {section: {} for section in _SECTIONS}

    @property
    def newest_ms(self) -> int:
        """The time of the newest document, 0 when there is none."""
        return self._times[-1] if self._times else 0

    def next_after(self, time: int) -> int | None:
        """Return the time of the next document, None when there is none."""
        place = bisect_right(self._times, time)
        return self._times[place] if place < len(self._times) else None

    def timeline(self, section: Section, name: str) -> Sequence[VersionRecord]:
        """Return the versions of an entity, oldest first, [] where it was never known."""
        return self._timelines.get((section, name), [])

    def name_of_hash(self, section: Section, hashed: str) -> str:
        """Return the name whose djb2 hash this is, "" where it is none that is known."""
        return self._hashed[section].get(hashed, "")

    def entities(self) -> Iterator[tuple[Section, str]]:
        """Yield section and name of every entity that was ever known."""
        yield from self._timelines

    def state_at(self, time: int) -> dict[tuple[Section, str], VersionRecord]:
        """Return what was in force at a time, by section and name."""
        state = {}
        for entity, timeline in self._timelines.items():
            record = in_force(timeline, time)
            if record is not None and record.spec:
                state[entity] = record
        return state

    def put(self, record: VersionRecord) -> None:
        """Take a record in; one of the same entity and time is replaced."""
        if record.kind == DOCUMENT:
            if record.time not in self.documents:
                self._times.insert(bisect_left(self._times, record.time), record.time)
            self.documents[record.time] = record
            return
        section = SECTION_OF[record.kind]
        timeline = self._timelines.setdefault((section, record.name), [])
        self._hashed[section][djb2(record.name)] = record.name
        place = bisect_left(timeline, record.time, key=_time_of)
        if place < len(timeline) and timeline[place].time == record.time:
            timeline[place] = record
        else:
            timeline.insert(place, record)

    def drop(self, kind: str, name: str, time: int) -> None:
        """Forget a record, if it is known."""
        if kind == DOCUMENT:
            if self.documents.pop(time, None) is not None:
                self._times.remove(time)
            return
        section = SECTION_OF.get(kind)
        timeline = self._timelines.get((section, name)) if section else None
        if section is None or timeline is None:
            return
        timeline[:] = [record for record in timeline if record.time != time or record.kind != kind]
        if not timeline:
            del self._timelines[section, name]
            self._hashed[section].pop(djb2(name), None)  # another name may have the same


class ConfigHistory:
    """The configs of all projects, as the reader of `config.versions` hands their records over."""

    def __init__(self) -> None:
        self.revision = 0
        """Changes whenever an answer may."""
        self._projects: dict[str, ProjectConfigs] = {}
        self._waiting: dict[tuple[str, int], list[VersionRecord]] = {}

    def project(self, name: str) -> ProjectConfigs | None:
        """Return what is known of a project, None where nothing was ever pushed."""
        return self._projects.get(name)

    def projects(self) -> list[str]:
        """Return the names of the projects."""
        return sorted(self._projects)

    def unfinished(self, project: str, time: int) -> list[VersionRecord]:
        """Return the records of a document whose own record never came: its push was cut off."""
        return list(self._waiting.get((project, time), []))

    def take(self, key: bytes, value: bytes | None) -> None:
        """Take a record of the topic. One that cannot be read is logged and changes nothing.

        Records of a document that is not known yet wait for it: whoever pushed it may have been cut
        off, and half a document was never in force.
        """
        if value is None:
            self._forget(key)
            return
        try:
            record = decode(value)
        except RecordError as error:
            log.warning("config_version_unreadable", error=str(error))
            return
        self.put(record)

    def put(self, record: VersionRecord) -> None:
        """Take a decoded record."""
        configs = self._projects.get(record.project)
        at = (record.project, record.time)
        if record.kind == DOCUMENT:
            if configs is None:
                configs = self._projects[record.project] = ProjectConfigs()
            for waiting in self._waiting.pop(at, []):
                configs.put(waiting)
            configs.put(record)
        elif configs is not None and record.time in configs.documents:
            configs.put(record)
        else:
            self._waiting.setdefault(at, []).append(record)
            return
        self.revision += 1

    def _forget(self, key: bytes) -> None:
        try:
            fields = msgspec.json.decode(key, type=_Key)
        except (msgspec.MsgspecError, UnicodeDecodeError) as error:
            log.warning("config_version_unreadable", error=str(error))
            return
        waiting = self._waiting.get((fields.project, fields.time), [])
        waiting[:] = [record for record in waiting if key_of(record) != key]
        configs = self._projects.get(fields.project)
        if configs is not None:
            configs.drop(fields.kind, fields.name, fields.time)
            self.revision += 1


class _Key(msgspec.Struct):
    project: str
    kind: str
    name: str
    version: str
    time: int


def in_force(timeline: Sequence[VersionRecord], time: int) -> VersionRecord | None:
    """Return the version that was in force at a time, None before the first; `spec` is "" where it was gone."""
    place = bisect_right(timeline, time, key=_time_of)
    return timeline[place - 1] if place else None


def records_of_push(known: ProjectConfigs | None, project: str, document: Specs, pushed_at: int) -> list[VersionRecord]:
    """Return what a document adds to the history, in the order in which it must be written.

    A document may be older than others: what it changes ends where the next one begins, so that a
    record is made there too.
    """
    new = entity_records(project, document, pushed_at)
    before = known.state_at(document.time - 1) if known else {}
    changed = {at: record for at, record in new.items() if at not in before or before[at].sha256 != record.sha256}
    lost = {
        at: gone(project, _kind(old), old.name, document.time, pushed_at) for at, old in before.items() if at not in new
    }
    records = [*changed.values(), *lost.values()]
    next_ms = known.next_after(document.time) if known else None
    if known is not None and next_ms is not None:
        since = known.documents[next_ms].pushed_at
        for at in (*changed, *lost):
            then = in_force(known.timeline(*at), next_ms)
            if then is not None and then.time == next_ms:
                continue
            old = before.get(at)
            if old is not None:
                records.append(msgspec.structs.replace(old, time=next_ms, pushed_at=since))
            else:
                records.append(gone(project, _kind(changed[at]), at[1], next_ms, since))
    return [*records, document_record(project, document, pushed_at)]


def _kind(record: VersionRecord) -> Kind:
    assert record.kind != DOCUMENT
    return record.kind


def spec_of(record: VersionRecord) -> dict[str, object]:
    """Return the entity as JSON, {} where it was gone."""
    spec: dict[str, object] = orjson.loads(record.spec) if record.spec else {}
    return spec
