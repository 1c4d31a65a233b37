"""The stack on one machine: broker, then what must exist, then our processes."""

import asyncio
import http.client
import sys
from collections.abc import Awaitable, Callable, Iterator, Mapping, Sequence
from pathlib import Path
from types import TracebackType
from typing import Any, Final, Self

import orjson

from ops.http_server import PortUnavailableError, bind
from ops.settings import Settings
from ops.stack import pids, record
from ops.stack.broker import Broker
from ops.stack.errors import InUseError
from ops.stack.supervisor import ChildSpec, EventKind, OnEvent, StackEvent, Supervisor

_LEFTOVER_GRACE_S: Final = 5
_START_TIMEOUT_S: Final = 120
_INIT_TIMEOUT_S: Final = 150
"""More than the init process itself has patience with Kafka, so that its own words are heard."""
_STOP_ORDER: Final = ("init", "gateway", "worker", "lander", "console", "store", "broker")
"""What takes events in goes first and the log last, so that whatever is in hand can still be written."""


def processes_for(settings: Settings) -> tuple[str, ...]:
    """Return the processes of ours that a whole stack consists of."""
    store = ("store",) if settings.store.is_embedded else ("lander", "console")
    return ("gateway", "worker", *store)


def ports_of(settings: Settings, processes: Sequence[str]) -> Iterator[tuple[str, int, str]]:
    """Yield the (host, port, setting that changes it) that a stack with these processes takes."""
    if settings.has_local_broker:
        yield "127.0.0.1", settings.kafka_port, "HEADRACE_KAFKA_PORT"
        yield "127.0.0.1", settings.kafka_port + 1, "HEADRACE_KAFKA_PORT"
    if "gateway" in processes:
        yield settings.host, settings.gateway_port, "HEADRACE_GATEWAY_PORT"
    if "console" in processes or "store" in processes:
        yield settings.host, settings.console_port, "HEADRACE_CONSOLE_PORT"
    for name in processes:
        yield settings.admin_host, settings.admin_port(name), "HEADRACE_ADMIN_PORT_BASE"


class LocalStack:
    """Everything that runs on this machine, for as long as the `async with` block lasts.

    Entering returns when every part is ready; leaving ends exactly the processes it started. Its
    children end with the thread that entered it, however that ends, so enter it in the main thread.
    """

    def __init__(
        self,
        settings: Settings,
        on_event: OnEvent = lambda _: None,
        processes: Sequence[str] | None = None,
    ) -> None:
        """Plan a stack. `processes` are those of ours to start; all that `settings` need by default."""
        self.settings = settings.model_copy(update={"data_dir": settings.data_dir.resolve()})
        self._on_event = on_event
        self._processes = processes_for(settings) if processes is None else tuple(processes)
        self._folder = record.DataFolder(self.settings.data_dir)
        self._supervisor = Supervisor(self.settings.data_dir / "logs", on_event, self._write_down)

    @property
    def state(self) -> record.StackRecord | None:
        """What runs now, as `stack.json` says."""
        return record.read(self.settings.data_dir)

    def log_path(self, part: str) -> Path:
        """Return where the output of `broker`, `gateway`, … goes."""
        return self._supervisor.log_path(part)

    async def __aenter__(self) -> Self:
        """Start everything and wait until it is ready. Raises ops.stack.errors.StackError."""
        self._folder.__enter__()
        try:
            await self._start()
        except BaseExceptionGroup as group:
            await self._stop()
            raise _first_of(group) from None
        except BaseException:
            await self._stop()
            raise
        return self

    async def __aexit__(
        self, kind: type[BaseException] | None, error: BaseException | None, traceback: TracebackType | None
    ) -> None:
        """Stop what was started: what takes events in first, the log last."""
        await self._stop()

    def kill_all(self) -> None:
        """Kill every child at once; for somebody who will not wait for a clean stop."""
        self._supervisor.kill_all()

    async def _start(self) -> None:
        await asyncio.to_thread(self._end_leftovers)
        self._check_ports()
        # Fetching may take minutes, so nobody waits for the broker before it can be started at all.
        broker = await self._prepare_broker() if self.settings.has_local_broker else None
        async with asyncio.TaskGroup() as first:
            if broker is not None:
                first.create_task(self._supervisor.start(broker))
            first.create_task(self._supervisor.run(self._child("init", ready=None, start_timeout_s=_INIT_TIMEOUT_S)))
        async with asyncio.TaskGroup() as rest:
            for name in self._processes:
                rest.create_task(self._supervisor.start(self._child(name, ready=self._asks(name))))

    async def _prepare_broker(self) -> ChildSpec:
        def report(detail: str) -> None:
            self._on_event(StackEvent(EventKind.PREPARING, "broker", detail))

        broker = Broker(self.settings.data_dir, self.settings.kafka_port, self.settings.cache_dir)
        return await broker.prepare(report)

    async def _stop(self) -> None:
        for name in _STOP_ORDER:
            await self._supervisor.stop(name)
        self._folder.__exit__(None, None, None)

    def _end_leftovers(self) -> None:
        """End what the last stack over this folder left behind, and nothing else."""
        last = record.read(self.settings.data_dir)
        for name, process in (last.children if last else {}).items():
            if pids.end(process.id, _LEFTOVER_GRACE_S):
                self._on_event(StackEvent(EventKind.LEFTOVER_ENDED, name, f"process {process.pid}"))

    def _check_ports(self) -> None:
        for host, port, setting in ports_of(self.settings, self._processes):
            try:
                bind(host, port, setting).close()
            except PortUnavailableError as error:
                raise InUseError(str(error)) from error

    def _child(
        self, name: str, ready: Callable[[], Awaitable[str]] | None, start_timeout_s: float = _START_TIMEOUT_S
    ) -> ChildSpec:
        # -P: a folder of the user's that is called `ops` must not stand in for ours.
        command = (sys.executable, "-P", "-m", "ops.processes", name)
        environment = environment_of(self.settings)
        return ChildSpec(name, command, ready, environment, start_timeout_s)

    def _asks(self, name: str) -> Callable[[], Awaitable[str]]:
        async def ready() -> str:
            return await asyncio.to_thread(why_not_ready, self.settings.admin_host, self.settings.admin_port(name))

        return ready

    def _write_down(self) -> None:
        record.write(self.settings.data_dir, self._supervisor.running)


def _first_of(group: BaseExceptionGroup[BaseException]) -> BaseException:
    """Return what went wrong first; the others were started beside it and fail for its sake."""
    first = group.exceptions[0]
    return _first_of(first) if isinstance(first, BaseExceptionGroup) else first


def environment_of(settings: Settings) -> Mapping[str, str]:
    """Return the variables that give a child the very settings of its parent."""
    return {f"HEADRACE_{name.upper()}": _variable(value) for name, value in settings.model_dump(mode="json").items()}


def _variable(value: Any) -> str:
    return value if isinstance(value, str) else orjson.dumps(value).decode()


def why_not_ready(host: str, port: int, timeout_s: float = 2) -> str:
    """Ask /readyz of an admin port; return "" when it is ready, else why not. Blocks."""
    connection = http.client.HTTPConnection(host, port, timeout=timeout_s)
    try:
        connection.request("GET", "/readyz")
        answer = orjson.loads(connection.getresponse().read())
    except (OSError, http.client.HTTPException, orjson.JSONDecodeError) as error:
        return f"its admin port does not answer ({type(error).__name__})"
    finally:
        connection.close()
    return "" if answer["ready"] else "; ".join(f"{part}: {why}" for part, why in answer["waiting_for"].items())
