"""`headrace gateway` as a child of the test, which ends it when and how it wants."""

import asyncio
import os
import signal
import subprocess
import sys
from pathlib import Path

import httpx
from support.waiting import until

from ops.settings import Settings
from ops.stack.local import environment_of, why_not_ready
from schemas.crash_points import VARIABLE, CrashPoint

_PATIENCE_S = 60


class GatewayProcess:
    """One gateway that may be killed and started again over the same settings."""

    def __init__(self, settings: Settings, log: Path) -> None:
        self.settings = settings
        self.log = log
        self._process: subprocess.Popen[bytes] | None = None

    def start(self, crash_at: CrashPoint | None = None, times: int = 1) -> None:
        """Start it; `crash_at` names the point at which it kills itself, when it is there for the n-th time."""
        environment = {**os.environ, **environment_of(self.settings)}
        if crash_at is not None:
            environment[VARIABLE] = f"{crash_at.value}:{times}"
        with self.log.open("ab") as log:
            command = [sys.executable, "-P", "-m", "ops.processes", "gateway"]
            self._process = subprocess.Popen(command, env=environment, stdout=log, stderr=log)

    async def ready(self) -> None:
        """Wait until it takes events."""
        await until(lambda: self.why_not_ready() == "", _PATIENCE_S, "the gateway is not ready")

    def why_not_ready(self) -> str:
        """Return "" when it takes events, else why not. Blocks for a moment."""
        return why_not_ready(self.settings.admin_host, self.settings.admin_port("gateway"))

    async def metric(self, name: str) -> float:
        """Return a metric without labels; -1 while it cannot be asked."""
        address = f"http://{self.settings.admin_host}:{self.settings.admin_port('gateway')}/metrics"
        try:
            async with httpx.AsyncClient(trust_env=False, timeout=_PATIENCE_S) as client:
                lines = (await client.get(address)).text.splitlines()
        except httpx.TransportError:
            return -1.0
        values = [float(line.split()[-1]) for line in lines if line.split()[0] == name]
        return values[0] if values else -1.0

    def signal(self, number: signal.Signals) -> None:
        """Send a signal to it."""
        assert self._process is not None
        self._process.send_signal(number)

    async def end(self) -> int:
        """Wait until it has ended; return its exit code, negative for a signal."""
        assert self._process is not None
        return await asyncio.to_thread(self._process.wait, _PATIENCE_S)

    async def kill(self) -> None:
        """End it as a power cut would."""
        self.signal(signal.SIGKILL)
        await self.end()

    def clean_up(self) -> None:
        """Leave nothing running."""
        if self._process is not None:
            self._process.kill()
            self._process.wait()
