"""`headrace config`, against a real broker and an upstream on loopback."""

import asyncio
import json
from collections.abc import AsyncIterator, Callable
from pathlib import Path
from typing import Any
from uuid import uuid4

import orjson
import pytest
from starlette.applications import Starlette
from starlette.requests import Request
from starlette.responses import Response
from starlette.routing import Route
from support.commands import Headrace
from support.waiting import until

from ops.config import registry
from ops.config.follow import follow_upstream
from ops.config.watch import Teller, Upstream, client_for
from ops.http_server import HttpServer, bind
from ops.kafka import publish, read_compacted
from schemas import specs
from schemas.config_versions import document_record
from schemas.kafka import KafkaConnection
from schemas.limits import SPECS_BYTES
from schemas.topics import CONFIG_SPECS

V1: dict[str, Any] = json.loads(Path(__file__).parents[1].joinpath("data", "specs.json").read_bytes())


@pytest.fixture
def headrace(monkeypatch: pytest.MonkeyPatch, broker: KafkaConnection) -> Headrace:
    return Headrace(monkeypatch).at(broker)


@pytest.fixture
def project() -> str:
    return uuid4().hex


def document_of(time: int, **changes: object) -> bytes:
    sections: dict[str, object] = {"feature_gates": [], "dynamic_configs": [], "layer_configs": []}
    return orjson.dumps({"has_updates": True, "time": time, **sections, **changes})


def changed(time: int, salt: str) -> bytes:
    gates = [{**gate, "salt": salt if gate["name"] == "gate_half" else gate["salt"]} for gate in V1["feature_gates"]]
    return orjson.dumps(V1 | {"time": time, "feature_gates": gates})


def test_a_pushed_document_stands_in_the_topic_as_it_came(
    headrace: Headrace, broker: KafkaConnection, project: str, tmp_path: Path
):
    source = document_of(1_700_000_000_000)
    file = tmp_path / "specs.json"
    file.write_bytes(source)
    for was_known in (False, True):
        pushed = headrace("config", "push", str(file), "--project", project, "--json")
        assert pushed.exit_code == 0, pushed.stderr
        assert orjson.loads(pushed.stdout) == {
            "project": project,
            "time": 1_700_000_000_000,
            "is_newest": True,
            "entities": {},
            "changed": 0,
            "was_known": was_known,
        }
    topic = asyncio.run(read_compacted(broker, CONFIG_SPECS))
    assert topic[specs.record_key(project, 1_700_000_000_000)] == source


def test_time_that_goes_backwards_is_refused_unless_it_is_history(headrace: Headrace, project: str):
    """An SDK would never see the document, while whoever pushed it believes that it is in force."""
    assert headrace("config", "push", "-", "--project", project, stdin=document_of(2000)).exit_code == 0
    refused = headrace("config", "push", "-", "--project", project, stdin=document_of(1999))
    assert refused.exit_code == 1
    assert "time: 1999 is before 2000" in refused.stderr
    assert "--older" in refused.stderr
    taken = headrace("config", "push", "-", "--project", project, "--older", stdin=document_of(1999))
    assert (taken.exit_code, "not the newest" in taken.stderr) == (0, True)


def test_a_changed_document_of_the_same_time_is_refused_and_the_same_one_is_not(headrace: Headrace, project: str):
    assert headrace("config", "push", "-", "--project", project, stdin=document_of(1000)).exit_code == 0
    assert headrace("config", "push", "-", "--project", project, stdin=document_of(1000)).exit_code == 0
    for older in ([], ["--older"]):
        other = document_of(1000, company="other")
        refused = headrace("config", "push", "-", "--project", project, *older, stdin=other)
        assert refused.exit_code == 1
        assert "give the changed document a later one" in refused.stderr


def test_a_document_that_sdks_would_not_evaluate_is_refused_with_its_place(headrace: Headrace):
    refused = headrace("config", "push", "-", stdin=b'{"time": 1, "feature_gates": [], "dynamic_configs": []}')
    assert refused.exit_code == 1
    assert "layer_configs" in refused.stderr


@pytest.mark.parametrize("over", [-1, 0, 1])
def test_a_document_above_the_limit_is_refused_with_the_limit(headrace: Headrace, tmp_path: Path, over: int):
    small = document_of(1, padding="")
    file = tmp_path / "large.json"
    file.write_bytes(document_of(1, padding="x" * (SPECS_BYTES + over - len(small))))
    answered = headrace("config", "push", str(file), "--project", f"large{over}")
    assert answered.exit_code == (over > 0)
    assert (str(SPECS_BYTES) in answered.stderr) is (over > 0)


def test_a_file_that_is_not_there_is_a_usage_error(headrace: Headrace, tmp_path: Path):
    assert headrace("config", "push", str(tmp_path / "none.json")).exit_code == 2


