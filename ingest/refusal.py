"""A request that is refused as a whole, and the status that says so.

The statuses are chosen for what eight SDKs do with them (measured): 429 makes five of six drop the
batch and 503 makes them keep it, so whatever may pass later is a 503; 4xx is for what is worthless
however often it is sent.
"""

from typing import Final

from schemas.reasons import Reason

_STATUS: Final = {
    Reason.BODY_TOO_LARGE: 413,
    Reason.TOO_MANY_EVENTS: 413,
    Reason.UNDECODABLE_BODY: 400,
    Reason.UNSUPPORTED_ENCODING: 415,
    Reason.MISSING_KEY: 401,
    Reason.UNKNOWN_KEY: 401,
    Reason.KEY_NOT_ALLOWED: 401,
    Reason.KEYS_NOT_READY: 503,
    Reason.LOG_UNAVAILABLE: 503,
    Reason.OVERLOADED: 503,
    Reason.OVER_QUOTA: 503,
    Reason.DRAINING: 503,
    Reason.NOT_BUILT: 501,
    Reason.NO_SPECS: 404,
    Reason.UNKNOWN_PATH: 404,
    Reason.WRONG_METHOD: 405,
    Reason.MALFORMED_REQUEST: 400,
    Reason.HEADERS_TOO_LARGE: 431,
    Reason.UNFINISHED_REQUEST: 408,
    Reason.UNEXPECTED_ERROR: 503,
}


class Refusal(Exception):  # noqa: N818 - an outcome, not an error of ours
    """Why a request is not taken. `message` is for the person who reads the answer."""

    def __init__(self, reason: Reason, message: str, status: int = 0) -> None:
        super().__init__(message)
        self.reason = reason
        self.message = message
        self.status = status or _STATUS[reason]
