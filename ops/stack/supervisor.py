"""Child processes that are watched: started, waited for, restarted when they die, ended in order.

Every child leads a session of its own (Ctrl-C in the terminal reaches only us), writes to a log
file of its own, and is tied to this process by the kernel (see `child.py`).
"""

import asyncio
import os
import signal
import subprocess
import sys
import time
from collections.abc import Awaitable, Callable, Mapping
from dataclasses import dataclass, field
from enum import StrEnum
from pathlib import Path
from typing import Final

from ops.stack import child
from ops.stack.errors import StackError
from ops.stack.last_words import last_words
from ops.stack.pids import ProcessId, identify

Report = Callable[[str], None]

_POLL_S: Final = 0.05
_BACK_OFF_S: Final = (0.2, 0.5, 1.0, 2.0, 5.0, 10.0)
_STEADY_S: Final = 30
"""A child that lived this long has earned a fast restart again."""
_STARTS_BEFORE_GIVING_UP: Final = 3
_LOG_KEPT_BYTES: Final = 64 * 1024 * 1024


class EventKind(StrEnum):
    """What happened to a part of the stack."""

    PREPARING = "preparing"
    STARTING = "starting"
    WAITING = "waiting"
    READY = "ready"
    DONE = "done"
    DIED = "died"
    STOPPING = "stopping"
    STOPPED = "stopped"
    LEFTOVER_ENDED = "leftover_ended"


@dataclass(frozen=True)
class StackEvent:
    """One thing that happened: to which part, and in words."""

    kind: EventKind
    part: str
    detail: str = ""


OnEvent = Callable[[StackEvent], None]


@dataclass(frozen=True)
class ChildSpec:
    """How to start a child, how to tell that it is ready, and how long it may take to end."""

    name: str
    command: tuple[str, ...]
    ready: Callable[[], Awaitable[str]] | None = None
    """Returns "" when ready, else why not. None: the child is ready when it has exited with 0."""
    env: Mapping[str, str] = field(default_factory=dict)
    start_timeout_s: float = 60
    stop_grace_s: float = 15


class _Child:
    def __init__(self, spec: ChildSpec, log_path: Path) -> None:
        self.spec = spec
        self.log_path = log_path
        self.log_began_bytes = 0
        self.process: asyncio.subprocess.Process | None = None
        self.id: ProcessId | None = None
        self.has_been_ready = asyncio.Event()
        self.life: asyncio.Task[None] | None = None


