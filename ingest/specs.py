"""Serving the config specs that were pushed, so that server SDKs initialise against this gateway."""

import hashlib
from typing import Final, NamedTuple

import structlog

from schemas import specs
from schemas.specs import Format, Specs, SpecsError

log = structlog.get_logger()

NO_UPDATES: Final = b'{"has_updates":false}'


class Document(NamedTuple):
    """A document as it is sent."""

    content: bytes
    etag: str


class _Newest:
    """The newest document of a project; the formats are made when they are first asked for."""

    def __init__(self, time: int, source: bytes) -> None:
        self.time = time
        self._source = source
        self._parsed: Specs | None = None
        self._made: dict[Format, Document] = {}

    def parsed(self) -> Specs:
        if self._parsed is None:
            self._parsed = specs.parse(self._source)
        return self._parsed

    def is_made(self, wanted: Format) -> bool:
        return wanted in self._made

    def as_format(self, wanted: Format) -> Document:
        made = self._made.get(wanted)
        if made is None:
            content = self.parsed().as_format(wanted)
            made = self._made[wanted] = Document(content, f'"{hashlib.sha256(content).hexdigest()[:32]}"')
        return made


class SpecsShelf:
    """The newest specs document of every project, followed from the topic `config.specs`."""

    def __init__(self) -> None:
        self._newest: dict[str, _Newest] = {}

    def on_record(self, record_key: bytes, value: bytes | None) -> None:
        """Take one record of the topic. A document older than the one on the shelf is passed by."""
        try:
            project, time = specs.read_record_key(record_key)
        except ValueError as error:
            log.error("specs_record_unreadable", error=str(error))  # noqa: TRY400 - what is wrong is in the data, not in a stack
            return
        current = self._newest.get(project)
        if value is None:
            if current is not None and current.time == time:
                del self._newest[project]
        elif current is None or time >= current.time:
            self._newest[project] = _Newest(time, value)

    def rule_of(self, project: str, experiment: str, group: str) -> str:
        """Return the rule id of an experiment's group by the group's name, "" where it is not known."""
        newest = self._newest.get(project)
        try:
            entity = newest.parsed().entity("config", experiment) if newest is not None else None
        except SpecsError:
            return ""
        rules = entity.rules if entity is not None else {}
        return next((rule for rule, name in rules.items() if name == group), "")

    def is_at_hand(self, project: str, wanted: Format) -> bool:
        """Tell whether `find` has nothing to make; to read one of 16 MiB holds up everybody else."""
        newest = self._newest.get(project)
        return newest is None or newest.is_made(wanted)

    def find(self, project: str, wanted: Format, since_time: int, checksum: str) -> Document | None:
        """Return the newest document, `NO_UPDATES` when the SDK has it, None when there is none.

        `since_time` and `checksum` are what the SDK says it has (0 and "" at its start). May be called in any
        thread: two that come at once make the same.
        """
        newest = self._newest.get(project)
        if newest is None:
            return None
        try:
            if _has_it(newest.parsed(), since_time, checksum):
                return Document(NO_UPDATES, "")
            return newest.as_format(wanted)
        except SpecsError as error:
            log.error("specs_document_unreadable", project=project, time=newest.time, error=str(error))  # noqa: TRY400 - what is wrong is in the data, not in a stack
            return None


def _has_it(newest: Specs, since_time: int, checksum: str) -> bool:
    if since_time != newest.time:
        return since_time > newest.time
    return not checksum or not newest.checksum or checksum == newest.checksum
