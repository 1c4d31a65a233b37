"""From start to exit code: the same for every process."""

import asyncio
import contextlib
import signal
import sys
from collections.abc import AsyncIterator, Callable, Iterator, Sequence
from dataclasses import dataclass, field
from typing import Final

import structlog
import uvloop
from prometheus_client import CollectorRegistry, Metric
from prometheus_client.registry import Collector

from ops import logs
from ops.admin import AdminServer
from ops.http_server import HttpServer, PortUnavailableError
from ops.processes.allocator import keep_freed_memory
from ops.processes.stage import CannotStartError, Stage
from ops.settings import Settings

log = structlog.get_logger()

STOP_DEADLINE_S: Final = 10
"""A stop that takes longer is cut; what was not finished was not acknowledged."""


@dataclass
class Composition:
    """What one process consists of: stages in the order they start, then the servers in front of them."""

    stages: Sequence[Stage]
    servers: Sequence[HttpServer] = field(default_factory=tuple)


class _State:
    """What /readyz says: the process' own phase before and after the stages' word."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self.phase = "starting"
        self._stages = stages

    def readiness(self) -> dict[str, str]:
        if self.phase != "running":
            return {"process": self.phase}
        return {part: why for stage in self._stages for part, why in stage.readiness().items()}


class _AllMetrics(Collector):
    """The metrics of every stage; what all of them count (the process itself) is taken once."""

    def __init__(self, stages: Sequence[Stage]) -> None:
        self._stages = stages

    def collect(self) -> Iterator[Metric]:
        seen: set[str] = set()
        for stage in self._stages:
            for metric in stage.registry.collect():
                if metric.name not in seen:
                    seen.add(metric.name)
                    yield metric


def run(name: str, settings: Settings, compose: Callable[[Settings], Composition]) -> int:
    """Run a process until it is told to stop or must end; return its exit code.

    SIGTERM and SIGINT stop it cleanly: 0. A stage that fails for good, a port or folder that is taken or
    an error nobody caught: 1, with the reason in the log.
    """
    logs.configure(settings.log_level, name)
    keep_freed_memory()
    try:
        with asyncio.Runner(loop_factory=uvloop.new_event_loop) as runner:
            return runner.run(_run(name, settings, compose))
    except PortUnavailableError as error:
        log.critical("port_unavailable", error=str(error))
    except CannotStartError as error:
        log.critical("cannot_start", error=str(error))
    except Exception:
        log.critical("process_failed", exc_info=True)
    return 1


async def _run(name: str, settings: Settings, compose: Callable[[Settings], Composition]) -> int:
    loop = asyncio.get_running_loop()
    loop.set_exception_handler(_log_loop_error)
    stop_asked = asyncio.Event()
    for number in (signal.SIGTERM, signal.SIGINT):
        loop.add_signal_handler(number, stop_asked.set)
    parts = compose(settings)
    state = _State(parts.stages)
    registry = CollectorRegistry()
    registry.register(_AllMetrics(parts.stages))
    async with contextlib.AsyncExitStack() as started:
        admin = AdminServer(settings.admin_host, settings.admin_port(name), name, state.readiness, registry)
        await started.enter_async_context(_running(admin))
        for stage in parts.stages:
            await started.enter_async_context(_running(stage))
        for server in parts.servers:
            await started.enter_async_context(_running(server))
        state.phase = "running"
        log.info("process_started", version=sys.version.split()[0])
        failure = await _wait_for_end(parts.stages, stop_asked)
        state.phase = "stopping"
        log.info("process_stopping")
        deadline = loop.call_later(STOP_DEADLINE_S, _cut)
        await started.aclose()
        deadline.cancel()
    if failure is not None:
        log.critical("stage_failed", exc_info=failure)
        return 1
    log.info("process_stopped")
    return 0


@contextlib.asynccontextmanager
async def _running(part: Stage | HttpServer | AdminServer) -> AsyncIterator[None]:
    await part.start()
    try:
        yield
    finally:
        await part.stop()


async def _wait_for_end(stages: Sequence[Stage], stop_asked: asyncio.Event) -> BaseException | None:
    """Wait for a signal or for a stage's fatal failure; return the failure."""
    signalled = asyncio.create_task(stop_asked.wait())
    failures = [asyncio.ensure_future(stage.failed()) for stage in stages if hasattr(stage, "failed")]
    done, pending = await asyncio.wait([signalled, *failures], return_when=asyncio.FIRST_COMPLETED)
    for task in pending:
        task.cancel()
    await asyncio.gather(*pending, *failures, return_exceptions=True)
    for task in failures:
        if task in done:
            failure = task.exception() or task.result()
            return failure if isinstance(failure, BaseException) else RuntimeError(repr(failure))
    return None


def _cut() -> None:
    log.critical("stop_took_too_long", seconds=STOP_DEADLINE_S)
    sys.stderr.flush()
    signal.raise_signal(signal.SIGKILL)


def _log_loop_error(_loop: asyncio.AbstractEventLoop, context: dict[str, object]) -> None:
    error = context.get("exception")
    log.error(
        "error_in_event_loop",
        message=context.get("message"),
        exc_info=error if isinstance(error, BaseException) else None,
    )
