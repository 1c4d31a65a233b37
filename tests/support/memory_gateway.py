"""The gateway's application over a log in memory: every part is the real one except Kafka."""

import time
from collections.abc import Sequence

from ingest.auth import KeyDirectory
from ingest.durability import Durability, Lane, LogUnavailableError, Record
from ingest.linger import Linger
from ingest.log_events import LogEvents
from ingest.quota import Clock
from ingest.routes import Cors, GatewayApp
from ingest.serve_specs import ServeSpecs
from ingest.specs import SpecsShelf
from schemas import avro, chunk, keys, specs
from schemas.chunk import RequestPart
from schemas.exposure_rule import NO_EVALUATION, ExposureRule
from schemas.keys import KeyKind, KeyRecord
from schemas.metrics import GatewayMetrics
from schemas.topics import EVENTS_RAW

SECRET, CLIENT, CONSOLE = "secret-lab-key", "client-lab-key", "console-lab-key"


class MemoryLog:
    """What the publisher does, into lists."""

    def __init__(self) -> None:
        self.topic, self.partitions = EVENTS_RAW, 4
        self.problem = ""
        self.records: list[tuple[int, Record]] = []
        self.letters: list[tuple[int, dict[str, object]]] = []
        self.refuses_letters = False
        self.durability = Durability.KAFKA

    async def append(self, lane: Lane, records: Sequence[Record]) -> Durability:
        self.records += [(lane.partition, record) for record in records]
        return self.durability

    async def append_dead_letter(self, partition: int, value: bytes) -> Durability:
        if self.refuses_letters:
            raise LogUnavailableError("away")
        self.letters.append((partition, avro.DEAD_LETTER.decode(value[avro.FRAME_BYTES :])))
        return self.durability

    def parts(self) -> list[RequestPart]:
        return [part for _, record in self.records for part in chunk.decode(record.value).requests]

    def events(self) -> list[bytes]:
        return [bytes(event) for part in self.parts() for event in part.events]


class MemoryGateway:
    """An application with three keys known."""

    def __init__(
        self,
        alias_paths: Sequence[str] = (),
        cors_origins: Sequence[str] = ("*",),
        exposure_rule: ExposureRule = NO_EVALUATION,
        clock: Clock = time.monotonic_ns,
    ) -> None:
        self.log = MemoryLog()
        self.metrics = GatewayMetrics()
        self.keys_read = True
        self.directory = KeyDirectory(lambda: self.keys_read, clock)
        self.shelf = SpecsShelf()
        self.linger = Linger(self.log.append, linger_ms=1, answer_deadline_s=60)
        self.linger.start()
        self.log_events = LogEvents(self.directory, self.log, self.linger, self.metrics)
        serve_specs = ServeSpecs(self.directory, self.shelf)
        cors = Cors(cors_origins)
        self.app = GatewayApp(self.log_events, serve_specs, alias_paths, cors, self.metrics, exposure_rule)
        for key in (SECRET, CLIENT, CONSOLE):
            self.know(key, KeyKind(key.split("-")[0]))

    def know(self, key: str, kind: KeyKind, **fields: object) -> KeyRecord:
        made = keys.record_of(key, kind, "default", "production", int(time.time() * 1000))
        record = KeyRecord(**{**{name: getattr(made, name) for name in made.__struct_fields__}, **fields})
        self.directory.on_record(record.key_hash.encode(), keys.encode(record))
        return record

    def push(self, document: bytes) -> None:
        """Serve config specs as the newest of the keys' project."""
        self.shelf.on_record(specs.record_key("default", specs.parse(document).time), document)

    def count(self, name: str, **labels: str) -> float:
        return self.metrics.registry.get_sample_value(name, labels) or 0.0
