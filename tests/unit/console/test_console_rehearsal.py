"""A dry run is a child of a closed set of arguments: nobody's text becomes an option, a command or a wait."""

import asyncio
import sys
from typing import Any

import orjson
import pytest
from hypothesis import given
from hypothesis import strategies as st
from starlette.requests import Request

from console.answers import RefusedError
from console.rehearsal import FILTERS, LIMIT_MAX, Command, Rehearsal, arguments


@given(st.dictionaries(st.sampled_from(FILTERS), st.text(st.characters(exclude_characters="\0"), max_size=500)))
def test_whatever_a_filter_says_it_is_one_argument_behind_its_own_name(body: dict[str, str]):
    given_filters = {name: value for name, value in body.items() if value}
    told = arguments(body)
    assert told[:4] == ["dlq", "replay", "--dry-run", "--json"]
    rest = [each for each in told[4:] if not each.startswith("--limit=")]
    assert sorted(rest) == sorted([f"--{name}={value}" for name, value in given_filters.items()] or ["--all"])


@pytest.mark.parametrize(
    "body",
    [
        None, [], "x", {"fix": "rules.toml"}, {"ids": "/etc/passwd"}, {"resume": "x"}, {"reason": 7},
        {"reason": ["a", 1]}, {"reason": "a\0b"}, {"event": "x" * 501}, {"limit": 0}, {"limit": LIMIT_MAX + 1},
        {"limit": "5"}, {"limit": True},
    ],
)  # fmt: skip
def test_anything_else_is_refused(body: Any):
    with pytest.raises(RefusedError) as refused:
        arguments(body)
    assert refused.value.status == 400
    assert refused.value.remedy


def _request(body: bytes = b"{}", content_type: str = "application/json") -> Request:
    async def receive() -> dict[str, Any]:
        return {"type": "http.request", "body": body, "more_body": False}

    return Request({"type": "http", "method": "POST", "headers": [(b"content-type", content_type.encode())]}, receive)


def _child(program: str, time_s: float = 60) -> Rehearsal:
    return Rehearsal(Command((sys.executable, "-c", program), {}, time_s))


async def test_what_the_command_says_is_the_answer_and_it_knows_nothing_of_the_console():
    child = _child(
        "import json, os, sys; print(json.dumps({'predictions': [], 'argv': sys.argv[1:], 'env': dict(os.environ)}))"
    )
    answer = orjson.loads(bytes((await child.show(_request(b'{"reason":"invalid_time"}'))).body))
    assert answer["argv"] == answer["arguments"]
    assert "--reason=invalid_time" in answer["argv"]
    assert not [name for name in answer["env"] if name.startswith("HEADRACE")]


@pytest.mark.parametrize(("code", "status"), [(1, 503), (2, 400), (3, 503)])
async def test_a_refusal_of_the_command_is_the_console_s(code: int, status: int):
    child = _child(f"import sys; sys.stderr.write('error: it cannot be.\\n  Do this.\\n'); sys.exit({code})")
    with pytest.raises(RefusedError) as refused:
        await child.show(_request())
    assert (refused.value.status, refused.value.message, refused.value.remedy) == (status, "it cannot be.", "Do this.")


async def test_a_command_that_does_not_end_is_ended_and_the_next_may_run():
    child = _child("import time; print('x' * 9_000_000); time.sleep(3600)", time_s=1)
    with pytest.raises(RefusedError) as refused:
        await child.show(_request())
    assert refused.value.status == 408
    with pytest.raises(RefusedError) as refused:
        await child.show(_request())
    assert refused.value.status == 408


async def test_only_one_runs_at_a_time():
    child = _child("import time; time.sleep(3600)", time_s=2)
    first = asyncio.create_task(child.show(_request()))
    await asyncio.sleep(0)  # it begins
    await asyncio.sleep(0)
    with pytest.raises(RefusedError) as refused:
        await child.show(_request())
    assert refused.value.reason == "busy"
    with pytest.raises(RefusedError):
        await first


@pytest.mark.parametrize(
    ("request_", "status"),
    [
        (_request(content_type="text/plain"), 400),
        (_request(b"{"), 400),
        (_request(b"[" + b" " * 20_000 + b"]"), 413),
    ],
)
async def test_a_body_that_is_no_small_json_is_refused(request_: Request, status: int):
    with pytest.raises(RefusedError) as refused:
        await _child("").show(request_)
    assert refused.value.status == status


async def test_a_console_without_the_command_says_where_it_can_be_run():
    with pytest.raises(RefusedError, match="cannot run"):
        await Rehearsal(Command()).show(_request())
