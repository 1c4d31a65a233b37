"""The OpenAPI document: it is valid, says what the application does, and its examples are taken."""

import json
from collections.abc import Iterator
from typing import Any

import httpx
import pytest
from openapi_schema_validator import OAS31Validator
from openapi_spec_validator import OpenAPIV31SpecValidator
from support.memory_gateway import CLIENT, CONSOLE, SECRET, MemoryGateway

from ingest.openapi import document
from ingest.serve_specs import SPECS_PATHS
from schemas.limits import EVENTS_PER_REQUEST

DOCUMENT = document()
METHODS = ("get", "post", "put", "patch", "delete", "head")
HEADER = {"statsig-api-key": SECRET}
ONE = b'{"events":[{"eventName":"purchase"}]}'


def operations() -> Iterator[tuple[str, str, dict[str, Any]]]:
    for path, item in DOCUMENT["paths"].items():
        for method in METHODS:
            if method in item:
                yield method, path, item[method]


def examples() -> Iterator[Any]:
    for method, path, operation in operations():
        status = next((told for told in operation["responses"] if told.startswith("2")), "501")
        content = operation.get("requestBody", {}).get("content", {}).get("application/json", {})
        for name, example in content.get("examples", {"": {"value": None}}).items():
            yield pytest.param(method, path, example["value"], int(status), id=f"{method} {path} {name}")


def check(schema: dict[str, Any], value: Any) -> None:
    OAS31Validator({**schema, "components": DOCUMENT["components"]}).validate(value)


def check_answer(method: str, path: str, answer: httpx.Response) -> None:
    told = DOCUMENT["paths"][path][method]["responses"].get(str(answer.status_code))
    assert told is not None, f"{method} {path} answers {answer.status_code}, of which the document says nothing"
    if "content" in told:
        check(told["content"]["application/json"]["schema"], answer.json())
    assert answer.headers["content-type"] == "application/json"
    assert "x-headrace-request-id" in told["headers"]
    assert "x-headrace-request-id" in answer.headers


async def test_what_is_served_is_a_valid_openapi_document(http: httpx.AsyncClient):
    answer = await http.get("/openapi.json", headers={"origin": "https://docs.example"})
    assert (answer.status_code, answer.headers["access-control-allow-origin"]) == (200, "*")
    OpenAPIV31SpecValidator(answer.json()).validate()
    assert answer.json() == json.loads(json.dumps(DOCUMENT))


async def test_every_path_of_the_application_stands_in_the_document(gateway: MemoryGateway):
    by_path = {f"{path}/{{key}}.json" for path in SPECS_PATHS}
    assert set(DOCUMENT["paths"]) == {*gateway.app._routes, *SPECS_PATHS, *by_path}


@pytest.mark.parametrize("path", DOCUMENT["paths"])
@pytest.mark.parametrize("method", METHODS)
async def test_the_application_takes_the_methods_that_stand_in_the_document_and_no_others(
    http: httpx.AsyncClient, method: str, path: str
):
    answer = await http.request(method, path.replace("{key}", SECRET))
    assert answer.status_code != 404
    assert (answer.status_code == 405) == (method not in DOCUMENT["paths"][path])


@pytest.mark.parametrize(("method", "path", "example", "status"), list(examples()))
async def test_an_example_is_answered_as_the_document_says(
    gateway: MemoryGateway, http: httpx.AsyncClient, method: str, path: str, example: Any, status: int
):
    request_body = DOCUMENT["paths"][path][method].get("requestBody")
    if request_body:
        check(request_body["content"]["application/json"]["schema"], example)
    answer = await http.request(method, path.replace("{key}", SECRET), json=example, headers=HEADER)
    assert answer.status_code == status
    check_answer(method, path, answer)
    # An example that is taken and then fails in the log's far end would be no example.
    assert not gateway.log.letters
    assert "refused" not in answer.json()
    assert bool(gateway.log.events()) == (
        isinstance(example, dict) and bool({"events", "exposures", "resourceLogs"} & set(example))
    )


REFUSALS: list[tuple[str, str, dict[str, Any], bytes]] = [
    ("post", "/v1/log_event", {}, ONE),
    ("post", "/v1/log_event", {"statsig-api-key": "wrong"}, ONE),
    ("post", "/v1/log_event", {"statsig-api-key": CONSOLE}, ONE),
    ("post", "/v1/rgstr", HEADER, b"not json"),
    ("post", "/v1/log_event_beacon", {**HEADER, "content-encoding": "snappy"}, b"\x00\x01"),
    ("post", "/v1/log_event", HEADER, b'{"events":[' + b",".join([b"{}"] * (EVENTS_PER_REQUEST + 1)) + b"]}"),
    ("post", "/v1/log_event", HEADER, b'{"events":[1,{"eventName":"\\ud800"}]}'),
    ("post", "/v1/log_custom_exposure", HEADER, b'{"exposures":17}'),
    ("post", "/v1/logs", {"content-type": "application/json"}, b"{}"),
    ("post", "/v1/logs", {**HEADER, "content-type": "application/json"}, b"not json"),
    ("post", "/v1/logs", HEADER, ONE),
    ("get", "/v1/download_config_specs", {}, b""),
    ("get", "/v2/download_config_specs", {"statsig-api-key": CLIENT}, b""),
    ("post", "/v1/download_config_specs", HEADER, b"not json"),
    ("get", "/v2/download_config_specs/{key}.json", {"statsig-api-key": CLIENT}, b""),
    ("post", "/v1/get_id_lists", {"statsig-api-key": CLIENT}, b""),
    ("post", "/v1/initialize", {}, b""),
]


@pytest.mark.parametrize(("method", "path", "headers", "content"), REFUSALS)
async def test_a_refusal_is_one_that_the_document_lists(
    http: httpx.AsyncClient, method: str, path: str, headers: dict[str, Any], content: bytes
):
    answer = await http.request(method, path.replace("{key}", SECRET), content=content, headers=headers)
    check_answer(method, path, answer)


@pytest.mark.parametrize(("method", "path"), [(method, path) for method, path, _ in operations()])
async def test_what_may_pass_is_a_503_that_the_document_lists(
    gateway: MemoryGateway, http: httpx.AsyncClient, method: str, path: str
):
    gateway.keys_read = False
    gateway.log.problem = "Kafka is away"
    has_key = bool(DOCUMENT["paths"][path][method]["security"][0])
    for key in (SECRET, "unknown"):
        answer = await http.request(method, path.replace("{key}", key), content=ONE, headers={"statsig-api-key": key})
        check_answer(method, path, answer)
    assert (answer.status_code == 503) == has_key


async def test_what_has_no_place_in_the_document_is_404(http: httpx.AsyncClient):
    assert (await http.get("/v1/else")).json()["reason"] == "unknown_path"
