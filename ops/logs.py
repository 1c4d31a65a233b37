"""Logs of every process: one JSON object a line on standard error.

Names, user agents and whatever else a stranger sent are escaped by JSON, so that nothing in a log
can start a line or colour a terminal.
"""

import logging
import sys
import threading
import time
from types import TracebackType
from typing import Any, Final, TextIO, cast

import orjson
import structlog
from structlog.typing import EventDict, Processor, WrappedLogger

_QUIET: Final = {
    "aiokafka": "WARNING",
    "asyncio": "WARNING",
    "faust": "WARNING",
    "httpx": "WARNING",
    "mode": "WARNING",
    "processors": "WARNING",
    "uvicorn": "WARNING",
}
"""Libraries whose information is noise here; their warnings are ours. What `processors` says by this road is
Faust's as well: it names its loggers by the module of a subclass."""

REPEAT_AFTER_S: Final = 10.0
"""How long the same message of a library stays unsaid after it was said."""

_REMEMBERED: Final = 1_000


def configure(level: str, process: str = "") -> None:
    """Send structlog's and the standard library's records to stderr as JSON lines.

    Each has `timestamp`, `level`, `event` and, where given, `process`; for a process, warnings and
    exceptions that nobody caught become such lines too. `level` is debug, info, warning, error or
    critical.
    """
    number = logging.getLevelNamesMapping()[level.upper()]

    def add_process(_logger: WrappedLogger, _method: str, event: EventDict) -> EventDict:
        if process:
            event["process"] = process
        return event

    shared: list[Processor] = [
        structlog.contextvars.merge_contextvars,
        structlog.stdlib.add_log_level,
        add_process,
        structlog.processors.TimeStamper(fmt="iso", utc=True),
        structlog.processors.format_exc_info,
    ]
    stderr = cast("TextIO", _Stderr())
    render = structlog.processors.JSONRenderer(serializer=_dumps)
    structlog.configure(
        processors=[*shared, render],
        wrapper_class=structlog.make_filtering_bound_logger(number),
        logger_factory=structlog.PrintLoggerFactory(stderr),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(stderr)
    handler.setFormatter(
        structlog.stdlib.ProcessorFormatter(
            foreign_pre_chain=[*shared, structlog.stdlib.add_logger_name],
            processors=[structlog.stdlib.ProcessorFormatter.remove_processors_meta, render],
        )
    )
    handler.addFilter(_Seldom())
    root = logging.getLogger()
    root.handlers[:] = [handler]
    root.setLevel(number)
    for name, least in _QUIET.items():
        logging.getLogger(name).setLevel(max(number, logging.getLevelNamesMapping()[least]))
    if not process:
        return
    logging.captureWarnings(capture=True)
    sys.excepthook = _log_uncaught
    threading.excepthook = _log_uncaught_in_thread


class _Stderr:
    """Standard error as it is at the moment; whoever redirects it gets the lines from then on."""

    def write(self, text: str) -> int:
        return sys.stderr.write(text)

    def flush(self) -> None:
        sys.stderr.flush()


class _Seldom(logging.Filter):
    """Lets the same words of a library through once in a while.

    A broker that is away for a night would else fill a disk with them.
    """

    def __init__(self) -> None:
        super().__init__()
        self._said_s: dict[tuple[str, str], float] = {}

    def filter(self, record: logging.LogRecord) -> bool:
        said = (record.name, record.getMessage())
        now_s = time.monotonic()
        if now_s - self._said_s.get(said, -REPEAT_AFTER_S) < REPEAT_AFTER_S:
            return False
        if len(self._said_s) >= _REMEMBERED:
            self._said_s.clear()
        self._said_s[said] = now_s
        return True


def _dumps(value: Any, **_: Any) -> str:
    return orjson.dumps(value, default=repr, option=orjson.OPT_NON_STR_KEYS).decode()


def _log_uncaught(kind: type[BaseException], error: BaseException, traceback: TracebackType | None) -> None:
    structlog.get_logger().critical("uncaught_exception", exc_info=(kind, error, traceback))


def _log_uncaught_in_thread(arguments: threading.ExceptHookArgs) -> None:
    structlog.get_logger().critical(
        "uncaught_exception",
        thread=arguments.thread.name if arguments.thread else "",
        exc_info=(arguments.exc_type, arguments.exc_value, arguments.exc_traceback),
    )
