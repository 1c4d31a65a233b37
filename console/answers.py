"""What every answer looks like: JSON, and one shape for everything that was refused."""

from typing import Any, Final

import orjson
from starlette.requests import Request
from starlette.responses import Response

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


async def refusal_answer(_request: Request, error: Exception) -> Response:
    """Turn a RefusedError into its answer."""
    assert isinstance(error, RefusedError)
    headers = {"retry-after": "1"} if error.status == 503 else None
    return json_answer(error.as_json(), error.status, headers)
