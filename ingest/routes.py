"""Which path does what, and what a browser may do from another origin."""

from collections.abc import Awaitable, Callable, Sequence
from typing import Final

import structlog
from starlette.types import Receive, Scope, Send

from ingest.answer import SUCCESS, Answer, refusing, send_by_asgi
from ingest.custom_exposures import CustomExposures
from ingest.in_flight import Hold
from ingest.log_events import LogEvents
from ingest.openapi import OPENAPI_PATH, serve_openapi
from ingest.otlp import OTLP_LOGS_PATH, OtlpLogs, refusing_by_status
from ingest.receive import DisconnectedError, Request, RequestIds, body_of
from ingest.refusal import Refusal
from ingest.serve_specs import ServeSpecs, specs_path_of
from schemas.exposure_rule import NO_EVALUATION, ExposureRule
from schemas.metrics import GatewayMetrics
from schemas.reasons import Reason

log = structlog.get_logger()

Handler = Callable[[Request], Awaitable[Answer]]
"""Answers a request. Raises Refusal, DisconnectedError."""

Refusing = Callable[[Refusal, Request], Answer]
"""Puts a refusal into the form that a path's clients expect."""

LOG_PATHS: Final = ("/v1/log_event", "/v1/rgstr", "/v1/log_event_beacon")

_PREFLIGHT_S: Final = b"86400"
_NOT_ALLOWED: Final = [(b"vary", b"origin")]


class Route:
    """What one path does: a handler for each method, and the name it is counted under.

    `refusing` is how it refuses, if not as all others do.
    """

    def __init__(self, name: str, refusing: Refusing | None = None, **handlers: Handler) -> None:
        self.name = name
        self.refusing = refusing
        self.handlers = handlers


class Cors:
    """What a browser is told about calls from other origins. Credentials are never asked for."""

    def __init__(self, origins: Sequence[str]) -> None:
        self._any = "*" in origins
        self._origins = frozenset(origin.encode() for origin in origins)

    def headers(self, origin: bytes) -> list[tuple[bytes, bytes]]:
        """Return the headers of an answer to `origin`; none where it is not allowed."""
        if self._any:
            return [(b"access-control-allow-origin", b"*")]
        if origin in self._origins:
            return [(b"access-control-allow-origin", origin), (b"vary", b"origin")]
        return _NOT_ALLOWED

    async def preflight(self, request: Request) -> Answer:
        """Answer OPTIONS: what was asked for is allowed, since keys and not origins let events in."""
        asked = request.headers.get(b"access-control-request-headers", b"content-type,statsig-api-key")
        if request.cors == _NOT_ALLOWED:
            return Answer(204)
        return Answer(
            204,
            headers=(
                (b"access-control-allow-methods", b"GET, POST, OPTIONS"),
                (b"access-control-allow-headers", asked),
                (b"access-control-max-age", _PREFLIGHT_S),
            ),
        )


