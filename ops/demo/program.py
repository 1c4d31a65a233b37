"""The SDK's process, seen from the demo."""

import asyncio
import os
import sys
from collections.abc import AsyncIterator
from pathlib import Path
from typing import Final

import msgspec

from ops.demo.logged import Line, decode
from ops.demo.plan import Run
from ops.demo.sdk import KEY_VARIABLE
from ops.stack import child

_STOP_GRACE_S: Final = 10.0
_NOWHERE: Final = "http://127.0.0.1:9"
"""Nobody listens there: the SDK has hosts of its own built in, and must not reach them."""


class ProgramError(Exception):
    """The SDK's process ended by itself, or never got going."""


def environment(key: str) -> dict[str, str]:
    """Return the variables of the SDK's process: its key, and no way off this machine."""
    kept = {name: value for name, value in os.environ.items() if not name.lower().endswith("_proxy")}
    proxies = {
        name: _NOWHERE for upper in ("HTTP_PROXY", "HTTPS_PROXY", "ALL_PROXY") for name in (upper, upper.lower())
    }
    return kept | proxies | {"NO_PROXY": "127.0.0.1", "no_proxy": "127.0.0.1", KEY_VARIABLE: key}


class Program:
    """One process with a real SDK in it."""

    def __init__(
        self, gateway: str, key: str, run: Run, events: int, rate: float, ledger: Path | None, log: Path
    ) -> None:
        """Prepare it; `events` and `rate` 0 mean no limit, its errors go to the file `log`."""
        self._log = log
        self._environment = environment(key)
        self._command = [
            *(sys.executable, "-I", "-S", str(child.__file__), str(os.getpid())),
            *(sys.executable, "-m", "ops.demo.sdk", "--gateway", gateway, "--run", run.name, "--seed", str(run.seed)),
            *("--events", str(events), "--rate", str(rate)),
            *(("--ledger", str(ledger)) if ledger else ()),
        ]
        self._process: asyncio.subprocess.Process | None = None

    async def start(self) -> None:
        """Start it. Raises OSError."""
        self._log.parent.mkdir(parents=True, exist_ok=True)
        with self._log.open("ab") as log:
            # A session of its own: Ctrl-C in the terminal is for the demo, which then ends it in order.
            self._process = await asyncio.create_subprocess_exec(
                *self._command,
                env=self._environment,
                stdin=asyncio.subprocess.PIPE,
                stdout=asyncio.subprocess.PIPE,
                stderr=log,
                start_new_session=True,
            )

    async def lines(self) -> AsyncIterator[Line]:
        """Yield what it says until it ends. Raises ProgramError when it did not end well."""
        process = self._running()
        assert process.stdout is not None
        async for line in process.stdout:
            try:
                yield decode(line)
            except msgspec.MsgspecError as error:
                raise ProgramError(f"the SDK's process said {line[:200]!r}: {error}") from error
        status = await process.wait()
        if status != 0:
            raise ProgramError(f"the SDK's process ended with status {status}; its last words: {self._last_words()}")

    async def stop(self) -> None:
        """Let it send what it has and end; kill it when that takes longer than 10 s."""
        process = self._process
        if process is None or process.returncode is not None:
            return
        assert process.stdin is not None
        try:
            process.stdin.write(b"stop\n")
            await process.stdin.drain()
            await asyncio.wait_for(process.wait(), _STOP_GRACE_S)
        except (TimeoutError, OSError):
            process.kill()
            await process.wait()

    def _running(self) -> asyncio.subprocess.Process:
        if self._process is None:
            raise ProgramError("the SDK's process was not started")
        return self._process

    def _last_words(self) -> str:
        lines = self._log.read_text("utf-8", "replace").strip().splitlines()
        return lines[-1][-400:] if lines else "(none)"
