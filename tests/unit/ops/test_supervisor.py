"""The laws of supervised children, with children that need no broker."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import pytest
from support.waiting import until

from ops.stack.errors import StackError
from ops.stack.pids import ProcessId, identify
from ops.stack.supervisor import ChildSpec, EventKind, StackEvent, Supervisor

_SLEEP = "import time; time.sleep(60)"
_DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print('deaf', flush=True); time.sleep(60)"


class Nursery:
    """A supervisor, what it said, and what it wrote down."""

    def __init__(self, folder: Path) -> None:
        self.events: list[StackEvent] = []
        self.changes = 0
        self.supervisor = Supervisor(folder / "logs", self.events.append, self._changed)

    def _changed(self) -> None:
        self.changes += 1

    def kinds(self, part: str) -> list[EventKind]:
        return [event.kind for event in self.events if event.part == part]


@pytest.fixture
def nursery(tmp_path: Path) -> Nursery:
    return Nursery(tmp_path)


async def _always_ready() -> str:
    return ""


def _python(code: str) -> tuple[str, ...]:
    return (sys.executable, "-c", code)


async def test_a_child_that_is_killed_is_reported_and_started_again(nursery: Nursery):
    await nursery.supervisor.start(ChildSpec("child", _python(_SLEEP), _always_ready))
    first = nursery.supervisor.running["child"]
    os.kill(first.pid, signal.SIGKILL)
    second = await until(lambda: _other_than(nursery.supervisor, first))
    assert not first.is_alive
    await until(lambda: nursery.kinds("child").count(EventKind.READY) == 2)
    died = next(event for event in nursery.events if event.kind is EventKind.DIED)
    assert "SIGKILL" in died.detail
    await nursery.supervisor.stop("child")
    assert not second.is_alive
    assert nursery.supervisor.running == {}


def _other_than(supervisor: Supervisor, first: ProcessId) -> ProcessId | None:
    running = supervisor.running.get("child")
    return running if running is not None and running != first else None


async def test_starting_returns_only_when_the_child_says_it_is_ready(nursery: Nursery, tmp_path: Path):
    flag = tmp_path / "ready"

    async def ready() -> str:
        return "" if flag.exists() else "the flag is not up"

    starting = asyncio.create_task(nursery.supervisor.start(ChildSpec("child", _python(_SLEEP), ready)))
    await until(lambda: EventKind.WAITING in nursery.kinds("child"))
    assert not starting.done()
    flag.touch()
    await starting
    assert nursery.kinds("child") == [EventKind.STARTING, EventKind.WAITING, EventKind.READY]
    await nursery.supervisor.stop("child")


async def test_a_child_that_dies_at_every_try_ends_the_start_with_its_last_words(nursery: Nursery):
    async def never() -> str:
        return "no"

    spec = ChildSpec("child", _python("import sys; sys.exit('the disk is full')"), never)
    with pytest.raises(StackError, match="does not come up") as failed:
        await nursery.supervisor.start(spec)
    assert "the disk is full" in str(failed.value)
    assert str(nursery.supervisor.log_path("child")) in failed.value.remedy
    assert nursery.kinds("child").count(EventKind.DIED) == 3
    await nursery.supervisor.stop("child")


async def test_a_child_that_is_not_ready_in_time_ends_the_start_with_what_it_waits_for(nursery: Nursery):
    async def never() -> str:
        return "no log yet"

    with pytest.raises(StackError, match="no log yet"):
        await nursery.supervisor.start(ChildSpec("child", _python(_SLEEP), never, start_timeout_s=0.2))
    child = nursery.supervisor.running["child"]
    await nursery.supervisor.stop("child")
    assert not child.is_alive


async def test_a_child_that_does_not_listen_is_killed_when_its_grace_is_over(nursery: Nursery):
    await nursery.supervisor.start(ChildSpec("child", _python(_DEAF), _always_ready, stop_grace_s=0.2))
    log = nursery.supervisor.log_path("child")
    await until(lambda: log.read_text() == "deaf\n")
    child = nursery.supervisor.running["child"]
    await nursery.supervisor.stop("child")
    assert not child.is_alive
    assert "killed after 0.2 s" in nursery.events[-1].detail


async def test_a_child_that_ends_by_itself_must_end_well(nursery: Nursery):
    await nursery.supervisor.run(ChildSpec("once", _python("print('done')")))
    assert nursery.kinds("once") == [EventKind.STARTING, EventKind.DONE]
    with pytest.raises(StackError, match="exit 3"):
        await nursery.supervisor.run(ChildSpec("once", _python("raise SystemExit(3)")))
    with pytest.raises(StackError, match="did not end within"):
        await nursery.supervisor.run(ChildSpec("once", _python(_SLEEP), start_timeout_s=0.1))
    await nursery.supervisor.stop("once")


async def test_a_child_leads_a_session_of_its_own_and_gets_the_variables_it_was_given(nursery: Nursery):
    code = "import os; print(os.getsid(0) == os.getpid(), os.environ['HEADRACE_X'])"
    await nursery.supervisor.run(ChildSpec("once", _python(code), env={"HEADRACE_X": "1"}))
    assert nursery.supervisor.log_path("once").read_text() == "True 1\n"


async def test_every_start_and_end_is_written_down(nursery: Nursery):
    await nursery.supervisor.start(ChildSpec("child", _python(_SLEEP), _always_ready))
    assert nursery.changes == 1
    await nursery.supervisor.stop("child")
    assert nursery.changes == 2


_PARENT = """
import asyncio, pathlib, sys
from ops.stack.supervisor import ChildSpec, Supervisor

async def main():
    supervisor = Supervisor(pathlib.Path(sys.argv[1]), lambda event: None, lambda: None)

    async def ready():
        return ""

    for name in ("a", "b"):
        await supervisor.start(ChildSpec(name, ("sleep", "60"), ready))
    print(*(child.pid for child in supervisor.running.values()), flush=True)
    await asyncio.sleep(60)

asyncio.run(main())
"""


@pytest.mark.parametrize("number", [signal.SIGKILL, signal.SIGTERM])
async def test_no_child_outlives_its_parent_however_that_ends(tmp_path: Path, number: signal.Signals):
    with subprocess.Popen([sys.executable, "-c", _PARENT, str(tmp_path)], stdout=subprocess.PIPE, text=True) as parent:
        assert parent.stdout is not None
        children = [identify(int(pid)) for pid in parent.stdout.readline().split()]
        assert len(children) == 2
        assert all(child.is_alive for child in children)
        parent.send_signal(number)
    await until(lambda: not any(child.is_alive for child in children))
