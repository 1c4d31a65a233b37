"""The local stack with its real broker and its real processes."""

import asyncio
import json
import os
import signal
import socket
import subprocess
import sys
from collections.abc import Callable

import pytest
from support.waiting import until

from ops.doctor.examine import examine
from ops.doctor.finding import Verdict
from ops.settings import Settings
from ops.stack import record
from ops.stack.errors import InUseError
from ops.stack.local import LocalStack, environment_of, why_not_ready
from ops.stack.pids import identify
from ops.stack.record import RecordedProcess
from ops.stack.supervisor import EventKind, StackEvent
from ops.topics import current_log
from schemas.kafka import KafkaConnection
from schemas.origin import REFUSED_AT_GATEWAY_LOG

pytestmark = pytest.mark.slow

PATIENCE_S = 60

MakeStack = Callable[..., LocalStack]
MakeSettings = Callable[..., Settings]


def _alive(settings: Settings) -> dict[str, RecordedProcess]:
    state = record.read(settings.data_dir)
    assert state is not None
    return {name: child for name, child in state.children.items() if child.id.is_alive}


async def test_a_whole_stack_is_ready_restarts_what_dies_and_ends_with_its_supervisor(stack_settings: MakeSettings):
    settings = stack_settings()
    with _headrace_up(settings) as up:
        assert _ready(up)["gateway"] == f"http://127.0.0.1:{settings.gateway_port}"
        started = _alive(settings)
        assert set(started) == {"broker", "gateway", "worker", "store"}
        for port in map(settings.admin_port, ("gateway", "worker", "store")):
            await until(lambda port=port: why_not_ready("127.0.0.1", port) == "")
        log = await current_log(settings.kafka)
        findings = await asyncio.to_thread(lambda: list(examine(settings)))
        assert [finding for finding in findings if finding.verdict is Verdict.BAD] == []
        examined = {finding.part for finding in findings if finding.verdict is Verdict.OK}
        assert examined >= {"stack", "gateway", "worker", "store", "kafka", "topics", "worker lag", "console"}

        os.kill(started["gateway"].pid, signal.SIGKILL)
        await until(lambda: _alive(settings).get("gateway") not in (None, started["gateway"]))
        await until(lambda: why_not_ready("127.0.0.1", settings.admin_port("gateway")) == "")
        restarted = _alive(settings)
        assert {**restarted, "gateway": None} == {**started, "gateway": None}
        up.kill()
    await until(lambda: not any(child.id.is_alive for child in restarted.values()))

    with _headrace_up(settings) as up:
        _ready(up)
        again = _alive(settings)
        assert await current_log(settings.kafka) == log
        up.send_signal(signal.SIGINT)
        assert up.wait(timeout=PATIENCE_S) == 0
    assert not any(child.id.is_alive for child in again.values())
    assert _alive(settings) == {}


async def test_ctrl_c_before_everything_is_ready_ends_what_was_started(stack_settings: MakeSettings):
    settings = stack_settings()
    with _headrace_up(settings) as up:
        started = await until(lambda: record.read(settings.data_dir) and _alive(settings))
        up.send_signal(signal.SIGINT)
        assert up.wait(timeout=PATIENCE_S) == 1
    assert not any(child.id.is_alive for child in started.values())
    assert _alive(settings) == {}


def _headrace_up(settings: Settings) -> subprocess.Popen[str]:
    command = [sys.executable, "-m", "ops.cli", "up", "--json"]
    environment = {**os.environ, **environment_of(settings)}
    return subprocess.Popen(command, env=environment, stdout=subprocess.PIPE, stderr=subprocess.DEVNULL, text=True)


def _ready(up: subprocess.Popen[str]) -> dict[str, object]:
    assert up.stdout is not None
    said: dict[str, object] = json.loads(up.stdout.readline())
    assert said["ready"] is True
    return said


async def test_two_stacks_run_side_by_side_and_a_killed_broker_comes_back_with_its_log(stack: MakeStack):
    events: list[StackEvent] = []
    first, second = stack(processes=(), on_event=events.append), stack(processes=(), partitions=2)
    async with first, second:
        killed, other = _alive(first.settings)["broker"], _alive(second.settings)["broker"]
        assert await current_log(first.settings.kafka) == await current_log(second.settings.kafka) == 1
        os.kill(killed.pid, signal.SIGKILL)
        await until(lambda: StackEvent(EventKind.READY, "broker") in _after_death(events, "broker"))
        assert _alive(first.settings)["broker"] != killed
        assert _alive(second.settings)["broker"] == other
        assert await current_log(first.settings.kafka) == 1


def _after_death(events: list[StackEvent], part: str) -> list[StackEvent]:
    deaths = [n for n, event in enumerate(events) if event.part == part and event.kind is EventKind.DIED]
    return events[deaths[0] :] if deaths else []


async def test_a_taken_port_is_named_with_the_setting_that_changes_it(stack_settings: MakeSettings):
    settings = stack_settings()
    for port, setting in (
        (settings.kafka_port + 1, "HEADRACE_KAFKA_PORT"),
        (settings.gateway_port, "HEADRACE_GATEWAY_PORT"),
        (settings.console_port, "HEADRACE_CONSOLE_PORT"),
        (settings.admin_port_base + 2, "HEADRACE_ADMIN_PORT_BASE"),
    ):
        with socket.create_server(("127.0.0.1", port)), pytest.raises(InUseError, match=setting) as refused:
            await LocalStack(settings).__aenter__()
        assert str(port) in str(refused.value)


async def test_a_data_folder_in_use_is_refused_with_the_pid_of_its_stack(stack_settings: MakeSettings):
    settings = stack_settings()
    with record.DataFolder(settings.data_dir), pytest.raises(InUseError, match=f"process {os.getpid()}"):
        await LocalStack(settings).__aenter__()


async def test_the_next_start_ends_what_is_recorded_and_nothing_else(
    stack_settings: MakeSettings, broker: KafkaConnection
):
    settings = stack_settings(kafka_bootstrap=broker.bootstrap)
    leftover, stranger = (subprocess.Popen(["sleep", "60"]) for _ in range(2))
    settings.data_dir.mkdir()
    recycled = identify(stranger.pid)._replace(started_at="another boot:1")
    record.write(settings.data_dir, {"gateway": identify(leftover.pid), "worker": recycled})
    events: list[StackEvent] = []
    async with LocalStack(settings, events.append, processes=()):
        assert leftover.wait(timeout=PATIENCE_S) == -signal.SIGTERM
        assert stranger.poll() is None
    assert [event.part for event in events if event.kind is EventKind.LEFTOVER_ENDED] == ["gateway"]
    stranger.kill()
    stranger.wait()


async def test_an_empty_broker_gets_a_log_number_that_the_store_has_never_seen(stack_settings: MakeSettings):
    settings = stack_settings()
    # The store outlived its broker: it has rows of log 6, and refused events, which are no log.
    code = f"""
from ops import settings
from ops.processes.init import prepare_store

store = settings.load().store
assert prepare_store(store) == 0
store.connect().command("INSERT INTO exposures (origin_log) VALUES (6), ({REFUSED_AT_GATEWAY_LOG})")
"""
    environment = {**os.environ, **environment_of(settings)}
    ran = await asyncio.create_subprocess_exec(sys.executable, "-c", code, env=environment)
    assert await ran.wait() == 0
    async with LocalStack(settings, processes=()):
        assert await current_log(settings.kafka) == 7
