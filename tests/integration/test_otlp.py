"""OpenTelemetry's own exporter against the real gateway, through to the log on a real broker."""

import asyncio
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any

import orjson
import pytest
import requests
from aiokafka import TopicPartition
from opentelemetry._logs import LogRecord
from opentelemetry.exporter.otlp.proto.http import Compression
from opentelemetry.exporter.otlp.proto.http._log_exporter import OTLPLogExporter
from opentelemetry.sdk._logs import LoggerProvider
from opentelemetry.sdk._logs.export import BatchLogRecordProcessor
from opentelemetry.sdk.resources import Resource
from support.gateway_process import GatewayProcess
from support.read_log import read_whole
from support.waiting import until

from ops.kafka import publish
from ops.settings import Settings
from schemas import chunk, keys
from schemas.kafka import KafkaConnection
from schemas.keys import KeyKind
from schemas.topics import EVENTS_RAW, KEYS

PARTITIONS = 4
EVALUATIONS = 1500
FIRST_NS = 1767268800000000000


class Receiver:
    """A gateway that takes evaluations of the reason `split`, and the log behind it."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.process = GatewayProcess(settings, log)
        self.url = f"http://127.0.0.1:{settings.gateway_port}/v1/logs"
        self.key = keys.generate(KeyKind.SECRET)
        self._kafka = settings.kafka

    async def know_key(self) -> None:
        record = keys.record_of(self.key, KeyKind.SECRET, "default", "production", 0)
        await publish(self._kafka, KEYS, [(record.key_hash.encode(), keys.encode(record))])

    async def events(self) -> list[dict[str, Any]]:
        """Return the events in the log that came with this key."""
        key_id = keys.record_of(self.key, KeyKind.SECRET, "", "", 0).key_id
        records = await read_whole(self._kafka, [TopicPartition(EVENTS_RAW, number) for number in range(PARTITIONS)])
        parts = [part for record in records for part in chunk.decode(record.value).requests]
        return [orjson.loads(bytes(raw)) for part in parts if part.key_id == key_id for raw in part.events]


@pytest.fixture
async def receiver(
    broker: KafkaConnection, stack_settings: Callable[..., Settings], tmp_path: Path
) -> AsyncIterator[Receiver]:
    settings = stack_settings(kafka_bootstrap=broker.bootstrap, otlp_exposures="split")
    made = Receiver(settings, tmp_path / "gateway.log")
    await made.know_key()
    made.process.start()
    try:
        await made.process.ready()
        yield made
    finally:
        made.process.clean_up()


def log_with_opentelemetry(url: str, key: str) -> None:
    """Do as an application does whose OpenFeature hook logs evaluations."""
    session = requests.Session()
    session.trust_env = False
    headers = {"authorization": f"Bearer {key}"}
    exporter = OTLPLogExporter(url, headers=headers, compression=Compression.Gzip, session=session)
    provider = LoggerProvider(Resource({"service.name": "shop"}), shutdown_on_exit=False)
    provider.add_log_record_processor(BatchLogRecordProcessor(exporter, max_export_batch_size=200))
    logger = provider.get_logger("openfeature")
    for number in range(EVALUATIONS):
        attributes = {
            "feature_flag.key": "button_color",
            "feature_flag.result.variant": "Green" if number % 2 else "Blue",
            "feature_flag.result.reason": "split" if number % 3 else "default",
            "feature_flag.context.id": f"u-{number}",
        }
        event = "feature_flag.evaluation"
        logger.emit(LogRecord(timestamp=FIRST_NS + number, event_name=event, attributes=attributes, body="evaluated"))
    tracked = {"feature_flag.event_name": "checkout", "feature_flag.context.id": "u-1", "value": 99.77}
    logger.emit(LogRecord(timestamp=FIRST_NS, event_name="feature_flag.track", attributes=tracked))
    logger.emit(LogRecord(timestamp=FIRST_NS, body="a line of a log"))
    provider.shutdown()


async def test_what_the_official_exporter_sends_is_in_the_log_once(receiver: Receiver) -> None:
    await asyncio.to_thread(log_with_opentelemetry, receiver.url, receiver.key)
    events = await until(receiver.events)
    by_name: dict[str, list[dict[str, Any]]] = {}
    for event in events:
        by_name.setdefault(event["eventName"], []).append(event)
    assert set(by_name) == {"statsig::config_exposure", "checkout"}
    shown = {
        event["user"]["userID"]: (event["metadata"]["config"], event["metadata"]["ruleID"])
        for event in by_name["statsig::config_exposure"]
    }
    assert shown == {
        f"u-{number}": ("button_color", "Green" if number % 2 else "Blue")
        for number in range(EVALUATIONS)
        if number % 3
    }
    assert len(events) == len(shown) + 1
    [checkout] = by_name["checkout"]
    assert (checkout["value"], checkout["user"], checkout["time"]) == (99.77, {"userID": "u-1"}, FIRST_NS // 10**6)
    assert {event["metadata"]["service.name"] for event in events} == {"shop"}
