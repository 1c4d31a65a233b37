"""The closed list of reasons why an event or a request was refused.

One list serves HTTP answers, dead letters, metric labels and the documentation, so that the word an
application team sees in an answer is the word an operator finds in the dead letters.
"""

from enum import StrEnum
from typing import Final, Literal


class Reason(StrEnum):
    """Why something was refused. The value is what appears in answers, records and labels."""

    # a request as a whole
    BODY_TOO_LARGE = "body_too_large"
    TOO_MANY_EVENTS = "too_many_events"
    UNDECODABLE_BODY = "undecodable_body"
    UNSUPPORTED_ENCODING = "unsupported_encoding"
    MISSING_KEY = "missing_key"
    UNKNOWN_KEY = "unknown_key"
    KEY_NOT_ALLOWED = "key_not_allowed"
    KEYS_NOT_READY = "keys_not_ready"
    LOG_UNAVAILABLE = "log_unavailable"
    OVERLOADED = "overloaded"
    OVER_QUOTA = "over_quota"
    DRAINING = "draining"
    NOT_BUILT = "not_built"
    NO_SPECS = "no_specs"
    UNKNOWN_PATH = "unknown_path"
    WRONG_METHOD = "wrong_method"
    MALFORMED_REQUEST = "malformed_request"
    HEADERS_TOO_LARGE = "headers_too_large"
    UNFINISHED_REQUEST = "unfinished_request"
    # one event, at the gateway
    MALFORMED_EVENT = "malformed_event"
    EVENT_TOO_LARGE = "event_too_large"
    EVENT_TOO_DEEP = "event_too_deep"
    TOO_MANY_METADATA_KEYS = "too_many_metadata_keys"
    # one event, at the worker
    UNDECODABLE_CHUNK = "undecodable_chunk"
    UNKNOWN_CHUNK_VERSION = "unknown_chunk_version"
    INVALID_EVENT = "invalid_event"
    MISSING_EVENT_NAME = "missing_event_name"
    INVALID_TIME = "invalid_time"
    INVALID_EXPOSURE = "invalid_exposure"
    UNEXPECTED_ERROR = "unexpected_error"
    # one event, at the lander
    UNKNOWN_SCHEMA = "unknown_schema"
    UNDECODABLE_RECORD = "undecodable_record"
    INSERT_REFUSED = "insert_refused"
    # a record in the topic of a stage's dead letters
    UNREADABLE_ENVELOPE = "unreadable_envelope"

    @property
    def blame(self) -> Literal["ours", "theirs"]:
        """Whether a burst of this reason points at a bad deploy of ours or at a sender."""
        return blame_of(self)


_OURS: Final = frozenset({Reason.UNEXPECTED_ERROR, Reason.INSERT_REFUSED, Reason.UNKNOWN_SCHEMA})


def blame_of(reason: str) -> Literal["ours", "theirs"]:
    """Tell the class of a reason as it stands in a record, which may be of a later version than this code."""
    return "ours" if reason in _OURS else "theirs"


class Stage(StrEnum):
    """The stage that refused an event; its dead letters stand in `dlq.<stage>`."""

    INGEST = "ingest"
    WORKER = "worker"
    LANDER = "lander"
