"""From start to exit code: what every process of ours promises."""

import asyncio
import json
import signal
import subprocess
import sys
from collections.abc import Iterator
from contextlib import contextmanager

import httpx
import pytest
from support.ports import free_port_block
from support.waiting import until

pytestmark = pytest.mark.slow

_PROCESS = """
import asyncio, sys
from prometheus_client import CollectorRegistry, Counter, Gauge
from starlette.applications import Starlette
from starlette.responses import PlainTextResponse
from starlette.routing import Route
from ops.http_server import HttpServer, bind
from ops.processes import lifecycle
from ops.settings import Settings

port, ending = int(sys.argv[1]), sys.argv[2]
answering = 0
why_not = {"log": "Kafka is away"}


class Stage:
    def __init__(self):
        self.registry = CollectorRegistry()
        Counter("events", "Events.", registry=self.registry).inc(3)
        Gauge("answering", "Answers under way.", registry=self.registry).set_function(lambda: answering)

    async def start(self):
        pass

    async def stop(self):
        if ending == "hangs":
            await asyncio.sleep(60)

    def readiness(self):
        return why_not

    async def failed(self):
        if ending != "fails":
            await asyncio.Event().wait()
        return RuntimeError("the claims are not whole")


async def slow(request):
    global answering
    answering = 1
    await asyncio.sleep(0.5)
    return PlainTextResponse("answered")


async def come_up(request):
    why_not.clear()
    return PlainTextResponse("up")


def compose(settings):
    listener = bind("127.0.0.1", port, "HEADRACE_GATEWAY_PORT")
    app = Starlette(routes=[Route("/slow", slow), Route("/come-up", come_up)])
    return lifecycle.Composition([Stage(), Stage()], [HttpServer(app, listener)])


lifecycle.STOP_DEADLINE_S = 1 if ending == "hangs" else 10
sys.exit(lifecycle.run("gateway", Settings(admin_port_base=port + 1), compose))
"""


class Running:
    def __init__(self, process: subprocess.Popen[str], port: int) -> None:
        self.process = process
        self.port = port

    def get(self, path: str, *, admin: bool = True) -> httpx.Response | None:
        try:
            return httpx.get(f"http://127.0.0.1:{self.port + admin}{path}", timeout=5, trust_env=False)
        except httpx.TransportError:
            return None

    def is_answering(self) -> bool:
        metrics = self.get("/metrics")
        return metrics is not None and "\nanswering 1.0" in metrics.text

    async def until_ready(self) -> None:
        await until(lambda: self.get("/come-up", admin=False))
        await until(lambda: (answer := self.get("/readyz")) is not None and answer.status_code == 200)

    def end(self) -> tuple[int, list[dict[str, str]]]:
        _, stderr = self.process.communicate(timeout=60)
        return self.process.returncode, [json.loads(line) for line in stderr.splitlines()]


@contextmanager
def _running(ending: str = "", port: int = 0) -> Iterator[Running]:
    port = port or free_port_block(2)
    command = [sys.executable, "-c", _PROCESS, str(port), ending]
    process = subprocess.Popen(command, stderr=subprocess.PIPE, text=True)
    try:
        yield Running(process, port)
    finally:
        process.kill()
        process.communicate()


async def test_it_is_alive_before_it_is_ready_and_says_what_it_waits_for():
    with _running() as running:
        answer = await until(lambda: running.get("/readyz"))
        assert answer.status_code == 503
        body = answer.json()
        assert body["ready"] is False
        assert body["waiting_for"]
        assert (await until(lambda: running.get("/livez"))).json() == {"live": True, "process": "gateway"}
        await running.until_ready()


async def test_metrics_of_all_stages_are_there_once():
    with _running() as running:
        metrics = (await until(lambda: running.get("/metrics"))).text
        assert metrics.count("\nevents_total 3.0") == 1


@pytest.mark.parametrize("number", [signal.SIGTERM, signal.SIGINT])
async def test_a_signal_lets_it_answer_what_is_in_hand_and_ends_it_with_0(number: signal.Signals):
    with _running() as running:
        await running.until_ready()
        async with httpx.AsyncClient(trust_env=False) as client:
            sending = asyncio.create_task(client.get(f"http://127.0.0.1:{running.port}/slow"))
            await until(lambda: asyncio.to_thread(running.is_answering))
            running.process.send_signal(number)
            assert (await sending).text == "answered"
        code, lines = running.end()
        assert code == 0
        assert lines[-1]["event"] == "process_stopped"


async def test_a_stage_that_fails_for_good_ends_the_process_with_1_and_the_reason():
    with _running("fails") as running:
        code, lines = running.end()
        assert code == 1
        assert lines[-1]["event"] == "stage_failed"
        assert "the claims are not whole" in lines[-1]["exception"]


async def test_a_stop_that_hangs_is_cut():
    with _running("hangs") as running:
        await running.until_ready()
        running.process.terminate()
        code, lines = running.end()
        assert code == -signal.SIGKILL
        assert lines[-1]["event"] == "stop_took_too_long"


async def test_a_taken_port_is_named_with_the_setting_that_changes_it():
    with _running() as first:
        await first.until_ready()
        with _running(port=first.port) as second:
            code, lines = second.end()
    assert code == 1
    assert str(first.port) in lines[-1]["error"]
    assert "HEADRACE_GATEWAY_PORT" in lines[-1]["error"]
