"""Following an upstream for config specs as an SDK does: asking again and again, keeping the last that was good."""

from collections.abc import Callable
from dataclasses import dataclass
from typing import Any, Final
from urllib.parse import urlsplit

import httpx
import orjson

from schemas import specs
from schemas.limits import SPECS_BYTES
from schemas.specs import Specs, SpecsError

POLL_S: Final = 10.0
"""How often server SDKs ask."""

_ANSWER_S: Final = 30.0


class UpstreamError(Exception):
    """The upstream gave nothing that can be used; what is known stays as it is."""


@dataclass
class Upstream:
    """One address, and what it gave last."""

    client: httpx.AsyncClient
    url: str
    since_ms: int = 0
    """The time of the document that is known, which SDKs send as `sinceTime`."""
    etag: str = ""

    @property
    def host(self) -> str:
        """What may be printed of the address: SDKs have their key in its path."""
        return urlsplit(self.url).netloc.rpartition("@")[2]

    async def ask(self) -> Specs | None:
        """Return a document that is new, None when there is none. Raises UpstreamError."""
        headers = {"if-none-match": self.etag} if self.etag else {}
        query = {"sinceTime": str(self.since_ms)} if self.since_ms else {}
        try:
            async with self.client.stream("GET", self.url, params=_with(self.url, query), headers=headers) as answer:
                if answer.status_code == httpx.codes.NOT_MODIFIED:
                    return None
                body = await _bounded(answer)
        except (httpx.HTTPError, httpx.InvalidURL) as error:
            raise UpstreamError(f"{self.host} cannot be asked: {error!r}") from error
        if answer.status_code != httpx.codes.OK:
            raise UpstreamError(f"{self.host} answered with status {answer.status_code}")
        if _says_no_updates(body):
            return None
        try:
            document = specs.parse(body)
        except SpecsError as error:
            raise UpstreamError(f"the document of {self.host} is refused: {error}") from error
        self.etag = answer.headers.get("etag", "")
        return document


def client_for(key: str) -> httpx.AsyncClient:
    """Return a client that sends a key as SDKs send it, "" for none."""
    return httpx.AsyncClient(timeout=_ANSWER_S, headers={"statsig-api-key": key} if key else {})


def _with(url: str, query: dict[str, str]) -> dict[str, str]:
    return {**dict(httpx.URL(url).params), **query}


async def _bounded(answer: httpx.Response) -> bytes:
    body = bytearray()
    async for piece in answer.aiter_bytes():
        body += piece
        if len(body) > SPECS_BYTES:
            raise UpstreamError(f"the document has more than {SPECS_BYTES} bytes, which is the limit")
    return bytes(body)


def _says_no_updates(body: bytes) -> bool:
    try:
        told: Any = orjson.loads(body)
    except orjson.JSONDecodeError:
        return False
    return isinstance(told, dict) and told.get("has_updates") is False


class Teller:
    """Says a thing when it changes, and not every ten seconds for a whole night."""

    def __init__(self, say: Callable[[dict[str, Any]], None]) -> None:
        self._say = say
        self._trouble = ""

    def pushed(self, **what: Any) -> None:
        """Say that a document was taken."""
        self._trouble = ""
        self._say({"event": "pushed", **what})

    def trouble(self, why: str) -> None:
        """Say what is wrong, once."""
        if why != self._trouble:
            self._trouble = why
            self._say({"event": "trouble", "why": why})

    def well(self) -> None:
        """Say that a trouble is over, if there was one."""
        if self._trouble:
            self._trouble = ""
            self._say({"event": "recovered"})
