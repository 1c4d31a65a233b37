"""The gateway: SDK requests in, chunks on `events.raw` out. This file puts its parts together."""

import asyncio
from typing import Final

from prometheus_client import CollectorRegistry
from starlette.types import ASGIApp

from ingest.auth import KeyDirectory
from ingest.config import GatewayConfig
from ingest.durability import DurableLog
from ingest.linger import Linger
from ingest.log_events import LogEvents
from ingest.outbox import Outbox
from ingest.publish import Publisher
from ingest.routes import Cors, GatewayApp
from ingest.serve_specs import ServeSpecs
from ingest.specs import SpecsShelf
from ingest.spill import SpillingLog
from schemas.metrics import GatewayMetrics
from schemas.reference import ReferenceReader
from schemas.topics import CONFIG_SPECS, KEYS

_NOT_STARTED: Final = "the gateway has not been started"


class Gateway:
    """The ingest stage. `app` may be served before `start`; it answers 503 until it is ready."""

    def __init__(self, config: GatewayConfig, metrics: GatewayMetrics, outbox: Outbox | None = None) -> None:
        """Put the parts together. With an `outbox`, which it closes, it takes events while Kafka is away."""
        self._metrics = metrics
        self._publisher = Publisher(config.kafka, metrics)
        self._spill = None
        if outbox is not None:
            limit, deadline_s = config.spill_max_bytes, config.answer_deadline_s
            self._spill = SpillingLog(self._publisher, outbox, limit, metrics, deadline_s)
        self._events: DurableLog = self._spill or self._publisher
        self._linger = Linger(self._events.append, config.linger_ms, config.answer_deadline_s)
        self._directory = KeyDirectory(lambda: self._keys.caught_up)
        self._keys = ReferenceReader(config.kafka, KEYS, self._directory.on_record)
        self._shelf = SpecsShelf()
        self._specs = ReferenceReader(config.kafka, CONFIG_SPECS, self._shelf.on_record)
        self._log_events = LogEvents(self._directory, self._events, self._linger, metrics)
        metrics.in_flight_bytes.set_function(self._log_events.held_bytes)
        self._app = GatewayApp(
            self._log_events,
            ServeSpecs(self._directory, self._shelf),
            config.alias_paths,
            Cors(config.cors_origins),
            metrics,
            config.exposure_rule,
        )
        self._started = False

    @property
    def app(self) -> ASGIApp:
        """The application to serve."""
        return self._app

    @property
    def registry(self) -> CollectorRegistry:
        """Where the gateway's metrics are."""
        return self._metrics.registry

    async def start(self) -> None:
        """Connect to the log and begin to read keys and specs. Returns at once; `readiness` tells."""
        self._linger.start()
        await self._publisher.start()
        if self._spill is not None:
            await self._spill.start()
        await self._keys.start()
        await self._specs.start()
        self._started = True

    async def stop(self) -> None:
        """Refuse what is new with 503, answer what is in hand, and disconnect."""
        self._log_events.is_draining = True
        await self._linger.drain()
        if self._spill is not None:
            await self._spill.stop()
        await asyncio.gather(self._keys.stop(), self._specs.stop(), self._publisher.stop())

    def readiness(self) -> dict[str, str]:
        """Return what is not ready and what to do about it; {} when the gateway is."""
        waiting = {}
        if not self._started:
            waiting["gateway"] = _NOT_STARTED
        if problem := self._events.problem:
            waiting["log"] = problem
        elif stalled := self._linger.stalled:
            numbers = sorted(lane.partition for lane in stalled)
            waiting["log"] = f"partitions {numbers} do not acknowledge; is the broker up?"
        # A spill that cannot be used is no reason to send nothing here while Kafka takes everything.
        if self._spill is not None and (waiting or self._spill.holds_any):
            why = self._spill.spill_problem
            if why and why not in waiting.get("log", ""):
                waiting["spill"] = why
        if not self._keys.caught_up:
            waiting["keys"] = "the topic of keys has not been read to its end"
        if not self._specs.caught_up:
            waiting["specs"] = "the topic of config specs has not been read to its end"
        if self._log_events.is_draining:
            waiting["gateway"] = "stopping"
        return waiting
