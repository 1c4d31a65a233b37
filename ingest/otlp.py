"""OTLP/HTTP: `POST /v1/logs` for OpenTelemetry exporters and agents, in protobuf and in JSON.

Answers: OpenTelemetry Protocol Specification, "OTLP/HTTP Response". Every log record is kept or
counted in the answer as rejected; 503 means that the same request may be sent again.
"""

from collections import Counter
from collections.abc import Callable
from typing import Any, Final

import orjson
from google.protobuf import json_format
from google.rpc.status_pb2 import Status
from opentelemetry.proto.collector.logs.v1.logs_service_pb2 import ExportLogsServiceResponse

from ingest.answer import Answer
from ingest.auth import KnownKey
from ingest.log_events import LogEvents
from ingest.map_otlp import EVALUATION, TRACKING, Mapped, NotTaken, as_log_request, decode_export
from ingest.receive import Request
from ingest.refusal import Refusal
from ingest.split import Refused
from schemas.exposure_rule import ExposureRule
from schemas.metrics import GatewayMetrics
from schemas.reasons import Reason

OTLP_LOGS_PATH: Final = "/v1/logs"

JSON_TYPE: Final = "application/json"
PROTOBUF_TYPE: Final = "application/x-protobuf"

_CODES: Final = {400: 3, 401: 16, 413: 3, 415: 3, 503: 14}
"""The code of google.rpc.Code that means what a status means; exporters look at the status only."""
_UNKNOWN_CODE: Final = 2


class OtlpLogs:
    """Answers `/v1/logs`; what it takes goes the way of every log request."""

    def __init__(
        self,
        log_events: LogEvents,
        rule: ExposureRule,
        rule_of: Callable[[str, str, str], str],
        metrics: GatewayMetrics,
    ) -> None:
        """`rule_of` looks up (project, experiment, group name) in the config specs."""
        self._log_events = log_events
        self._rule = rule
        self._rule_of = rule_of
        self._metrics = metrics

    async def __call__(self, request: Request) -> Answer:
        """Answer one request. Raises Refusal, DisconnectedError."""
        _take_key_of_bearer(request)
        kind = _type_of(request)
        mapped = Mapped(b"")

        def rewrite(body: bytes, known: KnownKey) -> bytes:
            nonlocal mapped
            if kind not in (JSON_TYPE, PROTOBUF_TYPE):
                message = f"content type {kind[:64]!r}; {PROTOBUF_TYPE} and {JSON_TYPE} are understood"
                raise Refusal(Reason.UNSUPPORTED_ENCODING, message)
            project = known.record.project
            export = decode_export(body, is_json=kind == JSON_TYPE)
            mapped = as_log_request(export, self._rule, lambda flag, group: self._rule_of(project, flag, group))
            return mapped.body

        kept = await self._log_events.keep(request, rewrite)
        for why, count in mapped.not_taken.items():
            self._metrics.otlp_not_taken.labels(why.value).inc(count)
        response = ExportLogsServiceResponse()
        if rejected := mapped.not_taken.total() + len(kept.refused):
            response.partial_success.rejected_log_records = rejected
            response.partial_success.error_message = self._why(mapped.not_taken, kept.refused)
        return _answer(200, response, request)._replace(
            headers=((b"x-headrace-durability", kept.durability.value.encode()),)
        )

    def _why(self, not_taken: Counter[NotTaken], refused: list[Refused]) -> str:
        rule = self._rule.text or "not set: no evaluation is an exposure"
        meanings = {
            NotTaken.OTHER_RECORD: f"neither {EVALUATION} nor {TRACKING}",
            NotTaken.OUTSIDE_RULE: f"evaluations outside of HEADRACE_OTLP_EXPOSURES ({rule})",
            NotTaken.NO_FLAG_KEY: "evaluations without feature_flag.key",
            NotTaken.NO_CONTEXT_ID: "evaluations without feature_flag.context.id",
            NotTaken.NO_EVENT_NAME: f"{TRACKING} without feature_flag.event_name",
        }
        told = [f"{not_taken[why]} {meaning}" for why, meaning in meanings.items() if not_taken[why]]
        letters = Counter(item.verdict.reason.value for item in refused)
        told += [f"{count} {reason}, kept in the dead letters" for reason, count in letters.items()]
        return "; ".join(told)


def refusing_by_status(refusal: Refusal, request: Request) -> Answer:
    """Answer why a request was not taken, as a google.rpc.Status in the encoding of the request."""
    code = _CODES.get(refusal.status, _UNKNOWN_CODE)
    return _answer(refusal.status, Status(code=code, message=f"{refusal.reason}: {refusal.message}"), request)


def _answer(status: int, message: Any, request: Request) -> Answer:
    if _type_of(request) == PROTOBUF_TYPE:
        return Answer(status, message.SerializeToString(), content_type=(b"content-type", PROTOBUF_TYPE.encode()))
    return Answer(status, orjson.dumps(json_format.MessageToDict(message)))


def _type_of(request: Request) -> str:
    return request.headers.get(b"content-type", b"").partition(b";")[0].strip().lower().decode("latin-1")


def _take_key_of_bearer(request: Request) -> None:
    """Take the key from `authorization` where it has no header of its own: agents have a setting for that one."""
    scheme, _, key = request.headers.get(b"authorization", b"").partition(b" ")
    if scheme.lower() == b"bearer":
        request.headers.setdefault(b"statsig-api-key", key.strip())
