"""Who may read: on a loopback address everybody, beyond it whoever has a console key."""

import secrets
import time
from typing import Any, Final

import msgspec
import orjson
import structlog
from starlette.datastructures import Headers
from starlette.requests import Request, cookie_parser
from starlette.responses import Response
from starlette.routing import Route
from starlette.types import ASGIApp, Receive, Scope, Send

from console.answers import RefusedError, json_answer
from schemas import keys
from schemas.kafka import KafkaConnection
from schemas.keys import KeyKind, KeyRecord
from schemas.limits import KIB
from schemas.reference import ReferenceReader
from schemas.topics import KEYS

log = structlog.get_logger()

COOKIE: Final = "headrace_key"
MAY_STILL_READ: Final = "headrace.may_still_read"
"""Entry of a request's scope: a function that tells whether its key is still valid, for answers that go on for days."""

SIGN_IN: Final = "/api/sign-in"
SIGN_OUT: Final = "/api/sign-out"
_OPEN: Final = (SIGN_IN, SIGN_OUT)
_STAYS_S: Final = 12 * 3600
_BODY_MAX: Final = 8 * KIB
_CREATE: Final = "Make one with `headrace keys create --kind console`."


class ConsoleKeys:
    """The keys of the topic `keys`, found by hash; what was read stays valid while Kafka is away."""

    def __init__(self, kafka: KafkaConnection) -> None:
        self._by_hash: dict[str, KeyRecord] = {}
        self._reader = ReferenceReader(kafka, KEYS, self.on_record)
        self.own = secrets.token_urlsafe(32)
        """A key that only this process and its children know."""

    async def start(self) -> None:
        """Begin to read."""
        await self._reader.start()

    async def stop(self) -> None:
        """Stop reading."""
        await self._reader.stop()

    def on_record(self, record_key: bytes, value: bytes | None) -> None:
        """Take one record of the topic; a tombstone forgets the key."""
        name = record_key.decode("ascii", "replace")
        if value is None:
            self._by_hash.pop(name, None)
            return
        try:
            self._by_hash[name] = keys.decode(value)
        except msgspec.MsgspecError as error:
            log.error("key_record_unreadable", error=str(error))  # noqa: TRY400 - what is wrong is in the data

    def check(self, key: str, now_ms: int) -> None:
        """Raise RefusedError unless `key` may read."""
        if not key:
            remedy = f"Send `Authorization: Bearer KEY`; the command line takes HEADRACE_CONSOLE_KEY. {_CREATE}"
            raise RefusedError(401, "missing_key", "This console asks for a console key.", remedy)
        if secrets.compare_digest(key.encode("utf-8", "replace"), self.own.encode()):
            return
        record = self._by_hash.get(keys.hash_of(key))
        if record is None and not self._reader.caught_up:
            raise RefusedError(503, "keys_not_ready", "The keys have not been read to their end yet.", "Try again.")
        if record is None or not record.is_valid_at(now_ms):
            raise RefusedError(401, "unknown_key", "The key is unknown or revoked.", _CREATE)
        if record.kind is not KeyKind.CONSOLE:
            raise RefusedError(403, "key_not_allowed", f"A {record.kind} key cannot read.", _CREATE)


class Access:
    """Lets requests to the API pass that come with a console key, in a header or in the cookie of the page."""

    def __init__(self, app: ASGIApp, known: ConsoleKeys) -> None:
        self._app = app
        self._known = known

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Hand a request on, or refuse it."""
        path = str(scope.get("path", ""))
        # The page itself holds nothing; it asks for a key when the API does.
        if scope["type"] != "http" or not path.startswith("/api/") or path in _OPEN:
            await self._app(scope, receive, send)
            return
        key = presented(Headers(scope=scope))
        try:
            self._known.check(key, int(time.time() * 1000))
        except RefusedError as error:
            headers = {"www-authenticate": "Bearer"} if error.status == 401 else {}
            await json_answer(error.as_json(), error.status, headers)(scope, receive, send)
            return
        await self._app({**scope, MAY_STILL_READ: lambda: self._may_read(key)}, receive, send)

    def _may_read(self, key: str) -> bool:
        try:
            self._known.check(key, int(time.time() * 1000))
        except RefusedError:
            return False
        return True


def presented(headers: Headers) -> str:
    """Return the key that a request came with, "" for none."""
    scheme, _, key = headers.get("authorization", "").partition(" ")
    if scheme.lower() == "bearer" and key:
        return key.strip()
    return cookie_parser(headers.get("cookie", "")).get(COOKIE, "")


def routes(known: ConsoleKeys | None) -> list[Route]:
    """Return the routes of this surface."""

    async def sign_in(request: Request) -> Response:
        answer = json_answer({"signed_in": True})
        if known is None:
            return answer
        key = _key_of(await _body_of(request))
        known.check(key, int(time.time() * 1000))
        is_tls = request.url.scheme == "https"
        answer.set_cookie(COOKIE, key, _STAYS_S, httponly=True, samesite="strict", secure=is_tls)
        return answer

    async def sign_out(_request: Request) -> Response:
        answer = json_answer({"signed_in": False})
        answer.delete_cookie(COOKIE, httponly=True, samesite="strict")
        return answer

    return [Route(SIGN_IN, sign_in, methods=["POST"]), Route(SIGN_OUT, sign_out, methods=["POST"])]


def _key_of(body: Any) -> str:
    key = body.get("key") if isinstance(body, dict) else None
    if not isinstance(key, str) or not key.isascii() or not key.isprintable() or set(key) & set(' ",;\\'):
        raise RefusedError(400, "no_key", "There is no key in the body.", 'Send {"key": "console-…"}.')
    return key


async def _body_of(request: Request) -> Any:
    received = bytearray()
    async for piece in request.stream():
        received += piece
        if len(received) > _BODY_MAX:
            raise RefusedError(413, "body_too_large", "No key is so long.", "Send the key alone.")
    try:
        return orjson.loads(bytes(received))
    except orjson.JSONDecodeError:
        return None