class GatewayApp:
    """The gateway's ASGI application.

    Plain ASGI, because for a request of one event a framework's routing and request objects would
    cost more than the event. A server that has a whole log request at hand may take the shorter way
    (`is_log_request`, `new_request`, `log_events`, `explain`, `count`), as `ingest.protocol` does.
    """

    def __init__(
        self,
        log_events: LogEvents,
        specs: ServeSpecs,
        alias_paths: Sequence[str],
        cors: Cors,
        metrics: GatewayMetrics,
        exposure_rule: ExposureRule = NO_EVALUATION,
    ) -> None:
        self.log_events = log_events
        self._metrics = metrics
        self._cors = cors
        self._request_ids = RequestIds()
        self._log = Route("log", POST=log_events)
        self._routes = dict.fromkeys((*LOG_PATHS, *alias_paths), self._log)
        exposures = CustomExposures(log_events, specs.rule_of)
        self._routes["/v1/log_custom_exposure"] = Route("custom_exposure", POST=exposures)
        otlp = OtlpLogs(log_events, exposure_rule, specs.rule_of, metrics)
        self._routes[OTLP_LOGS_PATH] = Route("otlp", refusing_by_status, POST=otlp)
        self._routes["/v1/sdk_exception"] = Route("sdk_exception", POST=_take_exception)
        self._routes["/v1/get_id_lists"] = Route("id_lists", POST=specs.id_lists)
        self._routes["/v1/initialize"] = Route("initialize", POST=_not_built)
        self._routes[OPENAPI_PATH] = Route("openapi", GET=serve_openapi)
        self._specs = Route("specs", GET=specs.download, POST=specs.download)
        self._unknown = Route("unknown")
        self._preflight = Route("preflight", OPTIONS=cors.preflight)
        # Label look-ups cost more than counting does.
        self._counters = {("log", 202): metrics.requests.labels("log", "202")}

    async def __call__(self, scope: Scope, receive: Receive, send: Send) -> None:
        """Answer one request, whatever happens."""
        hold = Hold(self.log_events.in_flight)
        request = self.new_request(scope, receive, hold)
        route = self._routes.get(request.path) or self._find(request)
        if request.method == "OPTIONS":
            route = self._preflight
        try:
            answer = await _handler_of(route, request)(request)
        except DisconnectedError:
            return
        except Exception as error:  # noqa: BLE001 - `explain` logs what is not a refusal
            answer = self.explain(error, request, route.refusing)
        finally:
            hold.give_back()
        self.count(answer.status, route.name)
        try:
            await send_by_asgi(send, request, answer)
        except RuntimeError as error:  # uvloop's word for a connection that the client has closed
            log.info("answer_not_sent", endpoint=route.name, request_id=request.id, error=str(error))

    def is_log_request(self, scope: Scope) -> bool:
        """Tell whether a request is one for `log_events`."""
        return scope["method"] == "POST" and self._routes.get(scope["path"]) is self._log

    def new_request(self, scope: Scope, receive: Receive | None = None, hold: Hold | None = None) -> Request:
        """Return the request of a scope, with an id."""
        request = Request(scope, self._request_ids.next(), receive, hold)
        if b"origin" in request.headers:
            request.cors = self._cors.headers(request.headers[b"origin"])
        return request

    def explain(self, error: Exception, request: Request, form: Refusing | None = None) -> Answer:
        """Return the answer to a request that ended in `error`, in a form of its own if it has one."""
        if not isinstance(error, Refusal):
            # Paths of config specs hold a key.
            path = specs_path_of(request.path) or request.path
            log.error("request_failed", path=path, request_id=request.id, exc_info=error)
            # 503 and not 500, so that the batch is kept by every SDK that keeps one at all.
            error = Refusal(Reason.UNEXPECTED_ERROR, "the gateway failed; its log says why")
        answer = self.refuse(error)
        return answer if form is None else form(error, request)

    def refuse(self, refusal: Refusal) -> Answer:
        """Return the answer of a refusal, and count its reason."""
        self._metrics.refused.labels(refusal.reason.value).inc()
        return refusing(refusal)

    def count(self, status: int, name: str = "log") -> None:
        """Count an answer."""
        counter = self._counters.get((name, status))
        if counter is None:
            counter = self._counters[name, status] = self._metrics.requests.labels(name, str(status))
        counter.inc()

    def _find(self, request: Request) -> Route:
        return self._specs if specs_path_of(request.path) else self._unknown


def _handler_of(route: Route, request: Request) -> Handler:
    handler = route.handlers.get(request.method)
    if handler is not None:
        return handler
    if not route.handlers:
        raise Refusal(Reason.UNKNOWN_PATH, "there is nothing here; SDKs send to /v1/log_event or /v1/rgstr")
    raise Refusal(Reason.WRONG_METHOD, f"this path takes {' and '.join(route.handlers)}")


async def _take_exception(request: Request) -> Answer:
    """Take an SDK's report of its own exception: it is for the SDK's vendor, so it is not kept."""
    await body_of(request)
    return SUCCESS


async def _not_built(_: Request) -> Answer:
    message = "/v1/initialize is not built yet: point browsers here with networkConfig.logEventUrl only"
    raise Refusal(Reason.NOT_BUILT, message)
