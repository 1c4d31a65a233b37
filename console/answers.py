"""What every answer looks like: JSON, and one shape for everything that was refused."""

from typing import Any, Final

import orjson
import structlog
from starlette.exceptions import HTTPException
from starlette.requests import Request
from starlette.responses import Response

log = structlog.get_logger()

JSON: Final = "application/json"


class RefusedError(Exception):
    """A request that is not answered as asked: what is wrong, and what to do about it."""

    def __init__(self, status: int, reason: str, message: str, remedy: str = "") -> None:
        super().__init__(message)
        self.status = status
        self.reason = reason
        self.message = message
        self.remedy = remedy

    def as_json(self) -> dict[str, Any]:
        """Return the body of the answer."""
        return {"error": {"reason": self.reason, "message": self.message, "remedy": self.remedy}}


def json_answer(body: Any, status: int = 200, headers: dict[str, str] | None = None) -> Response:
    """Answer with `body` as JSON, never cached: what is asked for is what is so now."""
    return Response(orjson.dumps(body), status, {"cache-control": "no-store", **(headers or {})}, JSON)


async def _refusal(_request: Request, error: Exception) -> Response:
    """Turn a RefusedError into its answer."""
    assert isinstance(error, RefusedError)
    headers = {"retry-after": "1"} if error.status == 503 else None
    return json_answer(error.as_json(), error.status, headers)


async def _http_error(request: Request, error: Exception) -> Response:
    assert isinstance(error, HTTPException)
    reasons = {404: "not_found", 405: "method_not_allowed"}
    refusal = RefusedError(
        error.status_code,
        reasons.get(error.status_code, "http_error"),
        f"{request.method} {request.url.path[:200]}: {error.detail}.",
        "The API is described at /openapi.json.",
    )
    return json_answer(refusal.as_json(), error.status_code, dict(error.headers or {}))


async def _failure(request: Request, error: Exception) -> Response:
    log.error("request_failed", path=request.url.path, exc_info=error)
    refusal = RefusedError(500, "failed", "The console failed at this request.", "Its log says why; please report it.")
    return json_answer(refusal.as_json(), 500)


HANDLERS: Final = {RefusedError: _refusal, HTTPException: _http_error, Exception: _failure}
