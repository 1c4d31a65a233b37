"""Reading the config registry from the log, and writing documents to it."""

import asyncio
from dataclasses import dataclass
from typing import Final

from aiokafka import AIOKafkaProducer

from ops.kafka import read_compacted, read_reference
from schemas import config_versions, specs
from schemas.config_history import ConfigHistory, ProjectConfigs, records_of_push
from schemas.kafka import PRODUCER, KafkaConnection
from schemas.specs import Specs, SpecsError
from schemas.topics import CONFIG_SPECS, CONFIG_VERSIONS

_READ_S: Final = 120
Records = list[tuple[str, bytes, bytes | None]]


class PushRefusedError(Exception):
    """A document that may not be pushed; `remedy` says what to do."""

    def __init__(self, message: str, remedy: str) -> None:
        super().__init__(message)
        self.remedy = remedy


@dataclass(frozen=True)
class Pushed:
    """What became of a document."""

    newest_ms: int
    """The time of the document that SDKs are served now."""
    changed: int
    """Entities that are new, other or gone, compared with the document before."""
    is_new: bool


async def read_history(connection: KafkaConnection) -> ConfigHistory:
    """Return all that the registry holds now. Raises TimeoutError and KafkaError."""
    history = ConfigHistory()
    await read_reference(connection, CONFIG_VERSIONS, history.take, _READ_S)
    return history


async def push(
    connection: KafkaConnection, history: ConfigHistory, project: str, document: Specs, now_ms: int, older: bool = False
) -> Pushed:
    """Write a document and what it changes, and take both into `history`.

    The versions go first: when SDKs get the document, the worker can know it. `older` lets a document
    in that is older than the newest. Raises PushRefusedError, KafkaError.
    """
    if history.project(project) is None:
        await _take_over(connection, history, project)
    why_not = refusal(history.project(project), document, older)
    if why_not is not None:
        raise why_not
    records, changed = plan(history, project, document, now_ms)
    await _write(connection, records)
    _take(history, records)
    configs = history.project(project)
    return Pushed(configs.newest_ms if configs else document.time, changed, len(records) > 1)


def refusal(known: ProjectConfigs | None, document: Specs, older: bool) -> PushRefusedError | None:
    """Return why a document may not be pushed, None where it may."""
    if known is None:
        return None
    same = known.documents.get(document.time)
    if same is not None:
        if same.sha256 == config_versions.document_record("", document, 0).sha256:
            return None
        return PushRefusedError(
            f"Another document with the time {document.time} was pushed before.",
            "Exposures name a version by its time: give the changed document a later one.",
        )
    if document.time < known.newest_ms and not older:
        return PushRefusedError(
            f"time: {document.time} is before {known.newest_ms}, the time of the newest document: time went backwards.",
            "SDKs keep what they have, since it is newer. Give the document a later time, or file it as history"
            " with --older: it then is what exposures of its time are matched with, and is served to nobody.",
        )
    return None


def plan(history: ConfigHistory, project: str, document: Specs, now_ms: int) -> tuple[Records, int]:
    """Return the records that a document needs, and how many entities it changes.

    A document that is known already needs its own record only, which is written again because the
    push that brought it may have been cut off before.
    """
    records: Records = []
    changed = 0
    known = history.project(project)
    if known is None or document.time not in known.documents:
        new = records_of_push(known, project, document, now_ms)
        written = {config_versions.key_of(record): record for record in new}
        records += [
            (CONFIG_VERSIONS, config_versions.key_of(left), None)
            for left in history.unfinished(project, document.time)
            if config_versions.key_of(left) not in written
        ]
        records += [(CONFIG_VERSIONS, key, config_versions.encode(record)) for key, record in written.items()]
        changed = sum(record.time == document.time for record in new) - 1
    records.append((CONFIG_SPECS, specs.record_key(project, document.time), document.source))
    return records, changed


async def _write(connection: KafkaConnection, records: Records) -> None:
    producer = AIOKafkaProducer(**connection.client_settings(), **PRODUCER)
    try:
        await producer.start()
        versions = [record for record in records if record[0] == CONFIG_VERSIONS]
        await asyncio.gather(*[await producer.send(topic, value, key=key) for topic, key, value in versions])
        for topic, key, value in records[len(versions) :]:
            await producer.send_and_wait(topic, value, key=key)
    finally:
        await producer.stop()


def _take(history: ConfigHistory, records: Records) -> None:
    for topic, key, value in records:
        if topic == CONFIG_VERSIONS:
            history.take(key, value)


async def _take_over(connection: KafkaConnection, history: ConfigHistory, project: str) -> None:
    """Bring in what was pushed before versions were kept, oldest first."""
    found = await read_compacted(connection, CONFIG_SPECS)
    earlier = sorted((time, source) for (owner, time), source in _by_key(found) if owner == project)
    for _, source in earlier:
        try:
            document = specs.parse(source)
        except SpecsError:
            continue
        records, _ = plan(history, project, document, document.time)
        await _write(connection, records[:-1])
        _take(history, records)


def _by_key(found: dict[bytes, bytes]) -> list[tuple[tuple[str, int], bytes]]:
    named = []
    for key, source in found.items():
        try:
            named.append((specs.read_record_key(key), source))
        except ValueError:
            continue
    return named