def test_what_was_in_force_when_can_be_listed_shown_and_compared(headrace: Headrace, project: str, tmp_path: Path):
    own = ("--project", project)
    for source in (orjson.dumps(V1), changed(V1["time"] + 1, "other"), document_of(V1["time"] + 2)):
        assert headrace("config", "push", "-", *own, stdin=source).exit_code == 0

    def told(*command: str) -> Any:
        return orjson.loads(headrace("config", *command, *own, "--json").stdout)

    assert [row["time"] - V1["time"] for row in told("list", "--documents")] == [0, 1, 2]
    gate = next(row for row in told("list") if row["name"] == "gate_half")
    assert gate == {
        "kind": "gate",
        "name": "gate_half",
        "version": "",
        "since": V1["time"] + 2,
        "versions": 2,
        "is_gone": True,
    }
    shown = told("show", "gate_half", "--version", "7")
    assert shown["spec"]["salt"] == "other"
    assert [version["since"] - V1["time"] for version in shown["versions"]] == [0, 1, 2]
    assert "no version 99" in headrace("config", "show", "gate_half", "--version", "99", *own).stderr
    assert headrace("config", "show", "nobody", *own).exit_code == 1
    first, second = str(V1["time"]), str(V1["time"] + 1)
    assert told("diff", first, second) == [
        {
            "change": "changed",
            "section": "gate",
            "name": "gate_half",
            "path": "salt",
            "before": "salt-gate-half",
            "after": "other",
        }
    ]
    assert headrace("config", "diff", first, first, *own).exit_code == 0
    assert {each["change"] for each in told("diff", second, "newest")} == {"removed"}
    file = tmp_path / "next.json"
    file.write_bytes(changed(5, "other"))
    assert headrace("config", "diff", second, str(file), *own).exit_code == 0
    assert headrace("config", "diff", second, "soon", *own).exit_code == 2
    for command in (["list"], ["list", "--documents"], ["show", "gate_half"], ["diff", first, "newest"]):
        answered = headrace("config", *command, *own)
        assert answered.stdout.strip(), command


def test_what_an_upstream_names_its_configs_steers_no_terminal(headrace: Headrace, project: str, tmp_path: Path):
    gate = V1["feature_gates"][0]
    wild = V1 | {"feature_gates": [{**gate, "name": "[/x]\x1b[2J", "rules": [{**gate["rules"][0], "id": "\x1b]0;r"}]}]}
    own = ("--project", project)
    assert headrace("config", "push", "-", *own, stdin=orjson.dumps(wild)).exit_code == 0
    other = tmp_path / "specs.json"
    other.write_bytes(document_of(9))
    for command in (["list"], ["show", "[/x]\x1b[2J"], ["diff", "newest", str(other)]):
        told = headrace("config", *command, *own)
        assert "[/x]" in told.stdout, command
        assert "\x1b" not in told.stdout, command


def test_a_name_that_is_a_gate_and_a_config_is_asked_for(headrace: Headrace, project: str):
    twice = V1 | {"dynamic_configs": [{**V1["dynamic_configs"][0], "name": "gate_half"}]}
    assert headrace("config", "push", "-", "--project", project, stdin=orjson.dumps(twice)).exit_code == 0
    assert headrace("config", "show", "gate_half", "--project", project).exit_code == 2
    shown = headrace("config", "show", "gate_half", "--in", "gate", "--project", project, "--json")
    assert orjson.loads(shown.stdout)["kind"] == "gate"


async def test_documents_that_were_pushed_before_versions_were_kept_are_taken_over(
    broker: KafkaConnection, project: str
):
    earlier = [(5, orjson.dumps(V1 | {"time": 5})), (7, document_of(7))]
    await publish(broker, CONFIG_SPECS, [(specs.record_key(project, time), source) for time, source in earlier])
    history = await registry.read_history(broker)
    await registry.push(broker, history, project, specs.parse(document_of(9)), 9)
    configs = (await registry.read_history(broker)).project(project)
    assert configs is not None
    assert sorted(configs.documents) == [5, 7, 9]
    assert [bool(record.spec) for record in configs.timeline("gate", "gate_half")] == [True, False]


class FakeUpstream:
    """Answers what it is told to, and counts who asks."""

    def __init__(self) -> None:
        self.answer: Callable[[], Response] = lambda: Response(status_code=500)
        self.asked: list[Request] = []
        self.address = ""

    async def handle(self, request: Request) -> Response:
        self.asked.append(request)
        return self.answer()

    def serve(self, body: bytes) -> None:
        self.answer = lambda: Response(body, media_type="application/json", headers={"etag": '"x"'})


