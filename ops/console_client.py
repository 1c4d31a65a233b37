"""Asking the console from the command line: who may not answer, and what it says when it refuses."""

from collections.abc import Iterator
from contextlib import contextmanager
from typing import Final, NoReturn

import httpx
import orjson

from ops.output import ExitCode, fail
from ops.settings import Settings

_CONNECT_S: Final = 3.0


def client_of(settings: Settings, answer_s: float | None) -> httpx.Client:
    """Return a client of the console's API that waits `answer_s` for an answer (None: as long as it takes)."""
    headers = {"authorization": f"Bearer {settings.console_key}"} if settings.console_key else {}
    timeout = httpx.Timeout(_CONNECT_S, read=answer_s)
    return httpx.Client(base_url=settings.console_address, headers=headers, timeout=timeout, trust_env=False)


@contextmanager
def reachable(settings: Settings) -> Iterator[None]:
    """Exit with `ExitCode.UNREACHABLE` and a remedy when the console does not answer."""
    try:
        yield
    except httpx.TransportError as error:
        fail(
            f"the console at {settings.console_address} does not answer ({type(error).__name__}).",
            "Start it with `headrace up`, or set HEADRACE_CONSOLE_URL or HEADRACE_CONSOLE_PORT to where it is.",
            ExitCode.UNREACHABLE,
        )


def ask_sql(settings: Settings, statement: str, form: str, answer_s: float = 60.0) -> bytes:
    """Return the console's answer to a read-only query; exit with cause and remedy when there is none."""
    with client_of(settings, answer_s) as client, reachable(settings):
        content = statement.encode("utf-8", "replace")
        answer = client.post(
            "/api/sql", params={"format": form}, content=content, headers={"content-type": "text/plain"}
        )
    if answer.status_code != httpx.codes.OK:
        refused(answer.status_code, answer.content)
    return answer.content


def printable(text: str) -> str:
    """Make control characters visible: what the console tells may come from anybody, and must not steer a terminal."""
    return "".join(sign if sign.isprintable() else repr(sign)[1:-1] for sign in text)


def refused(status: int, body: bytes, bad_request: ExitCode = ExitCode.FAILED) -> NoReturn:
    """Print what the console said, and exit: 1 for a refusal, 3 where a part behind it is missing.

    `bad_request` is for a command whose 1 says something else than that it was asked wrongly.
    """
    try:
        error = orjson.loads(body)["error"]
        message, remedy = str(error["message"]), str(error["remedy"])
    except (ValueError, KeyError, TypeError):
        message, remedy = f"the console answered {status}.", "See that HEADRACE_CONSOLE_URL is a Headrace console."
    codes = dict.fromkeys((502, 503, 504), ExitCode.UNREACHABLE) | {400: bad_request}
    code = codes.get(status, ExitCode.FAILED)
    fail(printable(message), printable(remedy), code)