class Supervisor:
    """Starts and watches children. `on_change` is called after each start and end of one."""

    def __init__(self, logs_dir: Path, on_event: OnEvent, on_change: Callable[[], None]) -> None:
        self._logs_dir = logs_dir
        self._on_event = on_event
        self._on_change = on_change
        self._children: dict[str, _Child] = {}

    @property
    def running(self) -> dict[str, ProcessId]:
        """The children that run now."""
        return {name: child.id for name, child in self._children.items() if child.id is not None}

    def log_path(self, name: str) -> Path:
        """Return where the child's output goes."""
        return self._logs_dir / f"{name}.log"

    async def start(self, spec: ChildSpec) -> None:
        """Start a child and return when it is ready. From then on it is restarted when it dies.

        Raises StackError when it is not ready in time or dies at every try; the message ends with
        the last lines of its log.
        """
        started = self._add(spec)
        started.life = asyncio.create_task(self._live(started), name=f"child:{spec.name}")
        ready = asyncio.create_task(started.has_been_ready.wait())
        try:
            await asyncio.wait([ready, started.life], return_when=asyncio.FIRST_COMPLETED)
            if started.life.done():
                started.life.result()
        finally:
            ready.cancel()

    async def run(self, spec: ChildSpec) -> None:
        """Run a child that ends by itself. Raises StackError unless it exits with 0 in time."""
        started = self._add(spec)
        try:
            process = await self._spawn(started)
            code = await asyncio.wait_for(process.wait(), spec.start_timeout_s)
        except TimeoutError:
            raise _failure(started, f"{spec.name} did not end within {spec.start_timeout_s:g} s") from None
        self._forget(started)
        if code != 0:
            raise _failure(started, f"{spec.name} failed ({_exit_of(code)})")
        self._on_event(StackEvent(EventKind.DONE, spec.name))

    async def stop(self, name: str) -> None:
        """End a child: SIGTERM, and SIGKILL when its grace is over. Does nothing when it does not run."""
        ending = self._children.get(name)
        if ending is None:
            return
        if ending.life is not None:
            ending.life.cancel()
            await asyncio.gather(ending.life, return_exceptions=True)
        if ending.process is None or ending.process.returncode is not None:
            self._forget(ending)
            return
        self._on_event(StackEvent(EventKind.STOPPING, name))
        began = time.monotonic()
        detail = ""
        ending.process.terminate()
        try:
            await asyncio.wait_for(ending.process.wait(), ending.spec.stop_grace_s)
        except TimeoutError:
            ending.process.kill()
            await ending.process.wait()
            detail = f"killed after {ending.spec.stop_grace_s:g} s; "
        self._forget(ending)
        detail += f"{_exit_of(ending.process.returncode)}, {time.monotonic() - began:.1f} s"
        self._on_event(StackEvent(EventKind.STOPPED, name, detail))

    def kill_all(self) -> None:
        """Kill every child at once, without waiting."""
        for ending in self._children.values():
            if ending.process is not None and ending.process.returncode is None:
                ending.process.kill()

    def _add(self, spec: ChildSpec) -> _Child:
        self._logs_dir.mkdir(parents=True, exist_ok=True)
        added = self._children[spec.name] = _Child(spec, self.log_path(spec.name))
        return added

    async def _spawn(self, starting: _Child) -> asyncio.subprocess.Process:
        spec = starting.spec
        self._on_event(StackEvent(EventKind.STARTING, spec.name))
        _keep_small(starting.log_path)
        with starting.log_path.open("ab") as output:
            starting.log_began_bytes = output.tell()
            spawning = asyncio.ensure_future(
                asyncio.create_subprocess_exec(
                    *(sys.executable, "-I", "-S", child.__file__, str(os.getpid()), *spec.command),
                    stdin=subprocess.DEVNULL,
                    stdout=output,
                    stderr=output,
                    start_new_session=True,
                    env={**os.environ, **spec.env},
                )
            )
            try:
                starting.process = await asyncio.shield(spawning)
            except asyncio.CancelledError:  # what has been started must be known, to be ended
                starting.process = await spawning
                raise
        starting.id = identify(starting.process.pid)
        self._on_change()
        return starting.process

    async def _live(self, living: _Child) -> None:
        """Start a child, and again whenever it dies. Raises StackError when it never becomes ready."""
        deaths = 0
        while True:
            began = time.monotonic()
            try:
                how = _exit_of(await self._watch(living, await self._spawn(living)))
            except OSError as error:  # no memory, no processes left: that may pass
                how = f"not started: {error.strerror}"
            self._forget(living)
            words = " | ".join([how, *last_words(living.log_path, living.log_began_bytes, lines=1)])
            self._on_event(StackEvent(EventKind.DIED, living.spec.name, words))
            deaths = 1 if time.monotonic() - began > _STEADY_S else deaths + 1
            if not living.has_been_ready.is_set() and deaths >= _STARTS_BEFORE_GIVING_UP:
                raise _failure(living, f"{living.spec.name} does not come up ({how})")
            await asyncio.sleep(_BACK_OFF_S[min(deaths, len(_BACK_OFF_S)) - 1])

    async def _watch(self, living: _Child, process: asyncio.subprocess.Process) -> int:
        """Announce the child when it is ready and return its exit status when it has ended."""
        ready = asyncio.create_task(self._wait_ready(living))
        exited = asyncio.create_task(process.wait())
        try:
            await asyncio.wait([ready, exited], return_when=asyncio.FIRST_COMPLETED)
            if ready.done():
                ready.result()
            return await exited
        finally:
            ready.cancel()
            exited.cancel()

    async def _wait_ready(self, starting: _Child) -> None:
        spec = starting.spec
        assert spec.ready is not None
        until = time.monotonic() + spec.start_timeout_s
        said = ""
        while why_not := await spec.ready():
            if time.monotonic() > until and not starting.has_been_ready.is_set():
                raise _failure(starting, f"{spec.name} was not ready after {spec.start_timeout_s:g} s: {why_not}")
            if why_not != said:
                said = why_not
                self._on_event(StackEvent(EventKind.WAITING, spec.name, why_not))
            await asyncio.sleep(_POLL_S)
        starting.has_been_ready.set()
        self._on_event(StackEvent(EventKind.READY, spec.name))

    def _forget(self, ended: _Child) -> None:
        ended.id = None
        self._on_change()


def _failure(failed: _Child, message: str) -> StackError:
    lines = "".join(f"\n    {line}" for line in last_words(failed.log_path, failed.log_began_bytes))
    return StackError(f"{message}{lines}", f"Its whole log: {failed.log_path}")


def _exit_of(code: int | None) -> str:
    if code is None:
        return "still running"
    return f"ended by {signal.Signals(-code).name}" if code < 0 else f"exit {code}"


def _keep_small(path: Path) -> None:
    """Put a log that has grown large aside before it is written again."""
    if path.is_file() and path.stat().st_size > _LOG_KEPT_BYTES:
        path.replace(path.with_suffix(".1.log"))
