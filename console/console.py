"""The console put together: which part answers what, and what they share."""

from dataclasses import replace
from typing import Final

from prometheus_client import CollectorRegistry
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp

from console import (
    access,
    answers,
    charts,
    dead_letters,
    erase,
    events,
    experiments,
    openapi,
    pages,
    pipeline,
    rehearsal,
    shadow,
)
from console.access import Access, ConsoleKeys
from console.config import ConsoleConfig
from console.export import route as export_route
from console.health.route import Health
from console.ledger import route as ledger_route
from console.live import route as live_route
from console.live.hub import Hub
from console.live.look import Look
from console.live.replay import Replay
from console.log_watch import LogWatch
from console.rehearsal import Command
from console.shield import Shield
from console.sql import route as sql_route
from console.sql.run import SqlRunner
from console.store_pool import StorePool
from console.store_watch import StoreWatch
from schemas.metrics import ConsoleMetrics

__all__ = ["Console", "ConsoleConfig"]

_OWN_THREADS: Final = 3
_EXPORT_THREADS: Final = 2


class Console:
    """The read side. `app` answers over HTTP; the stage's contract starts and stops what is behind it."""

    def __init__(self, config: ConsoleConfig, metrics: ConsoleMetrics) -> None:
        self.registry: CollectorRegistry = metrics.registry
        self._store = StorePool(config.store, _OWN_THREADS, "console")
        self._exports = StorePool(config.store, _EXPORT_THREADS, "export")
        self._hub = Hub(config.kafka, Look(config.kafka), metrics, config.viewer_patience_s)
        self._past = live_route.Past(Replay(config.kafka), Look(config.kafka))
        self._sql = SqlRunner(config.store, self._store, config.sql, metrics)
        self._log = LogWatch(config.kafka)
        self._store_watch = StoreWatch(self._store)
        self._keys = ConsoleKeys(config.kafka) if config.asks_for_keys else None
        routes = [
            *pages.routes(),
            *charts.routes(config.charts),
            *access.routes(self._keys),
            Route("/openapi.json", _describe),
            *sql_route.routes(self._sql),
            *live_route.routes(self._hub, self._past),
            *experiments.routes(self._store, Health(self._store)),
            *export_route.routes(self._exports),
            *pipeline.routes(self._store, self._log),
            *ledger_route.routes(config.kafka, self._store),
            *dead_letters.routes(self._store),
            *rehearsal.routes(self._dry_run(config)),
            *events.routes(self._store),
            *shadow.routes(self._store),
            *erase.routes(self._store),
        ]
        app = Starlette(routes=routes, exception_handlers=answers.HANDLERS)
        guarded: ASGIApp = app if self._keys is None else Access(app, self._keys)
        self.app: ASGIApp = Shield(guarded, config.allowed_hosts)

    def _dry_run(self, config: ConsoleConfig) -> Command:
        """Return the command that asks this console in its turn, with a key of its own where one is needed."""
        key = {"HEADRACE_CONSOLE_KEY": self._keys.own} if self._keys is not None else {}
        return replace(config.dry_run, environment={**config.dry_run.environment, **key})

    async def start(self) -> None:
        """Begin to watch the log and the store; what is not there yet is waited for in the background."""
        if self._keys is not None:
            await self._keys.start()
        self._log.start()
        self._store_watch.start()
        self._hub.start()

    async def hang_up(self) -> None:
        """End the answers that would not end by themselves, so that the server need not cut them off."""
        self._hub.hang_up()
        await self._sql.hang_up()

    async def stop(self) -> None:
        """End the streams and the queries, and let go of log and store."""
        if self._keys is not None:
            await self._keys.stop()
        await self._hub.stop()
        await self._past.look.stop()
        await self._log.stop()
        await self._store_watch.stop()
        await self._sql.stop()
        await self._exports.close(patience_s=1)
        await self._store.close(patience_s=3)

    def readiness(self) -> dict[str, str]:
        """Return what cannot be asked now, and what to do about it."""
        waits = {}
        if self._store_watch.trouble:
            waits["store"] = self._store_watch.trouble
        if self._log.trouble:
            waits["kafka"] = f"{self._log.trouble}; see that the broker runs and HEADRACE_KAFKA_BOOTSTRAP names it"
        return waits


async def _describe(_request: Request) -> Response:
    return answers.json_answer(openapi.DOCUMENT)
