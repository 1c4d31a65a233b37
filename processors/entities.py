"""What the newest config specs say of a gate, experiment, dynamic config or layer."""

import structlog

from schemas import specs
from schemas.kafka import KafkaConnection
from schemas.reference import ReferenceReader
from schemas.topics import CONFIG_SPECS

log = structlog.get_logger()


class NewestSpecs:
    """The newest document of each project, by the document's own time."""

    def __init__(self) -> None:
        self._documents: dict[str, specs.Specs] = {}
        self.revision = 0
        """Changes whenever an answer may."""

    def find(self, project: str, section: str, name: str) -> specs.Entity | None:
        """Return what is known of an entity; `section` is what exposures call it: gate, config or layer."""
        document = self._documents.get(project)
        return document.entity(section, name) if document else None

    def take(self, key: bytes, value: bytes | None) -> None:
        """Take a record of `config.specs`. One that cannot be read is logged and changes nothing."""
        if value is None:
            return
        try:
            project, _ = specs.read_record_key(key)
            document = specs.parse(value)
        except ValueError as error:
            log.warning("specs_unreadable", error=str(error))
            return
        known = self._documents.get(project)
        if known is None or document.time >= known.time:
            self._documents[project] = document
            self.revision += 1


def follow(connection: KafkaConnection, newest: NewestSpecs) -> ReferenceReader:
    """Return the reader that keeps `newest` up to date."""
    return ReferenceReader(connection, CONFIG_SPECS, newest.take)
