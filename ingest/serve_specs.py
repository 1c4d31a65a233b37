"""The routes that server SDKs initialise from: config specs and id lists."""

import asyncio
import time
from collections.abc import Mapping
from typing import Any, Final
from urllib.parse import unquote

import orjson

from ingest.answer import Answer
from ingest.auth import KeyDirectory, authenticate, may_read_specs
from ingest.body import decode
from ingest.receive import Request, body_of, number_of
from ingest.refusal import Refusal
from ingest.specs import SpecsShelf
from schemas.reasons import Reason
from schemas.specs import Format

SPECS_PATHS: Final[Mapping[str, Format]] = {
    "/v1/download_config_specs": "dcs-v1",
    "/v2/download_config_specs": "dcs-v2",
}
_KEY_SUFFIX: Final = ".json"

# SDKs ask every 10 s. A cache of theirs may answer for half of that, one that others share not at all:
# the key stands in the path.
_CACHED: Final = (b"cache-control", b"private, max-age=5")


class ServeSpecs:
    """Answers with what was pushed for the project of the key. Secret keys only."""

    def __init__(self, directory: KeyDirectory, shelf: SpecsShelf) -> None:
        self._directory = directory
        self._shelf = shelf
        self.rule_of = shelf.rule_of

    async def download(self, request: Request) -> Answer:
        """Answer with the newest document, or that the SDK has it. Raises Refusal."""
        known = authenticate(self._directory, _with_key_of_path(request), _now_ms())
        may_read_specs(known)
        since_time, checksum = await _what_it_has(request)
        wanted = SPECS_PATHS[specs_path_of(request.path)]
        asked = (known.record.project, wanted, since_time, checksum)
        if self._shelf.is_at_hand(known.record.project, wanted):
            document = self._shelf.find(*asked)
        else:
            document = await asyncio.to_thread(self._shelf.find, *asked)
        if document is None:
            message = f"no config specs were pushed for project {known.record.project}: `headrace config push FILE`"
            raise Refusal(Reason.NO_SPECS, message)
        etag = document.etag.encode()
        headers = (_CACHED, (b"etag", etag)) if etag else (_CACHED,)
        if etag and etag in _tags(request.headers.get(b"if-none-match", b"")):
            return Answer(304, headers=headers)
        return Answer(200, document.content, headers)

    async def id_lists(self, request: Request) -> Answer:
        """Answer that there are no id lists. Raises Refusal."""
        may_read_specs(authenticate(self._directory, request, _now_ms()))
        return Answer(200, b"{}")


def specs_path_of(path: str) -> str:
    """Return which of `SPECS_PATHS` a path is, "" if none. The key may stand behind it (`/<key>.json`).

    Every SDK sends the key as a header too, and that one counts.
    """
    if path in SPECS_PATHS:
        return path
    head, _, tail = path.rpartition("/")
    return head if head in SPECS_PATHS and tail.endswith(_KEY_SUFFIX) else ""


def _with_key_of_path(request: Request) -> Request:
    """Take the key from the path where there is no header, as SDKs that fetch their specs from a cache do it."""
    tail = request.path.rpartition("/")[2]
    if tail.endswith(_KEY_SUFFIX):
        request.headers.setdefault(b"statsig-api-key", tail.removesuffix(_KEY_SUFFIX).encode())
    return request


def _tags(if_none_match: bytes) -> list[bytes]:
    """Return the entity tags of a header (RFC 9110, 13.1.2); caches on the way may have made them weak."""
    return [tag.strip().removeprefix(b"W/") for tag in if_none_match.split(b",")]


async def _what_it_has(request: Request) -> tuple[int, str]:
    """Return (sinceTime, checksum) from the query, or from the body of a POST."""
    if request.method == "POST":
        told = _json_of(decode(await body_of(request), request.headers.get(b"content-encoding", b"")))
        since_time, checksum = told.get("sinceTime"), told.get("checksum")
        return (
            since_time if isinstance(since_time, int) else 0,
            checksum if isinstance(checksum, str) else "",
        )
    # Core SDKs encode the checksum twice.
    checksum = unquote(request.query.get(b"checksum", b"").decode("utf-8", "replace"))
    return number_of(request.query.get(b"sinceTime", b"")), checksum


def _json_of(body: bytes) -> dict[str, Any]:
    try:
        told = orjson.loads(body or b"{}")
    except orjson.JSONDecodeError as error:
        raise Refusal(Reason.UNDECODABLE_BODY, f"not JSON: {error}") from error
    return told if isinstance(told, dict) else {}


def _now_ms() -> int:
    return time.time_ns() // 1_000_000