@pytest.fixture
def upstream_parts(monkeypatch: pytest.MonkeyPatch) -> FakeUpstream:
    monkeypatch.setenv("NO_PROXY", "127.0.0.1")
    return FakeUpstream()


@pytest.fixture
async def upstream(upstream_parts: FakeUpstream) -> AsyncIterator[FakeUpstream]:
    app = Starlette(routes=[Route("/v1/download_config_specs/{key}", upstream_parts.handle)])
    server = HttpServer(app, bind("127.0.0.1", 0, "no setting"), drain_s=1)
    await server.start()
    upstream_parts.address = f"http://127.0.0.1:{server.port}/v1/download_config_specs/secret-k.json"
    yield upstream_parts
    await server.stop()


async def test_a_watch_takes_what_is_new_and_keeps_the_last_good_document_over_every_trouble(
    upstream: FakeUpstream, broker: KafkaConnection, project: str
):
    told: list[dict[str, Any]] = []

    async def asked_again() -> None:
        seen = len(upstream.asked)
        await until(lambda: len(upstream.asked) > seen + 1, 60)

    async def times() -> list[int]:
        configs = (await registry.read_history(broker)).project(project)
        return sorted(configs.documents) if configs else []

    async with client_for("secret-k") as client:
        watching = asyncio.create_task(
            follow_upstream(broker, project, Upstream(client, upstream.address), Teller(told.append), poll_s=0.02)
        )
        try:
            await asked_again()
            assert [each["event"] for each in told] == ["trouble"], "an outage is told once"
            assert "secret-k" not in str(told)
            upstream.serve(orjson.dumps(V1))
            await until(lambda: told[-1].get("time") == V1["time"], 60)
            assert upstream.asked[-1].headers["statsig-api-key"] == "secret-k"
            await asked_again()
            assert upstream.asked[-1].query_params["sinceTime"] == str(V1["time"])
            assert upstream.asked[-1].headers["if-none-match"] == '"x"'
            upstream.serve(b'{"has_updates":false}')
            await asked_again()
            upstream.answer = lambda: Response(status_code=304)
            await asked_again()
            assert len(told) == 2
            for body, why in (
                (b"<html>", "not JSON"),
                (document_of(V1["time"] - 1), "time went backwards"),
                (document_of(V1["time"], company="other"), "was pushed before"),
                (orjson.dumps(V1 | {"time": V1["time"] + 1, "layer_configs": 3}), "layer_configs"),
                (b" " * (SPECS_BYTES + 1), "which is the limit"),
            ):
                upstream.serve(body)
                await until(lambda why=why: why in told[-1].get("why", ""), 60, why)
            assert await times() == [V1["time"]]
            upstream.serve(changed(V1["time"] + 1, "other"))
            await until(lambda: told[-1].get("time") == V1["time"] + 1, 60)
            assert told[-1]["changed"] == 1
            assert await times() == [V1["time"], V1["time"] + 1]
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)


async def test_a_document_that_is_refused_is_a_trouble_for_as_long_as_the_upstream_has_it(
    upstream: FakeUpstream, broker: KafkaConnection, project: str
):
    told: list[dict[str, Any]] = []
    history = await registry.read_history(broker)
    await registry.push(broker, history, project, specs.parse(document_of(7)), 7)

    def answer() -> Response:
        if upstream.asked[-1].headers.get("if-none-match") == '"six"':
            return Response(status_code=304)
        return Response(document_of(6), media_type="application/json", headers={"etag": '"six"'})

    upstream.answer = answer
    async with client_for("") as client:
        watching = asyncio.create_task(
            follow_upstream(broker, project, Upstream(client, upstream.address), Teller(told.append), poll_s=0.02)
        )
        try:
            await until(lambda: len(upstream.asked) > 4, 60)
        finally:
            watching.cancel()
            await asyncio.gather(watching, return_exceptions=True)
    assert [each["event"] for each in told] == ["trouble"]


async def test_a_watch_that_asks_once_says_by_its_exit_code_how_that_went(
    headrace: Headrace, upstream: FakeUpstream, project: str
):
    command = ("config", "watch", upstream.address, "--once", "--project", project, "--json")
    failed = await asyncio.to_thread(headrace, *command)
    assert (failed.exit_code, "status 500" in failed.stdout) == (1, True)
    upstream.serve(orjson.dumps(V1))
    taken = await asyncio.to_thread(headrace, *command)
    assert taken.exit_code == 0
    assert orjson.loads(taken.stdout)["time"] == V1["time"]
    assert headrace("config", "watch", "ftp://127.0.0.1/").exit_code == 2


def test_the_hash_of_a_document_is_of_its_bytes():
    """So that the same time with other bytes is noticed, however alike they are."""
    first, second = (document_record("p", specs.parse(document_of(1) + end), 0) for end in (b"", b" "))
    assert first.sha256 != second.sha256
